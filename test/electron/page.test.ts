import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { type Browser, chromium, type Page } from 'playwright-core'
import type { Command, Report } from '../../examples/electron/src/protocol.js'
import { packageRoot } from '../../lib/libtorch/find/libtorch.js'
import { newFolder } from '../helpers/scratch.js'
import { choiceOf, TrainerChild } from './trainer-child.js'

// The page is tested in the Chromium that the machine has, such as Debian's package; Electron itself is not run.
const browserPath = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser'].find(
  (path) => path && existsSync(path),
)
const withBrowser = browserPath ? test.serial : test.skip
if (!browserPath) {
  test('the page in Chromium', (t) => {
    t.log('skipped: there is no chromium (apt-get install chromium, or its path in CHROMIUM)')
    t.pass()
  })
}

const app = join(packageRoot(), 'examples/electron')
const types: Record<string, string> = { '.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript' }

/** Serves the page as the app's own protocol does: page/ from the sources, dist/page/ as it was compiled. */
function serve(compiled: string): Promise<{ url: string; close: () => void }> {
  const server = createServer((request, response) => {
    const path = new URL(request.url!, 'http://page').pathname
    const file = path.startsWith('/dist/') ? join(compiled, path.slice('/dist/'.length)) : join(app, path)
    // A browser asks for it, Electron does not.
    if (path === '/favicon.ico') return response.writeHead(204).end()
    if (!existsSync(file)) return response.writeHead(404).end()
    response.writeHead(200, { 'content-type': types[extname(file)] ?? 'text/plain' }).end(readFileSync(file))
  })
  return new Promise((done) =>
    server.listen(0, '127.0.0.1', () =>
      done({
        url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/page/index.html`,
        close: () => server.close(),
      }),
    ),
  )
}

let browser: Browser
let compiled: string
let site: Awaited<ReturnType<typeof serve>>
let reports: Report[]

if (browserPath) {
  const cleaning: (() => void)[] = []
  const owner = { teardown: (clean: () => void) => void cleaning.push(clean) }
  test.before(async () => {
    compiled = newFolder()
    const compiler = fileURLToPath(import.meta.resolve('typescript/lib/tsc.js'))
    execFileSync(process.execPath, [compiler, '-p', join(app, 'page'), '--outDir', compiled])
    site = await serve(compiled)
    browser = await chromium.launch({ executablePath: browserPath, args: ['--no-sandbox', '--disable-gpu'] })
    // What the page is shown are the messages of a real training and a real answer.
    const trainer = new TrainerChild(owner)
    trainer.send({ type: 'train', choice: await choiceOf(owner, 160, { epochs: 6, learningRate: 3e-3 }) })
    await trainer.next('end')
    trainer.send({ type: 'chat', messages: [{ role: 'user', content: '3+3=?' }] })
    await trainer.next('answered')
    trainer.send({ type: 'quit' })
    await trainer.exit
    reports = trainer.reports
  })
  test.after.always(async () => {
    await browser?.close()
    site?.close()
    for (const clean of cleaning.reverse()) clean()
  })
}

/** The page with a bridge whose other end is the test. */
async function openPage(): Promise<{
  page: Page
  sent: () => Promise<Command[]>
  tell: (...reports: Report[]) => Promise<void>
  problems: string[]
}> {
  const page = await browser.newPage({ viewport: { width: 1080, height: 720 } })
  const problems: string[] = []
  page.on('pageerror', (error) => problems.push(error.message))
  page.on('console', (message) => message.type() === 'error' && problems.push(message.text()))
  await page.addInitScript(() => {
    const window = globalThis as unknown as Record<string, unknown>
    const sent: unknown[] = []
    window.sent = sent
    window.trainer = {
      send: (command: unknown) => sent.push(command),
      onReport: (listener: unknown) => {
        window.tell = listener
      },
      choose: async (what: string) => `/chosen/${what}`,
    }
  })
  await page.goto(site.url)
  const tell = (...told: Report[]) =>
    page.evaluate((list) => {
      for (const report of list) (globalThis as unknown as { tell: (report: unknown) => void }).tell(report)
    }, told)
  const sent = () => page.evaluate('window.sent') as Promise<Command[]>
  return { page, sent, tell, problems }
}

async function startTraining(page: Page): Promise<void> {
  await page.click('[data-choose=data]')
  await page.fill('#output', 'runs/first')
  await page.fill('#epochs', '6')
  await page.click('#train')
}

withBrowser('the page draws the losses of a real training and shows the answer', async (t) => {
  const { page, sent, tell, problems } = await openPage()
  t.true(await page.isDisabled('#question'))
  await startTraining(page)
  t.deepEqual(await sent(), [
    {
      type: 'train',
      choice: {
        model: 'HuggingFaceTB/SmolLM2-135M-Instruct',
        data: '/chosen/data',
        output: 'runs/first',
        resume: false,
        epochs: 6,
        batchSize: 4,
        learningRate: 2e-4,
        lora: true,
      },
    },
  ])
  t.true(await page.isDisabled('#train'))
  const end = reports.findIndex(({ type }) => type === 'end')
  const steps = reports.filter((report) => report.type === 'step')
  const middle = reports.findIndex((report) => report.type === 'step' && report.step === 60)
  await tell(...reports.slice(0, middle + 1))
  await page.waitForSelector('#chart .smooth')
  t.regex((await page.textContent('#status'))!, /^Step 60 of 108: loss \d\.\d{4}$/)
  const vertices = async (name: string) =>
    (await page.getAttribute(`#chart .${name}`, 'points'))!
      .split(' ')
      .map((pair) => pair.split(',').map(Number))
  t.is((await vertices('raw')).length, 60)
  await page.screenshot({ path: join(compiled, 'training.png') })

  await tell(...reports.slice(middle + 1, end + 1))
  // One for each epoch, and one in the key.
  await page.locator('#chart circle.validation').nth(6).waitFor()
  const line = await vertices('smooth')
  t.is(line.length, steps.length)
  // Downwards is a larger y; the last step is at the right edge.
  t.true(line.at(-1)![1]! > line[0]![1]! + 100)
  const chart = (await page.locator('#chart').boundingBox())!
  t.true(Math.abs(line.at(-1)![0]! - (chart.width - 12)) < 1)
  for (const [x, y] of line) t.true(x! >= 0 && x! <= chart.width && y! >= 0 && y! <= chart.height)
  t.is(await page.textContent('#status'), 'Trained for 108 steps.')

  await page.fill('#question', '3+3=?')
  await page.click('#send')
  t.deepEqual((await sent()).at(-1), { type: 'chat', messages: [{ role: 'user', content: '3+3=?' }] })
  await tell(...reports.slice(end + 1))
  const text = reports.flatMap((report) => (report.type === 'piece' ? [report.text] : [])).join('')
  t.true(text.length > 0)
  t.is(await page.textContent('#turns .assistant'), text)
  t.false(await page.isDisabled('#question'))
  await page.screenshot({ path: join(compiled, 'answered.png') })
  // No scrolling where the window has room.
  t.true((await page.evaluate('document.documentElement.scrollHeight <= innerHeight')) as boolean)
  t.deepEqual(problems, [])
  if (process.env.POSTTRAIN_SCREENSHOTS) {
    await page.emulateMedia({ colorScheme: 'dark' })
    await page.screenshot({ path: join(process.env.POSTTRAIN_SCREENSHOTS, 'dark.png') })
    for (const name of ['training.png', 'answered.png'])
      execFileSync('cp', [join(compiled, name), process.env.POSTTRAIN_SCREENSHOTS])
  }
})

withBrowser('the abort button sends its message, a second time that the step be dropped', async (t) => {
  const { page, sent, tell, problems } = await openPage()
  t.true(await page.isDisabled('#abort'))
  await startTraining(page)
  await tell(...reports.slice(0, reports.findIndex(({ type }) => type === 'step') + 1))
  await page.click('#abort')
  t.is(await page.textContent('#abort'), 'Abort now')
  await page.click('#abort')
  t.deepEqual((await sent()).slice(1), [
    { type: 'abort', now: false },
    { type: 'abort', now: true },
  ])
  await tell({ type: 'end', reason: 'aborted', steps: null, model: null })
  t.is(await page.textContent('#status'), 'Aborted.')
  t.true(await page.isDisabled('#abort'))
  t.false(await page.isDisabled('#train'))
  t.deepEqual(problems, [])
})

withBrowser('errors are shown as text, and what they leave can be used', async (t) => {
  const { page, tell, problems } = await openPage()
  await startTraining(page)
  const message = '<img src=x onerror="document.title=1"> is no model'
  await tell({ type: 'error', during: 'train', code: 'ERR_INVALID_FILE', message })
  t.is(await page.textContent('#log .error'), `ERR_INVALID_FILE: ${message}`)
  t.is(await page.locator('#log img').count(), 0)
  t.false(await page.isDisabled('#train'))
  t.true(await page.isDisabled('#question'))

  await tell({ type: 'end', reason: 'completed', steps: 1, model: 'runs/first/model' })
  await page.fill('#question', 'Who?')
  await page.click('#send')
  await tell({ type: 'error', during: 'chat', code: 'ERR_OUT_OF_MEMORY', message: 'no memory' })
  t.is(await page.locator('#turns li').count(), 0)
  t.is(await page.inputValue('#question'), 'Who?')
  t.deepEqual(problems, [])
})
