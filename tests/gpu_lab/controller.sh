#!/usr/bin/env bash
# The controller on a machine without a package index: a virtual environment from the carried wheels.
# usage: controller.sh      installs what is not installed yet
set -euo pipefail
# shellcheck source=tests/gpu_lab/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

wheelhouse="$LAB/wheels" # one folder: what gpu_host_wheelhouse names
mkdir -p "$wheelhouse"
for part in w1 w2 w3; do
  [ ! -d "$CARRY/$part" ] || cp -n "$CARRY/$part"/*.whl "$wheelhouse/"
done

# Debian's and Ubuntu's Python come without ensurepip, and then `python3 -m venv` fails, the role gpu_host's too.
for python in python3 /usr/bin/python3; do
  if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    folder="$("$python" -c 'import os; print(os.path.dirname(os.__file__))')"
    say "no ensurepip in $folder: taking the carried one"
    unpack "$CARRY/w1/ensurepip.tar.xz" "$folder"
  fi
done
[ -x "$VENV/bin/python" ] || "${CONTROLLER_PYTHON:-python3}" -m venv "$VENV"
"$VENV/bin/python" -m pip install -q --no-index --no-deps "$wheelhouse"/*.whl
"$VENV/bin/ansible-playbook" --version | sed -n 1p
