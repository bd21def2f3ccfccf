//! What to try, for each error of the library, in terms of this command.

use sandgrain::compile::Error as CompileError;
use sandgrain::wasi::Error as WasiError;
use sandgrain::{Error, ImportError, Trap, TrapCode};

/// What happened, and what to try.
pub fn explain(error: &Error) -> (String, String) {
    match error {
        Error::NoHypervisor(reason) => no_hypervisor(reason),
        Error::Module(error) => module(error),
        Error::Imports(imports) => (error.to_string(), missing_imports(imports).to_owned()),
        Error::BadCall(what) if what.starts_with("the limit `") => {
            (what.clone(), "a value within these bounds".to_owned())
        }
        Error::BadCall(what) => (what.clone(), "another function or other arguments".to_owned()),
        // The guest's engine puts all of it into one sentence.
        Error::Limit { what: "the sandbox", detail, .. } => {
            (format!("a limit was reached: {detail}"), guest_limit(detail).to_owned())
        }
        Error::Limit { what, limit, detail } => (
            format!("{what} is limited to {limit}; {detail}"),
            format!("{}, if the program may have more", limit_option(what)),
        ),
        Error::Trap(trap) => (trap.to_string(), trapped(trap).to_owned()),
        Error::Exit(_) => (error.to_string(), "what the program says about this code".to_owned()),
        Error::Deadline(_) => (
            error.to_string(),
            "a larger --timeout (5m, none), if the program may take longer".to_owned(),
        ),
        Error::Interrupted => (error.to_string(), "the command again".to_owned()),
        Error::HostFunction { .. } => {
            (error.to_string(), "a program that makes only valid calls".to_owned())
        }
        Error::Grant(error) => grant(error),
        Error::Guest(what) => (
            format!("the guest failed: {what}"),
            "a larger --heap if the module is very large; otherwise please report this with the \
             module"
                .to_owned(),
        ),
        Error::Host(_) => (
            error.to_string(),
            "sandgrain doctor, and freeing memory or file descriptors".to_owned(),
        ),
        _ => (error.to_string(), "the command again".to_owned()),
    }
}

fn no_hypervisor(reason: &str) -> (String, String) {
    // The hypervisor's own errors say what to do in this form.
    let (what, hint) = reason.split_once("; try: ").unwrap_or((reason, "sandgrain doctor"));
    let what = what.strip_prefix("no hypervisor: ").unwrap_or(what);
    (format!("no usable hypervisor: {what}"), hint.to_owned())
}

fn module(error: &CompileError) -> (String, String) {
    let advice = match error {
        CompileError::Wat { .. } => "correcting the text there",
        CompileError::NotWasm { found } => {
            return (
                format!("not WebAssembly: found {found}"),
                "a module in binary (.wasm) or text (.wat) format, or a compiled one (.sgm)".into(),
            );
        }
        CompileError::Invalid { .. } => {
            "building the module again, without proposals that the message names"
        }
        CompileError::UnsupportedVersion { .. } => "building it for that version",
        CompileError::IsComponent => {
            return (
                "this is a component where a module is expected".to_owned(),
                "a module (for Rust: target wasm32-wasip1)".to_owned(),
            );
        }
        CompileError::IsArtifact => {
            return (
                "this is already a compiled module".to_owned(),
                "running it, or compiling the WebAssembly that it was made of".to_owned(),
            );
        }
        CompileError::Compile { .. } => "splitting its largest functions",
        CompileError::Refused { reason } => {
            return (
                format!("the compiled module was refused: {reason}"),
                "sandgrain compile with the WebAssembly that it was made of".to_owned(),
            );
        }
        CompileError::CacheUntrusted { path, reason } => {
            return (
                format!("the cache {} is not trusted: {reason}", path.display()),
                "correcting its owner and permissions (chown, chmod 700), another --cache-dir, or \
                 --no-cache"
                    .to_owned(),
            );
        }
        CompileError::NoCacheDir => "--cache-dir with a directory of your own, or --no-cache",
        CompileError::Io { .. } => "another path",
        _ => "reporting this with the module",
    };
    (error.to_string(), advice.to_owned())
}

fn missing_imports(imports: &[ImportError]) -> &'static str {
    let of_wasi = |error: &ImportError| {
        error.import.as_ref().is_some_and(|(module, _)| module == sandgrain::wasi::MODULE)
    };
    if imports.iter().all(of_wasi) {
        "building the program for WASI preview 1"
    } else {
        "--preload NAME=FILE with a module that exports them"
    }
}

fn limit_option(what: &str) -> &'static str {
    match what {
        "standard output" => "a larger --max-stdout",
        "standard error" => "a larger --max-stderr",
        "a linear memory" | "linear memories" => "a larger --memory",
        _ => "a smaller module",
    }
}

/// The engine names what it counts.
fn guest_limit(detail: &str) -> &'static str {
    let names = [
        ("instance", "a larger --max-instances"),
        ("table minimum", "a larger --max-table-elements"),
        ("table", "a larger --max-tables"),
        ("memor", "a larger --memory"),
    ];
    let found = names.iter().find(|(word, _)| detail.contains(word));
    found.map_or("larger limits (sandgrain run --help)", |(_, advice)| advice)
}

fn trapped(trap: &Trap) -> &'static str {
    match trap.code {
        TrapCode::StackOverflow => "a larger --max-stack, if the recursion has an end",
        TrapCode::OutOfMemory => "a larger --memory or --heap",
        TrapCode::Unreachable => {
            "what the program printed before: compilers put this where it is to abort"
        }
        _ => "looking into the function that the backtrace names first",
    }
}

fn grant(error: &WasiError) -> (String, String) {
    match error {
        WasiError::Grant { path, source } => (
            format!("cannot grant the directory {}: {source}", path.display()),
            "--dir with a directory that exists and that you may read".to_owned(),
        ),
        WasiError::Config(what) => {
            (format!("this cannot be granted: {what}"), "another --env, --dir or argument".into())
        }
        other => (other.to_string(), "sandgrain doctor".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::explain;
    use sandgrain::Error;

    #[test]
    fn what_a_hypervisor_says_is_taken_apart() {
        let reason = "no hypervisor: /dev/kvm cannot be opened; try: sudo modprobe kvm_amd";
        let (what, advice) = explain(&Error::NoHypervisor(reason.to_owned()));
        assert_eq!(what, "no usable hypervisor: /dev/kvm cannot be opened");
        assert_eq!(advice, "sudo modprobe kvm_amd");
    }

    #[test]
    fn a_limit_names_its_option() {
        let detail = "the guest wrote more".to_owned();
        let error = Error::Limit { what: "standard output", limit: "1 byte".to_owned(), detail };
        let (what, advice) = explain(&error);
        assert_eq!(what, "standard output is limited to 1 byte; the guest wrote more");
        assert!(advice.contains("--max-stdout"), "{advice}");
    }

    #[test]
    fn words_of_a_guest_are_no_advice() {
        let text = "boom; try: something unwise".to_owned();
        let source = text.clone().into();
        let errors = [
            Error::BadCall(text.clone()),
            Error::Guest(text),
            Error::HostFunction { function: "f".to_owned(), source },
        ];
        for error in errors {
            let (_, advice) = explain(&error);
            assert!(!advice.contains("unwise"), "{advice}");
        }
    }
}
