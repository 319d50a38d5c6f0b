//! What `[ota]` promises to those who write it.

use super::*;
use crate::router::Window;
use crate::safe::DeviceKey;

/// A folder with a root in it, and the section's beginning.
fn with_root(more: &str) -> Folder {
    let folder = Folder::new();
    folder.write("root.json", "{}", 0o644);
    let text = format!("[ota]\nroot_file = 'root.json'\n{more}");
    folder.write("config.toml", &text, 0o644);
    folder
}

#[test]
fn without_a_repository_packages_come_by_hand_and_what_is_said_besides_is_said_in_vain() {
    assert_eq!(settings_of("").unwrap().ota, None);
    assert_eq!(settings_of("ota.keep_bytes = 0").unwrap().ota, None);
    for (key, text) in [
        ("ota.root_file", "ota.root_file = '/x'"),
        ("ota.ca_file", "ota.ca_file = '/x'"),
        ("ota.ring", "ota.ring = 'canary'"),
        ("ota.hours", "ota.hours = '22:00-06:00'"),
    ] {
        assert_eq!(keys_at_fault(text), [key]);
    }
}

#[test]
fn sources_are_asked_in_the_order_in_which_they_stand() {
    let folder = with_root(
        "repository = ['https://models.plant/lineside', 'file:///media/usb', '/mnt/share', \
         'http://127.0.0.1:8000']\nring = 'canary'\nhours = '22:00-06:00'\n\
         max_bytes_per_s = 500000\n",
    );
    let ota = folder.load().unwrap().ota.unwrap();
    let url = |text: &str| PackageSource::Url(text.into());
    let path = |text: &str| PackageSource::Folder(text.into());
    assert_eq!(
        ota.sources,
        [
            url("https://models.plant/lineside"),
            path("/media/usb"),
            path("/mnt/share"),
            url("http://127.0.0.1:8000"),
        ]
    );
    assert_eq!(ota.root_file, folder.0.join("root.json"));
    assert_eq!(ota.ring.as_deref(), Some("canary"));
    assert_eq!(ota.hours, Window::parse("22:00-06:00"));
    assert_eq!(ota.max_bytes_per_s, Some(500_000));
    let plain = with_root("repository = '/media/usb'\n").load().unwrap();
    let plain = plain.ota.unwrap();
    assert_eq!((plain.max_bytes_per_s, plain.hours), (None, None));
    assert_eq!(plain.check_every, std::time::Duration::from_hours(1));
}

#[test]
fn a_source_that_is_none_is_told_and_a_login_in_it_is_not_shown() {
    for (repository, wanted) in [
        ("'http://models.plant/'", "plain_http = true"),
        ("'ftp://models.plant/'", "https://HOST"),
        ("'media/usb'", "https://HOST"),
        ("'https://models.plant/?a=b'", "https://HOST"),
        ("['/a', 'https://']", "https://HOST"),
        ("'https://op:hunter2@models.plant/'", "https://HOST"),
        ("['https://op:hunter2@models.plant/']", "https://HOST"),
    ] {
        let faults = with_root(&format!("repository = {repository}\n")).faults();
        assert!(faults.contains("ota.repository"), "{faults}");
        assert!(faults.contains(wanted), "{faults}");
        assert!(!faults.contains("hunter2"), "{faults}");
    }
    let mirror = with_root("repository = 'http://mirror.plant/'\nplain_http = true\n");
    mirror.load().unwrap();
    let many = ["'/a'"; 9].join(", ");
    let faults = with_root(&format!("repository = [{many}]\n")).faults();
    assert!(faults.contains("at most 8 sources"), "{faults}");
}

#[test]
fn a_repository_needs_a_root_that_can_be_read() {
    assert_eq!(
        keys_at_fault("ota.repository = '/media/usb'"),
        ["ota.root_file"]
    );
    let text = "ota.repository = '/media/usb'\nota.root_file = '/nonexistent/root.json'\n";
    assert_eq!(keys_at_fault(text), ["ota.root_file"]);
    let faults = with_root("repository = '/a'\nring = 'a b'\nhours = '25:00-01:00'\n").faults();
    assert!(faults.contains("ota.ring"), "{faults}");
    assert!(faults.contains("two times of day"), "{faults}");
}

#[test]
fn models_lie_plain_unless_a_key_of_the_device_seals_them() {
    let folder = Folder::new();
    let hex = "0f".repeat(32);
    folder.write("key", &format!("{hex}\n"), 0o600);
    folder.write("open", &hex, 0o644);
    folder.write("short", "0f0f", 0o600);
    let of = |text: &str| {
        folder.write("config.toml", &format!("[ota]\n{text}\n"), 0o644);
        folder.load()
    };
    assert_eq!(of("").unwrap().at_rest, AtRest::default());
    let sealed = of("at_rest = 'encrypted'\ndevice_key_file = 'key'").unwrap();
    assert_eq!(sealed.at_rest.form, Form::Encrypted);
    assert_eq!(sealed.at_rest.device_key, DeviceKey::read(hex.as_bytes()));
    assert!(!format!("{:?}", sealed.at_rest).contains("0f0f"));
    assert!(!sealed.effective_toml().contains("0f0f"));
    // What lies sealed is opened on, after what comes is to lie plain.
    let back = of("device_key_file = 'key'").unwrap().at_rest;
    assert_eq!((back.form, back.device_key.is_some()), (Form::Plain, true));
    for (text, wanted) in [
        ("at_rest = 'encrypted'", "a file with this device's key"),
        ("device_key_file = 'short'", "openssl rand -hex 32"),
        ("device_key_file = 'open'", "chmod 640"),
        ("device_key_file = 'none'", "a file that can be read"),
        (
            "device_key_file = 'credential:device-key'",
            "LoadCredential=device-key",
        ),
        ("at_rest = 'sealed'", "encrypted"),
    ] {
        let faults = of(text).unwrap_err().to_string();
        assert!(faults.contains(wanted), "{faults}");
        assert!(!faults.contains("0f0f"), "{faults}");
    }
}
