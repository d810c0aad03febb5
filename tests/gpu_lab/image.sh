#!/usr/bin/env bash
# The engine image, from the machine's own files: its /usr and /opt (Python, torch, CUDA) hard-linked into the
# layer, so that no byte is copied, and SGLang's packages from the bundle.
# usage: image.sh      does nothing when the image is there
set -euo pipefail
# shellcheck source=tests/gpu_lab/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

tree="$LAB/image"

unpack_sglang() {
  rm -rf "$tree"
  mkdir -p "$tree"/{tmp,proc,sys,dev,usr,opt,root,run,var/tmp,mnt,sgl}
  chmod 1777 "$tree/tmp" "$tree/var/tmp"
  unpack "$CARRY/s/site.tar.xz" "$tree/sgl"
  python3 -m compileall -q -j "$(nproc)" "$tree/sgl/site" >/dev/null 2>&1 || true
}

copy_skeleton() {
  local link file
  for link in bin sbin lib lib64 lib32; do
    if [ -L "/$link" ]; then cp -P "/$link" "$tree/$link"; fi
  done
  cp -a /etc "$tree/etc"
  for file in resolv.conf hosts hostname; do
    rm -f "$tree/etc/$file"
    touch "$tree/etc/$file" # the engine mounts its own over these
  done
}

import_tree() {
  local changes=(--change "ENV PATH=$PATH" --change 'ENV HOME=/root' --change 'ENV PYTHONPATH=/sgl/site' --change 'WORKDIR /root')
  while IFS= read -r variable; do
    changes+=(--change "ENV $variable")
  done < <(machine_environment)
  tar -C "$tree" -c . | docker import "${changes[@]}" - "$IMAGE"
}

link_machine_files() {
  local layer
  layer="$(docker image inspect --format '{{.GraphDriver.Data.UpperDir}}' "$IMAGE")"
  # dockerd bind-mounts its data root on itself, and a hard link may not cross mounts: link with that mount taken
  # off, in a mount namespace of our own.
  unshare -m sh -c "awk '\$5 ~ \"^$LAB/docker\" {print \$5}' /proc/self/mountinfo | sort -r | xargs -r -n1 umount -l
    cp -alx /usr/. '$layer/usr/' && cp -alx /opt/. '$layer/opt/'"
}

if [ -n "$(docker images --quiet "$IMAGE")" ]; then exit 0; fi
say 'SGLang packages'
unpack_sglang
for _ in $(seq 90); do
  [ -e "$LAB/compiled" ] && break
  sleep 1
done
say image
copy_skeleton
import_tree
link_machine_files
rm -rf "$tree"
docker images
