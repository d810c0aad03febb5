#!/usr/bin/env bash
# Makes sure that there is a Chromium for the tests that look at pages. Does nothing when there is one.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

type -P chromium >/dev/null || ensure_packages chromium fonts-dejavu-core
