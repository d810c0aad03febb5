#!/usr/bin/env bash
# The run of preheat on the GPU machine, in calls on one machine, one right after the other.
# usage: run.sh engine      (carry d, w1)  Docker, the controller
#        run.sh wheels      (carry w2; w3) the wheels that did not fit into that, in two calls
#        run.sh start       (carry s)      model, image; then begins the job in the background and watches it
#        run.sh watch                      watches the job on; call it until the job has ended
#        run.sh job                        what `start` begins: warm.yml, ladder, tune.yml, report, serve.yml, ladder
# The first round of the ladder comes before the sweep: a run that is cut short then has some of everything.
# Every call but the job leaves what there is in $OUT/run-CALL.tgz.
set -uo pipefail
# shellcheck source=tests/gpu_lab/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

call=${1:-}
CALL_SECONDS="${CALL_SECONDS:-560}"
MACHINE_SECONDS="${MACHINE_SECONDS:-1650}" # after the first call began; the ladder begins no launch that ends later
SWEEP="${SWEEP:-$GPU_LAB/sweep.yml}"
# The launch that the ladder repeats: the likely best of the sweep.
LADDER="${LADDER:-{\"attention_backend\": \"flashinfer\", \"chunked_prefill_size\": 8192, \"cuda_graph_max_bs_decode\": 64\}}"
SECONDS=0
mkdir -p "$LAB/results" "$HUB_CACHE" "$JIT_CACHE"

save() {
  local what=() name
  get "$HUB_ENDPOINT/__lab__/stats" >"$LAB/hub-stats.json" 2>/dev/null
  for name in results rungs job.log warm.log tune.log report.log serve.log ladder.log prepare.log hub-stats.json dockerd.log; do
    [ ! -e "$LAB/$name" ] || what+=("$name")
  done
  tar -C "$LAB" -czf "${OUT:?}/run-$call.tgz" "${what[@]}"
}

call_engine() {
  date +%s >"$LAB/began"
  setsid nohup bash "$GPU_LAB/compile.sh" >/dev/null 2>&1 </dev/null &
  bash "$GPU_LAB/engine.sh"
  bash "$GPU_LAB/controller.sh"
}

call_wheels() { bash "$GPU_LAB/controller.sh"; }

call_start() {
  bash "$GPU_LAB/controller.sh"
  bash "$GPU_LAB/model.sh" >"$LAB/prepare.log" 2>&1 &
  local model=$!
  bash "$GPU_LAB/image.sh"
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

# climb ROUND: a round of the ladder, as far as the machine's time goes
climb() {
  say "ladder, round $1"
  PATH="$ENGINE/bin:$PATH" python3 "$GPU_LAB/ladder.py" "$1" "$HUB_CACHE" "$LAB/rungs" "$LADDER" \
    $(($(cat "$LAB/began") + MACHINE_SECONDS - $(date +%s))) -- \
    "$VENV/bin/ansible-playbook" -i "$GPU_LAB/inventory" "$GPU_LAB/launch.yml" -e "@$SWEEP" \
    -e "{\"sweep_model\": {\"repo_id\": \"$MODEL\"}}" 2>&1 | tee -a "$LAB/ladder.log"
}

call_job() {
  local results
  cd "$REPO" || die "no $REPO"
  results="$LAB/results/$(sed -n 's/^sweep_name: //p' "$SWEEP")"
  say warm.yml
  play warm warm.yml -e "@$SWEEP" || die 'warm.yml failed'
  climb 1
  say tune.yml
  if ! play tune tune.yml -e "@$SWEEP"; then
    say report.yml
    play report report.yml -e "@$SWEEP"
  fi
  say serve.yml
  play serve serve.yml -e "@$results/best.yml" && docker ps
  docker ps --quiet | xargs -r "$ENGINE/bin/docker" rm --force
  climb 2
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
