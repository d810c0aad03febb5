#!/usr/bin/env bash
# Docker on a machine without it: unpacks the bundle and starts dockerd, the fullest way that works there.
# usage: engine.sh [FOLDER_WITH_docker.tar.xz]      does nothing when the engine answers already
set -euo pipefail
# shellcheck source=tests/gpu_lab/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

answers() { docker version >/dev/null 2>&1; }

unpack_engine() {
  unpack "$1/docker.tar.xz" "$ENGINE"
  chmod +x "$ENGINE"/bin/*
  # dockerd finds the GPU hook by its name on its PATH.
  install -m 755 "$GPU_LAB/nvidia_hook.py" "$ENGINE/bin/nvidia-container-runtime-hook"
}

mount_cgroups() {
  local controller
  grep -q ' /sys/fs/cgroup' /proc/mounts && return
  mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
  for controller in $(awk '!/^#/ && $4 == 1 {print $1}' /proc/cgroups); do
    mkdir -p "/sys/fs/cgroup/$controller"
    mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller" || rmdir "/sys/fs/cgroup/$controller"
  done
  mkdir -p /sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
}

delegate_cgroup_v2() {
  local controller
  [ -e /sys/fs/cgroup/cgroup.subtree_control ] || return 0
  for controller in cpu memory pids cpuset io; do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true
  done
}

# use_iptables nft|legacy: false where the kernel lacks that kind
use_iptables() {
  local name
  for name in iptables ip6tables; do
    ln -sf "xtables-$1-multi" "$ENGINE/bin/$name"
  done
  LD_LIBRARY_PATH="$ENGINE/lib" XTABLES_LIBDIR="$ENGINE/lib/xtables" "$ENGINE/bin/iptables" -t nat -L >/dev/null 2>&1
}

# try_engine DOCKERD_OPTION...: in its own session, so that it outlives the command that started it
try_engine() {
  local pid
  PATH="$ENGINE/bin:$PATH" LD_LIBRARY_PATH="$ENGINE/lib" XTABLES_LIBDIR="$ENGINE/lib/xtables" \
    setsid nohup "$ENGINE/bin/dockerd" --data-root "$LAB/docker" --exec-root "$LAB/exec" --pidfile "$LAB/dockerd.pid" \
    --host "$DOCKER_HOST" --dns 127.0.0.1 "$@" >"$LAB/dockerd.log" 2>&1 </dev/null &
  pid=$!
  for _ in $(seq 80); do
    sleep 0.25
    answers && return 0
    kill -0 "$pid" 2>/dev/null || break
  done
  grep -iE 'fail|error' "$LAB/dockerd.log" | tail -n 4
  kill "$pid" 2>/dev/null || true
  sleep 1
  return 1
}

start_engine() {
  local kind
  for kind in nft legacy; do
    use_iptables "$kind" && try_engine --storage-driver overlay2 && { echo "overlay2, bridge, iptables-$kind"; return; }
  done
  try_engine --storage-driver overlay2 --iptables=false --ip6tables=false && { echo 'overlay2, bridge, no iptables'; return; }
  try_engine --storage-driver overlay2 --iptables=false --bridge=none && { echo 'overlay2, no bridge'; return; }
  try_engine --storage-driver vfs --iptables=false --bridge=none && { echo 'vfs, no bridge'; return; }
  die "dockerd did not start; its log is $LAB/dockerd.log"
}

mkdir -p "$LAB"
if ! answers; then
  say 'unpack Docker'
  unpack_engine "${1:-$CARRY/d}"
  mount_cgroups
  delegate_cgroup_v2
  [ -w /proc/sys/net/ipv4/ip_forward ] && echo 1 >/proc/sys/net/ipv4/ip_forward
  ip link set lo up 2>/dev/null || true
  say 'start dockerd'
  start_engine
fi
docker info 2>/dev/null | grep -E 'Server Version|Storage Driver|Backing|Cgroup|Kernel Version|Runtimes|CPUs|Total Memory'
