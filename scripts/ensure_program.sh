#!/usr/bin/env bash
# Makes sure that there is a program. Does nothing when there is.
# Usage: ensure_program.sh PROGRAM [PACKAGE...]     Debian's packages that bring it; the one of its name unless some are named
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

program="$1"
shift
type -P "$program" >/dev/null || ensure_packages "${@:-$program}"
