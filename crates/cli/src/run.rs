//! `sandgrain run`: a program, or one exported function, in a VM of its own.

use crate::arguments::{Directory, Preload, Variable, directory, preload, variable};
use crate::exit::Class;
use crate::failure::Failure;
use crate::options::{EngineOptions, LimitOptions};
use crate::report::{Compile, Figures, Report};
use crate::terminal::{print, print_error};
use crate::values::{self, Typed};
use crate::{module, progress};
use clap::Args;
use sandgrain::compile::{Kind, identify};
use sandgrain::component::Val;
use sandgrain::types::{ExternType, FuncType};
use sandgrain::wasi::{Destination, Input, Output, WasiConfig};
use sandgrain::{Engine, Error, Module, Sandbox, Value, wave};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

const WITHOUT_VM: &str = "warning: running without a VM: nothing but WebAssembly holds the \
                          program in; never do this with code that is not your own\n";

/// Options of `sandgrain run`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The module or component: .wasm, .wat, or compiled (.sgm)
    file: PathBuf,
    /// Arguments of the program, behind `--`; or of the function, read by its parameters' types
    #[arg(allow_negative_numbers = true)]
    args: Vec<String>,
    /// Calls this exported function instead of _start, and prints its results, one a line. Of a component it is a call
    /// in WAVE, such as 'greet("Ada", {loud: true})', and so is what it prints
    #[arg(long, value_name = "FUNCTION")]
    invoke: Option<String>,
    /// Instantiates another module first, from which NAME can be imported
    #[arg(long, value_name = "NAME=FILE", value_parser = preload)]
    preload: Vec<Preload>,
    /// Runs the program in this process, with no VM around it: for your own code only
    #[arg(long)]
    without_vm: bool,
    /// Prints what it cost to standard error
    #[arg(long)]
    stats: bool,
    /// Prints a report as one line of JSON: with --invoke to standard output, in place of the
    /// results; else, as that belongs to the program, to standard error; or into FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    json: Option<Option<PathBuf>>,
    #[command(flatten)]
    grants: Grants,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    engine: EngineOptions,
}

/// What the program is given besides its standard streams.
#[derive(Debug, Args)]
#[command(next_help_heading = "Grants")]
struct Grants {
    /// Grants a directory, under the same name in the program unless GUEST is given
    #[arg(long, value_name = "HOST[::GUEST[::ro]]", value_parser = directory)]
    dir: Vec<Directory>,
    /// Sets a variable of the program's environment, or passes one on
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = variable)]
    env: Vec<Variable>,
    /// Passes all of the environment on
    #[arg(long)]
    inherit_env: bool,
    /// Lets a component make HTTP requests to these hosts and ports, such as api.example.com:443, *.example.com:80,443 or
    /// 10.0.0.0/8:*. Private addresses are refused unless an address is named
    #[arg(long, value_name = "DESTINATION")]
    allow_http: Vec<Destination>,
    /// Lets a component connect to these by TCP, and look names up
    #[arg(long, value_name = "DESTINATION")]
    allow_tcp: Vec<Destination>,
    /// Lets a component exchange UDP datagrams with these, and look names up
    #[arg(long, value_name = "DESTINATION")]
    allow_udp: Vec<Destination>,
    /// Lets a component listen at these addresses and ports
    #[arg(long, value_name = "DESTINATION")]
    allow_listen: Vec<Destination>,
}

/// What is to be called.
enum Entry<'a> {
    Start,
    Function { name: &'a str, ty: FuncType, args: Vec<Value> },
    Component { name: String, args: Vec<Val> },
}

/// What a call has returned.
enum Returned {
    /// A program has ended.
    Nothing,
    Values(Vec<Value>),
    Component(Option<Val>),
}

/// Runs it, and reports.
pub fn execute(arguments: &Arguments) -> ExitCode {
    let mut report = Report { without_vm: arguments.without_vm, ..Report::default() };
    let mut failures = Vec::new();
    // Opened first: a report that has no place to go is to be known before the program has run.
    let file = match &arguments.json {
        Some(Some(path)) => match File::create(path) {
            Ok(file) => Some((path, file)),
            Err(error) => return fail(&Failure::file("write", path, &error)),
        },
        _ => None,
    };
    match run(arguments, &mut report) {
        Ok(code) => {
            report.status = if code == 0 { "ok" } else { "exit" };
            report.exit_code = exit_code(code);
            report.program_exit_code = Some(code);
        }
        Err(failure) => {
            report.status = "error";
            report.exit_code = failure.class.code();
            report.error = Some(failure.report());
            failures.push(failure);
        }
    }
    if arguments.stats {
        print_error(&report.table());
    }
    for failure in &failures {
        failure.print();
    }
    if arguments.json.is_some()
        && let Err(failure) = write_report(&report, file, arguments.invoke.is_some())
    {
        return fail(&failure);
    }
    ExitCode::from(report.exit_code)
}

fn fail(failure: &Failure) -> ExitCode {
    failure.print();
    ExitCode::from(failure.class.code())
}

fn write_report(
    report: &Report,
    file: Option<(&PathBuf, File)>,
    stdout: bool,
) -> Result<(), Failure> {
    let line = report.line().map_err(|error| {
        Failure::new(Class::Host, format!("cannot write the report: {error}"), "--stats instead")
    })?;
    match file {
        Some((path, mut file)) => {
            file.write_all(line.as_bytes()).map_err(|error| Failure::file("write", path, &error))
        }
        None if stdout => print(&line).map_err(|error| Failure::output(&error)),
        None => {
            print_error(&line);
            Ok(())
        }
    }
}

/// The program's exit code; 0 for a function that returned.
fn run(arguments: &Arguments, report: &mut Report) -> Result<i32, Failure> {
    let wasi = wasi(arguments)?;
    let bytes = module::read(&arguments.file)?;
    let engine = engine(arguments)?;
    let started = Instant::now();
    let module = load(&engine, &arguments.file, bytes)?;
    report.compile = Some(Compile::new(&module, started.elapsed()));
    let entry = entry(arguments, &module)?;

    let mut builder = Sandbox::builder(&module).limits(arguments.limits.limits()).wasi(wasi);
    for Preload { name, file } in &arguments.preload {
        builder = builder.preload(name, &load(&engine, file, module::read(file)?)?);
    }
    let started = Instant::now();
    let built = builder.count_pages(arguments.stats || arguments.json.is_some()).build();
    let mut sandbox = match built {
        Ok(sandbox) => sandbox,
        // A start function may end the program.
        Err(Error::Exit(code)) => return Ok(code),
        Err(error) => return Err(error.into()),
    };
    report.stats.create = Some(Figures::new(&sandbox.stats(), started.elapsed()));

    let started = Instant::now();
    let outcome = match &entry {
        Entry::Start => sandbox.run().map(|code| (code, Returned::Nothing)),
        Entry::Function { name, args, .. } => {
            let called = sandbox.call_values(sandbox.main(), name, args);
            exited(called.map(Returned::Values))
        }
        Entry::Component { name, args } => {
            let called = sandbox.call_component_values(sandbox.main(), name, args);
            exited(called.map(Returned::Component))
        }
    };
    report.stats.call = Some(Figures::new(&sandbox.stats(), started.elapsed()));
    let (code, returned) = outcome?;
    let prints = !matches!(arguments.json, Some(None));
    match (&entry, returned) {
        (Entry::Function { ty, .. }, Returned::Values(values)) => {
            if prints {
                let lines: String =
                    values.iter().map(|value| format!("{}\n", values::text(value))).collect();
                print(&lines).map_err(|error| Failure::output(&error))?;
            }
            let typed = values.iter().zip(&ty.results).map(|(value, ty)| Typed::new(value, *ty));
            report.results = Some(typed.collect());
        }
        (_, Returned::Component(value)) => {
            let text = value.as_ref().map(wave::print);
            if let (Some(text), true) = (&text, prints) {
                print(&format!("{text}\n")).map_err(|error| Failure::output(&error))?;
            }
            report.result = text;
        }
        _ => {}
    }
    Ok(code)
}

/// A call's result, with the exit code of a program that has ended in it.
fn exited(called: Result<Returned, Error>) -> Result<(i32, Returned), Error> {
    match called {
        Ok(returned) => Ok((0, returned)),
        Err(Error::Exit(code)) => Ok((code, Returned::Nothing)),
        Err(error) => Err(error),
    }
}

/// What is left of a program's code: a system's has 8 bits, and a failure must not become a success.
fn exit_code(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

fn engine(arguments: &Arguments) -> Result<Engine, Failure> {
    if arguments.without_vm {
        print_error(WITHOUT_VM);
        return Ok(arguments.engine.builder().dangerously_without_vm().build()?);
    }
    arguments.engine.builder().build().map_err(|error| {
        let mut failure = Failure::from(error);
        if failure.class == Class::NoHypervisor {
            failure.advice.push_str(
                "; sandgrain doctor for details; or --without-vm, which runs the program with no \
                 VM around it, for your own code only",
            );
        }
        failure
    })
}

fn load(engine: &Engine, path: &Path, bytes: Vec<u8>) -> Result<Module, Failure> {
    let kind = identify(&bytes);
    if kind == Kind::Artifact && engine.is_without_vm() {
        let what = "a compiled module is machine code, which only a VM may run";
        let what = format!("{}: {what}", path.display());
        let advice = "the WebAssembly that it was compiled from";
        return Err(Failure::new(Class::BadCall, what, advice));
    }
    let message = format!("compiling {}", path.display());
    let loaded = progress::show(&message, || match kind {
        Kind::Artifact => Module::from_artifact(engine, bytes),
        _ => Module::new(engine, &bytes),
    });
    loaded.map_err(|error| module::failure(path, error))
}

fn wasi(arguments: &Arguments) -> Result<WasiConfig, Failure> {
    let name = arguments.file.file_name().unwrap_or(arguments.file.as_os_str());
    let mut config = WasiConfig::new()
        .arg(name.to_string_lossy())
        .inherit_env(arguments.grants.inherit_env)
        .stdin(Input::Inherit)
        .stdout(Output::Inherit)
        .stderr(Output::Inherit);
    if arguments.invoke.is_none() {
        config = config.args(&arguments.args);
    }
    let grants = &arguments.grants;
    for Directory { host, guest, access } in &grants.dir {
        config = config.preopen(host, guest, *access);
    }
    config = grants.allow_http.iter().cloned().fold(config, WasiConfig::allow_http);
    config = grants.allow_tcp.iter().cloned().fold(config, WasiConfig::allow_tcp);
    config = grants.allow_udp.iter().cloned().fold(config, WasiConfig::allow_udp);
    config = grants.allow_listen.iter().cloned().fold(config, WasiConfig::allow_listen);
    for variable in &arguments.grants.env {
        config = match variable {
            Variable::Set(name, value) => config.env(name, value),
            Variable::Inherit(name) => config.env(name, inherited(name)?),
        };
    }
    Ok(config)
}

fn inherited(name: &str) -> Result<String, Failure> {
    std::env::var(name).map_err(|error| {
        let what = match error {
            std::env::VarError::NotPresent => "is not set here",
            std::env::VarError::NotUnicode(_) => {
                "is not UTF-8 here, which programs cannot be given"
            }
        };
        let what = format!("the variable {name} {what}");
        Failure::new(Class::Grant, what, format!("--env {name}=VALUE"))
    })
}

fn entry<'a>(arguments: &'a Arguments, module: &Module) -> Result<Entry<'a>, Failure> {
    if let Some(info) = module.component_info() {
        let Some(call) = arguments.invoke.as_deref() else { return Ok(Entry::Start) };
        if !arguments.args.is_empty() {
            let what = "a component's function has its arguments in the call itself";
            let advice = format!("--invoke '{}(...)'", call.trim_end_matches("()"));
            return Err(Failure::new(Class::BadCall, what, advice));
        }
        let (function, args) = wave::parse_call(call, info)?;
        return Ok(Entry::Component { name: function.path.join("#"), args });
    }
    let Some(name) = arguments.invoke.as_deref() else {
        if module.export("_start").is_some() {
            return Ok(Entry::Start);
        }
        let what = format!("the module is not a program: it has no _start; {}", functions(module));
        return Err(Failure::new(Class::BadCall, what, "--invoke with a function that it exports"));
    };
    let ty = match module.export(name) {
        Some(ExternType::Func(ty)) => ty.clone(),
        Some(other) => {
            let what = format!("the export {name:?} is a {}, not a function", other.kind());
            let what = format!("{what}; {}", functions(module));
            return Err(Failure::new(Class::BadCall, what, "--invoke with a function"));
        }
        None => {
            let what = format!("the module has no function {name:?}; {}", functions(module));
            let advice = "--invoke with a function that it exports";
            return Err(Failure::new(Class::BadCall, what, advice));
        }
    };
    let args = values::parse_all(name, &ty, &arguments.args).map_err(|what| {
        let advice = format!("arguments for {ty}");
        Failure::new(Class::BadCall, what, advice)
    })?;
    Ok(Entry::Function { name, ty, args })
}

/// What can be invoked.
fn functions(module: &Module) -> String {
    const SHOWN: usize = 20;
    let mut listed = Vec::new();
    for export in &module.info().exports {
        if let ExternType::Func(ty) = &export.ty {
            listed.push(format!("{:?} {ty}", export.name));
        }
    }
    match listed.len() {
        0 => "it exports no function at all".to_owned(),
        count if count > SHOWN => {
            let shown = listed[..SHOWN].join(", ");
            format!("it exports the functions {shown} and {} more", count - SHOWN)
        }
        1 => format!("it exports the function {}", listed[0]),
        _ => format!("it exports the functions {}", listed.join(", ")),
    }
}
