// Local registry of the libtorch packages, so that npm selects and downloads them as it does for users.
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { libtorchPackage, platforms } from './platforms.mjs'

/**
 * Serves the metadata of the packages of all platforms and the tarball of one; `fetched` lists the requested tarballs.
 */
export async function serveLibtorch({ platform, file, integrity, shasum }) {
  const fetched = []
  const server = createServer((request, response) => {
    const path = decodeURIComponent(request.url).slice(1)
    const wanted = Object.keys(platforms).find((name) => path.startsWith(libtorchPackage(name).name))
    if (!wanted) return response.writeHead(404).end('{}')
    const { name, version } = libtorchPackage(wanted)
    if (path.endsWith('.tgz')) {
      fetched.push(wanted)
      if (wanted !== platform) return response.writeHead(404).end('{}')
      return response.writeHead(200, { 'content-type': 'application/octet-stream' }).end(readFileSync(file))
    }
    const dist = {
      tarball: `http://127.0.0.1:${server.address().port}/${name}/-/${wanted}.tgz`,
      ...(wanted === platform ? { integrity, shasum } : {}),
    }
    const manifest = { name, version, ...platforms[wanted].manifest, dist }
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(
      JSON.stringify({ name, 'dist-tags': { latest: version }, versions: { [version]: manifest } }),
    )
  })
  await new Promise((settle) => server.listen(0, '127.0.0.1', settle))
  return {
    address: `http://127.0.0.1:${server.address().port}/`,
    fetched,
    close: () => new Promise((settle) => server.close(settle)),
  }
}
