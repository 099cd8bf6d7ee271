import test from 'ava'
import { digits, Progress } from '../../lib/cli/progress.js'
import { bar } from '../../lib/cli/terminal.js'
import type { StepEvent, TrainEvent } from '../../lib/train/run/events.js'

const start: TrainEvent = {
  type: 'start',
  step: 0,
  totalSteps: 10,
  epochs: 1,
  parameters: 2000,
  trainableParameters: 1000,
  report: {
    read: 9,
    rows: 8,
    dropped: { badRow: 1, tooLong: 0, noLabels: 0, empty: 0 },
    truncated: 2,
    tokens: 4000,
    trainTokens: 1000,
    length: { min: 1, median: 2, p90: 3, p99: 4, max: 5 },
    duplicates: { exact: 0, near: 0 },
    sharedWithValidation: 0,
    emptyOutputs: 0,
    doubleBos: 0,
    withoutStop: 0,
    jointDiffers: 0,
    partialPrompts: 0,
    unstoppedTurns: 0,
    guarded: 0,
    droppedReasoning: 0,
    droppedContent: 0,
    droppedTools: 0,
    specialMarks: 0,
    stringPrompts: { turn: 0, raw: 0, rendered: 0 },
    example: null,
    firstBadRow: 'a.jsonl:3: output must be a string, got nothing',
    notes: [],
    unreadColumns: { id: 9 },
  },
}

const step = (n: number): StepEvent => ({
  type: 'step',
  step: n,
  epoch: n / 10,
  loss: 2,
  gradNorm: 1,
  learningRate: 1e-3,
  tokens: 100,
  trainTokens: 50,
  tokensPerSecond: 1234,
  tokenAccuracy: 0.5,
  entropy: 1,
})

function watch(isTTY: boolean, columns = 80) {
  const written: string[] = []
  const clock = { now: 0 }
  const out = { isTTY, columns, write: (text: string) => written.push(text) }
  return { written, clock, progress: new Progress(out, () => clock.now) }
}

process.env.LC_ALL = 'C'

/** What a redrawn line shows: the text between its beginning and the erasing of the rest. */
const shownIn = (text: string | undefined) => (text ?? '').replace('\r', '').replace('\u001b[K', '')

test('plain lines where there is no terminal: the first step, then every two seconds, then the last', (t) => {
  const { written, clock, progress } = watch(false)
  progress.show(start)
  for (let n = 1; n <= 10; n++) {
    clock.now += 500
    progress.show(step(n))
  }
  t.deepEqual(written.splice(0, 5), [
    'Data: 8 sequences of 9 rows, 4.0k tokens, 1.0k of them trained, lengths 1 to 5, median 2\n',
    'Data: 1 row left out: 1 bad, 0 too long, 0 without a label, 0 empty\n',
    'Data: the first bad row is a.jsonl:3: output must be a string, got nothing\n',
    'Data: columns that are not read: id\n',
    'Data: 2 rows truncated, which does not teach where a response ends; a larger --max-length keeps rows whole\n',
  ])
  t.is(written[0], 'Training 1.0k trainable of 2.0k parameters, 10 steps\n')
  t.deepEqual(
    written.slice(1).map((line) => line.split(' ')[0]),
    ['1/10', '5/10', '9/10', '10/10'],
  )
  t.is(written[2], '5/10 loss 2.000 epoch 0.50 lr 0.001 1.2k tokens/s 3s left\n')
  t.false(written.join('').includes('\u001b'))
})

test('a bar that is redrawn on a terminal and never wider than it', (t) => {
  for (const columns of [20, 50, 80, 200]) {
    const { written, clock, progress } = watch(true, columns)
    progress.show(start)
    for (let n = 1; n <= 3; n++) {
      clock.now += 500
      progress.show(step(n))
    }
    progress.line('a line')
    const bars = written
      .slice(1)
      .filter((text) => text.includes('/10'))
      .map(shownIn)
    t.is(bars.length, 4)
    for (const bar of bars) t.true(bar.length < columns && !bar.includes('\n'))
    t.deepEqual(written.slice(-3, -1), ['\r\u001b[K', 'a line\n'])
    if (columns >= 80) t.regex(bars[1]!, /^\[#+\.+\] {2}2\/10 {2}loss 2\.000 /)
    progress.clear()
    t.is(written.at(-1), '\r\u001b[K')
  }
})

test.serial('the bar has Unicode where the terminal is UTF-8, and colors where it shows them', (t) => {
  process.env.LC_ALL = 'C.UTF-8'
  t.teardown(() => {
    process.env.LC_ALL = 'C'
  })
  const terminal = (hasColors: boolean) => ({
    isTTY: true,
    hasColors: () => hasColors,
    write: () => undefined,
  })
  t.is(bar(terminal(false), 0.5, 8), '━━━━────')
  t.is(bar(terminal(true), 0.5, 4), '\u001b[36m━━\u001b[0m\u001b[2m──\u001b[0m')
  process.env.LC_ALL = 'C'
  t.is(bar(terminal(false), 0.5, 8), '[###...]')
})

test.serial('on a terminal every phase is shown at once, with its time', (t) => {
  const { written, clock, progress } = watch(true)
  progress.enter('loading')
  t.is(written.at(-1), 'Loading the model')
  clock.now += 3000
  progress.tick()
  t.is(written.at(-1), '\rLoading the model 3s\u001b[K')
  progress.show(start)
  t.is(shownIn(written.at(-1)), 'First step')
  progress.enter('rollout')
  t.is(shownIn(written.at(-1)), 'Sampling responses')
  clock.now += 1000
  progress.show(step(1))
  for (const [phase, text] of [
    ['rollout', 'sampling responses'],
    ['scoring', 'scoring responses'],
    ['evaluating', 'evaluating'],
  ] as const) {
    progress.enter(phase)
    clock.now += 2000
    progress.tick()
    t.regex(shownIn(written.at(-1)), new RegExp(`  ${text} 2s, \\ds left$`))
  }
})

test.serial('a line that shows the same is not written again, and none is drawn after the end', (t) => {
  const { written, clock, progress } = watch(true)
  progress.show(start)
  progress.show(step(1))
  const { length } = written
  for (let i = 0; i < 5; i++) progress.tick()
  t.is(written.length, length)
  clock.now += 500
  progress.show({ type: 'end', reason: 'completed', steps: 10, epochs: 1, loss: 2, seconds: 5 })
  t.regex(written.at(-1)!, /^Ended after 10 steps in 5s/)
  progress.enter('saving')
  progress.tick()
  t.regex(written.at(-1)!, /^Ended/)
})

test.serial('control characters of data do not reach the terminal, and long lines wrap at words', (t) => {
  const { written, progress } = watch(true, 40)
  progress.line(`\u001b[2J${'word '.repeat(20)}`.trim())
  t.false(written.join('').includes('\u001b[2J'))
  for (const line of written.join('').split('\n')) t.true(line.length < 40 && !/^ord/.test(line))
})

test('numbers have four digits, and small ones an exponent', (t) => {
  t.deepEqual([2, 0.123456, 123456, 1e-6, 0.00012345, -0].map(digits), [
    '2.000',
    '0.1235',
    '123500',
    '1e-6',
    '1.234e-4',
    '0',
  ])
})
