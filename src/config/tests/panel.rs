//! The rules about `[panel]`.

use super::*;

const SAFE: &str = "cert_file = \"cert.pem\"\nkey_file = \"key.pem\"\ntoken_file = \"token\"\n";

fn folder(section: &str) -> Folder {
    let folder = Folder::new();
    folder.write("cert.pem", "x", 0o644);
    folder.write("key.pem", "x", 0o600);
    folder.write("token", "a long enough token\n", 0o600);
    folder.write("config.toml", &format!("[panel]\n{section}"), 0o644);
    folder
}

#[test]
fn without_a_word_the_panel_is_on_the_loopback_and_asks_for_nothing() {
    let panel = folder("").load().unwrap().panel.unwrap();
    assert!(panel.listen.ip().is_loopback());
    assert_eq!(
        (panel.identity, panel.token, panel.hosts, panel.restricted),
        (None, None, vec![], false)
    );
    assert_eq!(folder("listen = \"off\"").load().unwrap().panel, None);
}

#[test]
fn beyond_the_loopback_it_opens_only_with_tls_and_a_token() {
    let open = "listen = \"0.0.0.0:9470\"\n";
    let panel = folder(&format!("{open}{SAFE}"))
        .load()
        .unwrap()
        .panel
        .unwrap();
    assert!(panel.identity.is_some() && panel.token.is_some());
    for missing in SAFE.lines() {
        let rest: String = SAFE
            .lines()
            .filter(|it| *it != missing)
            .collect::<Vec<_>>()
            .join("\n");
        let faults = folder(&format!("{open}{rest}")).faults();
        assert!(faults.contains("panel."), "{missing}: {faults}");
    }
    let faults = folder(open).faults();
    assert!(
        faults.contains("panel.listen") && faults.contains("panel.token_file"),
        "{faults}"
    );
    assert!(folder("listen = \"[::1]:9470\"").load().is_ok());
}

#[test]
fn what_is_no_address_no_token_or_no_name_is_a_fault() {
    for (section, word) in [
        ("listen = \"9470\"", "127.0.0.1:9470"),
        ("listen = \"127.0.0.1:0\"", "127.0.0.1:9470"),
        ("hosts = [\"https://panel.plant\"]", "without a port"),
        ("token_file = \"short\"", "at least 16 bytes"),
        ("cert_file = \"cert.pem\"", "panel.key_file beside it"),
    ] {
        let folder = folder(section);
        folder.write("short", "secret", 0o600);
        let faults = folder.faults();
        assert!(faults.contains(word), "{section}: {faults}");
        assert!(!faults.contains("\"secret\""), "{faults}");
    }
}

#[test]
fn a_key_that_everybody_may_read_is_a_fault() {
    let folder = folder(SAFE);
    folder.write("key.pem", "x", 0o644);
    assert!(folder.faults().contains("panel.key_file"));
}
