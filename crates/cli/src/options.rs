//! Options that several commands share.

use crate::arguments::{Timeout, timeout};
use clap::Args;
use sandgrain::compile::Cache;
use sandgrain::{EngineBuilder, Limits};
use sandgrain_serve::units::size;
use std::path::PathBuf;

/// What the engine is made of.
#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineOptions {
    /// Uses this KVM device instead of /dev/kvm
    #[arg(long, value_name = "PATH")]
    pub kvm_device: Option<PathBuf>,
    /// Keeps compiled modules here instead of in the user's cache directory
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Compiles without looking for or keeping compiled modules
    #[arg(long, conflicts_with = "cache_dir")]
    pub no_cache: bool,
}

impl EngineOptions {
    pub fn builder(&self) -> EngineBuilder {
        let mut builder = sandgrain::Engine::builder();
        if let Some(path) = &self.kvm_device {
            builder = builder.kvm_device(path);
        }
        if let Some(path) = &self.cache_dir {
            builder = builder.cache_dir(path);
        }
        if self.no_cache {
            builder = builder.without_cache();
        }
        builder
    }

    /// Where compiled modules are kept; `None` if they are not.
    pub fn cache(&self) -> Result<Option<Cache>, sandgrain::compile::Error> {
        match &self.cache_dir {
            _ if self.no_cache => Ok(None),
            Some(path) => Ok(Some(Cache::at(path))),
            None => Cache::user_default().map(Some),
        }
    }
}

/// What the program may use. Sizes take K, M and G for powers of 1024.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits (sizes: 65536, 512K, 64M, 1GiB)")]
pub struct LimitOptions {
    /// Time for each step: creation, then the call [default: 30s; none: no limit]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    timeout: Option<Timeout>,
    /// Bytes that each linear memory can grow to [default: 256M]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Bytes of stack for WebAssembly [default: 512K]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_stack: Option<u64>,
    /// Bytes for the runtime itself: instances, tables, handles [default: 64M]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    heap: Option<u64>,
    /// Bytes that the program may write to its standard output [default: 16M]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_stdout: Option<u64>,
    /// Bytes that the program may write to its standard error [default: 16M]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_stderr: Option<u64>,
    /// Tables [default: 100]
    #[arg(long, value_name = "COUNT")]
    max_tables: Option<u64>,
    /// Elements of each table [default: 1000000]
    #[arg(long, value_name = "COUNT")]
    max_table_elements: Option<u64>,
    /// Instances [default: 100]
    #[arg(long, value_name = "COUNT")]
    max_instances: Option<u64>,
}

impl LimitOptions {
    /// The library's limits, with what the options set.
    pub fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        if let Some(Timeout(timeout)) = self.timeout {
            limits.deadline = timeout;
        }
        let options = [
            (&mut limits.memory, self.memory),
            (&mut limits.stack, self.max_stack),
            (&mut limits.heap, self.heap),
            (&mut limits.stdout, self.max_stdout),
            (&mut limits.stderr, self.max_stderr),
            (&mut limits.tables, self.max_tables),
            (&mut limits.table_elements, self.max_table_elements),
            (&mut limits.instances, self.max_instances),
        ];
        for (limit, option) in options {
            *limit = option.unwrap_or(*limit);
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::LimitOptions;
    use clap::{Args, Command, FromArgMatches};
    use sandgrain::Limits;
    use std::time::Duration;

    fn limits(arguments: &[&str]) -> Limits {
        let command = LimitOptions::augment_args(Command::new("test").no_binary_name(true));
        let matches = command.try_get_matches_from(arguments).expect("valid options");
        LimitOptions::from_arg_matches(&matches).expect("the options").limits()
    }

    #[test]
    fn without_options_the_library_decides() {
        assert_eq!(limits(&[]), Limits::default());
    }

    #[test]
    fn every_limit_has_an_option() {
        let given = [
            "--timeout=3s",
            "--memory=1M",
            "--max-stack=2M",
            "--heap=3M",
            "--max-stdout=4M",
            "--max-stderr=5M",
            "--max-tables=6",
            "--max-table-elements=7",
            "--max-instances=8",
        ];
        let expected = Limits::default()
            .deadline(Some(Duration::from_secs(3)))
            .memory(1 << 20)
            .stack(2 << 20)
            .heap(3 << 20)
            .stdout(4 << 20)
            .stderr(5 << 20)
            .tables(6)
            .table_elements(7)
            .instances(8);
        assert_eq!(limits(&given), expected);
    }

    #[test]
    fn the_defaults_in_the_help_are_the_library_s() {
        let Limits { memory, deadline, stack, heap, tables, table_elements, instances, .. } =
            Limits::default();
        assert_eq!((memory, stack, heap), (256 << 20, 512 << 10, 64 << 20));
        assert_eq!((tables, table_elements, instances), (100, 1_000_000, 100));
        assert_eq!(deadline, Some(Duration::from_secs(30)));
        assert_eq!(sandgrain::wasi::DEFAULT_OUTPUT_LIMIT, 16 << 20);
    }
}
