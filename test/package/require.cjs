// `require` of an ES module, which Node knows from 20.19 and 22.12 on.
const assert = require('node:assert/strict')
const { CausalLM, PosttrainError, sft } = require('posttrain')
const { crossEntropy } = require('posttrain/losses')

assert.equal(typeof sft, 'function')
assert.equal(typeof crossEntropy, 'function')
CausalLM.load('./nowhere').then(
  () => assert.fail('a folder that is not there was loaded'),
  (error) => {
    assert.ok(error instanceof PosttrainError, String(error))
    console.log(JSON.stringify({ code: error.code }))
  },
)
