import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { CausalLM, type HubEvent, onHubEvent, PosttrainError } from '../../lib/index.js'
import { modelSource } from '../../lib/models/hub.js'
import { startHub } from '../helpers/hub-server.js'

test('what a listener throws or rejects with ends the download as it is, and a later call goes on', async (t) => {
  const { cache } = await startHub(t)
  for (const mine of [new Error('mine'), 'a text', undefined, new PosttrainError('ERR_DATA', 'mine')]) {
    for (const type of ['start', 'progress', 'end']) {
      rmSync(cache, { recursive: true, force: true })
      const onHub = (event: HubEvent) => {
        if (event.type === type) throw mine
      }
      const outcome = await modelSource('org/tiny', 'model', { onHub }).then(
        () => 'no failure',
        (error) => ({ error }),
      )
      t.deepEqual(outcome, { error: mine }, type)
    }
  }
  rmSync(cache, { recursive: true, force: true })
  const late = new Error('late')
  const onHub = async (event: HubEvent) => {
    if (event.type === 'start') throw late
  }
  t.is(await t.throwsAsync(modelSource('org/tiny', 'model', { onHub })), late)
  const off = onHubEvent(async () => {
    throw late
  })
  await t.throwsAsync(modelSource('org/tiny', 'model'), { is: late })
  off()
  const locks = readdirSync(join(cache, '.locks'), { recursive: true }) as string[]
  t.deepEqual(
    locks.filter((name) => name.endsWith('.lock')),
    [],
  )
  await using _ = await CausalLM.load('org/tiny')
})
