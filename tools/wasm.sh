# How the compilers of install-wasm-toolchains are called: sourced behind lib.sh by examples/build and
# tools/build-component, never run.
# shellcheck shell=bash disable=SC2154 # lib.sh assigns those

build=$cache/build

# Debian's LLVM, with the libraries it brought. Its clang looks for wasm-ld-22 in the PATH.
with_llvm() {
  local program=$llvm/usr/lib/llvm-$llvm_version/bin/$1
  shift
  PATH=$llvm/usr/bin:$PATH LD_LIBRARY_PATH=$llvm/usr/lib/$multiarch "$program" "$@"
}

# shellcheck disable=SC2034 # used by the scripts that source this
wasi_flags=(--target=wasm32-wasip1 "--sysroot=$wasi_sysroot" -O2 -Wall -Wextra -Werror)

# wasi_cargo TARGET-DIR: builds the package in the working directory, with the standard library.
wasi_cargo() {
  # The remapping keeps this machine's paths out of the panic messages in the program.
  env -u CARGO_ENCODED_RUSTFLAGS -u RUSTC_WRAPPER -u RUSTUP_TOOLCHAIN \
    LD_LIBRARY_PATH="$rust_web/usr/lib/$multiarch:$llvm/usr/lib/$multiarch" CARGO_TARGET_DIR="$1" \
    RUSTC="$rust_web/usr/bin/rustc" RUSTC_BOOTSTRAP=1 \
    RUSTFLAGS="-Clinker=$llvm/usr/lib/llvm-$llvm_version/bin/wasm-ld -Clinker-flavor=wasm-ld
      --remap-path-prefix=$rust_web/usr/lib/rustlib/src/rust=/rust
      --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=/crates" \
    "$rust_web/usr/bin/cargo" build --release --quiet --locked --target wasm32-wasip1 \
    -Zbuild-std=std,panic_abort
}

# wasi_go OUTPUT PACKAGE [FLAG]...: builds a package of the module in the working directory.
wasi_go() {
  local output=$1 package=$2
  shift 2
  env -u GOEXPERIMENT GOROOT="$go_root" GOCACHE="$build/go" GOPATH="$build/gopath" GOENV=off \
    GOOS=wasip1 GOARCH=wasm GOTOOLCHAIN=local GOPROXY=off GOFLAGS=-mod=mod GOTELEMETRY=off \
    CGO_ENABLED=0 GOWASM= \
    "$go_root/bin/go" build -trimpath -buildvcs=false -ldflags='-s -w' "$@" -o "$output" "$package"
}
