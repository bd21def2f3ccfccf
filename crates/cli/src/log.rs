//! What the library reports while it works, for people who look for a cause.

use crate::exit::Class;
use crate::failure::Failure;
use crate::terminal::LogWriter;
use clap::Args;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// What is reported.
#[derive(Debug, Args)]
#[command(next_help_heading = "Log")]
pub struct LogOptions {
    /// Logs more to standard error: -v infos, -vv steps and their times, -vvv everything
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    /// Logs by this filter, as in `sandgrain=debug,warn` [default: warn]
    #[arg(long, value_name = "FILTER", global = true, conflicts_with = "verbose")]
    log: Option<String>,
}

impl LogOptions {
    /// Starts the log.
    pub fn start(&self) -> Result<(), Failure> {
        let filter = match (&self.log, self.verbose) {
            (Some(filter), _) => filter.as_str(),
            (None, 0) => "warn",
            (None, 1) => "info",
            (None, 2) => "debug",
            (None, _) => "trace",
        };
        let bad = |error: &dyn std::fmt::Display| {
            let what = format!("--log {filter:?} is no filter: {error}");
            Failure::new(Class::Usage, what, "a level, or sandgrain=debug,warn")
        };
        let filter = EnvFilter::try_new(filter).map_err(|error| bad(&error))?;
        // The command says this itself, whatever the filter is.
        let own = "sandgrain::without_vm=off".parse().map_err(|error| bad(&error))?;
        let verbose = self.log.is_some() || self.verbose > 0;
        tracing_subscriber::fmt()
            .with_env_filter(filter.add_directive(own))
            .with_span_events(if verbose { FmtSpan::CLOSE } else { FmtSpan::NONE })
            .with_target(verbose)
            .without_time()
            .with_ansi(false)
            .with_writer(|| LogWriter)
            .try_init()
            .map_err(|error| bad(&error))
    }
}
