#!/usr/bin/env bash
# Builds the lab's images from Debian's and Python's packages (no image registry is needed).
# Usage: build.sh base|host|light|sglang...   An image whose inputs have not changed is left alone.
set -euo pipefail
LAB_SOURCE="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=scripts/lib.sh
. "$LAB_SOURCE/../../scripts/lib.sh"
# shellcheck source=tests/lab/settings.sh
. "$LAB_SOURCE/settings.sh"

INPUTS_LABEL=preheat.lab.inputs
export DOCKER_BUILDKIT=0 # Debian's docker.io has no buildx

# inputs_hash PATH...: one hash over the content of files and folders.
inputs_hash() {
  find "$@" -type f ! -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 cat | sha256sum | cut -c1-16
}

# is_built IMAGE HASH
is_built() {
  [ "$(docker image inspect -f "{{index .Config.Labels \"$INPUTS_LABEL\"}}" "$1" 2>/dev/null)" = "$2" ]
}

image_id() { docker image inspect -f '{{.Id}}' "$1"; }

build_base() {
  local hash rootfs="$LAB_DIR/rootfs"
  hash="$(declare -f build_base | sha256sum | cut -c1-16)"
  is_built "$LAB_IMAGE_BASE" "$hash" && return
  ensure_packages debootstrap debian-archive-keyring
  say "building $LAB_IMAGE_BASE (about a minute)"
  as_root rm -rf "$rootfs"
  # The mirror is debootstrap's own default unless LAB_DEBIAN_MIRROR names another.
  as_root debootstrap --variant=minbase --include=ca-certificates,python3 bookworm "$rootfs" \
    ${LAB_DEBIAN_MIRROR:+"$LAB_DEBIAN_MIRROR"} >"$LAB_DIR/debootstrap.log" \
    || die "debootstrap failed, see $LAB_DIR/debootstrap.log. A mirror can be named in LAB_DEBIAN_MIRROR."
  as_root tar -C "$rootfs" --exclude=./var/cache/apt --exclude='./var/lib/apt/lists/*' --exclude=./usr/share/doc \
    --exclude=./usr/share/locale --exclude=./usr/share/man -c . \
    | docker import -c "LABEL $INPUTS_LABEL=$hash" - "$LAB_IMAGE_BASE" >/dev/null
  as_root rm -rf "$rootfs"
}

# build_context IMAGE FOLDER: docker build, on top of the base image.
build_context() {
  local hash
  hash="$(image_id "$LAB_IMAGE_BASE" | cat - <(inputs_hash "$2") | sha256sum | cut -c1-16)"
  is_built "$1" "$hash" && return
  say "building $1"
  docker build --network host --label "$INPUTS_LABEL=$hash" --build-arg BASE="$LAB_IMAGE_BASE" -t "$1" "$2" \
    >"$LAB_DIR/build.log" 2>&1 || { tail -n 20 "$LAB_DIR/build.log" >&2 && die "building $1 failed, see above"; }
}

# The scheduler imports every model SGLang has before it loads one, unless told which to leave out.
SGLANG_MODELS_KEPT='llama|qwen2'

build_sglang() {
  local hash disabled site="$LAB_DIR/sglang-site" lock="$PROJECT_ROOT/requirements/lab-sglang.txt"
  local image_source="$LAB_SOURCE/images/sglang-cpu" container=preheat-lab-build-sglang
  hash="$({ image_id "$LAB_IMAGE_BASE"; inputs_hash "$lock" "$image_source"; declare -f build_sglang; } | sha256sum | cut -c1-16)"
  is_built "$LAB_IMAGE_SGLANG" "$hash" && return
  say "building $LAB_IMAGE_SGLANG (about three minutes)"
  rm -rf "$site"
  # On this machine, not in the image: so pip's own configuration (index, certificates, proxy) holds.
  "$PROJECT_ROOT/.venv/bin/python" -m pip install -qq --no-deps --no-compile --no-warn-conflicts \
    --only-binary=:all: --python-version 3.11 --target "$site" -r "$lock" \
    || die "pip could not install $lock. torch's CPU build must be in pip's reach (PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS)."
  cp "$image_source"/site/* "$site/"
  # A container and a commit instead of COPY: 2 GB are written once, and the byte code is made by the image's Python.
  docker rm -f "$container" >/dev/null 2>&1 || true
  docker run --name "$container" -v "$site:/site:ro" -v "$image_source/install.sh:/install.sh:ro" \
    "$LAB_IMAGE_BASE" sh /install.sh >/dev/null
  disabled="$(find "$site/sglang/srt/models" -maxdepth 1 -name '*.py' -printf '%f\n' | sed 's/\.py$//' \
    | grep -vxE "$SGLANG_MODELS_KEPT|registry|utils|__init__" | LC_ALL=C sort | paste -sd,)"
  # One thread an engine: several share few cores, and torch's idle threads would spin on them.
  docker commit -c "LABEL $INPUTS_LABEL=$hash" -c 'CMD ["bash"]' -c 'ENV SGLANG_USE_CPU_ENGINE=1 OMP_NUM_THREADS=1' \
    -c "ENV SGLANG_DISABLED_MODEL_ARCHS=$disabled" "$container" "$LAB_IMAGE_SGLANG" >/dev/null
  docker rm "$container" >/dev/null
  rm -rf "$site"
}

mkdir -p "$LAB_DIR"
for name in "$@"; do
  case "$name" in
    base) build_base ;;
    host) build_context "$LAB_IMAGE_HOST" "$LAB_SOURCE/images/host" ;;
    light) build_context "$LAB_IMAGE_LIGHT" "$LAB_SOURCE/light_engine" ;;
    sglang) build_sglang ;;
    *) die "unknown image '$name'. Available: base, host, light, sglang" ;;
  esac
done
# An image that was built anew leaves the older one behind without a name.
docker image prune -f --filter "label=$INPUTS_LABEL" >/dev/null
