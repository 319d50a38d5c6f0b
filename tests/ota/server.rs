//! A server for packages, over HTTP or HTTPS, with every way to fail.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What the server does with a request for a large file. Small ones it always gives.
#[derive(Clone, Debug)]
pub(crate) enum Mode {
    /// Gives what was asked for.
    Good,
    /// Knows no ranges: always the whole file.
    Whole,
    /// Breaks the connection after so many bytes of the body.
    Cut(usize),
    /// Flips a bit of the file's byte at this place.
    Flip(usize),
    /// Says of a range that it is this one.
    Range(&'static str),
    /// Says that the file is longer by so much, and gives as much.
    Longer(usize),
    /// Says no length, and never ends.
    Endless,
    /// A byte now and then.
    Drip,
    /// Takes the request and says nothing.
    BlackHole,
    /// This status, and nothing else.
    Status(u16),
    /// A redirect; `{}` stands for the path.
    Redirect(String),
    /// Says that it encoded the file.
    Encoded,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) if_range: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    modes: Mutex<VecDeque<Mode>>,
    seen: Mutex<Vec<Seen>>,
    /// How files are marked.
    mark: Mutex<Option<&'static str>>,
}

/// A server; its thread ends with the process.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

impl Server {
    /// Serves a folder; one mode for each request of a large file, the last one for all others.
    pub(crate) fn start(root: &Path, modes: impl IntoIterator<Item = Mode>) -> Self {
        Self::with(root, modes, None)
    }

    /// The same, over TLS with this certificate and key.
    pub(crate) fn secure(root: &Path, cert: &Path, key: &Path) -> Self {
        let chain = CertificateDer::pem_file_iter(cert).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                chain.map(Result::unwrap).collect(),
                PrivateKeyDer::from_pem_file(key).unwrap(),
            )
            .unwrap();
        Self::with(root, [Mode::Good], Some(Arc::new(config)))
    }

    fn with(
        root: &Path,
        modes: impl IntoIterator<Item = Mode>,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            modes: Mutex::new(modes.into_iter().collect()),
            ..State::default()
        });
        let (shared, root) = (Arc::clone(&state), root.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let (state, root, tls) = (Arc::clone(&shared), root.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => converse(stream, &root, &state),
                    Some(config) => {
                        let session = ServerConnection::new(config).unwrap();
                        converse(StreamOwned::new(session, stream), &root, &state);
                    }
                });
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(crate) fn mark(&self, mark: &'static str) {
        *self.state.mark.lock().unwrap() = Some(mark);
    }

    pub(crate) fn then(&self, mode: Mode) {
        *self.state.modes.lock().unwrap() = VecDeque::from([mode]);
    }

    /// Requests for this path.
    pub(crate) fn seen(&self, path: &str) -> Vec<Seen> {
        let seen = self.state.seen.lock().unwrap();
        let mine = seen.iter().filter(|it| it.path.ends_with(path));
        mine.cloned().collect()
    }
}

fn converse(mut stream: impl Read + Write, root: &Path, state: &State) {
    while let Some(seen) = request(&mut stream) {
        state.seen.lock().unwrap().push(seen.clone());
        let path: PathBuf = root.join(seen.path.trim_start_matches('/'));
        let Ok(bytes) = fs::read(path) else {
            let head = "HTTP/1.1 404 None\r\ncontent-length: 0\r\n\r\n";
            if stream.write_all(head.as_bytes()).is_err() {
                return;
            }
            continue;
        };
        let mut mode = Mode::Good;
        if bytes.len() as u64 > crate::plant::CHUNK {
            let mut modes = state.modes.lock().unwrap();
            mode = modes.front().cloned().unwrap();
            if modes.len() > 1 {
                modes.pop_front();
            }
        }
        let mark = *state.mark.lock().unwrap();
        if answer(&mut stream, &seen, bytes, &mode, mark).is_none() {
            return;
        }
    }
}

/// Answers a request. None ends the connection.
fn answer(
    stream: &mut (impl Read + Write),
    seen: &Seen,
    mut bytes: Vec<u8>,
    mode: &Mode,
    mark: Option<&'static str>,
) -> Option<()> {
    let total = bytes.len();
    let mut more = mark.map_or_else(String::new, |mark| format!("etag: {mark}\r\n"));
    let same = seen.if_range.is_none() || seen.if_range.as_deref() == mark;
    let from = seen.range.as_deref().filter(|_| same).and_then(|range| {
        let (from, _) = range.strip_prefix("bytes=")?.split_once('-')?;
        from.parse::<usize>().ok()
    });
    let from = from.filter(|_| !matches!(mode, Mode::Whole | Mode::Longer(_)));
    let mut status = "200 OK".to_owned();
    let mut cut = None;
    let mut range = None;
    match mode {
        Mode::Good | Mode::Whole => {}
        Mode::Cut(after) => cut = Some(*after),
        Mode::Flip(at) => bytes[*at] ^= 1,
        Mode::Range(said) => range = Some((*said).to_owned()),
        Mode::Longer(by) => bytes.extend(vec![0; *by]),
        Mode::Endless => return forever(stream, &[7; 8192], Duration::ZERO),
        Mode::Drip => return forever(stream, b"x", Duration::from_millis(5)),
        Mode::BlackHole => {
            let _ = stream.read(&mut [0]);
            return None;
        }
        Mode::Status(code) => {
            let head = format!("HTTP/1.1 {code} As Told\r\ncontent-length: 0\r\n\r\n");
            return stream.write_all(head.as_bytes()).ok();
        }
        Mode::Redirect(to) => {
            let to = to.replace("{}", &seen.path);
            let head =
                format!("HTTP/1.1 302 Elsewhere\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
            return stream.write_all(head.as_bytes()).ok();
        }
        Mode::Encoded => more += "content-encoding: gzip\r\n",
    }
    let mut body = &bytes[..];
    if let Some(from) = from {
        status = "206 Part".into();
        body = &bytes[from..];
        let said = range.unwrap_or_else(|| format!("bytes {from}-{}/{total}", total - 1));
        let _ = write!(more, "content-range: {said}\r\n");
    }
    let head = format!(
        "HTTP/1.1 {status}\r\n{more}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    if let Some(cut) = cut.filter(|cut| *cut < body.len()) {
        let _ = stream.write_all(&body[..cut]);
        let _ = stream.flush();
        return None;
    }
    stream.write_all(body).ok()?;
    stream.flush().ok()
}

/// A success without a length, and the same piece again and again.
fn forever(stream: &mut impl Write, piece: &[u8], pause: Duration) -> Option<()> {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).ok()?;
    loop {
        let length = format!("{:x}\r\n", piece.len());
        let chunk = [length.as_bytes(), piece, b"\r\n"].concat();
        stream.write_all(&chunk).ok()?;
        stream.flush().ok()?;
        std::thread::sleep(pause);
    }
}

fn request(stream: &mut impl Read) -> Option<Seen> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1)?.to_owned();
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned())
    };
    Some(Seen {
        range: header("range"),
        if_range: header("if-range"),
        path,
    })
}
