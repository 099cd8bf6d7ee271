/** Bytes of a safetensors file: the header (an object, or its text as it stands) and then `data` bytes 0, 1, 2, ... */
export function tensorBytes(header: object | string, data = 0, headerSize?: number | bigint): Buffer {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header))
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(headerSize ?? text.length))
  return Buffer.concat([size, text, Uint8Array.from({ length: data }, (_, i) => i)])
}
