//! A client that can also be a bad one: bytes as they are, over a socket.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than anything in these tests may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer of HTTP/1.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// Whether the body came to the end that the headers promised.
    pub is_complete: bool,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// A connection.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    pub async fn request(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n");
        self.send(&[head.as_bytes(), body].concat()).await?;
        self.answer(method == "HEAD").await
    }

    async fn more(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16384];
        let read = timeout(PATIENCE, self.stream.read(&mut piece)).await;
        let read = read.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer"))??;
        self.buffer.extend_from_slice(&piece[..read]);
        Ok(read)
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.more().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// So many bytes; fewer if the connection ends.
    async fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count && self.more().await.unwrap_or(0) > 0 {}
        let count = count.min(self.buffer.len());
        Ok(self.buffer.drain(..count).collect())
    }

    /// Reads an answer.
    pub async fn answer(&mut self, has_no_body: bool) -> io::Result<Answer> {
        loop {
            let answer = self.any_answer(has_no_body).await?;
            if answer.status >= 200 {
                return Ok(answer);
            }
        }
    }

    async fn any_answer(&mut self, has_no_body: bool) -> io::Result<Answer> {
        let line = self.line().await?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status: {line}")))?;
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let mut answer = Answer { status, headers, body: Vec::new(), is_complete: true };
        if has_no_body || status < 200 || status == 204 || status == 304 {
            return Ok(answer);
        }
        if answer.header("transfer-encoding") == "chunked" {
            loop {
                let Ok(line) = self.line().await else {
                    answer.is_complete = false;
                    return Ok(answer);
                };
                let size = usize::from_str_radix(&line, 16).map_err(io::Error::other)?;
                let chunk = self.bytes(size).await?;
                answer.is_complete = chunk.len() == size;
                answer.body.extend(chunk);
                if !answer.is_complete || self.line().await.is_err() || size == 0 {
                    return Ok(answer);
                }
            }
        }
        let length = answer.header("content-length").parse::<usize>();
        match length {
            Ok(length) => {
                answer.body = self.bytes(length).await?;
                answer.is_complete = answer.body.len() == length;
            }
            Err(_) => answer.body = self.bytes(usize::MAX).await?,
        }
        Ok(answer)
    }

    /// Whether the server has closed the connection, which it is given a while for.
    pub async fn is_closed(&mut self) -> bool {
        matches!(self.more().await, Ok(0) | Err(_))
    }
}

/// One request on a connection of its own.
pub async fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    Client::connect(address).await?.request("GET", path, b"").await
}

pub async fn post(address: SocketAddr, path: &str, body: &[u8]) -> io::Result<Answer> {
    Client::connect(address).await?.request("POST", path, body).await
}

/// A connection of HTTP/2, and the task that carries it, which ends when the server ends the connection.
pub async fn http_2(
    address: SocketAddr,
) -> (SendRequest<Full<Bytes>>, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let handshake = handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    (sender, tokio::spawn(connection))
}

/// A request by HTTP/2.
pub fn http_2_request(path: &str) -> Request<Full<Bytes>> {
    let uri = http::Uri::builder().scheme("http").authority("test");
    let uri = uri.path_and_query(path).build().unwrap();
    Request::get(uri).body(Full::default()).unwrap()
}
