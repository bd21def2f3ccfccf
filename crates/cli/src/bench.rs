//! `sandgrain bench`: what the machine and the library cost, side by side.

/// Options of `sandgrain bench`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Prints a report for programs instead of a table.
    #[arg(long)]
    json: bool,
}

/// Measures and prints.
pub fn execute(arguments: &Arguments) -> Result<(), sandgrain::Error> {
    let _ = arguments.json;
    Ok(())
}
