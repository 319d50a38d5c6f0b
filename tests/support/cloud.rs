//! A cloud of our own for tests: HTTP and HTTPS on a loopback port, with every way to fail.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What the cloud does with a request.
#[derive(Clone, Debug)]
pub enum Mode {
    /// Answers with this text.
    Say(&'static str),
    /// Answers with this status and headers, and a body that quotes the request.
    Status(u16, &'static [(&'static str, &'static str)]),
    /// A success with this content type and body.
    Body(&'static str, &'static str),
    /// A redirect to this address.
    Redirect(String),
    /// Takes everything and says nothing.
    BlackHole,
    /// Breaks the connection in the middle of an answer.
    Reset,
    /// A byte now and then, without an end.
    Drip,
    /// An answer that is as fast as it is endless.
    Endless,
}

/// A request, as the cloud saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub line: String,
    /// By their names in lower case.
    pub headers: HashMap<String, String>,
    pub body: Value,
}

/// Whether and how the cloud proves who it is.
#[derive(Clone, Debug)]
pub enum Proof {
    /// No TLS.
    None,
    /// With this certificate and key.
    Certificate(PathBuf, PathBuf),
}

/// A cloud; gone when dropped.
#[derive(Debug)]
pub struct Cloud {
    pub address: SocketAddr,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    /// One for each request; the last one for all that follow.
    modes: Mutex<VecDeque<Mode>>,
    seen: Mutex<Vec<Seen>>,
    /// Connections that the other side ended while it was owed an answer.
    hung_up: Mutex<usize>,
}

impl Cloud {
    pub async fn start(proof: &Proof, modes: impl IntoIterator<Item = Mode>) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), proof, modes).await
    }

    /// A cloud at this very address.
    pub async fn at(
        address: SocketAddr,
        proof: &Proof,
        modes: impl IntoIterator<Item = Mode>,
    ) -> Self {
        let acceptor = match proof {
            Proof::None => None,
            Proof::Certificate(cert, key) => Some(acceptor(cert, key)),
        };
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            modes: Mutex::new(modes.into_iter().collect()),
            ..State::default()
        });
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&shared)));
            }
        });
        Self {
            address,
            state,
            task,
        }
    }

    /// Its chat completions over HTTP.
    pub fn http(&self) -> String {
        format!("http://{}/v1/chat/completions", self.address)
    }

    /// Its chat completions over HTTPS.
    pub fn https(&self) -> String {
        format!(
            "https://localhost:{}/v1/chat/completions",
            self.address.port()
        )
    }

    /// From the next request on.
    pub fn then(&self, mode: Mode) {
        *self.state.modes.lock().unwrap() = VecDeque::from([mode]);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub fn hung_up(&self) -> usize {
        *self.state.hung_up.lock().unwrap()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A proxy that only knows how to tunnel; remembers the first lines that it was sent.
#[derive(Debug)]
pub struct Tunnel {
    pub address: SocketAddr,
    pub heads: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Tunnel {
    /// Whatever is asked for, the way leads to `to`.
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&heads);
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let told = Arc::clone(&told);
                tokio::spawn(async move {
                    let Some((head, _)) = read_head(&mut stream).await else {
                        return;
                    };
                    told.lock().unwrap().push(head);
                    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                    let mut inner = TcpStream::connect(to).await.unwrap();
                    let _ = copy_bidirectional(&mut stream, &mut inner).await;
                });
            }
        });
        Self {
            address,
            heads,
            task,
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, acceptor: Option<TlsAcceptor>, state: Arc<State>) {
    match acceptor {
        None => converse(stream, &state).await,
        Some(acceptor) => {
            // A client that does not believe us leaves in the middle of this.
            if let Ok(stream) = acceptor.accept(stream).await {
                converse(stream, &state).await;
            }
        }
    }
}

/// Requests of one connection, until one of them is its end.
async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin + Linger, state: &State) {
    while let Some(seen) = read_request(&mut stream).await {
        let question = seen.body["messages"][1]["content"].to_string();
        let model = seen.body["model"].clone();
        state.seen.lock().unwrap().push(seen);
        let mode = {
            let mut modes = state.modes.lock().unwrap();
            let next = modes.pop_front().expect("there is one for each request");
            if modes.is_empty() {
                modes.push_back(next.clone());
            }
            next
        };
        let sent = match mode {
            Mode::Say(text) => send(&mut stream, 200, &[], &answer(&model, text)).await,
            Mode::Status(status, headers) => send(&mut stream, status, headers, &question).await,
            Mode::Body(kind, body) => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all((head + body).as_bytes()).await
            }
            Mode::Redirect(to) => {
                let head = format!(
                    "HTTP/1.1 307 Over There\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).await
            }
            Mode::BlackHole => return wait_for_the_end(&mut stream, state).await,
            Mode::Reset => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"choices\":";
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.flush().await;
                return stream.reset_on_drop();
            }
            Mode::Drip => return drip(&mut stream, b" ", Duration::from_millis(20)).await,
            Mode::Endless => return drip(&mut stream, &[b' '; 8192], Duration::ZERO).await,
        };
        if sent.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// Lets a connection end with a reset instead of a goodbye.
trait Linger {
    fn reset_on_drop(&self);
}

impl Linger for TcpStream {
    fn reset_on_drop(&self) {
        self.set_zero_linger().unwrap();
    }
}

impl Linger for tokio_rustls::server::TlsStream<TcpStream> {
    fn reset_on_drop(&self) {
        self.get_ref().0.set_zero_linger().unwrap();
    }
}

async fn wait_for_the_end(stream: &mut (impl AsyncRead + Unpin), state: &State) {
    let mut rest = [0; 64];
    while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
    *state.hung_up.lock().unwrap() += 1;
}

/// The beginning of an answer, and then the same piece again and again.
async fn drip(stream: &mut (impl AsyncWrite + Unpin), piece: &[u8], pause: Duration) {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut sent = stream.write_all(head.as_bytes()).await;
    while sent.is_ok() {
        let length = format!("{:x}\r\n", piece.len());
        let chunk = [length.as_bytes(), piece, b"\r\n"].concat();
        sent = stream.write_all(&chunk).await;
        let _ = stream.flush().await;
        tokio::time::sleep(pause).await;
    }
}

async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    status: u16,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<()> {
    let more = headers.iter().fold(String::new(), |all, (name, value)| {
        all + name + ": " + value + "\r\n"
    });
    let head = format!(
        "HTTP/1.1 {status} As Told\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{more}\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).await
}

fn answer(model: &Value, text: &str) -> String {
    json!({
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": model,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
            "logprobs": {"content": [{"token": text, "logprob": -0.5, "bytes": null, "top_logprobs": []}]},
        }],
        "usage": {"prompt_tokens": 40, "completion_tokens": 1, "total_tokens": 41},
    })
    .to_string()
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Seen> {
    let (head, mut body) = read_head(stream).await?;
    let mut lines = head.lines();
    let line = lines.next()?.to_owned();
    let headers: HashMap<_, _> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.get("content-length")?.parse().unwrap();
    let mut rest = vec![0; length - body.len()];
    stream.read_exact(&mut rest).await.ok()?;
    body.extend(rest);
    Some(Seen {
        line,
        headers,
        body: serde_json::from_slice(&body).unwrap(),
    })
}

/// The head of a message, and what came behind it.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.ok()?;
        if read == 0 {
            return None;
        }
        bytes.extend_from_slice(&piece[..read]);
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Some((String::from_utf8(bytes).unwrap(), body));
        }
    }
}

fn acceptor(cert: &Path, key: &Path) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(cert).unwrap();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Certificates in a folder: `ca.pem`, `other-ca.pem`, and from the first of them `good`, for
/// another host `stranger`, and `expired`, each `.pem` and `.key`.
pub fn make_certificates(dir: &Path) {
    let authority = |file: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, file);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(dir.join(file), params.self_signed(&key).unwrap().pem()).unwrap();
        Issuer::new(params, key)
    };
    authority("other-ca.pem");
    let issuer = authority("ca.pem");
    for (name, host) in [
        ("good", "localhost"),
        ("expired", "localhost"),
        ("stranger", "elsewhere.example"),
    ] {
        let mut params = CertificateParams::new(vec![host.into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, host);
        if name == "expired" {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}
