// What has to lie beside app.asar: only a real file can be opened as a library.
const unpack = ['**/*.node', '**/posttrain_core*.{so,dylib,dll}', '**/node_modules/@posttrain/libtorch-*/**']

module.exports = {
  packagerConfig: {
    name: 'Fine-tune',
    asar: { unpack: `{${unpack.join(',')}}` },
    ignore: [/^\/(src|types|out)(\/|$)/, /^\/page\/.*\.ts(config\.json)?$/, /\.tsbuildinfo$/],
  },
  makers: [{ name: '@electron-forge/maker-zip' }],
}
