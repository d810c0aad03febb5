#!/bin/sh
# Runs in a container of the base image: /site (installed by pip outside) becomes the image's own packages.
set -eu
packages=/usr/local/lib/python3.11/dist-packages

mkdir -p "$packages"
# Left out: what only a CUDA compiler, a C++ build or the packages' own tests would use (a quarter of the size).
tar -C /site --exclude=./bin --exclude=./triton/backends/nvidia/bin --exclude=./triton/backends/nvidia/lib \
  --exclude=./torch/include --exclude=./torch/share --exclude=./torch/test --exclude='./torch/bin/test_*' \
  --exclude='*/tests' --exclude='*.a' -c . | tar -C "$packages" --no-same-owner -x

# Without byte code every start compiles some 10,000 files. The code never changes here, so it need not be checked
# against its source either. A few packages ship templates that are not valid Python: their failure is no failure.
python3 -m compileall -qq -j 0 --invalidation-mode unchecked-hash "$packages" || true
python3 -c 'import sglang'
