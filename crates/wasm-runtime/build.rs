//! Links the runtime as a static program for a machine without an operating system: no C library, no
//! start files, pages of each kind apart, so that no page is both writable and executable.

fn main() {
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-fuse-ld=bfd",
        "-Wl,--gc-sections",
        "-Wl,--build-id=none",
        "-Wl,-z,norelro",
        "-Wl,-z,separate-code",
        "-Wl,-z,max-page-size=4096",
        "-Wl,-z,noexecstack",
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    let crate_dir = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    for script in ["layout.ld", "first.ld"] {
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{crate_dir}/{script}");
        println!("cargo:rerun-if-changed={script}");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
