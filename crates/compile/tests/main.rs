//! Compiling, artifacts and the cache, as users of the crate see them.
//!
//! One binary, since linking the compiler takes long.

mod artifact;
mod cache;
mod cache_trust;
mod component_limits;
mod component_memories;
mod components;
mod info;
mod inputs;
mod random_artifacts;
mod support;
