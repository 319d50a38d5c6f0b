//! HTTP by hand, so that requests can be as bad as clients are.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::appliance::PATIENCE;

/// Asks the panel at a port of the loopback.
#[derive(Clone, Copy, Debug)]
pub struct Http(pub u16);

/// What it answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn read(mut stream: impl Read) -> Self {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes); // a connection that is cut has said what it said
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    pub fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
        Self {
            status: status.unwrap_or_default(),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }
}

impl Http {
    /// A connection, once somebody listens.
    pub fn connect(self) -> TcpStream {
        let begun = Instant::now();
        loop {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", self.0)) {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_write_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            assert!(begun.elapsed() < PATIENCE, "nobody listens");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Exactly these bytes; the answer is what comes until the end of the connection.
    pub fn raw(self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes); // it may be turned away before it has said all
        Answer::read(stream)
    }

    /// As a browser at the appliance.
    pub fn get(self, path: &str) -> Answer {
        self.with(&format!("GET {path}"), &["Host: localhost:9470"], "")
    }

    /// As one that a proxy passes on.
    pub fn get_elsewhere(self, path: &str) -> Answer {
        let lines = ["Host: localhost:9470", "X-Forwarded-For: 10.0.0.9"];
        self.with(&format!("GET {path}"), &lines, "")
    }

    /// As our own page.
    pub fn post(self, path: &str, body: &Value) -> Answer {
        let lines = ["Host: localhost:9470", "X-Lineside: 1"];
        self.with(&format!("POST {path}"), &lines, &body.to_string())
    }

    pub fn with(self, what: &str, lines: &[&str], body: &str) -> Answer {
        let lines = [lines, &[""]].concat().join("\r\n");
        let length = body.len();
        let head = format!("{what} HTTP/1.1\r\n{lines}Content-Length: {length}\r\n");
        self.raw(format!("{head}Connection: close\r\n\r\n{body}").as_bytes())
    }

    /// Waits until the panel answers so.
    pub fn until(self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let begun = Instant::now();
        loop {
            let answer = self.get(path);
            if wanted(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < PATIENCE, "still {answer:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
