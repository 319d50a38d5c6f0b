//! `lineside provision` with the real program: a board's first boot, its second, one that was cut
//! off, and a certificate that somebody brings.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/appliance.rs"]
#[allow(dead_code, unreachable_pub)]
mod appliance;
#[path = "provision/est.rs"]
mod est;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use appliance::Appliance;
use serde_json::Value;

/// A state directory of its own, and a board that says its number.
struct Board {
    folder: PathBuf,
}

impl Board {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("provision-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("sys/firmware/devicetree/base")).unwrap();
        fs::create_dir_all(folder.join("proc")).unwrap();
        let number = folder.join("sys/firmware/devicetree/base/serial-number");
        fs::write(number, "1424022042281\0").unwrap();
        let board = Self { folder };
        board.configure("");
        board
    }

    fn configure(&self, more: &str) {
        let text = format!(
            "[appliance]\nstate_dir = \"state\"\n{more}\n[governor]\nsysfs_root = \"{0}/sys\"\nprocfs_root = \"{0}/proc\"\n",
            self.folder.display()
        );
        fs::write(self.folder.join("config.toml"), text).unwrap();
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lineside"));
        command
            .arg(subcommand)
            .args(["--json", "--config"])
            .arg(self.folder.join("config.toml"))
            .env_clear();
        command
    }

    fn run(&self, more: &[&str]) -> Output {
        self.command("provision").args(more).output().unwrap()
    }

    fn told(&self, more: &[&str]) -> Value {
        let output = self.run(more);
        let error = String::from_utf8_lossy(&output.stderr);
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{error}{told}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join("state/identity").join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    /// What an authority makes of the request.
    fn signed(&self) -> (String, String) {
        let mut params = rcgen::CertificateParams::new([]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        let folder = self.folder.join("authority");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ca.pem"), &authority).unwrap();
        fs::write(folder.join("ca.key"), key.serialize_pem()).unwrap();
        // Without extensions it would be a certificate of the oldest form, which TLS here refuses.
        fs::write(folder.join("extensions"), "basicConstraints=CA:FALSE\n").unwrap();
        let signed = openssl(&[
            "x509",
            "-req",
            "-days",
            "30",
            "-set_serial",
            "7",
            "-in",
            self.at("device.csr").to_str().unwrap(),
            "-CA",
            folder.join("ca.pem").to_str().unwrap(),
            "-extfile",
            folder.join("extensions").to_str().unwrap(),
            "-CAkey",
            folder.join("ca.key").to_str().unwrap(),
        ]);
        (signed, authority)
    }
}

fn openssl(words: &[&str]) -> String {
    let output = Command::new("openssl").args(words).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {words:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_first_boot_makes_an_identity_and_the_next_ones_keep_it() {
    let board = Board::new("first");
    let first = board.told(&[]);
    assert_eq!(first["serial"], "1424022042281");
    assert_eq!(
        (&first["key"], &first["request"]),
        (&"made".into(), &"made".into())
    );
    let (name, key, request) = (
        board.read("name"),
        board.read("device.key"),
        board.read("device.csr"),
    );
    for _ in 0..2 {
        let again = board.told(&[]);
        assert_eq!(
            (&again["key"], &again["request"]),
            (&"kept".into(), &"kept".into())
        );
        assert_eq!(again["name"], first["name"]);
    }
    assert_eq!(
        (
            board.read("name"),
            board.read("device.key"),
            board.read("device.csr")
        ),
        (name, key, request)
    );
    let mode = fs::metadata(board.at("device.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let csr = board.at("device.csr");
    let subject = openssl(&[
        "req",
        "-in",
        csr.to_str().unwrap(),
        "-verify",
        "-noout",
        "-subject",
    ]);
    assert!(subject.contains("1424022042281"), "{subject}");
}

#[test]
fn a_name_comes_from_the_command_line_before_the_board_and_from_the_site_before_all() {
    let board = Board::new("name");
    assert_eq!(board.told(&["--name", "line-3"])["name"], "line-3");
    let renamed = board.told(&["--name", "line-4"]);
    assert_eq!(
        (&renamed["key"], &renamed["request"]),
        (&"kept".into(), &"made".into())
    );
    assert_eq!(board.told(&[])["name"], "line-4");
    board.configure("name = \"press-shop\"");
    assert_eq!(board.told(&[])["name"], "press-shop");
    let output = board.run(&["--name", "a/b"]);
    assert_eq!(output.status.code(), Some(64));
}

/// The service goes by it.
#[test]
fn the_service_is_called_as_it_was_provided() {
    let board = Board::new("called");
    board.told(&["--name", "line-9"]);
    let output = board.command("check").output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("line-9"), "{told}");
}

#[test]
fn a_certificate_that_is_brought_is_taken_if_it_belongs_to_the_key() {
    let board = Board::new("brought");
    assert_eq!(board.told(&[])["certificate"], "none");
    let (certificate, authority) = board.signed();
    fs::write(board.at("drop/device.pem"), &certificate).unwrap();
    fs::write(board.at("drop/ca.pem"), &authority).unwrap();
    let told = board.told(&[]);
    assert_eq!(
        (&told["certificate"], &told["authority"]),
        (&"taken".into(), &"taken".into())
    );
    assert_eq!(board.read("device.pem"), certificate);
    assert!(!board.at("drop/device.pem").exists());
    assert_eq!(board.told(&[])["certificate"], "kept");

    // Another board's is not, and the good one stays.
    let other = Board::new("other");
    other.told(&[]);
    fs::write(board.at("drop/device.pem"), other.signed().0).unwrap();
    let told = board.told(&[]);
    assert_eq!(told["certificate"], "kept");
    let refused = told["refused"].to_string();
    assert!(refused.contains("device.pem"), "{refused}");
    assert_eq!(board.read("device.pem"), certificate);
    for nonsense in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
        fs::write(board.at("drop/device.pem"), nonsense).unwrap();
        assert_eq!(board.told(&[])["certificate"], "kept", "{nonsense:?}");
    }
}

/// Each file is written aside and renamed, so a cut leaves drafts or misses files, never halves.
#[test]
fn a_run_that_was_cut_off_is_finished_by_the_next() {
    let board = Board::new("cut");
    let whole = board.told(&[]);
    let key = board.read("device.key");
    fs::write(board.at(".device.key.new"), "half a k").unwrap();
    fs::write(board.at(".name.new"), "").unwrap();
    fs::remove_file(board.at("device.csr")).unwrap();
    let again = board.told(&[]);
    assert_eq!(
        (&again["key"], &again["request"]),
        (&"kept".into(), &"made".into())
    );
    assert_eq!(again["name"], whole["name"]);
    assert_eq!(board.read("device.key"), key);
    // With the key gone, too, all of it is made again.
    fs::remove_file(board.at("device.key")).unwrap();
    assert_eq!(board.told(&[])["key"], "made");
}

#[test]
fn a_key_that_is_none_is_named_and_left_alone() {
    let board = Board::new("spoilt");
    board.told(&[]);
    fs::write(board.at("device.key"), "scribble").unwrap();
    let output = board.run(&[]);
    assert_eq!(output.status.code(), Some(69));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let why = told["error"]["message"].as_str().unwrap();
    assert!(why.contains("device.key"), "{told}");
    assert_eq!(board.read("device.key"), "scribble");
}

/// A board without a clock of its own wakes up in 1970, makes its identity all the same, and keeps
/// it when it has learnt the time.
#[test]
fn a_board_that_starts_in_1970_has_an_identity_too() {
    let board = Board::new("1970");
    let faketime = "/usr/bin/faketime";
    assert!(Path::new(faketime).exists(), "tools/test installs it");
    let output = Command::new(faketime)
        .arg("1970-01-01 00:00:42 UTC")
        .arg(env!("CARGO_BIN_EXE_lineside"))
        .args(["provision", "--json", "--config"])
        .arg(board.folder.join("config.toml"))
        .output()
        .unwrap();
    let then: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(then["key"], "made");
    let now = board.told(&[]);
    assert_eq!((&now["key"], &now["name"]), (&"kept".into(), &then["name"]));
}

/// Where Debian puts the library that lies about the time.
fn faketime() -> PathBuf {
    let library = fs::read_dir("/usr/lib").unwrap().find_map(|entry| {
        let library = entry.unwrap().path().join("faketime/libfaketime.so.1");
        library.exists().then_some(library)
    });
    library.expect("tools/test installs it")
}

/// It serves in 1970, and what it answered then is known when it has learnt the time.
#[test]
fn an_appliance_without_a_clock_serves_and_forgets_nothing_when_it_learns_the_time() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
    let more = format!("[model]\npackage = \"{}\"\n", package.display());
    let mut appliance = Appliance::at(9, &more);
    let real = appliance.env.clone();
    let lies = [
        ("LD_PRELOAD", faketime().display().to_string()),
        ("FAKETIME", "@1970-01-01 00:00:42".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ("DONT_FAKE_MONOTONIC", "1".into()),
        ("TZ", "UTC".into()),
    ];
    let lies = lies.map(|(name, value)| (name.to_owned(), value));
    appliance.env.extend(lies);
    appliance.launch();
    appliance.until(|status| status["engine"] == "ready");
    let ask = |appliance: &Appliance, id: &str| {
        let text = "CNC-07 spindle vibration 9.8 mm/s rising";
        let told = appliance.told_json("ask", &["--task", "triage", "--id", id, text]);
        assert_eq!(told["status"], "answered", "{told}");
    };
    ask(&appliance, "then");
    let at_ms = appliance.trace("then")[0]["steps"][0]["at_ms"].as_u64();
    assert!(at_ms.unwrap() < 3_600_000, "it was not 1970: {at_ms:?}");
    assert!(appliance.stop().success());
    appliance.env = real;
    appliance.launch();
    appliance.until(|status| status["engine"] == "ready");
    ask(&appliance, "now");
    assert_eq!(appliance.trace("then")[0]["id"], "then");
}
