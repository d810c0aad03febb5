#!/usr/bin/env bash
# Writes requirements/*.txt anew from the .in files: every version pinned, with the hashes of all its files. What is
# pinned already stays as it is, unless the .in files or the arguments want it otherwise.
# Usage: requirements.sh [ARGUMENTS OF uv pip compile]     --upgrade: all; --upgrade-package optuna: this one
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$PROJECT_ROOT/requirements"

# Of several indexes the best version counts, as for pip; none of them is named in the result.
export UV_INDEX_STRATEGY=unsafe-best-match

# lock SET PYTHON [ARGUMENT...]: for all platforms, and all Pythons from PYTHON on
lock() {
  uv pip compile --quiet --universal --python-version "$2" --generate-hashes --no-emit-index-url --no-header \
    --output-file "$1.txt" "${@:3}" "$1.in"
}

lock host 3.9 "$@"
lock controller 3.11 "$@"
lock dashboard 3.11 --constraint controller.txt "$@"
lock dev 3.11 --constraint controller.txt "$@"
