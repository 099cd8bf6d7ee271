import { readFileSync } from 'node:fs'
import { isAbsolute, join, resolve } from 'node:path'
import querystring from 'node:querystring'
import { PosttrainError } from '../../errors.js'
import { homeFolder } from '../home.js'
import { HUB_ORIGIN } from '../origins.mjs'

type Env = Record<string, string | undefined>

/** Settings of the Hub in the environment, read as Hugging Face's own tools do. */
export interface HubSettings {
  /** Without a user and password. */
  endpoint: string
  /** Authorization header of the user and password in HF_ENDPOINT, for requests without a token. */
  login: string | null
  /** Folder of cached repositories. */
  cache: string
  token: string | null
  /** Makes no request. */
  offline: boolean
}

const isTrue = (value: string | undefined) => /^(1|on|yes|true)$/i.test(value ?? '')

function expanded(path: string, env: Env): string {
  const named = path.replace(/\$(?:\{(\w+)\}|(\w+))/g, (whole, braced, bare) => env[braced ?? bare] ?? whole)
  return resolve(/^~(?=$|[\\/])/.test(named) ? join(homeFolder(), named.slice(1)) : named)
}

/** Whether requests leave this machine unencrypted. */
function isOpenToOthers({ protocol, hostname }: URL): boolean {
  return protocol === 'http:' && !/^(localhost|.+\.localhost|127(\.\d+){3}|\[::1\])$/.test(hostname)
}

function caches({ XDG_CACHE_HOME: xdg }: Env): string {
  return xdg && isAbsolute(xdg) ? xdg : join(homeFolder(), '.cache')
}

/** Reads the settings; `token` overrides the environment's. */
export function hubSettings(token?: string, env: Env = process.env): HubSettings {
  const home = expanded(env.HF_HOME || join(caches(env), 'huggingface'), env)
  const { endpoint, login } = endpointOf(env)
  const sent = token ?? tokenOf(home, env)
  if ((sent ?? login) !== null && isOpenToOthers(new URL(endpoint)))
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `HF_ENDPOINT is ${endpoint}: the token would travel there unencrypted; use https, or set HF_HUB_DISABLE_IMPLICIT_TOKEN=1 and give no token`,
    )
  return {
    endpoint,
    login,
    cache: expanded(env.HF_HUB_CACHE ?? env.HUGGINGFACE_HUB_CACHE ?? join(home, 'hub'), env),
    token: sent,
    offline: isTrue(env.HF_HUB_OFFLINE || env.TRANSFORMERS_OFFLINE),
  }
}

/** The endpoint, and its user and password apart from it, so that no message has them. */
function endpointOf(env: Env): Pick<HubSettings, 'endpoint' | 'login'> {
  const given = (env.HF_ENDPOINT || HUB_ORIGIN).trim().replace(/\/+$/, '')
  const endpoint = given.replace(/^(\w+:\/\/)[^/]*@/, '$1')
  if (!URL.canParse(given) || !/^https?:/.test(given)) {
    // What stands before an @ may be a password.
    const shown = endpoint.includes('@') ? '' : ` is ${endpoint}, which`
    throw new PosttrainError('ERR_INVALID_ARGUMENT', `HF_ENDPOINT${shown} is not an http(s) URL`)
  }
  const { username, password } = new URL(given)
  if (username === '' && password === '') return { endpoint, login: null }
  const user = Buffer.from(querystring.unescape(`${username}:${password}`))
  return { endpoint, login: `Basic ${user.toString('base64')}` }
}

/** Token from the environment, else from the file that `hf auth login` writes. */
function tokenOf(home: string, env: Env): string | null {
  if (isTrue(env.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return null
  const given = (env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN || '').trim()
  if (given !== '') return given
  const path = expanded(env.HF_TOKEN_PATH ?? join(home, 'token'), env)
  try {
    return readFileSync(path, 'utf8').trim() || null
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw new PosttrainError(
      'ERR_IO',
      `the token file ${path} cannot be read: ${(error as Error).message}; set HF_TOKEN instead`,
      { cause: error },
    )
  }
}
