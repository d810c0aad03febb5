#!/usr/bin/env bash
# Makes sure that a Docker engine runs: installs Debian's docker.io where there is none, starts dockerd where none
# runs, waits until it answers. Does nothing, quickly, when one answers already.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

WAIT_SECONDS=60
DOCKERD_LOG=/var/log/preheat-dockerd.log

engine_answers() { type -P docker >/dev/null && docker info >/dev/null 2>&1; }

engine_answers && exit 0

# Two `make` at once must not start two engines: the second waits, then finds one.
mkdir -p "$LAB_DIR"
exec 9>"$LAB_DIR/docker.lock"
flock 9
engine_answers && exit 0

type -P dockerd >/dev/null || ensure_packages docker.io iptables ca-certificates
type -P docker >/dev/null || ensure_packages docker-cli # a package of its own from Debian 13 on

# The package itself starts the engine where an init system runs; elsewhere (a container, a bare VM) nothing does.
if [ -d /run/systemd/system ]; then
  as_root systemctl start docker
elif ! pidof dockerd >/dev/null; then
  say "starting dockerd (log: $DOCKERD_LOG)"
  # What a killed engine left: another process may have its number by now, and dockerd would take that for itself.
  as_root rm -f /var/run/docker.pid
  pidof containerd >/dev/null || as_root rm -f /var/run/docker/containerd/containerd.pid
  # Its own session, so that it outlives this shell; fd 9 is the lock, which it must not hold. Nor may what waits for it
  # hold this script's output, or `make demo | tee log` would never end.
  as_root setsid sh -c "exec dockerd >>$DOCKERD_LOG 2>&1" >/dev/null 2>&1 </dev/null 9>&- &
  touch "$LAB_DIR/dockerd.started-by-us"
fi

for _ in $(seq "$WAIT_SECONDS"); do
  if engine_answers; then
    exit 0
  fi
  sleep 1
done
as_root tail -n 20 "$DOCKERD_LOG" >&2 || true
die "no Docker engine answered within $WAIT_SECONDS s. Its log is above and in $DOCKERD_LOG; start one, then run make again."
