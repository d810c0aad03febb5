#!/usr/bin/env bash
# Removes what the make targets made: the lab, its images and disks, .venv, .lab, results, caches, and the Docker
# engine's process when it was started here and runs nothing else. Installed Debian packages stay.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$PROJECT_ROOT"

tests/lab/lab.sh clean

if [ -f "$LAB_DIR/dockerd.started-by-us" ] && docker info >/dev/null 2>&1; then
  if [ -z "$(docker ps -q)" ]; then
    say "stopping the Docker engine that was started here"
    pid="$(cat /var/run/docker.pid)"
    as_root kill "$pid"
    while [ -d "/proc/$pid" ]; do sleep 0.2; done
  else
    say "leaving the Docker engine running: it has other containers"
  fi
fi

as_root rm -rf .venv .lab .stage .ansible .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis results
find . -name __pycache__ -type d -prune -exec rm -rf {} +
