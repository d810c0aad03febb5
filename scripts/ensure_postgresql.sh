#!/usr/bin/env bash
# Makes sure that there are the programs of a PostgreSQL server for the tests of sweep_storage, which start servers of
# their own. Does nothing when they are there.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || ensure_packages postgresql
