import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import test from 'ava'
import { packageRoot } from '../../lib/libtorch/find/libtorch.js'
import { newFolder } from '../helpers/scratch.js'

const { apiReport } = await import(pathToFileURL(join(packageRoot(), 'scripts/lint/api.mjs')).href)

const files = {
  'index.d.ts': `import type { Options } from './inner.js';
export { type Written as Renamed, Box } from './inner.js';
/** Does. */
export declare function act(options: Options): void;
export declare function act(options: Options, more: number): Promise<import('./inner.js').Result>;
`,
  'other.d.ts': `export { type Written } from './inner.js';
`,
  'inner.d.ts': `/** Given. */
export interface Options {
    /** Documented. */
    a?: number;
    b: typeof schema;
}
export interface Result {
    deep: Deep[];
}
type Deep = { x: 1 };
interface Secret {}
declare const schema: { inside: OfSchema };
interface OfSchema {}
/** Exported. */
export type Written = 'a' | 'b';
/** Boxes. */
export declare class Box<T = Secret2> {
    #private;
    private hidden: Secret;
    protected also: Secret;
    /** @internal */
    inner: Secret;
    /** Shown. */
    get shown(): T;
}
interface Secret2 {}
`,
}

function reportOf(changes: Record<string, string> = {}): { report: string; missing: string[] } {
  const folder = newFolder()
  for (const [name, text] of Object.entries({ ...files, ...changes })) writeFileSync(join(folder, name), text)
  return apiReport(folder, { pkg: 'index.d.ts', 'pkg/other': 'other.d.ts' })
}

test('the report has exports, public members and what they name, and marks what is undocumented', (t) => {
  const { report, missing } = reportOf()
  t.true(report.includes('// exported as Renamed\ntype Written ='), report)
  t.true(report.includes('declare class Box<T = Secret2> {\n  get shown(): T;\n}'), report)
  t.true(
    report.includes('interface Options {\n  a?: number;\n  b: typeof schema; // undocumented\n}'),
    report,
  )
  t.regex(
    report,
    /declare function act\(options: Options\): void;\ndeclare function act\(.*\/\/ undocumented/,
  )
  t.regex(report, /## pkg\/other\n\n```ts\ntype Written/)
  t.regex(report, /interface OfSchema/)
  t.false(/Secret /.test(report), report)
  t.deepEqual(missing, [
    '- Deep, named by Result',
    '- Options, named by act',
    '- Result, named by act',
    '- Secret2, named by Box',
  ])
})

test('the report is the same in another folder, and another one where a signature changes', (t) => {
  const { report } = reportOf()
  t.is(reportOf().report, report)
  const inner = files['inner.d.ts'].replace('{ x: 1 }', '{ x: 2 }')
  t.not(reportOf({ 'inner.d.ts': inner }).report, report)
  const comment = files['inner.d.ts'].replace('Shown.', 'Shown otherwise.')
  t.is(reportOf({ 'inner.d.ts': comment }).report, report)
})
