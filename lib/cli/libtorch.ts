import { Command } from 'commander'
import { archives, platformName } from '../libtorch/archives.js'
import { findLibtorch, libtorchConstants, searchLibtorch } from '../libtorch/find/libtorch.js'
import { installLibtorch } from '../libtorch/install.js'
import type { InstallEvent } from '../libtorch/installation.js'
import { listShelf, removeFromShelf } from '../libtorch/shelf.js'
import { text } from '../options/kinds.js'
import { type OptionSet, option } from '../options/option.js'
import { lazily } from '../options/zod.js'
import { addFlags, readFlags } from './flags.js'
import { onInterrupt } from './interrupt.js'
import { screen } from './terminal.js'
import { TransferProgress } from './transfer.js'

const installSet = {
  name: 'libtorch install',
  schema: lazily((z) =>
    z.object({
      variant: option(
        z.enum(['auto', 'cpu', 'cu130']).default('auto'),
        'CPU, or CUDA 13; auto takes CUDA if the driver supports it',
      ),
      from: option(
        z.string().optional(),
        'An archive, a wheel, an unpacked libtorch, or a folder of these; missing files are downloaded',
        text('FILE|DIR'),
      ),
      force: option(z.boolean().default(false), 'Reinstall an installed version'),
    }),
  ),
  conflicts: [],
} satisfies OptionSet

function showing(progress: TransferProgress): (event: InstallEvent) => void {
  return (event) => {
    switch (event.type) {
      case 'wait':
        return progress.line(`Process ${event.pid} is installing libtorch; waiting for it`)
      case 'download':
        return progress.show(`Fetching ${event.url}`, event.receivedBytes, event.totalBytes)
      case 'retry':
        return progress.line(`Retrying: ${event.reason}`)
      case 'pip':
        return progress.line(`Fetching with pip: ${event.requirements.join(' ')}`)
      case 'unpack':
        return progress.show(`Unpacking ${event.file}`, event.readBytes, event.totalBytes)
      default:
        event satisfies never
    }
  }
}

function install(): Command {
  const command = new Command('install').description('Install libtorch into the cache of this user')
  return addFlags(command, installSet).action(async () => {
    const { options } = await readFlags(command, installSet)
    const stop = new AbortController()
    const off = onInterrupt(() => stop.abort())
    const progress = new TransferProgress(screen())
    try {
      const { from, ...rest } = options
      const given = { ...rest, ...(from !== undefined && { from }), signal: stop.signal }
      const { version, folder, isNew, because } = await installLibtorch({
        ...given,
        onEvent: showing(progress),
      })
      progress.line(
        `libtorch ${version} ${isNew ? 'installed' : 'already installed'}${because ? ` (${because})` : ''}`,
      )
      const taken = searchLibtorch().found
      if (taken !== null && taken.folder !== folder)
        progress.line(`The libtorch in ${taken.folder} (${taken.source}) takes precedence over it`)
      process.stdout.write(`${folder}\n`)
    } finally {
      progress.clear()
      off()
    }
  })
}

function urls(): Command {
  return new Command('urls')
    .description('Show download URLs, for machines without a network')
    .option('--json', 'One JSON object on stdout, with the archives of all platforms')
    .action(({ json }: { json?: boolean }) => {
      const all = archives()
      const { version, nvidia } = libtorchConstants()
      const requirements = Object.entries(nvidia).map(([name, entry]) => `${name}==${entry.version}`)
      if (json) {
        process.stdout.write(
          `${JSON.stringify({ version, platform: platformName(), archives: all, nvidia: requirements })}\n`,
        )
        return
      }
      for (const { platform, variant, url, bytes, sha256 } of all) {
        if (platform !== platformName()) continue
        process.stdout.write(`${variant}\n  ${url}\n  ${bytes} bytes, sha256 ${sha256}\n`)
        if (variant === 'cu130' && process.platform === 'linux')
          process.stdout.write(`  and NVIDIA's packages: ${requirements.join(' ')}\n`)
      }
    })
}

function list(): Command {
  return new Command('list')
    .description('List the versions in the cache')
    .option('--json', 'One JSON object on stdout')
    .action(async ({ json }: { json?: boolean }) => {
      const taken = searchLibtorch().found?.folder
      const entries = (await listShelf()).map((entry) => ({ ...entry, taken: entry.folder === taken }))
      if (json) process.stdout.write(`${JSON.stringify({ libtorch: entries })}\n`)
      else
        for (const { version, folder, bytes, whole, taken } of entries)
          process.stdout.write(
            `${taken ? '*' : ' '} ${version.padEnd(14)} ${(bytes / 1e6).toFixed(0).padStart(5)} MB  ${folder}${whole ? '' : '  (incomplete: reinstall it)'}\n`,
          )
    })
}

/** `posttrain libtorch install | urls | path | list | remove`. */
export function libtorchCommand(): Command {
  return new Command('libtorch')
    .description('Manage libtorch: install, list and remove it')
    .addCommand(install())
    .addCommand(urls())
    .addCommand(
      new Command('path')
        .description('Print the folder used on this machine')
        .action(() => void process.stdout.write(`${findLibtorch().folder}\n`)),
    )
    .addCommand(list())
    .addCommand(
      new Command('remove')
        .description('Remove versions from the cache')
        .argument('<versions...>', 'Versions as `list` prints them, or all')
        .action(async (versions: string[]) => {
          for (const version of versions) await removeFromShelf(version)
        }),
    )
}
