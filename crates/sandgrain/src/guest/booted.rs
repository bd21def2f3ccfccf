//! Guests whose runtime has started and has no module yet: the layer that all sandboxes stand on.

use super::{Guest, GuestImage, boot_message};
use crate::error::Result;
use crate::host::Host;
use crate::limits::Limits;
use crate::machine::base::Base;
use crate::machine::plan::Plan;
use sandgrain_abi::Encode;
use sandgrain_hypervisor::Hypervisor;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// How many are kept. Each takes about half a megabyte.
const MAX_KEPT: usize = 16;

/// One image for each boot message: where that is the same, the runtime starts in the same way.
#[derive(Default)]
pub(crate) struct Booted {
    images: Mutex<HashMap<Vec<u8>, GuestImage>>,
}

impl Booted {
    /// A guest with these limits that waits for its first command.
    pub(crate) fn get(
        &self,
        hypervisor: &dyn Hypervisor,
        base: &Base,
        limits: &Limits,
        cpu_features: Vec<String>,
    ) -> Result<GuestImage> {
        let plan = Plan::new(base, limits)?;
        let mut key = Vec::new();
        boot_message(limits, &plan, cpu_features.clone()).encode_to(&mut key);
        // Locked until it is there: whoever wants the same had better wait than do the same.
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = images.get(&key) {
            return Ok(image.clone());
        }
        let span = tracing::debug_span!("boot");
        let _entered = span.enter();
        let mut guest = Guest::boot(hypervisor, base, limits, plan, cpu_features)?;
        // The runtime is ours and asks nothing of the host before it is ready.
        guest.start(&mut Host::default())?;
        let image = guest.capture()?;
        if images.len() >= MAX_KEPT {
            images.clear();
        }
        images.insert(key, image.clone());
        Ok(image)
    }
}
