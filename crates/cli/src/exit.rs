//! The exit codes of the command: the one place where they are decided.

use sandgrain::Error;

/// What kind of failure ends the command.
///
/// Programs rarely use codes above 125, and shells use 126 to 192 (128 + a signal's number). So what is
/// above those can hardly be mistaken; the report of `--json` tells for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The command line asks for something that cannot be.
    Usage,
    /// The host could not do its part.
    Host,
    /// No hypervisor.
    NoHypervisor,
    /// A file cannot be read or written.
    File,
    /// Not a module that can be run.
    Module,
    /// Imports that nothing satisfies.
    Imports,
    /// A call of something that the module does not offer.
    BadCall,
    /// A limit.
    Limit,
    /// A trap.
    Trap,
    /// The deadline.
    Deadline,
    /// Stopped on request.
    Interrupted,
    /// A host function failed.
    HostFunction,
    /// A directory or variable that cannot be granted.
    Grant,
    /// The guest broke.
    Guest,
    /// The sandbox had ended before.
    Ended,
    /// A manifest of the function server is wrong.
    Manifest,
}

impl Class {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 16] = [
        Self::Usage,
        Self::Host,
        Self::NoHypervisor,
        Self::File,
        Self::Module,
        Self::Imports,
        Self::BadCall,
        Self::Limit,
        Self::Trap,
        Self::Deadline,
        Self::Interrupted,
        Self::HostFunction,
        Self::Grant,
        Self::Guest,
        Self::Ended,
        Self::Manifest,
    ];

    /// The class of an error of the library.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::NoHypervisor(_) => Self::NoHypervisor,
            Error::Module(_) => Self::Module,
            Error::Imports(_) => Self::Imports,
            Error::BadCall(_) => Self::BadCall,
            Error::Limit { .. } => Self::Limit,
            Error::Trap(_) => Self::Trap,
            Error::Deadline(_) => Self::Deadline,
            Error::Interrupted => Self::Interrupted,
            Error::HostFunction { .. } => Self::HostFunction,
            Error::Grant(_) => Self::Grant,
            Error::Guest(_) => Self::Guest,
            Error::Ended(_) => Self::Ended,
            _ => Self::Host,
        }
    }

    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            // What the parser of the command line uses for everything that it finds itself.
            Self::Usage => 2,
            Self::Host => 200,
            Self::NoHypervisor => 201,
            Self::File => 202,
            Self::Module => 203,
            Self::Imports => 204,
            Self::BadCall => 205,
            Self::Limit => 206,
            Self::Trap => 207,
            Self::Deadline => 208,
            Self::Interrupted => 209,
            Self::HostFunction => 210,
            Self::Grant => 211,
            Self::Guest => 212,
            Self::Ended => 213,
            Self::Manifest => 214,
        }
    }

    /// The name in reports; the library's where it has one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Host => "host",
            Self::NoHypervisor => "no-hypervisor",
            Self::File => "file",
            Self::Module => "module",
            Self::Imports => "imports",
            Self::BadCall => "bad-call",
            Self::Limit => "limit",
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Interrupted => "interrupted",
            Self::HostFunction => "host-function",
            Self::Grant => "grant",
            Self::Guest => "guest",
            Self::Ended => "ended",
            Self::Manifest => "manifest",
        }
    }

    /// What it means, for the help.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Usage => "the command line is wrong",
            Self::Host => "the host could not do its part: memory, descriptors, threads",
            Self::NoHypervisor => "no usable hypervisor",
            Self::File => "a file cannot be read or written",
            Self::Module => "not a module that can be run",
            Self::Imports => "imports that nothing satisfies",
            Self::BadCall => "no such export, or not with these arguments",
            Self::Limit => "a limit was reached",
            Self::Trap => "WebAssembly trapped",
            Self::Deadline => "the time was up",
            Self::Interrupted => "stopped on request",
            Self::HostFunction => "a host function or a WASI call failed",
            Self::Grant => "a directory or variable cannot be granted",
            Self::Guest => "the guest broke: a defect of the runtime, or an attack",
            Self::Ended => "the sandbox had ended before",
            Self::Manifest => "a manifest of the function server is wrong",
        }
    }
}

/// The table of exit codes, for the help.
pub fn table() -> String {
    let mut table = String::from(
        "Exit codes:\n  0-255  the program's own (--json tells them from those below)\n",
    );
    for class in Class::ALL {
        table.push_str(&format!("  {:<5}  {}\n", class.code(), class.meaning()));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{Class, table};

    #[test]
    fn all_codes_and_names_are_distinct() {
        for (at, class) in Class::ALL.iter().enumerate() {
            for other in &Class::ALL[at + 1..] {
                assert_ne!(class.code(), other.code(), "{class:?} and {other:?}");
                assert_ne!(class.name(), other.name(), "{class:?} and {other:?}");
            }
        }
    }

    #[test]
    fn only_a_wrong_command_line_shares_a_code_with_programs_shells_and_signals() {
        for class in Class::ALL {
            assert!(class.code() > 192 || class == Class::Usage, "{class:?}");
        }
    }

    #[test]
    fn the_documentation_has_the_same_table() {
        let documentation = include_str!("../../../docs/cli.md");
        for class in Class::ALL {
            let row = format!("| {} | `{}` | {} |", class.code(), class.name(), class.meaning());
            assert!(documentation.contains(&row), "docs/cli.md lacks {row}");
        }
        assert!(table().lines().count() == Class::ALL.len() + 2);
    }
}
