import { isTrue } from './kinds.js'
import type { Native, Natives } from './native.js'
import type { Keywords, Value } from './values.js'

// Some filters and tests take the names of others.
const filters = new Map<string, Native>()
const tests = new Map<string, Native>()

export type Holds = (args: readonly Value[], keywords: Keywords | null) => boolean

export function addFilters(added: Natives): void {
  for (const [name, filter] of added) filters.set(name, filter)
}

export function addTests(added: Natives): void {
  for (const [name, test] of added) tests.set(name, test)
}

export function filterNamed(name: string): Native | undefined {
  return filters.get(name)
}

export function testNamed(name: string): Holds | undefined {
  const test = tests.get(name)
  return test && ((args, keywords) => isTrue(test(args, keywords)))
}
