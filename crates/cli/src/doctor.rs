//! `sandgrain doctor`: what this machine offers, what is missing, and how to get it.

use crate::exit::Class;
use crate::failure::Failure;
use crate::options::EngineOptions;
use crate::terminal::{print, printable};
use clap::Args;
use sandgrain::compile::{Cache, ENGINE_VERSION};
use sandgrain::hypervisor::kvm::probe_path;
use sandgrain::hypervisor::{Check, Outcome, Report};
use sandgrain::{Module, Sandbox};
use serde_json::{Value as Json, json};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

const DEVICE: &str = "/dev/kvm";

/// What the trial runs, and what it must say.
const TRIAL: &[u8] = b"(module (func (export \"answer\") (result i32) (i32.const 42)))";
const ANSWER: i32 = 42;

/// Options of `sandgrain doctor`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Prints a report as one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineOptions,
}

/// All that was found.
struct Findings {
    hypervisor: Report,
    /// Not tried without a hypervisor.
    trial: Option<Trial>,
    cache: CacheState,
    /// Bytes of the runtime's code, and of the gate's within it.
    sizes: Result<(u64, u64), String>,
}

/// A module run in a VM: what code may use there, and how long all of it took.
type Trial = Result<(Vec<String>, f64), Failure>;

enum CacheState {
    Off,
    Usable { dir: String, modules: u64, bytes: u64 },
    Unusable { problem: String, advice: String },
}

/// Looks, and reports. Fails if nothing can be run here.
pub fn execute(arguments: &Arguments) -> Result<(), Failure> {
    let device = arguments.engine.kvm_device.as_deref().unwrap_or(Path::new(DEVICE));
    let hypervisor = probe_path(device);
    let trial = hypervisor.is_usable().then(|| trial(&arguments.engine));
    let sizes = sandgrain::runtime_sizes().map_err(|error| error.to_string());
    let findings = Findings { hypervisor, trial, cache: cache(&arguments.engine), sizes };
    let text = if arguments.json { format!("{}\n", findings.json()) } else { findings.text() };
    print(&text).map_err(|error| Failure::output(&error))?;
    findings.verdict()
}

fn trial(options: &EngineOptions) -> Trial {
    let started = Instant::now();
    // Whatever the cache is like is another matter.
    let engine = options.builder().without_cache().build()?;
    let mut sandbox = Sandbox::new(&Module::new(&engine, TRIAL)?)?;
    let answer: i32 = sandbox.call("answer", ())?;
    if answer != ANSWER {
        let what = format!("the trial in a VM returned {answer} instead of {ANSWER}");
        return Err(Failure::new(Class::Guest, what, "reporting this with this report"));
    }
    Ok((engine.cpu_features().to_vec(), started.elapsed().as_secs_f64() * 1e3))
}

fn cache(options: &EngineOptions) -> CacheState {
    let look = || {
        let Some(cache) = options.cache()? else {
            return Ok(CacheState::Off);
        };
        let (modules, bytes) = Cache::usage(&cache)?;
        Ok(CacheState::Usable { dir: cache.dir().display().to_string(), modules, bytes })
    };
    look().unwrap_or_else(|error: sandgrain::compile::Error| {
        let Failure { what, advice, .. } = sandgrain::Error::from(error).into();
        CacheState::Unusable { problem: what, advice }
    })
}

impl Findings {
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(text, "Hypervisor ({:?})", self.hypervisor.kind);
        for check in &self.hypervisor.checks {
            for line in check.to_string().lines() {
                let _ = writeln!(text, "  {}", printable(line));
            }
        }
        let _ = writeln!(text, "\nSandgrain {}", env!("CARGO_PKG_VERSION"));
        match &self.trial {
            Some(Ok((_, ms))) => {
                let _ = writeln!(text, "  ok: a module in a VM: compiled and run in {ms:.1} ms");
            }
            Some(Err(failure)) => {
                let what = printable(&failure.what);
                let _ = writeln!(text, "  missing: a module in a VM: {what}");
                let _ = writeln!(text, "    try: {}", printable(&failure.advice));
            }
            None => {
                let _ = writeln!(text, "  missing: a module in a VM: not tried, no hypervisor");
            }
        }
        let _ = writeln!(text, "  engine: {ENGINE_VERSION}");
        let _ = match &self.sizes {
            Ok((runtime, gate)) => writeln!(
                text,
                "  runtime: {runtime} bytes of code; the gate, all that runs in ring 0: {gate}"
            ),
            Err(error) => writeln!(text, "  runtime: {}", printable(error)),
        };
        if let Some(features) = self.features() {
            let _ = writeln!(text, "  CPU features in the VM: {}", features.join(" "));
        }
        if let Some(Ok((used, _))) = &self.trial {
            let _ = writeln!(text, "  of these, compiled code uses: {}", used.join(" "));
        }
        let _ = writeln!(text, "\nCache of compiled modules");
        let _ = match &self.cache {
            CacheState::Off => writeln!(text, "  off"),
            CacheState::Usable { dir, modules, bytes } => {
                writeln!(text, "  ok: {}: {modules} modules, {bytes} bytes", printable(dir))
            }
            CacheState::Unusable { problem, advice } => writeln!(
                text,
                "  absent (optional): {}\n    try: {}",
                printable(problem),
                printable(advice)
            ),
        };
        text
    }

    fn features(&self) -> Option<Vec<&'static str>> {
        self.hypervisor.cpu_features.map(|features| features.names())
    }

    fn json(&self) -> Json {
        let checks: Vec<Json> = self.hypervisor.checks.iter().map(check).collect();
        let cache = match &self.cache {
            CacheState::Off => json!({ "state": "off" }),
            CacheState::Usable { dir, modules, bytes } => {
                json!({ "state": "ok", "dir": dir, "modules": modules, "bytes": bytes })
            }
            CacheState::Unusable { problem, advice } => {
                json!({ "state": "unusable", "problem": problem, "try": advice })
            }
        };
        let trial = match &self.trial {
            None => Json::Null,
            Some(Ok((_, ms))) => json!({ "ok": true, "ms": ms }),
            Some(Err(failure)) => json!({ "ok": false, "error": failure.report() }),
        };
        let used = self.trial.as_ref().and_then(|trial| trial.as_ref().ok()).map(|(used, _)| used);
        let sizes = self.sizes.as_ref().ok();
        json!({
            "usable": self.verdict().is_ok(),
            "version": env!("CARGO_PKG_VERSION"),
            "engine": ENGINE_VERSION,
            "hypervisor": {
                "kind": format!("{:?}", self.hypervisor.kind),
                "usable": self.hypervisor.is_usable(),
                "checks": checks,
            },
            "trial": trial,
            "cpu_features": self.features(),
            "cpu_features_used": used,
            "runtime_bytes": sizes.map(|(runtime, _)| runtime),
            "gate_bytes": sizes.map(|(_, gate)| gate),
            "cache": cache,
        })
    }

    /// Whether programs can be run here. The cache is a convenience.
    fn verdict(&self) -> Result<(), Failure> {
        let missing = |check: &&Check| check.is_required() && !check.is_present();
        if let Some(check) = self.hypervisor.checks.iter().find(missing) {
            let Outcome::Absent { detail, hint } = &check.outcome else { return Ok(()) };
            let what = format!("no usable hypervisor: {}: {detail}", check.name);
            let hint = if hint.is_empty() { "another machine" } else { hint };
            return Err(Failure::new(Class::NoHypervisor, what, hint));
        }
        match &self.trial {
            Some(Err(Failure { class, what, advice, .. })) => {
                Err(Failure::new(*class, what.clone(), advice.clone()))
            }
            _ => Ok(()),
        }
    }
}

fn check(check: &Check) -> Json {
    let (present, detail, hint) = match &check.outcome {
        Outcome::Present { detail } => (true, detail, ""),
        Outcome::Absent { detail, hint } => (false, detail, hint.as_str()),
    };
    json!({
        "name": check.name,
        "why": check.why,
        "required": check.is_required(),
        "present": present,
        "detail": detail,
        "try": hint,
    })
}
