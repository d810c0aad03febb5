#!/usr/bin/env bash
# Byte code for the machine's Python packages, so that no launch has to compile them. Takes a minute on 16 cores; run
# it in the background, image.sh waits for it.
# usage: compile.sh      does nothing the second time
set -uo pipefail
# shellcheck source=tests/gpu_lab/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ ! -e "$LAB/compiled" ] || exit 0
# Some packages ship sources for other versions of Python: their errors are no failure here.
(time python3 -m compileall -q -j "$(nproc)" "$(python3 -c 'import site; print(site.getsitepackages()[0])')") >"$LAB/compile.log" 2>&1
touch "$LAB/compiled"
