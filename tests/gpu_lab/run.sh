#!/usr/bin/env bash
# The run of preheat on the GPU machine, in three calls on one machine, one right after the other.
# usage: run.sh engine      (carry d, w1)        Docker
#        run.sh tune        (carry s, w2[, jit]) model, image; tune.yml in the background, watched while time is left
#        run.sh ladder      (carry w3)           waits for tune.yml; then serve.yml, then
#                                                each rung, beside a bare docker run
# Every call leaves what there is in $OUT/run-CALL.tgz.
set -uo pipefail
# shellcheck source=tests/gpu_lab/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

call=${1:-}
CALL_SECONDS="${CALL_SECONDS:-560}"
SWEEP="${SWEEP:-$GPU_LAB/sweep.yml}"
SECONDS=0
mkdir -p "$LAB/results" "$HUB_CACHE" "$JIT_CACHE"

left() { echo $((CALL_SECONDS - SECONDS)); }

save() {
  local what=() name
  get "$HUB_ENDPOINT/__lab__/stats" >"$LAB/hub-stats.json" 2>/dev/null
  for name in results rungs tune.log report.log serve.log ladder.log prepare.log hub-stats.json dockerd.log; do
    [ ! -e "$LAB/$name" ] || what+=("$name")
  done
  tar -C "$LAB" -czf "${OUT:?}/run-$call.tgz" "${what[@]}"
}
trap 'save; say "end, $SECONDS s"' EXIT

call_engine() {
  setsid nohup bash "$GPU_LAB/compile.sh" >/dev/null 2>&1 </dev/null &
  bash "$GPU_LAB/engine.sh"
  bash "$GPU_LAB/controller.sh"
}

# watch_tune: shows the log of tune.yml until it ends, or until this call has to
watch_tune() {
  local shown=0 lines
  while [ "$(left)" -gt 5 ]; do
    lines=$(wc -l <"$LAB/tune.log")
    tail -n "+$((shown + 1))" "$LAB/tune.log" | head -n "$((lines - shown))" | grep -vE '\] *$'
    shown=$lines
    if [ -e "$LAB/tune.exit" ]; then
      say "tune.yml ended with $(cat "$LAB/tune.exit")"
      return 0
    fi
    sleep 2
  done
  say 'tune.yml goes on'
  return 1
}

call_tune() {
  [ ! -d "$CARRY/jit" ] || cat "$CARRY"/jit/jit.tgz.* | tar -xz -C "$LAB"
  bash "$GPU_LAB/controller.sh"
  bash "$GPU_LAB/model.sh" >"$LAB/prepare.log" 2>&1 &
  local model=$!
  bash "$GPU_LAB/image.sh"
  wait "$model" || die "no model: $(cat "$LAB/prepare.log")"
  cat "$LAB/prepare.log"
  say 'tune.yml'
  : >"$LAB/tune.log"
  setsid nohup bash -c '. "$0"; play tune tune.yml -e "@$1"; echo $? >"$LAB/tune.exit"' "$GPU_LAB/lib.sh" "$SWEEP" >/dev/null 2>&1 </dev/null &
  watch_tune
}

call_ladder() {
  local results
  bash "$GPU_LAB/controller.sh" # while the trials still run: what the report needs
  watch_tune || die 'tune.yml is not done'
  if [ "$(cat "$LAB/tune.exit")" != 0 ]; then
    say 'report.yml'
    play report report.yml -e "@$SWEEP"
  fi
  say serve.yml
  results="$LAB/results/$(sed -n 's/^sweep_name: //p' "$SWEEP")"
  play serve serve.yml -e "@$results/best.yml" && docker ps
  docker ps --quiet | xargs -r "$ENGINE/bin/docker" rm --force
  save # a call that outruns its limit is killed
  say ladder
  cd "$REPO" || die "no $REPO"
  PATH="$ENGINE/bin:$PATH" python3 "$GPU_LAB/ladder.py" "$results" "$LAB/rungs" "$(left)" -- \
    "$VENV/bin/ansible-playbook" -i "$GPU_LAB/inventory" "$GPU_LAB/launch.yml" -e "@$SWEEP" 2>&1 | tee "$LAB/ladder.log"
}

case $call in
engine | tune | ladder) "call_$call" ;;
*) die 'usage: run.sh engine|tune|ladder' ;;
esac
