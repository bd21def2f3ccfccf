//! WASI 0.2 as a component sees it, and as whoever runs one does.

mod cli;
mod denied;
mod files;
mod functions;
mod hostile;
mod http;
mod incoming;
mod io;
mod limits;
mod outgoing;
mod sockets;
mod support;
mod tls;
mod waiting;
