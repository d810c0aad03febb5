#!/usr/bin/env bash
# The run of preheat on the GPU machine, in calls on one machine, one right after the other.
# usage: run.sh engine      (carry d, w1)  Docker, the controller
#        run.sh wheels      (carry w2; w3) the wheels that did not fit into that, in two calls
#        run.sh start       (carry s)      model, image; then begins the job in the background and watches it
#        run.sh watch                      watches the job on; call it until the job has ended
#        run.sh job                        what `start` begins: the $STEPS
# The first round of the ladder comes before the sweep: a run that is cut short then has some of everything.
# Every call but the job leaves what there is in $OUT/run-CALL.tgz.
set -uo pipefail
# shellcheck source=tests/gpu_lab/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

call=${1:-}
CALL_SECONDS="${CALL_SECONDS:-560}"
MACHINE_SECONDS="${MACHINE_SECONDS:-1650}" # after the first call began; the ladder begins no launch that ends later
SWEEP="${SWEEP:-sweep.yml}"
# What the job does: warm, ladder=ROUND, tune (of $SWEEP) or tune=ANOTHER_SWEEP, serve (the best of the sweep before it).
STEPS="${STEPS:-warm ladder=1 tune serve ladder=2}"
# The launch that the ladder repeats: the likely best of the sweep.
LADDER="${LADDER:-{\"attention_backend\": \"flashinfer\", \"chunked_prefill_size\": 8192, \"cuda_graph_max_bs_decode\": 64\}}"
SECONDS=0
mkdir -p "$LAB/results" "$HUB_CACHE" "$JIT_CACHE"

save() {
  local what=() name
  get "$HUB_ENDPOINT/__lab__/stats" >"$LAB/hub-stats.json" 2>/dev/null
  for name in results rungs facts hub-stats.json; do
    [ ! -e "$LAB/$name" ] || what+=("$name")
  done
  (cd "$LAB" && tar -czf "${OUT:?}/run-$call.tgz" "${what[@]}" -- *.log)
}

call_engine() {
  date +%s >"$LAB/began"
  mkdir -p "$LAB/facts"
  nvidia-smi -q -x >"$LAB/facts/nvidia-smi-q-x.xml"
  nvidia-smi topo -m >"$LAB/facts/nvidia-smi-topo-m.txt"
  setsid nohup bash "$GPU_LAB/compile.sh" >/dev/null 2>&1 </dev/null &
  bash "$GPU_LAB/engine.sh"
  bash "$GPU_LAB/controller.sh"
}

call_wheels() { bash "$GPU_LAB/controller.sh"; }

call_start() {
  bash "$GPU_LAB/controller.sh"
  bash "$GPU_LAB/model.sh" >"$LAB/prepare.log" 2>&1 &
  local model=$! environment
  bash "$GPU_LAB/image.sh"
  docker run --rm --gpus all "$IMAGE" python3 -c 'import torch, sglang, sgl_kernel
x = torch.randn(4, 4096, device="cuda", dtype=torch.bfloat16)
print("computes:", sglang.__version__, torch.cuda.get_device_name(0), sgl_kernel.rmsnorm(x, x[0].contiguous()).shape)'
  # Each container has to see the GPU that it asks for, and no other.
  nvidia-smi -L | sed -n 's/.*UUID: \(GPU-[^)]*\).*/\1/p' | while read -r uuid; do
    docker run --rm --gpus "device=$uuid" "$IMAGE" nvidia-smi -L
  done
  # A program that uses NVLink multicast can put GPUs that others share out of service.
  environment="$(docker image inspect --format '{{.Config.Env}}' "$IMAGE")"
  [[ $environment == *NCCL_NVLS_ENABLE=0* && $environment == *TORCH_SYMM_MEM_DISABLE_MULTICAST=1* ]] ||
    [ "$(nvidia-smi -L | wc -l)" -lt 2 ] || die "$IMAGE may use NVLink multicast: $environment"
  wait "$model" || die "no model: $(cat "$LAB/prepare.log")"
  cat "$LAB/prepare.log"
  # from a copy: the working tree is renewed with every call, also under a job that is reading it
  mkdir -p "$LAB/repo"
  tar -C "$REPO" --exclude=./.carry --exclude=./.git -c . | tar -C "$LAB/repo" -x
  setsid nohup bash "$LAB/repo/tests/gpu_lab/run.sh" job >"$LAB/job.log" 2>&1 </dev/null &
  call_watch
}

# call_watch: shows the job's log until it ends, or until this call has to
call_watch() {
  local shown=0 lines
  while [ $((CALL_SECONDS - SECONDS)) -gt 5 ]; do
    lines=$(wc -l <"$LAB/job.log")
    tail -n "+$((shown + 1))" "$LAB/job.log" | head -n "$((lines - shown))" | grep -vE '\] *$'
    shown=$lines
    [ ! -e "$LAB/job.ended" ] || return 0
    sleep 2
  done
  say 'the job goes on'
}

step_warm() { play warm warm.yml -e "@$GPU_LAB/$SWEEP" || die 'warm.yml failed'; }

# step_ladder ROUND: as far as the machine's time goes
step_ladder() {
  PATH="$ENGINE/bin:$PATH" python3 "$GPU_LAB/ladder.py" "$1" "$HUB_CACHE" "$LAB/rungs" "$LADDER" \
    $(($(cat "$LAB/began") + MACHINE_SECONDS - $(date +%s))) -- \
    "$VENV/bin/ansible-playbook" -i "$GPU_LAB/inventory" "$GPU_LAB/launch.yml" -e "@$GPU_LAB/$SWEEP" \
    -e "{\"sweep_model\": {\"repo_id\": \"$MODEL\"}}" 2>&1 | tee -a "$LAB/ladder.log"
}

# step_tune [SWEEP]
step_tune() {
  local sweep="${1:-$SWEEP}"
  tuned="$(sed -n 's/^sweep_name: //p' "$GPU_LAB/$sweep")"
  if ! play "tune-$tuned" tune.yml -e "@$GPU_LAB/$sweep"; then
    say report.yml
    play "report-$tuned" report.yml -e "@$GPU_LAB/$sweep"
  fi
}

step_serve() {
  play serve serve.yml -e "@$LAB/results/$tuned/best.yml" && docker ps
  docker ps --quiet | xargs -r "$ENGINE/bin/docker" rm --force
}

call_job() {
  local step tuned=
  cd "$REPO" || die "no $REPO"
  for step in $STEPS; do
    say "$step"
    case $step in
    *=*) "step_${step%%=*}" "${step#*=}" ;;
    *) "step_$step" ;;
    esac
  done
}

case $call in
engine | wheels | start | watch)
  trap 'save; say "end, $SECONDS s"' EXIT
  "call_$call"
  ;;
job)
  trap 'say "the job ended after $SECONDS s"; touch "$LAB/job.ended"' EXIT
  call_job
  ;;
*) die 'usage: run.sh engine|wheels|start|watch|job' ;;
esac
