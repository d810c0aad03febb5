#!/usr/bin/env bash
# Makes .venv hold the pinned requirements of a set, and does nothing when it holds them already.
# Usage: ensure_venv.sh controller|dev     controller: what ansible-playbook needs; dev: that, and the test tools.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

SET="${1:?usage: ensure_venv.sh controller|dev}"
VENV="$PROJECT_ROOT/.venv"
STAMP="$VENV/.preheat-requirements"

# stamp SET: what the stamp file says once the set is installed
stamp() { echo "$1 $(cat "$PROJECT_ROOT"/requirements/{controller,"$1"}.txt | sha256sum | cut -c1-16)"; }

is_usable_python() {
  "$1" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
    is_usable_python "$candidate" && echo "$candidate" && return
  done
  return 1
}

mkdir -p "$LAB_DIR"
exec 9>"$LAB_DIR/venv.lock"
flock 9

# dev contains controller.
case "$(cat "$STAMP" 2>/dev/null)" in
  "$(stamp "$SET")" | "$(stamp dev)") "$VENV/bin/python" -c '' 2>/dev/null && exit 0 ;;
esac

if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
  if ! python="$(find_python)"; then
    ensure_packages python3 python3-venv
    python="$(find_python)" \
      || die "no usable Python 3.11, 3.12 or 3.13 on this machine. Install one with its venv module, or name it: make PYTHON=/path/to/python3.12 ..."
  fi
  say "creating .venv with $("$python" --version)"
  "$python" -m venv --clear "$VENV"
fi
say "installing requirements/$SET.txt into .venv"
"$VENV/bin/python" -m pip install -qq --disable-pip-version-check --require-hashes -r "$PROJECT_ROOT/requirements/$SET.txt"
stamp "$SET" >"$STAMP"
