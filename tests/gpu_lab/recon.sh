#!/usr/bin/env bash
# A first look at the GPU machine: what it is, and whether the whole chain runs there. `run.sh wheels` lies between.
# usage: recon.sh machine      (carry d, w1)  facts, nvidia-smi, disk; Docker, the controller
#        recon.sh launch       (carry s)      image, model, hub, SGLang on the GPU: JIT cold, warm, failing
# Nothing here stops at the first error: each step says how it ended, and all logs come back in $OUT.
set -uo pipefail
# shellcheck source=tests/gpu_lab/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

results="$LAB/recon"
mkdir -p "$results" "$JIT_CACHE" "$HUB_CACHE"
stage=${1:-}
CALL_SECONDS="${CALL_SECONDS:-480}" # all launches end before this
SECONDS=0

save() { tar -C "$LAB" -czf "${OUT:?}/recon-$stage.tgz" recon; }
trap 'save; say "end, $SECONDS s"' EXIT

# keep NAME COMMAND...: the command's output in a file, its end in the log
keep() {
  local name=$1 status=0
  shift
  timeout 60 "$@" >"$results/$name" 2>&1 || status=$?
  printf '%-28s exit %s, %s bytes\n' "$name" "$status" "$(stat -c %s "$results/$name")"
}

nvidia_smi_all() {
  local when=$1
  keep "nvidia-smi-$when.txt" nvidia-smi
  keep "nvidia-smi-q-$when.txt" nvidia-smi -q
  keep "nvidia-smi-q-x-$when.xml" nvidia-smi -q -x
  keep "nvidia-smi-query-gpu-$when.csv" nvidia-smi --format=csv,nounits \
    --query-gpu=index,uuid,name,driver_version,memory.total,memory.free,memory.used,utilization.gpu,pci.bus_id
  keep "nvidia-smi-compute-apps-$when.csv" nvidia-smi --format=csv,nounits \
    --query-compute-apps=gpu_uuid,pid,process_name,used_memory
}

machine_facts() {
  keep facts.txt bash -c 'uname -a; cat /etc/os-release; nproc; free -m; df -h; id; ulimit -a; umask
    echo "PATH=$PATH"; env | cut -d= -f1 | sort | tr "\n" " "; cat /proc/mounts; cat /proc/cgroups
    ls -la /dev | grep -i nvidia; ls -la /usr/local/nvidia /usr/local/nvidia/bin /opt /opt/torch 2>&1
    type -a python3 nvidia-smi sudo ssh sshd git curl xz tar setsid nsenter unshare ip iptables fincore nvcc ninja tc 2>&1
    ps aux | head -50'
  keep python.txt python3 -c 'import sys, sysconfig, site; print(sys.version, sys.prefix, sys.base_prefix, site.getsitepackages())
import importlib.util as u
for n in ("ensurepip", "venv", "pip", "torch", "transformers", "safetensors"): print(n, u.find_spec(n))'
  keep pip-list.txt python3 -m pip list
  keep pyc.txt bash -c 'd=$(python3 -c "import site; print(site.getsitepackages()[0])")
    find $d -name "*.py" | wc -l; find $d -name "*.pyc" | wc -l'
  nvidia_smi_all idle
  keep nvidia-smi-L.txt nvidia-smi -L
  keep nvidia-smi-topo-m.txt nvidia-smi topo -m
  keep nvidia-smi-nvlink-s.txt nvidia-smi nvlink -s
  keep disk.txt bash -c 'f=/tmp/speed; dd if=/dev/zero of=$f bs=16M count=$0 oflag=direct 2>&1 | tail -1
    dd if=$f of=/dev/null bs=16M iflag=direct 2>&1 | tail -1; sync; echo 3 >/proc/sys/vm/drop_caches
    dd if=$f of=/dev/null bs=1M 2>&1 | tail -1; dd if=$f of=/dev/null bs=1M 2>&1 | tail -1; rm $f' "${DISK_BLOCKS:-128}"
  cat "$results/disk.txt"
  head -c 1500 "$results/python.txt"
}

stage_machine() {
  say facts
  machine_facts
  setsid nohup bash "$GPU_LAB/compile.sh" >/dev/null 2>&1 </dev/null &
  say engine
  bash "$GPU_LAB/engine.sh" 2>&1 | tee "$results/engine.txt"
  cp "$LAB/dockerd.log" "$results/"
  say controller
  time bash "$GPU_LAB/controller.sh" 2>&1 | tee "$results/controller.txt"
  say gpu_info
  (cd "$REPO" && time ANSIBLE_PYTHON_INTERPRETER=python3 "$VENV/bin/ansible" localhost -c local -m preheat.fleet.gpu_info) 2>&1 | tee "$results/gpu_info.txt"
}

download_model() {
  HF_ENDPOINT="$HUB_ENDPOINT" HF_HUB_CACHE="$HUB_CACHE" HF_HUB_DISABLE_XET=1 "$VENV/bin/python" -c '
import sys, time
from huggingface_hub import snapshot_download
start = time.monotonic()
print(snapshot_download(sys.argv[1]), round(time.monotonic() - start, 1), "s")' "$MODEL"
}

prepare_model() {
  time bash "$GPU_LAB/model.sh" && time download_model
}

# launch NAME LIMIT_SECONDS SGLANG_ARGUMENT...: a bare docker run with the host's cache and JIT caches
launch() {
  local name=$1 limit=$2 left=$((CALL_SECONDS - SECONDS))
  shift 2
  [ "$limit" -lt "$left" ] || limit=$left
  if [ "$limit" -lt 40 ]; then
    echo "$name: left out, $SECONDS s have gone"
    return 1
  fi
  say "launch $name (at most $limit s): $*"
  PATH="$ENGINE/bin:$PATH" python3 "$GPU_LAB/timed_launch.py" "$name" "$results" --limit-seconds "$limit" -- \
    docker run -d --name "$name" --gpus all --shm-size 8g -p 127.0.0.1:30000:30000 \
    -v "$HUB_CACHE:/root/.cache/huggingface/hub:ro" -v "$JIT_CACHE:/root/.cache/preheat/jit" "${environment[@]}" "$IMAGE" \
    python3 -m sglang.launch_server --model-path "$MODEL" --host 0.0.0.0 --port 30000 "${server[@]}" "$@"
  local status=$?
  marks "$name"
  save
  return $status
}

stop() {
  docker rm -f "$1" >/dev/null 2>&1
  du -sh "$JIT_CACHE"/* 2>/dev/null
}

marks() { grep -hE 'weight (begin|end)|Multi-thread|safetensors|distributed (begin|ends)|graph (begin|end)|KV Cache|pool end|fired' "$results/$1.log" | cut -c1-220; }

stage_launch() {
  local pair folder=/root/.cache/preheat/jit
  environment=(-e HF_HUB_OFFLINE=1 -e HF_HUB_CACHE=/root/.cache/huggingface/hub) # as sglang_server sets them
  for pair in CUDA_CACHE_PATH=cuda FLASHINFER_WORKSPACE_BASE=flashinfer SGLANG_CACHE_DIR=sglang TILELANG_CACHE_DIR=tilelang \
    TORCHINDUCTOR_CACHE_DIR=inductor TRITON_CACHE_DIR=triton TVM_FFI_CACHE_DIR=tvm_ffi; do
    environment+=(-e "${pair%%=*}=$folder/${pair#*=}")
  done
  server=(--attention-backend triton --sampling-backend pytorch --grammar-backend none)
  bash "$GPU_LAB/controller.sh" 2>&1 | tail -2
  say 'model, in the background'
  prepare_model >"$results/model.txt" 2>&1 &
  local model=$!
  time bash "$GPU_LAB/image.sh" 2>&1 | tee "$results/image.txt"
  cat "$LAB/compile.log"
  timeout 90 "$ENGINE/bin/docker" run --rm --gpus all "$IMAGE" python3 -c \
    'import torch, sglang, sgl_kernel; print("image runs:", sglang.__version__, torch.cuda.get_device_name(0))'
  wait "$model"
  cat "$results/model.txt"

  launch cold-jit 200 && nvidia_smi_all serving
  stop cold-jit
  say 'preheat: tune.yml'
  save
  timeout "$((CALL_SECONDS - SECONDS))" bash -c '. "$0"; play tune tune.yml -e "@$1"' "$GPU_LAB/lib.sh" "$GPU_LAB/${SWEEP:-recon_sweep.yml}"
  say "tune.yml: exit $?"
  cp -r "$LAB/tune.log" "$LAB/results" "$results/"
  docker ps -a
  du -sh "$JIT_CACHE"/*
  tar -C "$LAB" -cz --exclude='*.o' jit | split -b 15m - "${OUT:?}/jit.tgz."
}

case $stage in
machine | launch) "stage_$stage" ;;
*) die "usage: recon.sh machine|launch" ;;
esac
