//! Functions that are called as CGI programs are.
pub mod cgi;
pub mod head;
