//! `serve`: the server as a process, which is sent signals, runs out of descriptors, and is killed.

use crate::command::{Place, example};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server of a component that answers `/hello`.
struct Server {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Server {
    /// Starts one, with at most so many descriptors.
    fn start(place: &Place, descriptors: u32, more: &[&str]) -> Self {
        let program = env!("CARGO_BIN_EXE_sandgrain");
        let script = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
        let mut child = Command::new("sh")
            .args(["-c", &script, program, "serve"])
            .arg(example("components/rust/http.wasm"))
            .args([
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--access-log",
                "none",
                "--state",
            ])
            .arg(place.path("state"))
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.starts_with("serving at "))
            .expect("it says where it listens");
        // So that it never waits for somebody to read.
        std::thread::spawn(move || lines.for_each(drop));
        let mut addresses = line.split("//").skip(1).map(|rest| {
            let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'));
            rest[..end.unwrap_or(rest.len())].parse().unwrap()
        });
        let (address, admin) = (addresses.next().unwrap(), addresses.next().unwrap());
        Self { child, address, admin }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Whether it ends by itself, and how.
    fn ends(&mut self) -> Option<i32> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it has not ended within 30 s");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Most have ended by then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer to a request on a connection of its own, or why there is none.
fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn says_hello(server: &Server) {
    let answer = get(server.address, "/hello?name=Ada").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Hello, Ada!"), "{answer}");
}

fn metric(server: &Server, name: &str) -> f64 {
    let text = get(server.admin, "/metrics").unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn it_serves_until_it_is_told_to_end() {
    let place = Place::new();
    for signal in ["-TERM", "-INT"] {
        let mut server = Server::start(&place, 1024, &[]);
        says_hello(&server);
        server.signal("-HUP");
        let begun = Instant::now();
        while metric(&server, "sandgrain_reloads_total") < 1.0 {
            assert!(begun.elapsed() < Duration::from_secs(30), "SIGHUP reloads");
            std::thread::sleep(Duration::from_millis(20));
        }
        says_hello(&server);
        server.signal(signal);
        assert_eq!(server.ends(), Some(0), "{signal}");
    }
}

#[test]
fn told_to_end_it_serves_on_for_as_long_as_load_balancers_need() {
    let place = Place::new();
    let mut server = Server::start(&place, 1024, &["--drain-delay", "3600"]);
    assert!(get(server.admin, "/readyz").unwrap().starts_with("HTTP/1.1 200"));
    server.signal("-TERM");
    let begun = Instant::now();
    while !get(server.admin, "/readyz").unwrap().starts_with("HTTP/1.1 503") {
        assert!(begun.elapsed() < Duration::from_secs(30), "it says that it will end");
        std::thread::sleep(Duration::from_millis(20));
    }
    says_hello(&server);
    // They need no more.
    server.signal("-TERM");
    assert_eq!(server.ends(), Some(0));
    // When the time is over it ends by itself.
    let mut server = Server::start(&place, 1024, &["--drain-delay", "1"]);
    server.signal("-TERM");
    assert_eq!(server.ends(), Some(0));
}

#[test]
fn without_descriptors_it_serves_those_it_has_and_others_when_there_are_some_again() {
    let place = Place::new();
    // A worker process needs 768.
    let server = Server::start(&place, 800, &[]);
    let mut own = TcpStream::connect(server.address).unwrap();
    own.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut ask = || {
        write!(own, "GET /nothing HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
        let mut piece = [0; 4096];
        let read = own.read(&mut piece).unwrap();
        String::from_utf8_lossy(&piece[..read]).into_owned()
    };
    assert!(ask().starts_with("HTTP/1.1 404"));
    // The kernel completes these whether the server accepts them or not.
    let others: Vec<_> = (0..850).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(500));
    for _ in 0..3 {
        // With a VM that waits, or with none for want of descriptors.
        let answer = ask();
        assert!(
            answer.starts_with("HTTP/1.1 404") || answer.starts_with("HTTP/1.1 50"),
            "{answer}"
        );
    }
    drop(others);
    let begun = Instant::now();
    while !get(server.address, "/hello").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
        assert!(begun.elapsed() < Duration::from_secs(30), "it serves again");
    }
    assert!(metric(&server, "sandgrain_accept_errors_total") > 0.0);
}

#[test]
fn killed_at_any_moment_it_starts_again_with_what_it_has_on_disk() {
    let place = Place::new();
    for millis in [0, 5, 15, 40, 80, 120, 200, 300] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sandgrain"))
            .arg("serve")
            .arg(example("components/rust/http.wasm"))
            .args(["--listen", "127.0.0.1:0", "--access-log", "none", "--state"])
            .arg(place.path("state"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(millis));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    says_hello(&Server::start(&place, 1024, &[]));
    // A file that is cut off is no file.
    let mut cut = 0;
    let mut open = vec![place.path("state")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.metadata().unwrap().len() > 100_000 {
            std::fs::File::options().write(true).open(&path).unwrap().set_len(50_000).unwrap();
            cut += 1;
        }
    }
    assert!(cut > 0, "compiled code is kept");
    says_hello(&Server::start(&place, 1024, &[]));
}
