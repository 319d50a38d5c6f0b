//! A certificate over the network: a server that signs with OpenSSL, and every way to answer badly.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use serde_json::Value;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::{Board, openssl};

const LOGIN: &str = "username = \"commissioning\"\npassword_file = \"password\"\n";
/// `commissioning:let-me-in`.
const BASIC: &str = "Basic Y29tbWlzc2lvbmluZzpsZXQtbWUtaW4=";
const BUNDLE: &str = "application/pkcs7-mime; smime-type=certs-only";

/// A question as it came.
#[derive(Clone, Debug)]
struct Asked {
    line: String,
    kind: String,
    login: Option<String>,
    /// What the device showed of itself.
    shown: Option<Vec<u8>>,
    body: String,
}

/// What is answered.
#[derive(Clone, Debug)]
struct Answer {
    status: &'static str,
    kind: &'static str,
    more: String,
    body: Vec<u8>,
}

impl Answer {
    fn bundle(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: "200 OK",
            kind: BUNDLE,
            more: String::new(),
            body: body.into(),
        }
    }

    fn status(status: &'static str, words: &str) -> Self {
        Self {
            status,
            kind: "text/plain",
            more: String::new(),
            body: words.into(),
        }
    }
}

/// An authority that signs, and its files.
struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
}

impl Authority {
    fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "plant");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(folder.join("ca.pem"), certificate.pem()).unwrap();
        fs::write(folder.join("ca.key"), key.serialize_pem()).unwrap();
        Self {
            folder: folder.to_owned(),
            der: certificate.der().to_vec(),
            issuer: Issuer::new(params, key),
        }
    }

    fn at(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// A certificate that is not the device's: a server's, or one that a batch is born with.
    fn leaf(&self, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".into()]).unwrap();
        params.extended_key_usages = vec![usage];
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Signs a request for thirty days, with what it asks for besides; as OpenSSL does.
    fn sign(&self, request: &str) -> Vec<u8> {
        let csr = self.at("device.csr");
        let text = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{request}\n-----END CERTIFICATE REQUEST-----\n"
        );
        fs::write(&csr, text).unwrap();
        openssl(&["req", "-in", &csr, "-verify", "-noout"]);
        // The first certificate gets a name that no request spoke of.
        let asks = openssl(&["req", "-in", &csr, "-noout", "-text"]).contains("plant.example");
        let names = if asks {
            ""
        } else {
            "subjectAltName=DNS:press-7.plant.example\n"
        };
        let extensions = format!("basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n{names}");
        fs::write(self.at("extensions"), extensions).unwrap();
        let signed = openssl(&[
            "x509",
            "-req",
            "-days",
            "30",
            "-copy_extensions",
            "copy",
            "-in",
            &csr,
            "-CA",
            &self.at("ca.pem"),
            "-CAkey",
            &self.at("ca.key"),
            "-extfile",
            &self.at("extensions"),
        ]);
        fs::write(self.at("device.pem"), signed).unwrap();
        self.bundle(&["device.pem"])
    }

    /// Certificates as a server hands them out, in base64.
    fn bundle(&self, names: &[&str]) -> Vec<u8> {
        let files = names
            .iter()
            .flat_map(|name| ["-certfile".into(), self.at(name)]);
        let mut words = vec!["crl2pkcs7".to_owned(), "-nocrl".to_owned()];
        words.extend(files);
        let pem = openssl(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let lines = pem.lines().filter(|line| !line.starts_with('-'));
        lines.collect::<Vec<_>>().join("\r\n").into_bytes()
    }
}

type Answering = dyn Fn(&Asked) -> Answer + Send + Sync;

/// The server. It goes on until the test is over.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Asked>>>,
    answering: Arc<Mutex<Box<Answering>>>,
}

impl Server {
    fn start(authority: &Arc<Authority>) -> Self {
        let (certificate, key) = authority.leaf(ExtendedKeyUsagePurpose::ServerAuth);
        let mut roots = RootCertStore::empty();
        roots.add(authority.der.clone().into()).unwrap();
        let provider = Arc::new(default_provider());
        let known = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(known)
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let signing = Arc::clone(authority);
        let server = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            answering: Arc::new(Mutex::new(Box::new(move |asked| honest(&signing, asked)))),
        };
        let (config, seen) = (Arc::new(config), Arc::clone(&server.seen));
        let answering = Arc::clone(&server.answering);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that does not like this server ends the connection.
                let _ = serve(stream.unwrap(), &config, &seen, &answering);
            }
        });
        server
    }

    fn answer(&self, with: impl Fn(&Asked) -> Answer + Send + Sync + 'static) {
        *self.answering.lock().unwrap() = Box::new(with);
    }

    /// What was asked since the last look.
    fn seen(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

/// Signs whatever comes.
fn honest(authority: &Authority, asked: &Asked) -> Answer {
    match asked.line.as_str() {
        "GET /.well-known/est/cacerts" => Answer::bundle(authority.bundle(&["ca.pem"])),
        "POST /.well-known/est/simpleenroll" | "POST /.well-known/est/simplereenroll" => {
            Answer::bundle(authority.sign(&asked.body))
        }
        _ => Answer::status("404 Not Found", ""),
    }
}

fn serve(
    stream: TcpStream,
    config: &Arc<ServerConfig>,
    seen: &Mutex<Vec<Asked>>,
    answering: &Mutex<Box<Answering>>,
) -> std::io::Result<()> {
    let connection = ServerConnection::new(Arc::clone(config)).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let header = |name: &str| {
        let line = head
            .lines()
            .find(|line| line.to_lowercase().starts_with(name))?;
        Some(line.split_once(": ")?.1.to_owned())
    };
    let length = header("content-length:").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let shown = stream.conn.peer_certificates();
    let asked = Asked {
        line: head.split(" HTTP").next().unwrap().to_owned(),
        kind: header("content-type:").unwrap_or_default(),
        login: header("authorization:"),
        shown: shown.map(|chain| chain[0].to_vec()),
        body: String::from_utf8(body).unwrap(),
    };
    seen.lock().unwrap().push(asked.clone());
    let answer = answering.lock().unwrap()(&asked);
    write!(
        stream,
        "HTTP/1.1 {}\r\nContent-Type: {}\r\n{}Content-Length: {}\r\nConnection: close\r\n\r\n",
        answer.status,
        answer.kind,
        answer.more,
        answer.body.len()
    )?;
    stream.write_all(&answer.body)?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// A board, and a server that it is told of.
fn site(name: &str, login: &str) -> (Board, Server, Arc<Authority>) {
    let board = Board::new(name);
    let authority = Arc::new(Authority::new(&board.folder.join("plant")));
    let server = Server::start(&authority);
    let password = board.folder.join("password");
    fs::write(&password, "let-me-in\n").unwrap();
    private(&password);
    point(&board, server.address, login);
    (board, server, authority)
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn point(board: &Board, server: SocketAddr, login: &str) {
    board.configure(&format!(
        "[provision]\nest_url = \"https://localhost:{}\"\nca_file = \"plant/ca.pem\"\n{login}",
        server.port()
    ));
}

/// What is told, whatever the exit code.
fn told_of(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"))
}

/// So many days from now.
fn told_in_days(board: &Board, days: u32) -> Value {
    let output = Command::new("/usr/bin/faketime")
        .arg(format!("+{days} days"))
        .arg(env!("CARGO_BIN_EXE_lineside"))
        .args(["provision", "--json", "--config"])
        .arg(board.folder.join("config.toml"))
        .output()
        .unwrap();
    told_of(&output)
}

fn lines(asked: &[Asked]) -> Vec<&str> {
    asked.iter().map(|it| it.line.as_str()).collect()
}

#[test]
fn a_board_without_a_certificate_asks_for_one_and_then_for_none() {
    let (board, server, authority) = site("est-first", LOGIN);
    let first = board.told(&[]);
    assert_eq!(first["enrolment"]["outcome"], "enrolled", "{first}");
    let asked = server.seen();
    let paths = [
        "GET /.well-known/est/cacerts",
        "POST /.well-known/est/simpleenroll",
    ];
    assert_eq!(lines(&asked), paths);
    assert_eq!(
        asked[0].login, None,
        "what everybody may know needs no password"
    );
    assert_eq!(asked[1].login.as_deref(), Some(BASIC));
    assert_eq!(asked[1].kind, "application/pkcs10");
    // It is the request that lies there, and nothing of the key.
    let request: String = board
        .read("device.csr")
        .lines()
        .filter(|line| !line.starts_with(['#', '-']))
        .collect();
    assert_eq!(asked[1].body, request);
    let key = board.read("device.key");
    let key: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    assert!(
        asked
            .iter()
            .all(|it| !format!("{it:?}").contains(&key[40..80]))
    );

    let (cert, ca) = (board.at("device.pem"), board.at("ca.pem"));
    let (cert, ca) = (cert.to_str().unwrap(), ca.to_str().unwrap());
    openssl(&["verify", "-CAfile", ca, "-purpose", "sslclient", cert]);
    assert_eq!(
        board.read("ca.pem").trim(),
        fs::read_to_string(authority.at("ca.pem")).unwrap().trim()
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(cert).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(first["until"].as_str().unwrap().ends_with('Z'), "{first}");

    let again = board.told(&[]);
    assert_eq!(again["enrolment"]["outcome"], "needless", "{again}");
    let boot = board.told(&["--offline"]);
    assert_eq!(boot["enrolment"], Value::Null);
    assert_eq!(lines(&server.seen()), Vec::<&str>::new());
}

#[test]
fn a_certificate_is_renewed_by_itself_with_its_own_names_and_the_same_key() {
    let (board, server, _) = site("est-again", LOGIN);
    board.told(&[]);
    server.seen();
    let (first, key) = (board.read("device.pem"), board.read("device.key"));
    assert_eq!(told_in_days(&board, 19)["enrolment"]["outcome"], "needless");

    let renewed = told_in_days(&board, 21);
    assert_eq!(renewed["enrolment"]["outcome"], "renewed", "{renewed}");
    let asked = server.seen();
    let paths = [
        "GET /.well-known/est/cacerts",
        "POST /.well-known/est/simplereenroll",
    ];
    assert_eq!(lines(&asked), paths);
    // It shows the former, and asks for all that the former says.
    let leaf = board.folder.join("former.der");
    let former = board.folder.join("former.pem");
    fs::write(&former, &first).unwrap();
    let (leaf, former) = (leaf.to_str().unwrap(), former.to_str().unwrap());
    openssl(&["x509", "-in", former, "-outform", "DER", "-out", leaf]);
    assert_eq!(asked[1].shown, Some(fs::read(leaf).unwrap()));
    let second = board.at("device.pem");
    let second = second.to_str().unwrap();
    for what in ["-subject", "-pubkey"] {
        let of = |file| openssl(&["x509", "-in", file, "-noout", what]);
        assert_eq!(of(former), of(second));
    }
    let names = openssl(&["x509", "-in", second, "-noout", "-ext", "subjectAltName"]);
    assert!(names.contains("press-7.plant.example"), "{names}");
    assert_ne!(board.read("device.pem"), first);
    assert_eq!(board.read("device.key"), key);

    // By hand at any time; and one that ran out is as good as none.
    let forced = board.told(&["--renew"]);
    assert_eq!(forced["enrolment"]["outcome"], "renewed");
    server.seen();
    let late = told_in_days(&board, 80);
    let last = lines(&server.seen()).last().map(|it| (*it).to_owned());
    assert_eq!(
        last.as_deref(),
        Some("POST /.well-known/est/simpleenroll"),
        "{late}"
    );
}

#[test]
fn a_board_may_be_known_by_a_certificate_that_it_was_born_with() {
    let (board, server, authority) = site("est-birth", "");
    let (birth, key) = authority.leaf(ExtendedKeyUsagePurpose::ClientAuth);
    fs::write(board.folder.join("birth.pem"), birth.pem()).unwrap();
    fs::write(board.folder.join("birth.key"), key.serialize_pem()).unwrap();
    private(&board.folder.join("birth.key"));
    point(
        &board,
        server.address,
        "cert_file = \"birth.pem\"\nkey_file = \"birth.key\"\n",
    );
    let told = board.told(&[]);
    assert_eq!(told["enrolment"]["outcome"], "enrolled", "{told}");
    let asked = server.seen();
    assert_eq!(asked[1].shown, Some(birth.der().to_vec()));
    assert_eq!(asked[1].login, None);
}

/// What a server does instead of signing.
type Spoil = Box<dyn Fn(&Authority, &Asked) -> Answer + Send + Sync>;

/// What a server may do instead of its work; and what is told.
#[test]
fn a_bad_answer_is_told_and_changes_nothing() {
    let (board, server, authority) = site("est-bad", LOGIN);
    let other = Board::new("est-bad-other");
    other.told(&[]);
    let other: String = other
        .read("device.csr")
        .lines()
        .filter(|line| !line.starts_with(['#', '-']))
        .collect();
    let stranger = Authority::new(&board.folder.join("stranger"));
    let signed = |change: fn(Vec<u8>) -> Vec<u8>| -> Spoil {
        Box::new(move |authority, asked| Answer::bundle(change(authority.sign(&asked.body))))
    };
    let always = |answer: Answer| -> Spoil { Box::new(move |_, _| answer.clone()) };
    let cases: Vec<(Spoil, &str, &str)> = vec![
        (
            signed(|body| body[..body.len() / 2].to_vec()),
            "failed",
            "no bundle",
        ),
        (signed(|_| vec![b'A'; 1 << 20]), "failed", "longer than"),
        (signed(|_| Vec::new()), "failed", "no bundle"),
        (signed(|_| b"<html>no".to_vec()), "failed", "no bundle"),
        (
            Box::new(move |authority, _| Answer::bundle(authority.sign(&other))),
            "failed",
            "belong to this device's key",
        ),
        (
            Box::new(move |_, asked| Answer::bundle(stranger.sign(&asked.body))),
            "failed",
            "would not be believed",
        ),
        (
            Box::new(|authority, asked| Answer {
                kind: "text/html",
                ..honest(authority, asked)
            }),
            "failed",
            "another kind",
        ),
        (
            always(Answer::bundle(authority.bundle(&["ca.pem"]))),
            "failed",
            "belong to this device's key",
        ),
        (
            always(Answer::status("401 Unauthorized", "")),
            "failed",
            "does not know this device",
        ),
        (
            always(Answer::status("400 Bad Request", "CN is taken\x1b[2J")),
            "failed",
            "status 400: CN is taken?[2J",
        ),
        (
            always(Answer {
                more: "Location: https://elsewhere/\r\n".into(),
                ..Answer::status("302 Found", "")
            }),
            "failed",
            "status 302",
        ),
        (
            always(Answer {
                more: "Retry-After: 600\r\n".into(),
                ..Answer::status("202 Accepted", "")
            }),
            "later",
            "after 600",
        ),
    ];
    for (spoil, outcome, why) in cases {
        let authority = Arc::clone(&authority);
        server.answer(move |asked| {
            if asked.line.starts_with("GET") {
                honest(&authority, asked)
            } else {
                spoil(&authority, asked)
            }
        });
        let output = board.run(&[]);
        let told = told_of(&output);
        assert_eq!(output.status.code(), Some(69), "{told}");
        assert_eq!(told["enrolment"]["outcome"], outcome, "{told}");
        let said = told["enrolment"]["why"].as_str().unwrap();
        assert!(said.contains(why), "{why}: {said}");
        assert!(!said.contains("let-me-in"));
        assert!(!board.at("device.pem").exists() && !board.at("ca.pem").exists());
    }
    // The same server, in its right mind; then a bad renewal leaves what is there.
    let signing = Arc::clone(&authority);
    server.answer(move |asked| honest(&signing, asked));
    assert_eq!(board.told(&[])["enrolment"]["outcome"], "enrolled");
    let present = board.read("device.pem");
    server.answer(|_| Answer::status("500 Oops", ""));
    let told = told_of(&board.run(&["--renew"]));
    assert_eq!(told["enrolment"]["outcome"], "failed", "{told}");
    assert_eq!(told["certificate"], "kept");
    assert_eq!(board.read("device.pem"), present);
}

#[test]
fn a_server_that_is_another_or_away_is_told_from_one_that_refuses() {
    let (board, server, _) = site("est-away", LOGIN);
    let stranger = Authority::new(&board.folder.join("stranger"));
    fs::copy(stranger.at("ca.pem"), board.folder.join("plant/ca.pem")).unwrap();
    let told = told_of(&board.run(&[]));
    let why = told["enrolment"]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("does not convince"), "{why}");
    assert_eq!(lines(&server.seen()), Vec::<&str>::new());

    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    point(&board, closed, LOGIN);
    let output = board.run(&[]);
    let told = told_of(&output);
    let why = told["enrolment"]["why"].as_str().unwrap();
    assert!(why.contains("cannot be reached"), "{why}");
    // The rest of its identity it has all the same.
    assert_eq!(
        (output.status.code(), &told["key"]),
        (Some(69), &"kept".into())
    );
}

#[test]
fn a_faulty_section_is_told_before_anybody_is_asked() {
    let board = Board::new("est-faulty");
    for (more, key) in [
        ("est_url = \"http://est.plant\"", "provision.est_url"),
        ("ca_file = \"ca.pem\"", "provision.ca_file"),
        (
            "est_url = \"https://est.plant\"\nusername = \"x\"",
            "provision.username",
        ),
        (
            "est_url = \"https://est.plant\"\nca_file = \"nowhere\"",
            "provision.ca_file",
        ),
        (
            "est_url = \"https://est.plant\"\nusername = \"x\"\npassword_file = \"nowhere\"",
            "provision.password_file",
        ),
    ] {
        board.configure(&format!("[provision]\n{more}"));
        let output = board.run(&[]);
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(78), "{told}");
        assert!(told.contains(key), "{told}");
    }
    // At the boot, what only the asking needs is not read.
    assert_eq!(board.told(&["--offline"])["key"], "made");
}
