//! A vendor crate is named in one file or one folder, so that it can be replaced there.

use super::source::{Source, words};

/// Crates with a home, and the beginning of the paths that are it.
const HOMES: &[(&str, &[&str])] = &[
    ("rumqttc", &["src/broker/mqtt"]),
    // One side of it connects, the other answers.
    ("tokio_rustls", &["src/broker/", "src/panel/door.rs"]),
    ("rustls_native_certs", &["src/broker/"]),
    ("rumqttd", &["src/broker/embedded.rs"]),
    // Three clients with nothing in common: one carries questions, one fetches files, one asks for a
    // certificate.
    (
        "reqwest",
        &[
            "src/uplink/openai.rs",
            "src/ota/source/http.rs",
            "src/cli/provision/line.rs",
        ],
    ),
    ("axum", &["src/panel"]),
    ("hyper", &["src/panel/"]),
    ("hyper_util", &["src/panel/door.rs"]),
    ("zstd", &["src/telemetry/batch.rs"]),
    ("prometheus_client", &["src/panel/metrics.rs"]),
    ("httpdate", &["src/uplink/chat.rs"]),
    // Pinned for what it keeps out, named nowhere.
    ("idna_adapter", &["Cargo.toml"]),
    ("tokio_serial", &["src/console/serial.rs"]),
    ("sled", &["src/spool/sled"]),
    ("sd_notify", &["src/service"]),
    ("tracing_journald", &["src/service"]),
    ("tracing_subscriber", &["src/service"]),
    // Both read what people write, with the line of each fault.
    ("toml", &["src/config", "src/package"]),
    (
        "clap",
        &["src/main.rs", "src/bin/", "src/cli", "src/fleet/args.rs"],
    ),
    ("anyhow", &["src/main.rs", "src/cli", "src/appliance"]),
    ("sysinfo", &["src/governor"]),
    // The cage around the engine.
    ("landlock", &["src/engine/cage/"]),
    ("seccompiler", &["src/engine/cage/"]),
    ("libc", &["src/engine/cage/"]),
    ("llama_cpp_2", &["src/engine/"]),
    ("llama_cpp_sys_2", &["src/engine/"]),
    ("regex_syntax", &["src/engine/constraint/regex.rs"]),
    // Renders the chat templates that model files bring along.
    ("minijinja", &["src/package/"]),
];

/// Crates that may be named anywhere: the language that all stages speak.
const COMMON: &[(&str, &str)] = &[
    ("tokio", "channels and tasks"),
    ("tracing", "a log line is written where it happens"),
    ("thiserror", "an error enum in each module"),
    ("serde", "wire structs stand beside what they carry"),
    (
        "serde_json",
        "requests, replies and every figure that is printed",
    ),
    ("postcard", "records on disk and frames to the engine"),
    ("crc32fast", "records and journals"),
    ("ring", "digests of requests, packages and keys"),
    ("rustix", "the operating system, safely"),
    ("fastrand", "jitter"),
    ("zeroize", "whoever holds a secret wipes it"),
];

/// Faults of one file.
pub(crate) fn at_home(source: &Source) -> Vec<String> {
    HOMES
        .iter()
        .filter(|(_, homes)| !homes.iter().any(|home| source.path.starts_with(home)))
        .flat_map(|(name, homes)| {
            named(source, name).into_iter().map(move |at| {
                source.fault(
                    at,
                    &format!("`{name}` is named outside {}", homes.join(", ")),
                )
            })
        })
        .collect()
}

/// Where the crate is named: `name::…`, `::name`, or `use name`. A module of our own with the
/// same name hides the crate in the file that declares it, except behind a leading `::`.
fn named(source: &Source, name: &str) -> Vec<usize> {
    let code = source.production();
    let hidden = words(code, name).any(|at| code[..at].ends_with("mod "));
    words(code, name)
        .filter(|&at| {
            let before = &code[..at];
            let after = &code[at + name.len()..];
            match before.strip_suffix("::") {
                Some(path) => !path.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'),
                None => !hidden && (after.starts_with("::") || before.ends_with("use ")),
            }
        })
        .collect()
}

/// Dependencies that have neither a home nor the freedom of the house.
pub(crate) fn unknown(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut faults = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if let Some((name, _)) = line
            .split_once('=')
            .filter(|_| inside && !line.starts_with('#'))
        {
            let name = name.trim().replace('-', "_");
            let known = HOMES.iter().any(|(known, _)| *known == name)
                || COMMON.iter().any(|(known, _)| *known == name);
            if !known {
                faults.push(format!(
                    "Cargo.toml: say in tests/tidy/vendors.rs where `{name}` may be named"
                ));
            }
        }
    }
    faults
}

#[test]
fn a_crate_away_from_home_is_a_fault() {
    let faults = |path, text| at_home(&Source::new(path, text)).len();
    assert_eq!(faults("src/intake.rs", "use rumqttc::v5::Event;"), 1);
    assert_eq!(
        faults("src/broker/mqtt/session.rs", "use rumqttc::v5::Event;"),
        0
    );
    assert_eq!(faults("src/broker.rs", "fn a(b: rumqttc::Event) {}"), 1);
    assert_eq!(faults("src/ota.rs", "use sled; // stored"), 1);
    assert_eq!(
        faults(
            "src/spool.rs",
            "mod sled; use crate::spool::sled::Store; use self::sled::A;"
        ),
        0
    );
    assert_eq!(faults("src/spool.rs", "mod sled; pub use sled::Store;"), 0);
    assert_eq!(faults("src/spool.rs", "mod sled; use ::sled::Db;"), 1);
}

#[test]
fn a_dependency_without_a_place_is_a_fault() {
    let manifest = "[dependencies]\ntokio = \"1\"\n# a note = b\nleft-pad = \"1\"\n[dev-dependencies]\nrcgen = \"1\"\n";
    assert_eq!(unknown(manifest).len(), 1);
}
