//! WASI as a guest sees it, and as whoever runs one does.
//!
//! One binary, since linking wasmtime takes long.

mod basics;
mod cancel;
mod component;
mod files;
mod functions;
mod hostile;
mod reach;
mod sleeping;
mod streams;
mod support;
mod window;
mod window_random;
