# Shared by the set-up scripts: root, packages, Docker access. Source it, don't run it.
# shellcheck shell=bash

PROJECT_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck disable=SC2034  # used by the scripts that source this
LAB_DIR="$PROJECT_ROOT/.lab"

say() { printf '==> %s\n' "$*" >&2; }

die() {
  printf 'ERROR: %s\n' "$*" >&2
  exit 1
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo -- "$@"
  else
    die "'$1' needs root, and there is no sudo. Run make as root, or install sudo."
  fi
}

# ensure_packages PACKAGE...: install the Debian packages that are missing, and only those.
ensure_packages() {
  local package missing=()
  command -v apt-get >/dev/null || die "missing packages ($*) can only be installed with apt-get (Debian, Ubuntu). Install them by hand."
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  say "installing ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# A user outside the group `docker` reaches the engine through sudo.
docker() {
  if [ -z "${_DOCKER_PREFIX+set}" ]; then
    _DOCKER_PREFIX=""
    if [ "$(id -u)" -ne 0 ] && ! command docker info >/dev/null 2>&1; then
      _DOCKER_PREFIX="as_root"
    fi
  fi
  $_DOCKER_PREFIX "$(type -P docker)" "$@"
}
