#!/usr/bin/env bash
# A model of a real size with random weights, and the Hub for tests that serves it from RAM.
# usage: [MODEL=gpu-lab/SHAPE] [LAYERS=N] [HUB_MB_PER_SECOND=N] model.sh
set -euo pipefail
# shellcheck source=tests/gpu_lab/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# In RAM: neither the making nor the serving then competes with the cache for the disk.
mkdir -p "$LAB/hub"
mountpoint -q "$LAB/hub" || mount -t tmpfs -o size=32g gpu-lab-hub "$LAB/hub"
if [ ! -d "$LAB/hub/$MODEL" ]; then
  python3 "$GPU_LAB/make_model.py" "${MODEL##*/}" "$LAB/hub/$MODEL" "$CARRY/s/tok" ${LAYERS:+--layers "$LAYERS"}
fi
if ! get "$HUB_ENDPOINT/__lab__/health" >/dev/null 2>&1; then
  setsid nohup python3 "$REPO/tests/lab/hub/hub.py" --root "$LAB/hub" --state-dir "$LAB/hub-state" --host 127.0.0.1 \
    --port "$HUB_PORT" --cdn-port "$((HUB_PORT + 1))" ${HUB_MB_PER_SECOND:+--limit-mb-per-second "$HUB_MB_PER_SECOND"} \
    >"$LAB/hub.log" 2>&1 </dev/null &
  echo $! >"$LAB/hub.pid"
  for _ in $(seq 40); do
    sleep 0.25
    get "$HUB_ENDPOINT/__lab__/health" >/dev/null 2>&1 && break
  done
fi
get "$HUB_ENDPOINT/__lab__/repos" # hashes all files, so that no measured request waits for that
