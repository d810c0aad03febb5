#!/usr/bin/env bash
# Writes requirements/*.txt anew from the .in files: every version pinned, with the hashes of all its files. What is
# pinned already stays as it is, unless the .in files or the arguments want it otherwise.
# The versions of lab-sglang are those of its .in file: what was seen to run together.
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

# uv does not hash a file that pip finds in a folder (torch's CPU build): pip does.
uv pip compile --quiet --no-deps --python-version 3.11 --python-platform x86_64-manylinux_2_36 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-annotate --no-header ${PIP_FIND_LINKS:+--find-links "$PIP_FIND_LINKS"} \
  --output-file lab-sglang.txt lab-sglang.in
downloads="$(mktemp -d)"
trap 'rm -rf "$downloads"' EXIT
for requirement in $(grep -E '==[^ ]+$' lab-sglang.txt || true); do
  python -m pip download -qq --no-deps --only-binary=:all: --python-version 3.11 -d "$downloads" "$requirement"
  hash="$(sha256sum "$downloads/${requirement%%==*}"-*.whl | cut -d' ' -f1)"
  sed -i "s/^$requirement\$/$requirement \\\\\n    --hash=sha256:$hash/" lab-sglang.txt
done
