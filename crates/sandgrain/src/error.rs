//! What can go wrong, by what the caller does next.

use cpp_demangle::DemangleOptions;
use sandgrain_abi::message::{Frame, TrapCode};
use sandgrain_abi::text::{ELLIPSIS, MAX_TEXT, printable};
use std::borrow::Cow;
use std::fmt::{self, Write};
use std::time::Duration;

/// A result of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error, as host functions may return them.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why something did not work. Each variant stands for another thing to do about it; none of them
/// leaves the engine unusable, and [`Error::is_final`] tells which of them end a sandbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no usable hypervisor: make one available.
    #[error("no usable hypervisor: {0}")]
    NoHypervisor(String),
    /// The module is not one that can be run: correct it.
    #[error("{0}")]
    Module(#[source] sandgrain_compile::Error),
    /// Imports that nothing satisfies, or not with the right type: grant or define them.
    #[error("{}", Imports(.0))]
    Imports(Vec<ImportError>),
    /// The call asks for something that the module does not offer: correct the call.
    #[error("{0}")]
    BadCall(String),
    /// A limit of the sandbox stands in the way: raise it, or accept it.
    #[error(
        "{what} is limited to {limit}; {detail}; try: a higher limit, if the guest may have more"
    )]
    Limit {
        /// What is limited.
        what: &'static str,
        /// The limit, with its unit.
        limit: String,
        /// What asked for more.
        detail: String,
    },
    /// WebAssembly stopped by its own rules: look into the program.
    #[error("{0}")]
    Trap(Trap),
    /// The program asked to exit: pass its code on. Code 0 is a success.
    #[error("the program exited with code {0}")]
    Exit(i32),
    /// The deadline passed: give more time, or accept it. Ends the sandbox.
    #[error("the call was stopped at its deadline, after {}", Seconds(*.0))]
    Deadline(Duration),
    /// The call was stopped on request. Ends the sandbox.
    #[error("the call was interrupted on request")]
    Interrupted,
    /// A host function failed: its error.
    #[error("the host function {function} failed: {source}")]
    HostFunction {
        /// Its module and name.
        function: String,
        /// What it returned.
        source: BoxError,
    },
    /// What WASI was granted cannot be given: correct the grant.
    #[error("{0}")]
    Grant(#[source] sandgrain_wasi::Error),
    /// A snapshot cannot be taken, saved, loaded or used: the text says why, and what to do.
    #[error("{0}")]
    Snapshot(String),
    /// The guest broke: a defect of the runtime, or an attack. Ends the sandbox; report it.
    #[error("the guest failed: {0}; try: reporting this with the module that caused it")]
    Guest(String),
    /// The sandbox has ended, by an earlier error: make a new one.
    #[error("the sandbox ended when an earlier call failed ({0}); try: a new one")]
    Ended(String),
    /// The host could not do its part: memory, descriptors, threads.
    #[error("the host failed: {0}")]
    Host(String),
}

impl Error {
    /// Whether the error has ended the sandbox that it came from.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Deadline(_) | Self::Interrupted | Self::Guest(_) | Self::Ended(_) | Self::Host(_)
        )
    }

    /// The error's name, for programs that read reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoHypervisor(_) => "no-hypervisor",
            Self::Module(_) => "module",
            Self::Imports(_) => "imports",
            Self::BadCall(_) => "bad-call",
            Self::Limit { .. } => "limit",
            Self::Trap(_) => "trap",
            Self::Exit(_) => "exit",
            Self::Deadline(_) => "deadline",
            Self::Interrupted => "interrupted",
            Self::HostFunction { .. } => "host-function",
            Self::Grant(_) => "grant",
            Self::Snapshot(_) => "snapshot",
            Self::Guest(_) => "guest",
            Self::Ended(_) => "ended",
            Self::Host(_) => "host",
        }
    }

    /// An error of the hypervisor while a guest runs.
    pub(crate) fn hypervisor(error: &sandgrain_hypervisor::Error) -> Self {
        Self::Host(error.to_string())
    }
}

impl From<sandgrain_compile::Error> for Error {
    fn from(error: sandgrain_compile::Error) -> Self {
        Self::Module(error)
    }
}

/// An import that is not satisfied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportError {
    /// The module name that it asks for, and the name in that module. `None` if the engine did not say
    /// which import it is.
    pub import: Option<(String, String)>,
    /// What is wrong.
    pub problem: String,
}

impl ImportError {
    /// Of a component's import, by its path: a name in an instance, or one at the root.
    pub(crate) fn of_component(path: &[String], problem: String) -> Self {
        let import = match path {
            [instance, name] => (instance.clone(), name.clone()),
            other => (String::new(), other.join(".")),
        };
        Self { import: Some(import), problem }
    }
}

/// What a guest sent, as an error describes it. A list of a guest's can be as long as its text.
pub(crate) fn described(value: &impl fmt::Debug) -> String {
    let mut short = Short(String::new());
    if write!(short, "{value:?}").is_err() {
        short.0.push_str(ELLIPSIS);
    }
    short.0
}

/// A guest's text, cut where it is long; as it is otherwise.
fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
        text.push_str(ELLIPSIS);
        text.shrink_to_fit();
    }
    text
}

/// Imports that an error lists at the most. A module can have a million of them.
const MAX_IMPORTS: usize = 100;

struct Imports<'a>(&'a [ImportError]);

impl fmt::Display for Imports<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [ImportError { import: None, problem }] = self.0 {
            return write!(f, "the module cannot be linked: {problem}");
        }
        write!(f, "{} of the module's imports cannot be satisfied: ", self.0.len())?;
        for (i, ImportError { import, problem }) in self.0.iter().take(MAX_IMPORTS).enumerate() {
            let (module, name) = import.as_ref().map_or(("", ""), |(module, name)| (module, name));
            let (module, name, problem) = (printable(module), printable(name), printable(problem));
            write!(f, "{}{module}.{name} ({problem})", if i == 0 { "" } else { ", " })?;
        }
        if self.0.len() > MAX_IMPORTS { f.write_str(", ...") } else { Ok(()) }
    }
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s", self.0.as_secs_f64())
    }
}

/// A stop by WebAssembly's own rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// Which rule.
    pub code: TrapCode,
    /// More, where the code does not say it all.
    pub message: String,
    /// Where, innermost first.
    pub frames: Vec<Frame>,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            TrapCode::Other | TrapCode::OutOfMemory if !self.message.is_empty() => {
                write!(f, "trap: {}", printable(&self.message))?;
            }
            code => write!(f, "trap: {code}")?,
        }
        if let Some(frame) = self.frames.first() {
            write!(f, " in {}", FrameText(frame))?;
        }
        Ok(())
    }
}

impl Trap {
    /// A trap as a guest reports it, whose texts and frames are cut where they are too many.
    pub(crate) fn reported(code: TrapCode, message: String, mut frames: Vec<Frame>) -> Self {
        frames.truncate(sandgrain_abi::Trap::MAX_FRAMES);
        frames.shrink_to_fit();
        for frame in &mut frames {
            frame.module = frame.module.take().map(cut);
            frame.name = frame.name.take().map(cut);
        }
        Self { code, message: cut(message), frames }
    }

    /// The backtrace, a line for each frame, innermost first.
    pub fn backtrace(&self) -> impl Iterator<Item = String> {
        self.frames.iter().map(|frame| FrameText(frame).to_string())
    }
}

/// A function's name as its source has it, where the compiler mangled it. The name can be hostile, and
/// a short mangled name can stand for an endless one: the source's name is cut.
fn demangled(name: &str) -> Cow<'_, str> {
    let name = &name[..name.floor_char_boundary(Short::MAX)];
    let mut short = Short(String::new());
    let written = if let Ok(rust) = rustc_demangle::try_demangle(name) {
        // The alternate form leaves out the hash.
        write!(short, "{rust:#}").is_ok()
    } else if let Ok(cpp) = cpp_demangle::Symbol::new(name) {
        cpp.structured_demangle(&mut short, &DemangleOptions::new()).is_ok()
    } else {
        return name.into();
    };
    if !written {
        short.0.push_str(ELLIPSIS);
    }
    short.0.into()
}

/// Text that takes no more once it is long.
struct Short(String);

impl Short {
    const MAX: usize = 1024;
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = Self::MAX - self.0.len();
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

struct FrameText<'a>(&'a Frame);

impl fmt::Display for FrameText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Frame { module, function, name, offset } = self.0;
        if let Some(module) = module {
            write!(f, "{}!", printable(module))?;
        }
        match name {
            Some(name) => write!(f, "{}", printable(&demangled(name)))?,
            None => write!(f, "function {function}")?,
        }
        match offset {
            Some(offset) => write!(f, " at {offset:#x}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str) -> String {
        let frame = Frame { module: None, function: 7, name: Some(name.to_owned()), offset: None };
        FrameText(&frame).to_string()
    }

    #[test]
    fn names_are_shown_as_their_source_has_them() {
        assert_eq!(shown("plain"), "plain");
        assert_eq!(
            shown("_ZN4core6option13unwrap_failed17h0123456789abcdefE"),
            "core::option::unwrap_failed"
        );
        assert_eq!(shown("_RNvCs15kBYyAo9fc_7mycrate7example"), "mycrate::example");
        assert_eq!(shown("_Z3addii"), "add(int, int)");
    }

    #[test]
    fn a_name_that_grows_without_end_is_cut() {
        // Each pair of arguments doubles what the one before stands for.
        let cpp = (0..40).fold("_Z1fI1aS_".to_owned(), |name, _| name + "St4pairIS_S_E");
        let rust = format!("_RINvC1c1f{}uE", "TB8_B8_E".repeat(40));
        for name in [cpp + "E", rust] {
            assert!(shown(&name).len() < 2 * Short::MAX, "{name}");
        }
        assert_eq!(shown(&"ä".repeat(5000)).len(), Short::MAX);
    }

    #[test]
    fn no_name_reaches_a_terminal_raw() {
        let shown = shown("a\x1b[31m\u{202e}\nb");
        assert!(shown.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{shown:?}");
        assert!(shown.starts_with('a') && shown.ends_with('b'), "{shown:?}");
    }

    #[test]
    fn what_a_guest_sent_is_described_shortly() {
        assert_eq!(described(&["a"; 2]), r#"["a", "a"]"#);
        for long in [described(&vec![7; 1 << 20]), described(&"é".repeat(1 << 20))] {
            assert!(long.len() < Short::MAX + 10 && long.ends_with("..."), "{long}");
        }
    }

    #[test]
    fn a_long_list_of_imports_is_cut() {
        let import = ImportError {
            import: Some(("m".repeat(1 << 10), "n".repeat(1 << 10))),
            problem: "p".repeat(1 << 10),
        };
        let text = |count| Error::Imports(vec![import.clone(); count]).to_string();
        assert!(text(1 << 16).len() < MAX_IMPORTS * 3 * (MAX_TEXT + 10));
        assert!(text(1 << 16).starts_with("65536 of") && text(1 << 16).ends_with("), ..."));
        assert!(text(MAX_IMPORTS).ends_with(')'), "all are listed");
    }

    #[test]
    fn a_trap_keeps_no_more_of_a_guests_text_than_errors_show() {
        let text = || "é".repeat(1 << 16);
        let frame = Frame { module: Some(text()), function: 1, name: Some(text()), offset: None };
        let trap = Trap::reported(TrapCode::Other, text(), vec![frame; 1000]);
        assert_eq!(trap.frames.len(), sandgrain_abi::Trap::MAX_FRAMES);
        let Frame { module, name, .. } = trap.frames[0].clone();
        for kept in [trap.message, module.unwrap_or_default(), name.unwrap_or_default()] {
            assert_eq!(kept.chars().count(), MAX_TEXT + ELLIPSIS.len());
            assert!(kept.ends_with(ELLIPSIS));
        }
    }

    #[test]
    fn text_in_any_script_stays_readable() {
        assert_eq!(printable("größer \"naïve\" 名前"), "größer \"naïve\" 名前");
    }
}
