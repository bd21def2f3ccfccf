//! What a guest may have.

mod component;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmtime_wasi::FsPerms;

use crate::denied::Listener;
use crate::network::Grants;
use crate::trust::Trust;
use crate::{Denied, Error, Input, Output};

pub use component::{
    DEFAULT_MAX_CALL_BYTES, DEFAULT_MAX_HANDLES, DEFAULT_MAX_POLL_LIST, DEFAULT_MAX_SOCKETS,
    HttpLimits,
};

/// The limit of each output stream if the caller sets none, in bytes.
pub const DEFAULT_OUTPUT_LIMIT: u64 = 16 << 20;

/// How many descriptors a guest may have open if the caller sets no other number.
pub const DEFAULT_MAX_OPEN_FILES: u32 = 1024;

/// What a guest may do in a granted directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// List directories and read files.
    ReadOnly,
    /// Also create, change, rename and remove files and directories.
    ReadWrite,
}

impl Access {
    pub(crate) fn permissions(self) -> FsPerms {
        match self {
            Access::ReadOnly => FsPerms::ReadOnly,
            Access::ReadWrite => FsPerms::ReadWrite,
        }
    }
}

/// A directory of the host that a guest may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preopen {
    /// The directory on the host.
    pub host: PathBuf,
    /// Its name in the guest.
    pub guest: String,
    /// What the guest may do in it.
    pub access: Access,
}

/// Everything a guest is granted. A new configuration grants nothing.
///
/// Clones can serve several sandboxes. They read input bytes each from the start, but share
/// pipes.
#[derive(Clone, Debug)]
pub struct WasiConfig {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) inherit_env: bool,
    pub(crate) preopens: Vec<Preopen>,
    pub(crate) stdin: Input,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    pub(crate) stdout_limit: u64,
    pub(crate) stderr_limit: u64,
    pub(crate) max_open_files: u32,
    pub(crate) cancellable_files: bool,
    pub(crate) network: Grants,
    pub(crate) trust: Trust,
    pub(crate) http: HttpLimits,
    pub(crate) max_handles: u32,
    pub(crate) max_call_bytes: u64,
    pub(crate) max_poll_list: u32,
    pub(crate) max_sockets: u32,
    pub(crate) denied: Option<Listener>,
}

impl Default for WasiConfig {
    fn default() -> Self {
        Self {
            args: Vec::new(),
            env: Vec::new(),
            inherit_env: false,
            preopens: Vec::new(),
            stdin: Input::Null,
            stdout: Output::Null,
            stderr: Output::Null,
            stdout_limit: DEFAULT_OUTPUT_LIMIT,
            stderr_limit: DEFAULT_OUTPUT_LIMIT,
            max_open_files: DEFAULT_MAX_OPEN_FILES,
            cancellable_files: false,
            network: Grants::default(),
            trust: Trust::default(),
            http: HttpLimits::default(),
            max_handles: DEFAULT_MAX_HANDLES,
            max_call_bytes: DEFAULT_MAX_CALL_BYTES,
            max_poll_list: DEFAULT_MAX_POLL_LIST,
            max_sockets: DEFAULT_MAX_SOCKETS,
            denied: None,
        }
    }
}

impl WasiConfig {
    /// A configuration that grants nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one argument. By custom the first is the name of the program.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets one environment variable. The last value of a name holds.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Whether the guest also sees the environment that the host has when the first call is made.
    ///
    /// Variables set with [`env`](Self::env) win over inherited ones. Variables that are not
    /// UTF-8 are left out: preview 1 has no way to pass them.
    #[must_use]
    pub fn inherit_env(mut self, inherit: bool) -> Self {
        self.inherit_env = inherit;
        self
    }

    /// Grants the directory `host` under the name `guest`.
    ///
    /// The directory is opened on the first call, or by [`check`](Self::check). Links in it that
    /// lead out of it cannot be followed by the guest.
    #[must_use]
    pub fn preopen(
        mut self,
        host: impl AsRef<Path>,
        guest: impl Into<String>,
        access: Access,
    ) -> Self {
        self.preopens.push(Preopen {
            host: host.as_ref().to_path_buf(),
            guest: guest.into(),
            access,
        });
        self
    }

    /// Sets what the guest reads from descriptor 0.
    #[must_use]
    pub fn stdin(mut self, input: Input) -> Self {
        self.stdin = input;
        self
    }

    /// Sets where descriptor 1 of the guest writes to.
    #[must_use]
    pub fn stdout(mut self, output: Output) -> Self {
        self.stdout = output;
        self
    }

    /// Sets where descriptor 2 of the guest writes to.
    #[must_use]
    pub fn stderr(mut self, output: Output) -> Self {
        self.stderr = output;
        self
    }

    /// Sets how many bytes the guest may write to stdout and to stderr in its life.
    ///
    /// The limit holds for every kind of [`Output`]. A call that exceeds it writes up to the
    /// limit and then fails with [`Error::OutputLimit`].
    #[must_use]
    pub fn output_limits(mut self, stdout: u64, stderr: u64) -> Self {
        self.stdout_limit = stdout;
        self.stderr_limit = stderr;
        self
    }

    /// Sets how many descriptors the guest may have open, its streams and directories included.
    ///
    /// The guest shares the descriptors of this process with all others, hence the limit. Beyond
    /// it `path_open` answers with error number 33 (`EMFILE`). A component may open as many files, its streams and
    /// directories not included; beyond them `open-at` answers with `insufficient-memory`.
    #[must_use]
    pub fn max_open_files(mut self, limit: u32) -> Self {
        self.max_open_files = limit;
        self
    }

    /// Whether file operations run on other threads, so that a call can be cancelled while one
    /// hangs.
    ///
    /// Off by default: a file operation then takes about 1 µs instead of 25 µs, and a guest may
    /// open only regular files and directories (others answer with error number 58, `ENOTSUP`, or
    /// `unsupported`).
    /// Ask for it when granting a network file system, or named pipes or devices. An operation
    /// that never ends keeps its thread even after the call was cancelled.
    #[must_use]
    pub fn cancellable_files(mut self, cancellable: bool) -> Self {
        self.cancellable_files = cancellable;
        self
    }

    /// Has a closure told of what guests want and are denied: each time, as soon as that is seen, by the thread that sees
    /// it, which it must not hold up. A guest can want as much as it likes: what is made of that has to have a limit.
    #[must_use]
    pub fn on_denied(mut self, listener: impl Fn(&Denied<'_>) + Send + Sync + 'static) -> Self {
        self.denied = Some(Listener(Arc::new(listener)));
        self
    }

    /// The names in the guest of the directories granted, in the order of their descriptors, from 3 on.
    pub fn directory_names(&self) -> impl Iterator<Item = &str> {
        self.preopens.iter().map(|preopen| preopen.guest.as_str())
    }

    /// Checks that everything granted can be given, so that the first call will not fail for it.
    ///
    /// # Errors
    ///
    /// [`Error::Grant`] for a directory that does not exist, is none or cannot be read.
    /// [`Error::Config`] for an argument, variable or name that preview 1 cannot carry, or a certificate that is
    /// none.
    pub fn check(&self) -> Result<(), Error> {
        for arg in &self.args {
            no_nul("argument", arg)?;
        }
        for (name, value) in &self.env {
            no_nul("environment variable", name)?;
            no_nul("environment value", value)?;
            if name.is_empty() || name.contains('=') {
                return Err(Error::Config(format!(
                    "the environment variable {name:?} is empty or contains '='; rename it"
                )));
            }
        }
        let mut names = BTreeSet::new();
        for preopen in &self.preopens {
            no_nul("directory name", &preopen.guest)?;
            if preopen.guest.is_empty() || !names.insert(&preopen.guest) {
                return Err(Error::Config(format!(
                    "the directory name {:?} is empty or used twice; give each directory a name \
                     of its own",
                    preopen.guest
                )));
            }
            // Opening for listing needs the same right that the guest will use, and refuses
            // anything that is no directory.
            std::fs::read_dir(&preopen.host)
                .map_err(|source| Error::Grant { path: preopen.host.clone(), source })?;
        }
        self.trust.check().map_err(Error::Config)
    }

    /// The variables of the guest, each name once.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let inherited = self.inherit_env.then(std::env::vars_os).into_iter().flatten();
        let inherited = inherited.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let mut all: Vec<(String, String)> = Vec::new();
        for (name, value) in inherited.chain(self.env.iter().cloned()) {
            match all.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = value,
                None => all.push((name, value)),
            }
        }
        all
    }
}

fn no_nul(what: &str, text: &str) -> Result<(), Error> {
    if text.contains('\0') {
        return Err(Error::Config(format!(
            "the {what} {text:?} contains a NUL byte, where the guest would see its end; remove it"
        )));
    }
    Ok(())
}
