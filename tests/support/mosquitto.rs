//! A real mosquitto on a free port, for tests: start, kill, start again.

use std::fmt::Write as _;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Where Debian installs it.
const MOSQUITTO: &str = "/usr/sbin/mosquitto";

/// What is special about a broker.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Keeps sessions and queued messages on disk; written when it is stopped.
    pub persistent: bool,
    /// TLS, with client certificates required.
    pub tls: bool,
    /// Access rules in mosquitto's own words, one a line.
    pub acl: Option<&'static str>,
    /// A user with a password; nobody else gets in.
    pub user: Option<(&'static str, &'static str)>,
    /// Further lines of its configuration.
    pub more: &'static str,
}

/// A broker; killed when dropped.
#[derive(Debug)]
pub struct Mosquitto {
    pub port: u16,
    /// Configuration, store and, with TLS, `ca.pem`, `client.pem`, `client.key`, `other-ca.pem`.
    pub dir: PathBuf,
    child: Option<Child>,
}

impl Mosquitto {
    pub fn start(setup: &Setup) -> Self {
        let mut broker = Self {
            port: free_port(),
            dir: fresh_dir(),
            child: None,
        };
        let config = broker.config(setup);
        fs::write(broker.dir.join("mosquitto.conf"), config).unwrap();
        broker.restart();
        broker
    }

    /// SIGKILL: what is not on its disk is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM: with [`Setup::persistent`], it writes its store first.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
    }

    /// Holds its breath: the sockets stay open and nothing answers.
    pub fn freeze(&mut self) {
        self.signal("-STOP");
    }

    /// Ends [`Self::freeze`].
    pub fn thaw(&mut self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        if let Some(child) = &self.child {
            let id = child.id().to_string();
            let sent = Command::new("kill").args([signal, &id]).status();
            assert!(sent.unwrap().success());
        }
    }

    /// Starts it (again) on the same port and waits until it answers.
    pub fn restart(&mut self) {
        self.kill();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .unwrap();
        let child = Command::new(MOSQUITTO)
            .arg("-c")
            .arg(self.dir.join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("mosquitto is installed");
        self.child = Some(child);
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let waited = begun.elapsed();
            assert!(
                waited < Duration::from_secs(10),
                "see {}",
                self.dir.display()
            );
            sleep(Duration::from_millis(20));
        }
    }

    fn config(&self, setup: &Setup) -> String {
        let dir = self.dir.display();
        // Not `max_queued_messages 0`: mosquitto 2.0.11 then drops whoever publishes where it may
        // not, right after having said so.
        let mut config = format!(
            "listener {} 127.0.0.1\nset_tcp_nodelay true\nmax_queued_messages 100000\nlog_type all\n",
            self.port
        );
        if setup.persistent {
            write!(config, "persistence true\npersistence_location {dir}/\n").unwrap();
        }
        if setup.tls {
            make_certificates(&self.dir);
            write!(
                config,
                "cafile {dir}/ca.pem\ncertfile {dir}/server.pem\nkeyfile {dir}/server.key\nrequire_certificate true\n"
            )
            .unwrap();
        }
        if let Some(acl) = setup.acl {
            fs::write(self.dir.join("acl"), acl).unwrap();
            writeln!(config, "acl_file {dir}/acl").unwrap();
        }
        match setup.user {
            None => config.push_str("allow_anonymous true\n"),
            Some((name, password)) => {
                let file = self.dir.join("passwords");
                let made = Command::new("mosquitto_passwd")
                    .args(["-b", "-c"])
                    .arg(&file)
                    .args([name, password])
                    .status();
                assert!(made.unwrap().success());
                write!(
                    config,
                    "allow_anonymous false\npassword_file {dir}/passwords\n"
                )
                .unwrap();
            }
        }
        // Started by root, it would otherwise drop to a user who cannot read the directory.
        config.push_str("user root\n");
        config.push_str(setup.more);
        config
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn fresh_dir() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("lineside-mosquitto-{}-{count}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn make_certificates(dir: &Path) {
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
    for (name, host) in [("server", "localhost"), ("client", "line-3")] {
        let mut params = CertificateParams::new(vec![host.into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, host);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}
