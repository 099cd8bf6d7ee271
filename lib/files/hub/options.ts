import { is, needOptions, type Rule } from '../../arguments.js'

/** Rules of `HubOptions`. */
export const HUB_RULES: Readonly<Record<string, Rule>> = {
  revision: is.text,
  token: is.text,
  onHub: is.callable,
  signal: is.signal,
}

/** Refuses options of the Hub that are of the wrong kind. */
export function needHubOptions(where: string, options: unknown): void {
  needOptions(where, options, HUB_RULES)
}
