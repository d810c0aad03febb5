#!/usr/bin/env bash
# Builds what the GPU machine lacks, on a machine with package registries (Debian 12, apt, Python 3.12 as $PYTHON).
# usage: [SGLANG=VERSION] pack.sh WORK_FOLDER OUT_FOLDER [docker|sglang|wheels]...      all three unless some are named
#   OUT/d   docker.tar.xz             Debian's Docker and the libraries beside glibc that it needs
#   OUT/s   site.tar.xz, tok/         SGLang's packages, a tokenizer
#   OUT/w1, OUT/w2, OUT/w3            the controller's and the hosts' wheels, and Python's ensurepip: d + w1, and each of
#                                     the others, fit the machine's limit for one transfer (64 MiB, checkout included);
#                                     without scipy, which only the sampler qmc needs
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
repo="$(cd "$here/../.." && pwd)"
work=$1 out=$2
shift 2
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(docker sglang wheels)
PYTHON="${PYTHON:-python3.12}"
SGLANG="${SGLANG:-0.5.15.post1}" # one that has a sglang-VERSION.txt
export PYTHONDONTWRITEBYTECODE=1

compress() { nice -n 15 xz -T1 -9e >"$1"; }

pack_docker() {
  local packages=(docker.io containerd runc iptables tini libip4tc2 libip6tc2 libxtables12 libnftnl11
    libnetfilter-conntrack3 libnfnetlink0 libmnl0 libdevmapper1.02.1 libseccomp2 libsystemd0 libgcrypt20
    libgpg-error0 liblz4-1 libcap2 libudev1 libselinux1 libpcre2-8-0)
  local deb folder
  mkdir -p "$work"/debs "$work"/root "$work"/docker/{bin,lib} "$out/d"
  (cd "$work/debs" && apt-get download -q "${packages[@]}")
  for deb in "$work"/debs/*.deb; do
    dpkg -x "$deb" "$work/root"
  done
  cp "$work"/root/usr/bin/{containerd,containerd-shim-runc-v2,docker} "$work/docker/bin/"
  cp "$work"/root/usr/sbin/{dockerd,docker-proxy,runc,xtables-legacy-multi,xtables-nft-multi} "$work/docker/bin/"
  cp "$work/root/usr/bin/tini-static" "$work/docker/bin/docker-init"
  for folder in "$work"/root/lib/x86_64-linux-gnu "$work"/root/usr/lib/x86_64-linux-gnu; do
    [ -d "$folder" ] && find "$folder" -maxdepth 1 -name '*.so*' -exec cp -P {} "$work/docker/lib/" \;
  done
  cp -r "$work/root/usr/lib/x86_64-linux-gnu/xtables" "$work/docker/lib/"
  tar -C "$work/docker" -c . | compress "$out/d/docker.tar.xz"
}

pack_sglang() {
  local site="$work/sglang/site"
  rm -rf "$work/sglang"
  mkdir -p "$out/s"
  "$PYTHON" -m pip install -q --no-deps --no-compile --only-binary=:all: --target "$site" -r "$here/sglang-$SGLANG.txt"
  # FlashAttention 3 (1.8 GB) and the sm100 build would not travel; other attention backends do without.
  rm -rf "${site:?}"/sgl_kernel/{flash_ops.abi3.so,flashmla_ops.abi3.so,sm100} "${site:?}"/sgl_kernel/infllm_ops*.so \
    "${site:?}"/{bin,share,include,lib}
  # Nor would what no text model's server imports: Rust extensions, image generation, sources of kernels' examples.
  rm -rf "$site"/sglang/srt/rust_extensions/_*.so "$site"/sglang/srt/mem_cache/rust_tree_core/*.so "$site/sglang/multimodal_gen" \
    "$site"/flashinfer/data/cutlass/{examples,python,test,docs,media} "$site"/flashinfer/data/cccl/{python,benchmarks,c,docs,ci} \
    "$site"/xgrammar/{lib,include} "$site"/torch_memory_saver_hook_mode_*_cu12.abi3.so
  find "$site/xgrammar" -name '*.so' -exec strip --strip-debug {} + 2>/dev/null || true
  PYTHONPATH="$site" "$PYTHON" "$here/make_tokenizer.py" "$out/s/tok" "$("$PYTHON" -c 'import os; print(os.path.dirname(os.__file__))')"
  find "$work/sglang" -name __pycache__ -prune -exec rm -rf {} +
  tar -C "$work/sglang" -c site | compress "$out/s/site.tar.xz"
}

pack_wheels() {
  rm -rf "$out"/w[123]
  mkdir -p "$out"/w{1,2,3}
  "$PYTHON" -m pip download -q --no-deps --only-binary=:all: -d "$out/w1" -r "$repo/requirements/controller.txt" -r "$repo/requirements/host.txt"
  rm "$out"/w1/scipy-*.whl
  mv "$out"/w1/{numpy,sqlalchemy,psycopg_binary,hf_xet}-*.whl "$out/w2/"
  mv "$out"/w1/{vl_convert_python,libtorrent}-*.whl "$out/w3/"
  tar -C "$("$PYTHON" -c 'import os; print(os.path.dirname(os.__file__))')" --exclude __pycache__ -c ensurepip | compress "$out/w1/ensurepip.tar.xz"
}

mkdir -p "$work" "$out"
for part in "${parts[@]}"; do
  "pack_$part"
done
du -sb "$out"/*
