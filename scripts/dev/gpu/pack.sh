#!/bin/bash
# Packs what a machine without Node and without a network needs for run.sh into .cache/gpu: the node executable, the
# packages that the library and its tests need, and the compiled JavaScript. Run it where `npm test` has been set up.
set -euo pipefail
cd "$(dirname "$0")/../../.."
rm -rf .cache/gpu && mkdir -p .cache/gpu
xz -T0 -6 --stdout "$(node -p process.execPath)" > .cache/gpu/node.xz
npm ls --omit=dev --all --parseable > .cache/gpu/packages
npm ls ava node-addon-api node-api-headers --all --parseable >> .cache/gpu/packages
root=$PWD
sort -u .cache/gpu/packages | sed -n "s|^$root/\(node_modules/.*\)|\1|p" > .cache/gpu/list
tar -cJf .cache/gpu/node_modules.tar.xz --exclude='*.map' --exclude='*.md' -T .cache/gpu/list
tar -cJf .cache/gpu/dist.tar.xz dist/lib dist/test
rm .cache/gpu/packages .cache/gpu/list
git rev-parse HEAD > .cache/gpu/commit
du -sh .cache/gpu/*
