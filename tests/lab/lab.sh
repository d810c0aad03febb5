#!/usr/bin/env bash
# The lab: a fleet of GPU hosts in containers, and a Hub for tests. Idempotent; a second `up` takes seconds.
# Usage: lab.sh up|down|clean     down: hosts and Hub go, the disks and images stay; clean: everything goes.
set -euo pipefail
LAB_SOURCE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=scripts/lib.sh
. "$LAB_SOURCE/../../scripts/lib.sh"
# shellcheck source=tests/lab/settings.sh
. "$LAB_SOURCE/settings.sh"

SSH_DIR="$LAB_DIR/ssh"
HUB_STATS="http://127.0.0.1:$LAB_HUB_PORT/__lab__/stats"

# --- SSH -----------------------------------------------------------------------------------------------------------
# One client key, one fixed key per host, and the known_hosts that pins them.
ensure_ssh_keys() {
  local number
  ensure_packages openssh-client
  mkdir -p "$SSH_DIR/hosts"
  chmod 700 "$SSH_DIR"
  [ -f "$SSH_DIR/id_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -C preheat-lab -f "$SSH_DIR/id_ed25519"
  : >"$SSH_DIR/known_hosts.new"
  for number in $(seq "$LAB_HOSTS_KNOWN"); do
    [ -f "$SSH_DIR/hosts/gpu$number" ] || ssh-keygen -q -t ed25519 -N '' -C "gpu$number" -f "$SSH_DIR/hosts/gpu$number"
    echo "$(lab_address "$number") $(cut -d' ' -f1,2 "$SSH_DIR/hosts/gpu$number.pub")" >>"$SSH_DIR/known_hosts.new"
  done
  mv "$SSH_DIR/known_hosts.new" "$SSH_DIR/known_hosts"
}

lab_ssh() { # lab_ssh NUMBER COMMAND...
  local number="$1"
  shift
  ssh -i "$SSH_DIR/id_ed25519" -o BatchMode=yes -o ConnectTimeout=5 -o StrictHostKeyChecking=yes \
    -o UserKnownHostsFile="\"$SSH_DIR/known_hosts\"" "root@$(lab_address "$number")" "$@"
}

# --- Hosts ---------------------------------------------------------------------------------------------------------
ensure_network() {
  docker network inspect "$LAB_NETWORK" >/dev/null 2>&1 && return
  docker network create --subnet "$LAB_SUBNET" --gateway "$LAB_GATEWAY" "$LAB_NETWORK" >/dev/null \
    || die "cannot create the network $LAB_NETWORK: $LAB_SUBNET must be free on this machine."
}

# What a nested engine needs, short of --privileged, which a machine without CAP_SYS_RESOURCE cannot give.
NESTED_ENGINE=(
  --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined
  --device-cgroup-rule 'a *:* rwm' --cgroupns host -v /sys/fs/cgroup:/sys/fs/cgroup:rw
)
for capability in SYS_ADMIN NET_ADMIN NET_RAW SYS_PTRACE SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP DAC_READ_SEARCH \
  SYS_MODULE IPC_LOCK SYS_NICE SYSLOG; do
  NESTED_ENGINE+=(--cap-add "$capability")
done

start_host() { # start_host NUMBER
  local name container wanted
  name="gpu$1"
  container="$(lab_container "$1")"
  wanted="$(docker image inspect -f '{{.Id}}' "$LAB_IMAGE_HOST")"
  if [ "$(docker inspect -f '{{.Image}} {{.State.Running}}' "$container" 2>/dev/null)" = "$wanted true" ]; then
    return
  fi
  say "starting host $name"
  docker rm -f "$container" >/dev/null 2>&1 || true
  docker run -d --init --name "$container" --hostname "$name" --network "$LAB_NETWORK" --ip "$(lab_address "$1")" \
    --label "$LAB_LABEL=$PROJECT_ROOT" "${NESTED_ENGINE[@]}" --tmpfs /run:exec \
    -v "$container-docker:/var/lib/docker" -v "$container-root:/root" -v "$container-opt:/opt" \
    -v "$SSH_DIR/id_ed25519.pub:/lab-ssh/id_ed25519.pub:ro" \
    -v "$SSH_DIR/hosts/$name:/lab-ssh/hosts/$name:ro" \
    "$LAB_IMAGE_HOST" >/dev/null
}

wait_for_host() { # wait_for_host NUMBER: sshd and its engine answer
  for _ in $(seq 60); do
    if lab_ssh "$1" "lab-engine start && docker info" >/dev/null 2>&1; then
      return
    fi
    sleep 0.5
  done
  docker logs --tail 20 "$(lab_container "$1")" >&2 || true
  docker exec "$(lab_container "$1")" tail -n 20 /var/log/dockerd.log >&2 || true
  die "host gpu$1 ($(lab_address "$1")) did not answer over SSH with a running engine. Its logs are above."
}

# holds_images NUMBER IMAGE...: whether the host's engine has these very images
holds_images() {
  local number="$1" image held
  shift
  held="$(lab_ssh "$number" "docker image ls --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}}'")"
  for image in "$@"; do
    grep -qxF "$image $(docker image inspect -f '{{.Id}}' "$image")" <<<"$held" || return 1
  done
}

# load_images IMAGE...: into every host that lacks one. Written out once and read by all these hosts at the same time,
# in one stream, so that the layers that the images share travel once.
load_images() {
  local number pipe lacking=() pipes=() loaders=()
  for number in $(seq "$LAB_HOSTS"); do
    holds_images "$number" "$@" || lacking+=("$number")
  done
  [ ${#lacking[@]} -eq 0 ] && return
  say "loading $* into ${lacking[*]/#/gpu} (a minute or two)"
  for number in "${lacking[@]}"; do
    pipe="$LAB_DIR/load-gpu$number.pipe"
    rm -f "$pipe"
    mkfifo "$pipe"
    docker exec -i "$(lab_container "$number")" docker load --quiet <"$pipe" >/dev/null &
    pipes+=("$pipe")
    loaders+=($!)
  done
  docker save "$@" | tee "${pipes[@]}" >/dev/null
  wait_for_all "${loaders[@]}" || die "a host could not load the images, see above."
  rm -f "${pipes[@]}"
  for number in "${lacking[@]}"; do
    docker exec "$(lab_container "$number")" docker image prune -f >/dev/null # what the new tags replaced
  done
}

wait_for_all() {
  local pid
  for pid in "$@"; do wait "$pid" || return 1; done
}

# --- Wheels, models, Hub -------------------------------------------------------------------------------------------
# The hosts install the role's virtual environment from these: they have no package index.
ensure_wheelhouse() {
  local lock="$PROJECT_ROOT/requirements/host.txt" wheelhouse="$LAB_DIR/wheelhouse" hash
  hash="$(sha256sum <"$lock")"
  [ "$(cat "$wheelhouse/.lock" 2>/dev/null)" = "$hash" ] && return
  say "downloading wheels for the hosts"
  rm -rf "$wheelhouse"
  "$PROJECT_ROOT/.venv/bin/python" -m pip download -qq --no-deps --only-binary=:all: --python-version 3.11 \
    -r "$lock" -d "$wheelhouse"
  echo "$hash" >"$wheelhouse/.lock"
}

ensure_models() {
  local script="$LAB_SOURCE/models/make_models.py" models="$LAB_DIR/models" hash
  hash="$(sha256sum <"$script")"
  [ "$(cat "$LAB_DIR/models.made" 2>/dev/null)" = "$hash" ] && return
  say "making the models"
  rm -rf "$models"
  mkdir -p "$models"
  docker run --rm --user "$(id -u):$(id -g)" -e HOME=/tmp -v "$script:/make_models.py:ro" -v "$models:/models" \
    "$LAB_IMAGE_SGLANG" python3 /make_models.py /models
  echo "$hash" >"$LAB_DIR/models.made"
}

hub_answers() { python3 -c "import urllib.request as u; u.urlopen('$HUB_STATS', timeout=2)" 2>/dev/null; }

# In a container like the hosts: they reach it at a fixed address whatever firewall this machine has, and it sees theirs.
# Tests on this machine steer it at 127.0.0.1.
ensure_hub() {
  local version
  version="$(cat "$LAB_SOURCE"/hub/*.py | sha256sum | cut -c1-16)"
  # A Hub of older code is replaced, one that serves is kept (with its counters).
  [ "$(docker inspect -f '{{index .Config.Labels "preheat.lab.hub"}}' "$LAB_HUB" 2>/dev/null)" = "$version" ] \
    && hub_answers && return
  say "starting the Hub"
  docker rm -f "$LAB_HUB" >/dev/null 2>&1 || true
  mkdir -p "$LAB_DIR/hub"
  docker run -d --init --name "$LAB_HUB" --network "$LAB_NETWORK" --ip "$LAB_HUB_ADDRESS" --user "$(id -u):$(id -g)" \
    --label "$LAB_LABEL=$PROJECT_ROOT" --label "preheat.lab.hub=$version" \
    -p "127.0.0.1:$LAB_HUB_PORT:$LAB_HUB_PORT" -p "127.0.0.1:$LAB_CDN_PORT:$LAB_CDN_PORT" \
    -v "$LAB_SOURCE/hub:/hub:ro" -v "$LAB_DIR/models:/models:ro" -v "$LAB_DIR/hub:/state" \
    "$LAB_IMAGE_BASE" python3 -B /hub/hub.py --root /models --state-dir /state --host 0.0.0.0 \
    --port "$LAB_HUB_PORT" --cdn-port "$LAB_CDN_PORT" >/dev/null
  for _ in $(seq 40); do
    hub_answers && return
    sleep 0.25
  done
  docker logs --tail 20 "$LAB_HUB" >&2
  die "the Hub for tests does not answer at $HUB_STATS. Its log is above."
}

# --- Commands ------------------------------------------------------------------------------------------------------
# other_checkout: the folder of another checkout whose lab is up. Names and addresses are fixed: one lab per machine.
other_checkout() {
  local checkout
  docker ps --filter "label=$LAB_LABEL" --format "{{.Label \"$LAB_LABEL\"}}" | sort -u | while read -r checkout; do
    if [ "$checkout" != "$PROJECT_ROOT" ] && [ -d "$checkout" ]; then
      echo "$checkout"
      break
    fi
  done
}

# What a checkout left that is gone, or whose lab stopped with the engine, can be taken over: its disks and images serve
# this one.
remove_orphans() {
  docker ps -a --filter "label=$LAB_LABEL" --format "{{.ID}} {{.Label \"$LAB_LABEL\"}}" \
    | awk -v mine="$PROJECT_ROOT" '$2 != mine {print $1}' | for_each_line docker rm -f
}

up() {
  local number other
  [[ "$LAB_HOSTS" =~ ^[1-$LAB_HOSTS_KNOWN]$ ]] \
    || die "LAB_HOSTS is '$LAB_HOSTS'; the inventory has hosts for 1 to $LAB_HOSTS_KNOWN."
  "$PROJECT_ROOT/scripts/ensure_docker.sh"
  mkdir -p "$LAB_DIR"
  exec 8>"$LAB_DIR/lab.lock" # one `up` at a time
  flock 8
  other="$(other_checkout)"
  [ -z "$other" ] || die "the lab of $other is up, and there can be one per machine. Run 'make lab-down' there first."
  remove_orphans
  ensure_ssh_keys
  "$LAB_SOURCE/images/build.sh" base host light sglang
  ensure_network
  for number in $(seq "$LAB_HOSTS"); do start_host "$number"; done
  ensure_wheelhouse
  ensure_models
  ensure_hub
  for number in $(seq "$LAB_HOSTS"); do wait_for_host "$number"; done
  load_images "$LAB_IMAGE_LIGHT" "$LAB_IMAGE_SGLANG"
  say "the lab is up: $LAB_HOSTS hosts, inventory tests/lab/inventory, Hub http://$LAB_HUB_ADDRESS:$LAB_HUB_PORT"
}

# for_each_line COMMAND...: run it with all the lines of the input as further arguments, if there are any. (xargs would
# run the program docker, not the function that knows whether it needs sudo.)
for_each_line() {
  local lines
  mapfile -t lines
  [ ${#lines[@]} -eq 0 ] || "$@" "${lines[@]}" >/dev/null
}

down() {
  docker info >/dev/null 2>&1 || return 0
  docker ps -aq --filter "label=$LAB_LABEL=$PROJECT_ROOT" | for_each_line docker rm -f
  [ -n "$(other_checkout)" ] || docker network rm "$LAB_NETWORK" >/dev/null 2>&1 || true
}

clean() {
  local other
  docker info >/dev/null 2>&1 || return 0
  down
  other="$(other_checkout)"
  if [ -n "$other" ]; then
    say "leaving the lab's images and disks: the lab of $other uses them"
    return
  fi
  docker ps -aq --filter name=preheat-lab- | for_each_line docker rm -f # a build that was cut off
  docker volume ls -q --filter name=preheat-lab- | for_each_line docker volume rm
  # An image that others are built on goes only after them.
  docker image ls -q 'preheat-lab/*' | sort -u | for_each_line docker image rm -f 2>/dev/null || true
  docker image ls -q 'preheat-lab/*' | sort -u | for_each_line docker image rm -f
  # The nested engines' cgroups outlive their hosts, for they were made in this machine's tree.
  as_root find /sys/fs/cgroup -depth -type d -path '*/preheat-lab*' -exec rmdir {} + 2>/dev/null || true
}

case "${1:-}" in
  up) up ;;
  down) down ;;
  clean) clean ;;
  *) die "usage: lab.sh up|down|clean" ;;
esac
