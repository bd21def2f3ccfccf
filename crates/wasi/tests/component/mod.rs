//! WASI 0.2 as a component sees it, and as whoever runs one does.

mod cli;
mod files;
mod functions;
mod io;
mod limits;
mod support;
mod waiting;
