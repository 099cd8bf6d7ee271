export default {
  typescript: { rewritePaths: { 'test/': 'dist/test/' }, compile: false },
  files: ['test/**/*.test.ts'],
  workerThreads: false,
  concurrency: 2,
  timeout: '5m',
}
