//! `sandgrain compile`: a module as a file that `sandgrain run` need not compile.

use crate::exit::Class;
use crate::failure::Failure;
use crate::options::EngineOptions;
use crate::{file, module, progress};
use clap::Args;
use sandgrain::Module;
use sandgrain::compile::{Compiler, Settings};
use std::path::{Path, PathBuf};

/// Options of `sandgrain compile`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The module: .wasm or .wat
    file: PathBuf,
    /// Where to write the compiled module; - for standard output [default: FILE with .sgm]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Compiles for every x86-64 CPU instead of this machine's, and needs no hypervisor here
    #[arg(long)]
    any_cpu: bool,
    #[command(flatten)]
    engine: EngineOptions,
}

/// Compiles and writes.
pub fn execute(arguments: &Arguments) -> Result<(), Failure> {
    let output = match &arguments.output {
        Some(path) => path.clone(),
        None => arguments.file.with_extension("sgm"),
    };
    let wasm = module::read(&arguments.file)?;
    if same_file(&arguments.file, &output) {
        let what = format!("{} would be replaced by its compiled form", output.display());
        return Err(Failure::new(Class::Usage, what, "-o with another file"));
    }
    let message = format!("compiling {}", arguments.file.display());
    let compiled = if arguments.any_cpu {
        progress::show(&message, || any_cpu(&wasm))
    } else {
        let engine = arguments.engine.builder().build().map_err(without_hypervisor)?;
        progress::show(&message, || {
            let module = Module::new(&engine, &wasm)?;
            // Only modules for a VM have it, and there is no other way to get here.
            Ok(module.artifact_bytes().unwrap_or_default().to_vec())
        })
    };
    let bytes = compiled.map_err(|error| module::failure(&arguments.file, error))?;
    if output == Path::new("-") {
        return file::write_stdout(&bytes);
    }
    file::replace(&output, &bytes).map_err(|error| Failure::file("write", &output, &error))
}

fn any_cpu(wasm: &[u8]) -> Result<Vec<u8>, sandgrain::Error> {
    Ok(Compiler::new(&Settings::default())?.compile(wasm)?.to_bytes())
}

fn without_hypervisor(error: sandgrain::Error) -> Failure {
    let mut failure = Failure::from(error);
    if failure.class == Class::NoHypervisor {
        failure.advice.push_str("; or --any-cpu, which asks no hypervisor what the CPU can do");
    }
    failure
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
