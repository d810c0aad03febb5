# Sourced by every script here: where things are on the machine, and a clock for the log.
# shellcheck shell=bash
# shellcheck disable=SC2034  # the variables are for the scripts that source this

GPU_LAB="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
REPO="$(cd "$GPU_LAB/../.." && pwd)"
CARRY="${CARRY:-$REPO/.carry}"         # bundles of pack.sh
LAB="${LAB:-/tmp/gpu-lab}"             # everything that these scripts make on the machine
ENGINE="$LAB/engine"                   # Docker's programs, and the libraries that they need
VENV="$LAB/venv"                       # the controller
IMAGE="${IMAGE:-gpu-lab/sglang:${SGLANG:-0.5.15.post1}}"
MODEL="${MODEL:-gpu-lab/llama-8b}"     # a shape of make_model.py
HUB_CACHE="$LAB/hf/hub"
JIT_CACHE="$LAB/jit"
HUB_PORT="${HUB_PORT:-8090}"
HUB_ENDPOINT="http://127.0.0.1:$HUB_PORT"
export DOCKER_HOST="unix://$LAB/docker.sock"
export PYTHONUNBUFFERED=1

say() { printf '\n## [%s] %s\n' "$(date +%T)" "$*"; }

die() {
  printf 'ERROR: %s\n' "$*" >&2
  exit 1
}

docker() { "$ENGINE/bin/docker" "$@"; }

# unpack ARCHIVE.tar.xz FOLDER: with python3, because the machine has no xz
unpack() {
  mkdir -p "$2"
  python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2], filter="fully_trusted")' "$1" "$2"
}

# get URL: without curl, which the machine may lack
get() { python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())' "$1"; }

# The machine's own variables that a container of its own files needs too; no others are passed on.
machine_environment() {
  env | grep -E '^(LD_LIBRARY_PATH|CUDA_HOME|CUDA_PATH|(NCCL|TORCH|NVSHMEM|CUDNN|TRITON)_[A-Z_]+)=' || true
}

# play LOG_NAME ANSIBLE_PLAYBOOK_ARGUMENT...: preheat on this machine; the log has the time of every line
play() {
  local log="$LAB/$1.log"
  shift
  cd "$REPO" || return
  # The modules look for the GPU hook on the PATH, as they would find the toolkit's in /usr/bin.
  PATH="$ENGINE/bin:$PATH" ANSIBLE_NOCOLOR=1 "$VENV/bin/ansible-playbook" -i "$GPU_LAB/inventory" "$@" \
    -e "sweep_results_dir=$LAB/results" -e "{\"sweep_model\": {\"repo_id\": \"$MODEL\"}}" 2>&1 |
    while IFS= read -r line; do printf '[%(%T)T] %s\n' -1 "$line"; done | tee "$log"
  return "${PIPESTATUS[0]}"
}
