import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join, relative } from 'node:path'
import type { ExecutionContext } from 'ava'
import { type Fault, sendFile, serve } from './file-server.js'
import { fixture } from './fixtures.js'
import { newFolder } from './scratch.js'

export type Files = Record<string, Buffer | string>

export interface HubRepository {
  /** Newest last. */
  commits: { sha: string; files: Map<string, Buffer> }[]
  refs: Map<string, string>
  /** Only this token may read it; for others it is not there. */
  token?: string
  /** Only this token may read its files. */
  gatedFor?: string
  private?: boolean
}

/** A server that answers as the Hub does, with a second one for large files. */
export interface Hub {
  endpoint: string
  /** `models/org/name` and `datasets/org/name`. */
  repositories: Map<string, HubRepository>
  /** Requests to the Hub in order, such as `GET /api/models/org/name/revision/main`. */
  asked: string[]
  /** Requests to the server of large files, with the Range header where there is one. */
  blobsAsked: string[]
  /** Authorization headers that the server of large files saw. */
  leaked: string[]
  /** Answer the next requests of large files. */
  faults: Fault[]
  /** What the Hub answers instead, for requests that match. */
  refuse: ((request: IncomingMessage, response: ServerResponse) => boolean) | null
  /** What was sent in the last commit: path and how. */
  sent: [path: string, key: string][]
  /** Summary of the last commit. */
  summary: string
  /** Large files are sent in parts of so many bytes; null: whole. */
  partBytes: number | null
  /** Adds a commit; its id. */
  commit(repository: string, files: Files, ref?: string): string
}

const hashOf = (algorithm: string, ...parts: (string | Buffer)[]) => {
  const hash = createHash(algorithm)
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}
export const sha256Of = (file: Buffer) => hashOf('sha256', file)
export const gitSha1Of = (file: Buffer) => hashOf('sha1', `blob ${file.length}\0`, file)
export const isLarge = (path: string) => /\.(safetensors|bin)$/.test(path)

/** The files of a folder. */
export function filesIn(folder: string): Files {
  return Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))]))
}

export const qwen = filesIn(fixture('models', 'qwen3'))
const VARIABLES = /^(HF_|HUGGING|TRANSFORMERS_OFFLINE|XDG_CACHE_HOME)/

/** A Hub with org/tiny, an empty cache, and an environment that names both: one test at a time. */
export async function startHub(t: ExecutionContext): Promise<{ hub: Hub; cache: string; sha: string }> {
  const before = { ...process.env }
  for (const name of Object.keys(process.env)) if (VARIABLES.test(name)) delete process.env[name]
  const home = newFolder(t)
  const hub = await hubServer(t)
  Object.assign(process.env, { HF_HOME: home, HF_ENDPOINT: `${hub.endpoint}/` })
  t.teardown(() => {
    for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name]
    Object.assign(process.env, before)
  })
  const sha = hub.commit('models/org/tiny', { ...qwen, 'README.md': '# Tiny', 'onnx/model.onnx': 'large' })
  return { hub, cache: join(home, 'hub'), sha }
}

const PAGE = 3

export async function hubServer(t: ExecutionContext): Promise<Hub> {
  const blobs = new Map<string, Buffer>()
  const hub: Omit<Hub, 'endpoint'> = {
    repositories: new Map(),
    asked: [],
    blobsAsked: [],
    leaked: [],
    faults: [],
    refuse: null,
    sent: [],
    summary: '',
    partBytes: null,
    commit(name, given, ref = 'main') {
      const files = new Map(Object.entries(given).map(([path, content]) => [path, Buffer.from(content)]))
      const repository: HubRepository = hub.repositories.get(name) ?? { commits: [], refs: new Map() }
      hub.repositories.set(name, repository)
      const sha = hashOf('sha1', name, String(repository.commits.length), ...[...files].flat())
      repository.commits.push({ sha, files })
      repository.refs.set(ref, sha)
      for (const file of files.values()) blobs.set(sha256Of(file), file)
      return sha
    },
  }
  const cdn = await serve(t, (request, response) => {
    const { range, authorization } = request.headers
    hub.blobsAsked.push(`${request.url!.split('?')[0]}${range === undefined ? '' : ` ${range}`}`)
    if (authorization !== undefined) hub.leaked.push(authorization)
    if (request.method === 'PUT') return void put(hub, blobs, request, response)
    const file = blobs.get(/^\/blob\/(\w+)/.exec(request.url!)?.[1] ?? '')
    const fault = hub.faults.shift()
    if (file === undefined) response.writeHead(404).end()
    else if (fault) fault(request, response, file)
    else sendFile(request, response, file)
  })
  const endpoint = await serve(t, (request, response) => {
    hub.asked.push(`${request.method} ${request.url}`)
    if (hub.refuse?.(request, response)) return
    if (request.method === 'POST') return void receive(hub, { endpoint, cdn, blobs }, request, response)
    answer(hub, cdn, request, response)
  })
  return Object.assign(hub, { endpoint })
}

function answer(
  hub: Omit<Hub, 'endpoint'>,
  cdn: string,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const url = new URL(request.url!, `http://${request.headers.host}`)
  const token = /^Bearer (.*)$/.exec(request.headers.authorization ?? '')?.[1]
  const refuse = (status: number, code: string, message: string) =>
    response.writeHead(status, { 'X-Error-Code': code, 'X-Error-Message': message }).end()
  const json = (value: unknown, headers: Record<string, string> = {}) =>
    response.writeHead(200, { 'Content-Type': 'application/json', ...headers }).end(JSON.stringify(value))
  const [, api, name, what, given, path] =
    /^\/(api\/)?((?:models\/|datasets\/)?[^/]+\/[^/]+)\/(revision|tree|resolve)\/([^/]+)(?:\/(.*))?$/.exec(
      url.pathname,
    ) ?? []
  if (name === undefined) return void refuse(404, 'EntryNotFound', 'no such page')
  const repository = hub.repositories.get(api || name.startsWith('datasets/') ? name : `models/${name}`)
  if (repository === undefined || (repository.token !== undefined && repository.token !== token))
    return void refuse(token === undefined ? 401 : 404, 'RepoNotFound', 'Repository not found')
  if (what !== 'revision' && repository.gatedFor !== undefined && repository.gatedFor !== token)
    return void refuse(token === undefined ? 401 : 403, 'GatedRepo', 'Access is restricted')
  const revision = decodeURIComponent(given!)
  const sha = repository.refs.get(revision) ?? revision
  const commit = repository.commits.find((one) => one.sha === sha)
  if (commit === undefined) return void refuse(404, 'RevisionNotFound', 'Invalid rev id')
  const { files } = commit
  if (what === 'revision') {
    const siblings = [...files.keys()].map((rfilename) => ({ rfilename }))
    return void json({
      id: name,
      modelId: name,
      sha,
      siblings,
      private: repository.private === true,
      tags: [],
      downloads: 0,
    })
  }
  if (what === 'tree') {
    const from = Number(url.searchParams.get('cursor') ?? 0)
    const page = [...files].slice(from, from + PAGE).map(([path, file]) => ({
      type: 'file',
      path,
      size: file.length,
      oid: gitSha1Of(isLarge(path) ? Buffer.from(`pointer ${sha256Of(file)}`) : file),
      ...(isLarge(path) && { lfs: { oid: sha256Of(file), size: file.length, pointerSize: 130 } }),
    }))
    url.searchParams.set('cursor', String(from + PAGE))
    const next = from + PAGE < files.size ? { Link: `<${url.href}>; rel="next"` } : {}
    return void json(
      [{ type: 'directory', path: 'folder', size: 0, oid: '0'.repeat(40) }, ...page],
      next as Record<string, string>,
    )
  }
  const file = files.get(decodeURIComponent(path!))
  if (file === undefined) return void refuse(404, 'EntryNotFound', 'Entry not found')
  response.setHeader('X-Repo-Commit', sha)
  if (isLarge(decodeURIComponent(path!))) {
    response.writeHead(302, {
      Location: `${cdn}/blob/${sha256Of(file)}?signature=secret`,
      'X-Linked-Etag': `"${sha256Of(file)}"`,
      'X-Linked-Size': file.length,
    })
    return void response.end()
  }
  if (request.method === 'HEAD')
    response.writeHead(200, { ETag: `W/"${gitSha1Of(file)}"`, 'Content-Length': file.length }).end()
  else sendFile(request, response, file, `"${gitSha1Of(file)}"`)
}

/** All that is sent; never where the sender breaks off. */
const bodyOf = (request: IncomingMessage) =>
  new Promise<Buffer>((resolve) => {
    const pieces: Buffer[] = []
    request.on('data', (piece: Buffer) => pieces.push(piece))
    request.on('end', () => resolve(Buffer.concat(pieces)))
    request.on('error', () => undefined)
  })

/** A large file, or a part of one. */
async function put(
  hub: Omit<Hub, 'endpoint'>,
  blobs: Map<string, Buffer>,
  request: IncomingMessage,
  response: ServerResponse,
) {
  const body = await bodyOf(request)
  const fault = hub.faults.shift()
  if (fault) return fault(request, response, body)
  const name = request.url!.replace(/^\/put\//, '')
  blobs.set(name, body)
  response.writeHead(200, { ETag: `"${sha256Of(body).slice(0, 8)}"` }).end()
}

/** What is sent to a Hub: new repositories and branches, and the steps of a commit. Only hf_write may. */
async function receive(
  hub: Omit<Hub, 'endpoint'>,
  at: { endpoint: string; cdn: string; blobs: Map<string, Buffer> },
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const text = (await bodyOf(request)).toString()
  const json = (value: unknown) => void response.writeHead(200).end(JSON.stringify(value))
  const url = request.url!
  if (url === '/complete') {
    const { oid, parts } = JSON.parse(text) as { oid: string; parts: { partNumber: number; etag: string }[] }
    const pieces = parts.map(({ partNumber }) => at.blobs.get(`${oid}/${partNumber}`)!)
    const right = parts.every(({ etag }, i) => etag === `"${sha256Of(pieces[i]!).slice(0, 8)}"`)
    if (right && request.headers.authorization === undefined) at.blobs.set(oid, Buffer.concat(pieces))
    return json({})
  }
  if (request.headers.authorization !== 'Bearer hf_write')
    return void response.writeHead(403, { 'X-Error-Message': 'You need write access' }).end()
  if (url === '/api/repos/create') {
    const { name, organization, visibility } = JSON.parse(text)
    hub.commit(`models/${organization}/${name}`, { '.gitattributes': '*.safetensors filter=lfs' })
    hub.repositories.get(`models/${organization}/${name}`)!.private = visibility === 'private'
    return json({ url: `${at.endpoint}/${organization}/${name}` })
  }
  if (url === '/verify') {
    const { oid, size } = JSON.parse(text)
    const blob = at.blobs.get(oid)
    return void response.writeHead(blob?.length === size && sha256Of(blob!) === oid ? 200 : 422).end()
  }
  if (url.endsWith('.git/info/lfs/objects/batch')) {
    const { objects } = JSON.parse(text) as { objects: { oid: string; size: number }[] }
    return json({
      objects: objects.map(({ oid, size }) => {
        if (at.blobs.has(oid)) return { oid, size }
        const count = Math.ceil(size / (hub.partBytes ?? size))
        const parts = Array.from({ length: count }, (_, i) => [
          String(i + 1).padStart(5, '0'),
          `${at.cdn}/put/${oid}/${i + 1}`,
        ])
        const basic = { href: `${at.cdn}/put/${oid}` }
        const multipart = {
          href: `${at.endpoint}/complete`,
          header: { chunk_size: String(hub.partBytes), ...Object.fromEntries(parts) },
        }
        return {
          oid,
          size,
          actions: {
            upload: hub.partBytes === null ? basic : multipart,
            verify: { href: `${at.endpoint}/verify` },
          },
        }
      }),
    })
  }
  const [, id, what, given] =
    /^\/api\/models\/([^/]+\/[^/]+)\/(preupload|commit|branch)\/([^/]+)$/.exec(url) ?? []
  const repository = hub.repositories.get(`models/${id}`)!
  const revision = decodeURIComponent(given!)
  if (what === 'preupload') {
    const { files } = JSON.parse(text) as { files: { path: string }[] }
    return json({
      files: files.map(({ path }) => ({
        path,
        uploadMode: isLarge(path) ? 'lfs' : 'regular',
        shouldIgnore: path.endsWith('.log'),
      })),
    })
  }
  if (what === 'branch') {
    repository.refs.set(revision, repository.refs.get('main')!)
    return json({})
  }
  const before = repository.commits.find(({ sha }) => sha === repository.refs.get(revision))!
  const files = Object.fromEntries(before.files)
  hub.sent = []
  for (const line of text.trimEnd().split('\n')) {
    const { key, value } = JSON.parse(line)
    if (key === 'header') hub.summary = value.summary
    else hub.sent.push([value.path, key])
    if (key === 'file') files[value.path] = Buffer.from(value.content, 'base64')
    if (key === 'lfsFile') files[value.path] = at.blobs.get(value.oid)!
  }
  const commitOid = hub.commit(`models/${id}`, files, revision)
  json({ success: true, commitOid, commitUrl: `${at.endpoint}/${id}/commit/${commitOid}` })
}

/** The files of a model that a load fetches. */
export const WANTED = [
  'config.json',
  'generation_config.json',
  'model.safetensors',
  'tokenizer.json',
  'tokenizer_config.json',
]

/** Each path below a folder: the content's hash, or where a link leads. */
export function layout(folder: string): Record<string, string> {
  const found: Record<string, string> = {}
  const walk = (at: string) => {
    for (const entry of readdirSync(at, { withFileTypes: true })) {
      const path = join(at, entry.name)
      if (entry.isDirectory()) walk(path)
      else if (entry.isSymbolicLink()) found[relative(folder, path)] = `-> ${readlinkSync(path)}`
      else found[relative(folder, path)] = gitSha1Of(readFileSync(path))
    }
  }
  walk(folder)
  return found
}
