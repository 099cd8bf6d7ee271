import { execFileSync } from 'node:child_process'
import { join } from 'node:path'

/** Contents of a file as bytes of latin1, or where a symbolic link points. */
export type ZipEntries = Record<string, string | { link: string }>

/** Content of a file that begins as a shared library of 64-bit Linux, and needs no other. */
export const library = (content: string): string => `\x7fELF\x02\x01\x01${'\0'.repeat(57)}${content}`

/** Writes an archive with Python's own writer, so that our reader is not tested with itself. */
export function writeZip(folder: string, name: string, entries: ZipEntries): string {
  const path = join(folder, name)
  const program = `
import json, sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as archive:
    for n, (name, content) in enumerate(json.load(sys.stdin).items()):
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED if n % 2 else zipfile.ZIP_STORED
        info.external_attr = (0o120777 if isinstance(content, dict) else 0o100644) << 16
        text = content['link'] if isinstance(content, dict) else content
        archive.writestr(info, text.encode('latin1'))`
  execFileSync('python3', ['-c', program, path], { input: JSON.stringify(entries) })
  return path
}
