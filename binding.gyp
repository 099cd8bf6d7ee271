# Release build (prebuildify runs it). Needs POSTTRAIN_LIBTORCH; see scripts/build-gyp.mjs.
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
      '-Werror=switch', '-ffile-prefix-map=<!(node -p "process.cwd()")/=', '-ffile-prefix-map=../='
    ],
    'ldflags': ['-Wl,--as-needed', '-Wl,-z,now'],
    'xcode_settings': {
      'CLANG_CXX_LANGUAGE_STANDARD': 'c++20', 'GCC_ENABLE_CPP_EXCEPTIONS': 'YES', 'GCC_ENABLE_CPP_RTTI': 'YES',
      'GCC_SYMBOLS_PRIVATE_EXTERN': 'YES', 'MACOSX_DEPLOYMENT_TARGET': '12.0',
      'WARNING_CFLAGS': ['-Werror=return-type', '-Werror=switch'],
      'OTHER_CPLUSPLUSFLAGS': ['-ffile-prefix-map=<!(node -p "process.cwd()")/=']
    },
    # libtorch is compiled with /MD (2); node-gyp's own default is /MT.
    'msvs_settings': { 'VCCLCompilerTool': { 'ExceptionHandling': 1, 'RuntimeLibrary': 2, 'AdditionalOptions': ['/std:c++20'] } }
  },
  'targets': [
    {
      'target_name': 'posttrain',
      'sources': ['<!@(node -p "require(\'./native/sources.json\').stub.join(\' \')")'],
      'conditions': [['OS=="linux"', { 'libraries': ['-ldl'] }]]
    },
    {
      'target_name': 'posttrain_core',
      # As a loadable_module node-gyp would name it .node.
      'type': 'shared_library',
      'product_prefix': '',
      'product_name': 'posttrain_core',
      'sources': [
        '<!@(node -p "require(\'./native/sources.json\').core.join(\' \')")', '<(INTERMEDIATE_DIR)/cuda_image.cpp'
      ],
      # The text of the CUDA kernels, and what nvcc makes of it where there is one.
      'actions': [{
        'action_name': 'cuda_image',
        'inputs': [
          'scripts/setup/cuda-image.mjs', 'native/sources.json',
          '<!@(node -p "require(\'./native/sources.json\').cudaKernels.join(\' \')")'
        ],
        'outputs': ['<(INTERMEDIATE_DIR)/cuda_image.cpp'],
        'action': ['node', 'scripts/setup/cuda-image.mjs', '<@(_outputs)']
      }],
      # OpenMP is enabled but not linked: its symbols come from the copy that libtorch itself has loaded.
      'conditions': [
        ['OS=="linux"', {
          'product_extension': 'torch<(minor).so',
          'cflags_cc': [
            '-O3', '-fopenmp', '-isystem', '<(libtorch)/include', '-isystem', '<(libtorch)/include/torch/csrc/api/include',
            '-ffile-prefix-map=<(libtorch)/include=libtorch'
          ],
          'libraries': ['<(libtorch)/lib/libtorch_cpu.so', '<(libtorch)/lib/libc10.so']
        }],
        ['OS=="mac"', {
          'product_extension': 'torch<(minor).dylib',
          'include_dirs': ['<(libtorch)/include', '<(libtorch)/include/torch/csrc/api/include'],
          'xcode_settings': {
            'GCC_OPTIMIZATION_LEVEL': '3',
            'OTHER_CPLUSPLUSFLAGS': ['-Xpreprocessor', '-fopenmp', '-ffile-prefix-map=<(libtorch)/include=libtorch'],
            'OTHER_LDFLAGS': ['-undefined', 'dynamic_lookup']
          },
          'libraries': ['<(libtorch)/lib/libtorch_cpu.dylib', '<(libtorch)/lib/libc10.dylib', '<(libtorch)/lib/libomp.dylib']
        }],
        ['OS=="win"', {
          'product_extension': 'torch<(minor).dll',
          'include_dirs': ['<(libtorch)/include', '<(libtorch)/include/torch/csrc/api/include'],
          'msvs_settings': { 'VCCLCompilerTool': { 'AdditionalOptions': ['/openmp:experimental'] } },
          'libraries': ['<(libtorch)/lib/torch_cpu.lib', '<(libtorch)/lib/c10.lib']
        }]
      ]
    }
  ]
}
