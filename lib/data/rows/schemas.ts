import { isObject } from './fields.js'
import type { JsonData } from './json-data.js'

/** Keywords of JSON Schema whose value may be null. */
const MAY_BE_NULL = new Set(['default', 'const', 'example'])
/** Keywords whose value is an object of schemas, by name. */
const BY_NAME = new Set(['properties', 'patternProperties', '$defs', 'definitions', 'dependentSchemas'])
/** Keywords whose value is a schema, or a list of them. */
const NESTED = new Set([
  ...['items', 'prefixItems', 'additionalProperties', 'anyOf', 'allOf', 'oneOf', 'not', 'contains'],
  ...['if', 'then', 'else', 'propertyNames'],
])

/** Fields of an object, in their order. */
export const entriesOf = (value: object): [string, JsonData | undefined][] =>
  value instanceof Map ? [...(value as ReadonlyMap<string, JsonData>)] : Object.entries(value)

/**
 * Removes the nulls that a table puts into a JSON schema, where other rows have a keyword or a property. A schema has
 * no null of its own but as the value of `default`, `const` or `example`; these stay in a schema without other nulls.
 */
export function schemaOf(schema: JsonData): JsonData {
  return holdsFiller(schema) ? cleaned(schema) : schema
}

function holdsFiller(schema: JsonData | undefined): boolean {
  if (Array.isArray(schema)) return schema.some(holdsFiller)
  if (!isObject(schema)) return false
  return entriesOf(schema).some(([name, value]) => {
    if (value === null) return !MAY_BE_NULL.has(name)
    if (BY_NAME.has(name) && isObject(value))
      return entriesOf(value).some(([, item]) => item === null || holdsFiller(item))
    return NESTED.has(name) && holdsFiller(value)
  })
}

function cleaned(schema: JsonData): JsonData {
  if (Array.isArray(schema)) return schema.map(cleaned)
  if (!isObject(schema)) return schema
  return rebuilt(schema, (name, value) => {
    if (BY_NAME.has(name) && isObject(value)) return rebuilt(value, (_, item) => cleaned(item))
    return NESTED.has(name) ? cleaned(value) : value
  })
}

/** Copies an object without its nulls. */
function rebuilt(value: object, of: (name: string, value: JsonData) => JsonData): JsonData {
  const entries = entriesOf(value).flatMap(([name, item]): [string, JsonData][] =>
    item === null || item === undefined ? [] : [[name, of(name, item)]],
  )
  return value instanceof Map ? new Map(entries) : Object.fromEntries(entries)
}
