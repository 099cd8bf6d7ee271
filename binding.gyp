# The build that releases are made from (prebuildify runs it). Needs POSTTRAIN_LIBTORCH; see scripts/build-gyp.mjs.
# The files come from native/sources.json, which CMakeLists.txt reads too.
{
  'variables': {
    'libtorch%': '<!(node -p "process.env.POSTTRAIN_LIBTORCH")',
    'minor%': '<!(node -p "require(\'./native/libtorch.json\').minor")'
  },
  'target_defaults': {
    'include_dirs': ['native', '<!(node -p "require(\'path\').resolve(require(\'node-addon-api\').include_dir)")'],
    'defines': ['NAPI_VERSION=9', 'NODE_ADDON_API_CPP_EXCEPTIONS_ALL', 'NODE_API_NO_EXTERNAL_BUFFERS_ALLOWED',
                'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS'],
    'cflags!': ['-fno-exceptions'],
    'cflags_cc!': ['-fno-exceptions', '-fno-rtti', '-std=gnu++17', '-std=gnu++20'],
    'cflags_cc': [
      '-std=c++20', '-fPIC', '-fvisibility=hidden', '-fvisibility-inlines-hidden', '-Wall', '-Werror=return-type',
      '-ffile-prefix-map=<!(node -p "process.cwd()")/=', '-ffile-prefix-map=../='
    ],
    'ldflags': ['-Wl,--as-needed', '-Wl,-z,now'],
    'msvs_settings': { 'VCCLCompilerTool': { 'ExceptionHandling': 1, 'RuntimeLibrary': 2, 'AdditionalOptions': ['/std:c++20'] } }
  },
  'targets': [
    {
      'target_name': 'posttrain',
      'sources': ['<!@(node -p "require(\'./native/sources.json\').stub.join(\' \')")'],
      'libraries': ['-ldl']
    },
    {
      'target_name': 'posttrain_core',
      # As a loadable_module node-gyp would name it .node.
      'type': 'shared_library',
      'product_prefix': '',
      'product_name': 'posttrain_core',
      'product_extension': 'torch<(minor).so',
      'sources': ['<!@(node -p "require(\'./native/sources.json\').core.join(\' \')")'],
      'cflags_cc': [
        '-O3', '-fopenmp', '-isystem', '<(libtorch)/include', '-isystem', '<(libtorch)/include/torch/csrc/api/include',
        '-ffile-prefix-map=<(libtorch)/include=libtorch'
      ],
      # OpenMP is compiled for and not linked: its symbols come from the copy that libtorch itself has loaded.
      'libraries': ['<(libtorch)/lib/libtorch_cpu.so', '<(libtorch)/lib/libc10.so']
    }
  ]
}
