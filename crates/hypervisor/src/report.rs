//! What this machine offers, for a person to read.

use std::fmt;

use crate::{CpuFeatures, HypervisorKind};

/// What [`probe`](crate::probe) found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which hypervisor was looked for.
    pub kind: HypervisorKind,
    /// What was checked, in the order of the checks. A check that cannot be made because an earlier
    /// one failed is not there.
    pub checks: Vec<Check>,
    /// What a guest's CPU can do, if that could be found out.
    pub cpu_features: Option<CpuFeatures>,
}

/// One thing that was checked.
#[derive(Clone, Debug)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// What it is good for.
    pub why: &'static str,
    /// Whether VMs can do without.
    pub importance: Importance,
    /// What was found.
    pub outcome: Outcome,
}

/// Whether VMs can do without something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Importance {
    /// There are no VMs without it.
    Required,
    /// It makes VMs faster or able to do more.
    Optional,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Present {
        /// More about it; may be empty.
        detail: String,
    },
    /// It is not there, or does not work.
    Absent {
        /// What happened.
        detail: String,
        /// What to try; empty where nothing can be done.
        hint: String,
    },
}

impl Report {
    /// Whether VMs can run here: nothing that is required is absent.
    pub fn is_usable(&self) -> bool {
        self.checks.iter().all(|check| check.is_present() || !check.is_required())
    }
}

impl Check {
    /// Whether all is well.
    pub fn is_present(&self) -> bool {
        matches!(self.outcome, Outcome::Present { .. })
    }

    /// Whether VMs cannot do without.
    pub fn is_required(&self) -> bool {
        self.importance == Importance::Required
    }
}

impl fmt::Display for Check {
    /// One line, or two with a hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.outcome {
            Outcome::Present { detail } if detail.is_empty() => write!(f, "ok: {name}"),
            Outcome::Present { detail } => write!(f, "ok: {name}: {detail}"),
            Outcome::Absent { detail, hint } => {
                let mark = if self.is_required() { "missing" } else { "absent (optional)" };
                write!(f, "{mark}: {name} ({}): {detail}", self.why)?;
                if !hint.is_empty() {
                    write!(f, "\n  try: {hint}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            writeln!(f, "{check}")?;
        }
        if let Some(features) = &self.cpu_features {
            writeln!(f, "guest CPU: {}", features.names().join(" "))?;
        }
        Ok(())
    }
}
