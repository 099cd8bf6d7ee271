// `npm run test:quick`: the unit tests. Left out are rooms that train for long or start other programs, and files of
// other rooms that say by their name that they take long: `*.slow.test.ts`.
import all from './ava.config.mjs'

const SLOW_ROOMS = ['cli', 'cuda', 'demo', 'electron', 'examples', 'learning']

export default {
  ...all,
  files: [...all.files, '!test/**/*.slow.test.ts', ...SLOW_ROOMS.map((room) => `!test/${room}/**`)],
}
