#!/usr/bin/env bash
# Runs preheat with the versions of ansible-core and of Python that docs/compatibility.md names, each pair in a virtual
# environment of its own below .lab/compat, which is kept for the next time. What this machine has no Python for is
# skipped, and said.
#   controller:CORE:PYTHON   unit tests of what runs on the controller, the collection built, installed and used, the syntax
#                            of playbooks; where the lab is up also a fleet warmed, tuned, and given compiled kernels
#   host:PYTHON              unit tests of what runs on hosts, with the libraries of requirements/host.txt
# Usage: [COMPAT_LAB=no] compat.sh [controller:CORE:PYTHON|host:PYTHON]...   all unless some are named
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$PROJECT_ROOT"

# The oldest and the newest ansible-core for each Python of the controller, and the others once.
ALL=(
  controller:2.16:3.11 controller:2.16:3.12 controller:2.17:3.12 controller:2.18:3.13 controller:2.19:3.11
  controller:2.20:3.12 controller:2.21:3.12 controller:2.21:3.13
  host:3.9 host:3.10 host:3.11 host:3.12 host:3.13
)
FOLDER="${COMPAT_DIR:-$LAB_DIR/compat}"
LAB_TESTS=(tests/integration/test_fleet.py tests/integration/test_jit_share.py)
TEST_TOOLS=(hypothesis numpy pytest pytest-xdist)

find_python() { # find_python 3.12: a path that works, pyenv's shims do not where another version is selected
  local candidate
  for candidate in "python$1" "$HOME/.pyenv/versions/$1".*/bin/python; do
    "$candidate" -c 'import ensurepip, venv' 2>/dev/null && echo "$candidate" && return
  done
  return 1
}

install() { # install VENV PYTHON WHAT...: does nothing when the environment holds these already
  local venv="$1" python="$2" stamp
  shift 2
  stamp="$* $(cat requirements/{controller.in,controller.txt,host.txt} | sha256sum)"
  [ "$(cat "$venv/.preheat-requirements" 2>/dev/null)" = "$stamp" ] && return
  say "installing into $venv"
  "$python" -m venv --clear "$venv" || return 1
  "$venv/bin/python" -m pip install -qq --disable-pip-version-check "$@" || return 1
  echo "$stamp" >"$venv/.preheat-requirements"
}

# pins SET: without hashes, as not all that is installed here has one
pins() { sed -E '/^ *--hash=/d; s/ *\\$//' "requirements/$1.txt"; }

lab_is_up() { ansible gpu_hosts -i tests/lab/inventory -m ansible.builtin.raw -a true >/dev/null 2>&1; }

pytest_in() { "$1/bin/python" -m pytest -p no:cacheprovider "${@:2}"; }

check_controller() { # check_controller CORE PYTHON: with the libraries of .venv, as far as this ansible-core takes them
  local venv="$FOLDER/controller-$1-$2" python playbook
  python="$(find_python "$2")" || return 77
  mkdir -p "$FOLDER"
  sed '/^ansible-core/d' requirements/controller.in >"$FOLDER/controller.in"
  pins controller | sed '/^ansible-core=/d; /^resolvelib=/d' >"$FOLDER/controller.txt" # which this ansible-core chooses
  install "$venv" "$python" "ansible-core==$1.*" -r "$FOLDER/controller.in" -c "$FOLDER/controller.txt" "${TEST_TOOLS[@]}" \
    || return 1
  PATH="$venv/bin:$PATH"
  pytest_in "$venv" -n auto tests/unit/plugins/{action,callback,plugin_utils} tests/unit/test_roles.py || return 1
  pytest_in "$venv" tests/integration/test_collection.py || return 1
  for playbook in playbooks/*.yml; do
    ansible-playbook --syntax-check -i tests/lab/inventory "${playbook#playbooks/}" >/dev/null || return 1
  done
  if [ "${COMPAT_LAB:-yes}" = yes ] && lab_is_up; then
    pytest_in "$venv" "${LAB_TESTS[@]}"
  else
    say "without the lab (make lab): nothing was run on hosts"
  fi
}

check_host() { # check_host PYTHON
  local venv="$FOLDER/host-$1" python
  python="$(find_python "$1")" || return 77
  mkdir -p "$FOLDER"
  pins host >"$FOLDER/host.txt"
  # ansible-core is there for ansible.module_utils alone.
  install "$venv" "$python" -r "$FOLDER/host.txt" ansible-core "${TEST_TOOLS[@]}" || return 1
  pytest_in "$venv" -n auto tests/unit/plugins/module_utils tests/unit/plugins/modules
}

[ $# -gt 0 ] || set -- "${ALL[@]}"
outcomes=()
worst=0
for pair in "$@"; do
  IFS=: read -r side first second <<<"$pair"
  say "$pair"
  code=0
  case $side in
    controller) (check_controller "$first" "$second") || code=$? ;;
    host) (check_host "$first") || code=$? ;;
    *) die "'$pair' is neither controller:CORE:PYTHON nor host:PYTHON. Known: ${ALL[*]}" ;;
  esac
  case $code in
    0) outcomes+=("$pair ok") ;;
    77) outcomes+=("$pair skipped: no Python ${second:-$first} here") ;;
    *) outcomes+=("$pair FAILED") worst=1 ;;
  esac
done
printf '%s\n' "${outcomes[@]}"
exit "$worst"
