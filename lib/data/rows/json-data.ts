/**
 * A JSON value with the differences that Python keeps and JavaScript's own values lose: it survives a structured clone.
 * - `number`: an int where it is an integer, else a float.
 * - `Number` (the object): a float whose value is an integer, as `1.0` or `1e5` in a file.
 * - `bigint`: an integer beyond 2^53.
 * - `Map`: an object whose keys a JavaScript object would put in another order (keys like `"20"`).
 */
export type JsonData =
  | null
  | boolean
  | number
  // biome-ignore lint/complexity/noBannedTypes: the object, which a structured clone keeps apart from the primitive
  | Number
  | bigint
  | string
  | readonly JsonData[]
  | ReadonlyMap<string, JsonData>
  | { readonly [key: string]: JsonData | undefined }
