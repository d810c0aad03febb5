#!/usr/bin/env bash
# Every command of recon.sh and run.sh, on this machine, until only the GPU is missing: the carried engine beside the
# machine's own, in a network of its own; the hard-linked image built; the sweeps run with an image of the lab.
# usage: rehearse.sh FOLDER [IMAGE]      as root, after pack.sh and `make lab`
# nvidia-smi is a stand-in that knows one H100, so that the sweep has a slot and containers get device requests.
# PATH's python3 needs torch and safetensors (for make_model.py), $CONTROLLER_PYTHON is a Python 3.12.
set -uo pipefail
LAB="$(realpath -m "$1")"
export LAB
lab_image="${2:-preheat-lab/light-engine:latest}"
CONTROLLER_PYTHON="$(type -P "${CONTROLLER_PYTHON:-python3.12}")"
export MODEL=gpu-lab/tiny DISK_BLOCKS=4 CONTROLLER_PYTHON
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=tests/gpu_lab/lib.sh
. "$here/lib.sh"

mkdir -p "$LAB/bin"
cat >"$LAB/bin/nvidia-smi" <<EOF
#!/bin/sh
case "\$*" in
  '-q -x') cat $REPO/tests/unit/data/gpu/nvidia_smi_h100.xml ;;
  'topo -m') cat $REPO/tests/unit/data/gpu/nvidia_topo_h100_x1.txt ;;
  *) exit 2 ;;
esac
EOF
chmod +x "$LAB/bin/nvidia-smi"
export PATH="$LAB/bin:$PATH"
unshare -n sleep 3600 &
network=$!
sleep 0.5

stop() {
  [ ! -e "$LAB/dockerd.pid" ] || kill "$(cat "$LAB/dockerd.pid")"
  [ ! -e "$LAB/hub.pid" ] || kill "$(cat "$LAB/hub.pid")"
  kill "$network"
  sleep 2
  umount "$LAB/hub"
}
trap stop EXIT

# call NAME COMMAND...: as the machine runs a command: its own $OUT, what it left running stays
call() {
  export OUT="$LAB/out/$1"
  mkdir -p "$OUT"
  shift
  echo "#### $*"
  nsenter -n -t "$network" -- bash "$@"
  echo "#### ended with $?: $(find "$OUT" -type f -printf '%f %s bytes; ')"
}

call recon-machine "$here/recon.sh" machine
IMAGE=gpu-lab/links:rehearsal call image "$here/image.sh"
"$(type -P docker)" -H unix:///var/run/docker.sock save "$lab_image" | docker load
docker tag "$lab_image" "$IMAGE"
call recon-launch "$here/recon.sh" launch
rm -rf "$LAB/results" "$HUB_CACHE" "$JIT_CACHE" # the run begins cold, on a fresh machine
call engine "$here/run.sh" engine
call wheels "$here/run.sh" wheels
call start "$here/run.sh" start
call watch "$here/run.sh" watch
