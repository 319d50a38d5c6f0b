//! A key that never leaves its token: `SoftHSM` through `pkcs11-tool`, as one would use a smart card.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::plant::Plant;

/// Where Debian has the library of `SoftHSM`.
fn library() -> Option<PathBuf> {
    let places = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    ];
    let there = places.into_iter().map(PathBuf::from).find(|it| it.exists());
    let runs = |program: &str| {
        let ran = Command::new(program)
            .arg("--help")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        ran.is_ok()
    };
    match there {
        Some(library) if runs("pkcs11-tool") && runs("openssl") => Some(library),
        _ => {
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: no software token: install softhsm2, opensc and openssl"
            );
            None
        }
    }
}

/// A token with a key on P-256, and the command that signs with it.
struct Token {
    settings: PathBuf,
    library: PathBuf,
}

impl Token {
    fn new(folder: &Path, library: PathBuf) -> Self {
        fs::create_dir_all(folder.join("tokens")).unwrap();
        let settings = folder.join("softhsm2.conf");
        let text = format!(
            "directories.tokendir = {}\n",
            folder.join("tokens").display()
        );
        fs::write(&settings, text).unwrap();
        let token = Self { settings, library };
        token.run(
            "softhsm2-util",
            &[
                "--init-token",
                "--free",
                "--label",
                "plant",
                "--pin",
                "1234",
                "--so-pin",
                "5678",
            ],
        );
        token.pkcs11(&[
            "--login",
            "--keypairgen",
            "--key-type",
            "EC:prime256v1",
            "--id",
            "01",
            "--label",
            "root",
        ]);
        token
    }

    fn run(&self, program: &str, words: &[&str]) {
        let output = Command::new(program)
            .args(words)
            .env("SOFTHSM2_CONF", &self.settings)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {told}");
    }

    fn pkcs11(&self, words: &[&str]) {
        let library = self.library.to_string_lossy();
        let common = [
            "--module",
            &library,
            "--token-label",
            "plant",
            "--pin",
            "1234",
        ];
        self.run("pkcs11-tool", &[&common[..], words].concat());
    }

    /// The public key as PEM: the point in front of which the usual header goes.
    fn public(&self, folder: &Path) -> PathBuf {
        let (der, pem) = (folder.join("token.der"), folder.join("token.pem"));
        let path = der.to_string_lossy();
        self.pkcs11(&[
            "--read-object",
            "--type",
            "pubkey",
            "--id",
            "01",
            "--output-file",
            &path,
        ]);
        let der = fs::read(&der).unwrap();
        assert_eq!(der.len(), 91, "a key on P-256 in its usual form");
        let text = base64(&der);
        let lines: Vec<_> = text
            .as_bytes()
            .chunks(64)
            .map(String::from_utf8_lossy)
            .collect();
        let text = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            lines.join("\n")
        );
        fs::write(&pem, text).unwrap();
        pem
    }

    /// What is written behind `--`.
    fn command(&self) -> String {
        format!(
            "openssl dgst -sha256 -binary | SOFTHSM2_CONF={} pkcs11-tool --module {} --token-label plant \
             --login --pin 1234 --sign --mechanism ECDSA --id 01",
            self.settings.display(),
            self.library.display()
        )
    }
}

fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| group.get(at).copied().map_or(0, u32::from);
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let sign = SIGNS[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= group.len() {
                char::from(sign)
            } else {
                '='
            });
        }
    }
    out
}

#[test]
fn a_root_whose_second_key_is_on_a_token_is_signed_and_rotated() {
    let Some(library) = library() else { return };
    let plant = Plant::simple();
    let token = Token::new(&plant.at("hsm"), library);
    let pem = token.public(&plant.at("hsm"));
    let pem = pem.to_string_lossy();
    let external = [
        "key",
        "external",
        "card",
        "--public",
        &pem,
        "--comment",
        "the card",
        "--",
    ];
    let (told, _) = plant.done(&[&external[..], &["sh", "-c", &token.command()]].concat());
    assert!(
        told.contains("ecdsa-sha2-nistp256, signs by a command"),
        "{told}"
    );

    // The new root is signed by a key in a file and by the card, each time with other numbers r and s.
    let order = ["root", "rotate", "--add", "card", "--new-threshold", "2"];
    let (told, _) = plant.with(&["ann", "card"], &order, 0);
    assert!(told.contains("published: root 2"), "{told}");
    for version in 3..8 {
        let (told, _) = plant.with(&["ann", "card"], &["renew", "root"], 0);
        assert!(
            told.contains(&format!("published: root {version}")),
            "{told}"
        );
    }
    plant.sound("repo");

    // With another PIN nothing is signed.
    let before = plant.served();
    let wrong = token.command().replace("--pin 1234", "--pin 9999");
    let external = [
        "key", "external", "locked", "--public", &pem, "--", "sh", "-c", &wrong,
    ];
    plant.done(&external);
    let (_, told) = plant.with(&["ann", "locked"], &["renew", "root"], 78);
    assert!(told.contains("exit status"), "{told}");
    assert!(!told.contains("9999"), "{told}");
    assert_eq!(plant.served(), before);
}
