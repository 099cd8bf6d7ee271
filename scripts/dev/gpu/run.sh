#!/bin/bash
# Builds this checkout against the torch of this machine's python3, checks the CUDA half and times it:
#   bash scripts/dev/gpu/run.sh [--minutes 9] [--output docs/gpu/DIR] [--rehearse]
# Needs a C++ compiler, cmake, ninja and a python3 with torch; Node 20 or, from pack.sh, .cache/gpu. Nothing is fetched,
# the checkout gets the report alone, and no failure ends the run: OUTPUT/report.json is written anew after every stage.
set -uo pipefail
cd "$(dirname "$0")/../../.."
work=${POSTTRAIN_GPU_WORK:-/tmp/posttrain-gpu}
mkdir -p "$work"
if [ -f .cache/gpu/node.xz ] && ! command -v node > /dev/null; then
  mkdir -p "$work/bin"
  xz -dc .cache/gpu/node.xz > "$work/bin/node" && chmod +x "$work/bin/node"
  export PATH="$work/bin:$PATH"
fi
exec node scripts/dev/gpu/run.mjs --work "$work" "$@"
