#!/usr/bin/env bash
# Runs ansible-test sanity with every Python that this machine has. ansible-test looks only at collections that really
# lie in .../ansible_collections/NAMESPACE/NAME, and skips everything (and is content) in a checkout that a link makes
# one: so a copy of what is tracked is tested, less what users never install (make lint looks at that).
# Usage: sanity.sh [ARGUMENTS OF ansible-test sanity]
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$PROJECT_ROOT"

# Without the network there is no get-pip for ansible-test's virtual environments; what Python brings along will do.
# The name is that of the pip which ansible-core 2.19 asks for.
get_pip="$HOME/.ansible/test/cache/get_pip_24_2.py"
if [ ! -e "$get_pip" ]; then
  mkdir -p "$(dirname "$get_pip")"
  printf 'import ensurepip\nensurepip.bootstrap(default_pip=True)\n' >"$get_pip"
fi

# pyenv's shims fail for versions that are not selected, and ansible-test passes no variable on that selects them.
if command -v pyenv >/dev/null; then
  for bin in "$(pyenv root)"/versions/*/bin; do
    pythons="${pythons:+$pythons:}$bin"
  done
fi
export PATH="$PROJECT_ROOT/.venv/bin${pythons:+:$pythons}:$PATH"

stage="$(mktemp -d)"
trap 'rm -rf "$stage"' EXIT
collection="$stage/ansible_collections/preheat/fleet"
mkdir -p "$collection"
{
  git ls-files -z -- . ':!.collections' ':!library' ':!inventory' ':!bench' ':!scripts' ':!tests' ':!extensions' \
    ':!docs/example-*'
  git ls-files -z -- tests/config.yml
} | xargs -0 cp --parents -P -t "$collection"
cd "$collection"
LC_ALL=C.UTF-8 ansible-test sanity "$@"
