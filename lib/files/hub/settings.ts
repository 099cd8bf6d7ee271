import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { PosttrainError } from '../../errors.js'
import { HUB_ORIGIN } from '../origins.mjs'

type Env = Record<string, string | undefined>

/** Settings of the Hub in the environment, read as Hugging Face's own tools do. */
export interface HubSettings {
  endpoint: string
  /** Folder of cached repositories. */
  cache: string
  token: string | null
  /** Makes no request. */
  offline: boolean
}

const isTrue = (value: string | undefined) => /^(1|on|yes|true)$/i.test(value ?? '')

function expanded(path: string, env: Env): string {
  const named = path.replace(/\$(?:\{(\w+)\}|(\w+))/g, (whole, braced, bare) => env[braced ?? bare] ?? whole)
  return resolve(named.replace(/^~(?=$|[\\/])/, homedir()))
}

/** Reads the settings; `token` overrides the environment's. */
export function hubSettings(token?: string, env: Env = process.env): HubSettings {
  const home = expanded(
    env.HF_HOME ?? join(env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'huggingface'),
    env,
  )
  const endpoint = (env.HF_ENDPOINT || HUB_ORIGIN).replace(/\/+$/, '')
  if (!URL.canParse(endpoint) || !/^https?:/.test(endpoint)) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `HF_ENDPOINT is ${endpoint}, which is not an http(s) URL`,
    )
  }
  return {
    endpoint,
    cache: expanded(env.HF_HUB_CACHE ?? env.HUGGINGFACE_HUB_CACHE ?? join(home, 'hub'), env),
    token: token ?? tokenOf(home, env),
    offline: isTrue(env.HF_HUB_OFFLINE || env.TRANSFORMERS_OFFLINE),
  }
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
