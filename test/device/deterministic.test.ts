// test/cuda/deterministic.test.ts with the calls of CUDA, whose operations the stand-ins of native/test_hooks answer on the CPU.
process.env.POSTTRAIN_TEST_HOOKS = '1'
process.env.POSTTRAIN_TEST_DEVICE = 'cpu'
process.env.POSTTRAIN_KERNELS = 'cuda'
await import('../cuda/deterministic.test.js')

export {}
