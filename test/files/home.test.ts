import { syncBuiltinESMExports } from 'node:module'
import os from 'node:os'
import test from 'ava'
import { homeFolder } from '../../lib/files/home.js'

test('a user without HOME whom the system does not know is told what to set', (t) => {
  const { homedir } = os
  os.homedir = () => {
    throw new Error('A system error occurred: uv_os_homedir returned ENOENT (no such file or directory)')
  }
  syncBuiltinESMExports()
  try {
    t.throws(homeFolder, {
      code: 'ERR_INVALID_ARGUMENT',
      message:
        'HOME is not set, so no cache can be found: set HOME, or POSTTRAIN_CACHE and HF_HOME to folders',
    })
  } finally {
    os.homedir = homedir
    syncBuiltinESMExports()
  }
  t.is(homeFolder(), homedir())
})
