import { createReadStream } from 'node:fs'
import { type Readable, Transform } from 'node:stream'
import { PosttrainError } from '../../errors.js'
import { ioError } from '../atomic.js'
import { type Answer, discard, requestAgain, shown } from '../http.js'
import { type HubClient, LFS_JSON } from './client.js'

export interface LocalFile {
  /** In the repository. */
  path: string
  from: string
  bytes: number
}

export interface LargeFile extends LocalFile {
  /** sha256 */
  oid: string
}

interface LfsObject {
  oid: string
  error?: { message?: string }
  actions?: {
    upload?: { href: string; header?: Record<string, string> }
    verify?: { href: string }
  }
}

/** Upload action of each large file; none if the Hub has it already. */
export async function askForUpload(
  client: HubClient,
  endpoint: string,
  files: readonly LargeFile[],
): Promise<Map<string, LfsObject>> {
  if (files.length === 0) return new Map()
  const { id, revision } = client.repository
  const asked = {
    operation: 'upload',
    transfers: ['basic', 'multipart'],
    hash_algo: 'sha256',
    ref: { name: revision },
    objects: files.map(({ oid, bytes }) => ({ oid, size: bytes })),
  }
  const answer = await client.object(`${endpoint}/${id}.git/info/lfs/objects/batch`, asked, LFS_JSON)
  const objects = objectsOf(client, answer.objects)
  const failed = objects.find(({ error }) => error !== undefined)
  if (failed !== undefined) {
    throw new PosttrainError(
      'ERR_HUB',
      `${endpoint} refuses a large file of ${id}: ${client.cleared(String(failed.error?.message))}`,
    )
  }
  return new Map(objects.map((object) => [object.oid, object]))
}

/** Checks the objects of an answer: whatever a server that is no Hub sends. */
function objectsOf(client: HubClient, objects: unknown): LfsObject[] {
  const isObject = (value: unknown): value is Record<string, unknown> =>
    typeof value === 'object' && value !== null
  const isAction = (action: unknown) =>
    action === undefined ||
    (isObject(action) &&
      URL.canParse(String(action.href)) &&
      (action.header === undefined || isObject(action.header)))
  const fits = (object: unknown) =>
    isObject(object) &&
    typeof object.oid === 'string' &&
    (object.error === undefined || isObject(object.error)) &&
    (object.actions === undefined ||
      (isObject(object.actions) && isAction(object.actions.upload) && isAction(object.actions.verify)))
  if (Array.isArray(objects) && objects.every(fits)) return objects as LfsObject[]
  throw client.strange('does not say where to send the large files')
}

/** Uploads one large file, whole or in the parts requested by the Hub. */
export async function upload(
  client: HubClient,
  file: LargeFile,
  { actions }: LfsObject,
  { signal, onProgress }: { signal: AbortSignal | undefined; onProgress: (bytes: number) => void },
): Promise<void> {
  const { href, header = {} } = actions!.upload!
  const { chunk_size: chunk, ...headers } = header
  const put = async (
    url: string,
    from: number,
    end: number,
    more: Record<string, string>,
  ): Promise<Answer> => {
    const ending = new AbortController()
    // A failure here is none of the network's, and is not tried again.
    let failed: { error: unknown } | null = null
    const onFailure = (error: unknown) => {
      failed ??= { error }
      ending.abort()
    }
    const answer = await requestAgain(url, {
      method: 'PUT',
      headers: { ...more, 'Content-Length': String(end - from) },
      body: () => counted(file.from, { from, end }, { onProgress, onFailure }),
      signal: signal === undefined ? ending.signal : AbortSignal.any([signal, ending.signal]),
      retries: 5,
    }).catch((error) => {
      if (failed !== null) throw failed.error
      throw error
    })
    discard(answer)
    if (answer.status >= 200 && answer.status < 300) return answer
    throw new PosttrainError(
      'ERR_NETWORK',
      `${file.path} cannot be sent to ${shown(url)}: the server answered ${answer.status}; push again, files already uploaded are not sent twice`,
    )
  }
  if (chunk === undefined) {
    await put(href, 0, file.bytes, headers)
  } else {
    const size = Number(chunk)
    const urls = Object.entries(headers)
      .filter(([name]) => /^\d+$/.test(name))
      .sort(([a], [b]) => Number(a) - Number(b))
      .map(([, url]) => url)
    if (urls.length !== Math.ceil(file.bytes / size)) {
      throw new PosttrainError(
        'ERR_NETWORK',
        `${file.path} cannot be sent: the Hub asks for ${urls.length} parts of ${chunk} bytes`,
      )
    }
    const parts = []
    for (const [i, url] of urls.entries()) {
      const answer = await put(url, i * size, Math.min(file.bytes, (i + 1) * size), {})
      parts.push({ partNumber: i + 1, etag: answer.headers.etag })
    }
    await client.text(href, {
      method: 'POST',
      // The URL is signed, so no token is sent.
      headers: { Accept: LFS_JSON, 'Content-Type': LFS_JSON },
      body: JSON.stringify({ oid: file.oid, parts }),
    })
  }
  if (actions!.verify !== undefined)
    await client.text(actions!.verify.href, {
      method: 'POST',
      headers: { ...client.headersFor(actions!.verify.href), Accept: LFS_JSON, 'Content-Type': LFS_JSON },
      body: JSON.stringify({ oid: file.oid, size: file.bytes }),
    })
}

/** Stream of a byte range of a file that reports progress, and what fails here: the file or `onProgress`. */
function counted(
  path: string,
  { from, end }: { from: number; end: number },
  told: { onProgress: (bytes: number) => void; onFailure: (error: unknown) => void },
): Readable {
  let sent = from
  const stopped = new Error('the file is not sent further')
  const counter = new Transform({
    transform(piece: Buffer, _, done) {
      sent += piece.length
      try {
        told.onProgress(sent)
        done(null, piece)
      } catch (error) {
        told.onFailure(error)
        done(stopped)
      }
    },
    flush(done) {
      if (sent === end) return done()
      told.onFailure(ioError('reading', path, new Error('it became shorter while it was sent')))
      done(stopped)
    },
  })
  const file = createReadStream(path, { start: from, end: end - 1 })
  file.on('error', (error) => {
    told.onFailure(ioError('reading', path, error))
    counter.destroy(stopped)
  })
  counter.on('close', () => file.destroy())
  return file.pipe(counter)
}
