//! What the configuration promises to those who write it.

mod ota;
mod panel;
mod route;
mod telemetry;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::file::{KEYS, Key, Kind};
use super::layers::{Layers, Origin};
use super::*;
use crate::intake::{Classification, filter_matches};

/// A folder that is gone after the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lineside-config-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("conf.d")).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// A machine on which nothing is set up, and this folder's `config.toml` if it has one.
    fn around(&self) -> Surroundings {
        let main = self.0.join("config.toml");
        Surroundings {
            config: main.exists().then_some(main),
            ..bare()
        }
    }

    fn load(&self) -> Result<Settings, Faults> {
        load(&self.around())
    }

    /// The faults, with the folder's name cut out.
    fn faults(&self) -> String {
        let text = self.load().unwrap_err().to_string();
        text.replace(&format!("{}/", self.0.display()), "")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bare() -> Surroundings {
    Surroundings {
        config: None,
        env: BTreeMap::from([("HOME".into(), OsString::from("/home/op"))]),
        host_name: "line-3.plant.example".into(),
        etc: PathBuf::from("/nonexistent"),
        packages: Vec::new(),
    }
}

fn document(file: &str, text: &str) -> Document {
    Document {
        file: file.into(),
        text: text.into(),
    }
}

/// The settings of a bare machine with this file.
fn settings_of(text: &str) -> Result<Settings, Faults> {
    load_documents(&[document("/etc/lineside/config.toml", text)], &bare())
}

fn faults_of(text: &str) -> Vec<(String, String)> {
    let faults = settings_of(text).unwrap_err();
    faults
        .0
        .into_iter()
        .map(|fault| (fault.key, fault.wanted))
        .collect()
}

fn keys_at_fault(text: &str) -> Vec<String> {
    faults_of(text).into_iter().map(|(key, _)| key).collect()
}

#[test]
fn the_default_run_needs_no_file() {
    let settings = load(&bare()).unwrap();
    assert_eq!(settings.name.as_str(), "line-3");
    assert_eq!(settings.files, Vec::<PathBuf>::new());
    assert_eq!(
        settings.state_dir,
        Path::new("/home/op/.local/state/lineside")
    );
    assert_eq!(
        settings.control_socket,
        settings.state_dir.join("control.sock")
    );
    let listen: SocketAddr = "127.0.0.1:1883".parse().unwrap();
    assert_eq!(settings.link.endpoint, Endpoint::Embedded { listen });
    assert_eq!(settings.link.client_id, "lineside-line-3");
    assert_eq!(
        settings.intake.default_classification,
        Classification::Restricted
    );
    assert_eq!(
        settings.intake.reply_topics,
        ["lineside/#", "devices/+/answers"]
    );
    assert_eq!(settings.console, None);
    assert_eq!(settings.log.levels, "info".parse().unwrap());
}

#[test]
fn the_reference_is_a_configuration_that_changes_nothing() {
    let mut from_reference = settings_of(REFERENCE).unwrap();
    let mut from_nothing = settings_of("").unwrap();
    // They differ in where each value is said to come from, and in nothing else.
    from_reference.effective.clear();
    from_nothing.effective.clear();
    assert_eq!(from_reference, from_nothing);
}

#[test]
fn the_reference_tells_of_every_key() {
    // What follows the head of an entry are the entry's own keys, not the section's.
    let (mut section, mut in_entry) = ("", false);
    let mut told = Vec::new();
    for line in REFERENCE.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix("[[").and_then(|l| l.strip_suffix("]]")) {
            told.push(name.to_owned());
            in_entry = true;
        } else if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            (section, in_entry) = (name, false);
        } else if let (false, Some((name, _))) = (in_entry, line.split_once(" = ")) {
            told.push(format!("{section}.{name}"));
        }
    }
    let known = KEYS.iter().map(|key| key.name).collect::<Vec<_>>();
    assert_eq!(told, known);
}

/// A value of each kind, within its range.
fn sample(kind: Kind) -> String {
    match kind {
        Kind::Text | Kind::Path | Kind::SecretPath => "\"x\"".into(),
        Kind::Word(words) | Kind::Words(words) => format!("\"{}\"", words[0]),
        Kind::Number { max, .. } | Kind::NumberOr { max, .. } => max.to_string(),
        Kind::Texts => "[\"x\"]".into(),
        Kind::OneOrMore => "[\"x\", \"y\"]".into(),
        Kind::Truth => "true".into(),
        Kind::Share => "0.5".into(),
        Kind::Celsius => "70".into(),
        Kind::Exceptions => "[{ topic = \"x\", classification = \"public\" }]".into(),
        Kind::Table(keys) => format!("{{ {} }}", fields(keys)),
        Kind::Entries(entry) => format!("[{{ {} }}]", fields(entry.keys)),
    }
}

fn fields(keys: &[Key]) -> String {
    let fields = keys
        .iter()
        .map(|key| format!("{} = {}", key.name, sample(key.kind)));
    fields.collect::<Vec<_>>().join(", ")
}

/// The names of everything below a value, a list standing for its first entry.
fn names_below(name: &str, value: &toml::Value, names: &mut Vec<String>) {
    let value = match value.as_array().and_then(|list| list.first()) {
        Some(first) if first.is_table() => first,
        Some(_) | None => value,
    };
    match value.as_table() {
        Some(table) => {
            let below = table.iter();
            below.for_each(|(key, value)| names_below(&format!("{name}.{key}"), value, names));
        }
        None => names.push(name.to_owned()),
    }
}

/// The same, from the table of keys.
fn names_of(name: &str, kind: Kind, names: &mut Vec<String>) {
    let keys = match kind {
        Kind::Table(keys) => keys,
        Kind::Entries(entry) => entry.keys,
        Kind::Exceptions => {
            let keys = ["topic", "classification"];
            names.extend(keys.map(|key| format!("{name}.{key}")));
            return;
        }
        Kind::Text
        | Kind::Path
        | Kind::SecretPath
        | Kind::Word(_)
        | Kind::Number { .. }
        | Kind::NumberOr { .. }
        | Kind::Texts
        | Kind::OneOrMore
        | Kind::Words(_)
        | Kind::Truth
        | Kind::Share
        | Kind::Celsius => {
            names.push(name.to_owned());
            return;
        }
    };
    let below = keys.iter();
    below.for_each(|key| names_of(&format!("{name}.{}", key.name), key.kind, names));
}

#[test]
fn the_table_of_keys_and_the_mirror_of_the_file_are_the_same() {
    let mut text = String::new();
    for key in KEYS {
        writeln!(text, "{} = {}", key.name, sample(key.kind)).unwrap();
    }
    let mut faults = Faults::default();
    let layers = Layers::of_documents(&[document("x", &text)], &mut faults);
    assert_eq!(faults.0, []);
    // `deny_unknown_fields` finds a key without a field, the way back a field without a key.
    let mirror = toml::Table::try_from(layers.file().unwrap()).unwrap();
    let (mut fields, mut keys) = (Vec::new(), Vec::new());
    for (section, body) in &mirror {
        names_below(section, body, &mut fields);
    }
    for key in KEYS {
        names_of(key.name, key.kind, &mut keys);
    }
    fields.sort();
    keys.sort();
    assert_eq!(fields, keys);
}

#[test]
fn every_fault_is_reported_at_once_with_place_value_and_what_would_be_right() {
    let folder = Folder::new();
    folder.write("open", "hunter2\n", 0o644);
    folder.write(
        "config.toml",
        r#"
[appliance]
name = "line 3"
default_classification = "intern"
statedir = "/x"

[broker]
url = "http://broker"
password = "hunter2"
username = "line-3"
password_file = "open"
keep_alive_s = "30"
max_packet_bytes = 8192

[intake]
max_prompt_bytes = 8000
deadline_ms = 5
default_deadline_ms = 90000000
reply_topics = ["lineside/+/request", "a/#/b", "ok/+"]
[[intake.classification]]
topic = "lineside/+/requests"
classification = "public"

[periscope]
listen = "off"

[log]
level = "loud"
"#,
        0o644,
    );
    folder.write("conf.d/10.toml", "[spool]\nmax_bytes = 5\n", 0o644);
    folder.write("conf.d/20.toml", "[spool\n", 0o644);
    let sections = "[appliance] [broker] [intake] [model] [engine] [governor] [spool] [[route]] [confidence] [cloud] [review] [ota] [console] [panel] [telemetry] [provision] [log] [service]";
    let expected = format!(
        r#"the configuration has 17 faults:
conf.d/10.toml:2: spool.max_bytes = 5
    wanted: a whole number from 8388608 to 68719476736 (below, the smaller trees hold nothing of use; above, opening the store takes minutes)
conf.d/20.toml:1: this is no TOML: unclosed table, expected `]`
    wanted: a document in TOML 1.0
config.toml:3: appliance.name = "line 3"
    wanted: 1 to 64 letters, digits, '-', '_' or '.', and not "pool"
config.toml:4: appliance.default_classification = "intern"
    wanted: one of "public", "internal", "restricted"; did you mean "internal"?
config.toml:5: appliance.statedir = (not shown)
    wanted: a key that this version knows; did you mean appliance.state_dir?
config.toml:8: broker.url = "http://broker"
    wanted: mqtt://HOST[:PORT], mqtts://HOST[:PORT] or "embedded"
config.toml:9: broker.password = (not shown)
    wanted: password_file with a path or "credential:NAME" (a systemd credential): a secret never stands in the configuration itself
config.toml:11: broker.password_file = (not shown)
    wanted: a file that not everyone may use (its mode is 644): chmod 640 open
config.toml:12: broker.keep_alive_s = "30"
    wanted: a whole number from 5 to 3600 (shorter wakes radio links for nothing, longer leaves a dead line unnoticed)
config.toml:16: intake.max_prompt_bytes = 8000
    wanted: at most broker.max_packet_bytes (8192) less 3072 for the rest of a request
config.toml:17: intake.deadline_ms = (not shown)
    wanted: a key that this version knows; did you mean intake.default_deadline_ms?
config.toml:18: intake.default_deadline_ms = 90000000
    wanted: at most intake.max_deadline_ms (86400000)
config.toml:19: intake.reply_topics = "lineside/+/request"
    wanted: a filter with topics that are not the appliances' own (of those below lineside/, only lineside/NAME/reply/… can be answered on)
config.toml:19: intake.reply_topics = "a/#/b"
    wanted: a topic filter (this one: '#' must be the whole last level)
config.toml:20: intake.classification.topic = "lineside/+/requests"
    wanted: a filter that matches a topic of requests: lineside/NAME/request, lineside/NAME/request/CLIENT or lineside/pool/POOL/request
config.toml:24: periscope = (a section)
    wanted: a section that this version knows: {sections}
config.toml:28: log.level = "loud"
    wanted: off, error, warn, info, debug or trace, or directives such as "lineside=debug,rumqttc=warn" ("loud" is neither)
"#
    );
    let faults = folder.faults();
    assert_eq!(faults, expected);
    assert!(!faults.contains("hunter2"));
}

#[test]
fn fragments_are_laid_over_the_file_in_the_order_of_their_names() {
    let folder = Folder::new();
    folder.write(
        "config.toml",
        "[broker]\nurl = 'mqtt://a'\nprefix = 'plant'\n[intake]\nreply_topics = ['a/b', 'c/d']\n",
        0o644,
    );
    folder.write("conf.d/20-site.toml", "[broker]\nurl = 'mqtt://c'\n", 0o644);
    folder.write(
        "conf.d/10-rack.toml",
        "[broker]\nurl = 'mqtt://b'\nkeep_alive_s = 7\n[intake]\nreply_topics = ['e/f']\n",
        0o644,
    );
    folder.write(
        "conf.d/30-old.toml.bak",
        "[broker]\nurl = 'mqtt://d'\n",
        0o644,
    );
    let settings = folder.load().unwrap();
    let host = "c".to_owned();
    assert_eq!(settings.link.endpoint, Endpoint::Plain { host, port: 1883 });
    assert_eq!(settings.link.keep_alive.as_secs(), 7);
    assert_eq!(settings.topics.prefix, "plant");
    assert_eq!(settings.intake.reply_topics, ["e/f"]);
    let effective = settings.effective_toml();
    let from = format!("# {}/conf.d/20-site.toml:2", folder.0.display());
    assert!(effective.contains(&from), "{effective}");
    assert_eq!(settings.files.len(), 3);
}

#[test]
fn the_last_of_many_fragments_wins_however_the_disk_lists_them() {
    let folder = Folder::new();
    for number in (10..40).rev() {
        let text = format!("broker.keep_alive_s = {number}");
        folder.write(&format!("conf.d/{number}.toml"), &text, 0o644);
    }
    folder.write("config.toml", "", 0o644);
    let settings = folder.load().unwrap();
    assert_eq!(settings.link.keep_alive.as_secs(), 39);
    assert!(settings.files[1..].is_sorted());
}

#[test]
fn a_reply_filter_is_judged_by_what_it_covers() {
    let judged = |prefix: &str, filter: &str| {
        let text = format!("broker.prefix = '{prefix}'\nintake.reply_topics = ['{filter}']");
        settings_of(&text).is_ok()
    };
    for filter in [
        "#",
        "+/+",
        "a/b",
        "lineside/#",
        "lineside/+/reply/#",
        "lineside/+/+/a",
    ] {
        assert!(judged("lineside", filter), "{filter}");
    }
    for filter in [
        "lineside/+",
        "lineside/pool/#",
        "lineside/+/status",
        "$SYS/#",
        "",
    ] {
        assert!(!judged("lineside", filter), "{filter}");
    }
    // Whatever the prefix is called, a filter that also covers other topics is of use.
    assert!(judged("reply", "+/a") && judged("x", "+/a"));
    assert!(judged("plant/hall", "plant/#") && !judged("plant/hall", "plant/hall/a/status"));
}

#[test]
fn the_usual_places_are_looked_through_in_order() {
    let folder = Folder::new();
    let mut around = Surroundings {
        etc: folder.0.join("etc"),
        packages: Vec::new(),
        ..bare()
    };
    fs::create_dir_all(folder.0.join("etc/lineside/conf.d")).unwrap();
    fs::create_dir_all(folder.0.join("own/lineside")).unwrap();
    // Fragments need no main file.
    folder.write(
        "etc/lineside/conf.d/1.toml",
        "appliance.name = 'etc'",
        0o644,
    );
    assert_eq!(load(&around).unwrap().name.as_str(), "etc");
    folder.write("own/lineside/config.toml", "appliance.name = 'own'", 0o644);
    around
        .env
        .insert("XDG_CONFIG_HOME".into(), folder.0.join("own").into());
    assert_eq!(load(&around).unwrap().name.as_str(), "own");
    around.config = Some(folder.0.join("missing.toml"));
    let faults = load(&around).unwrap_err().to_string();
    assert!(
        faults.contains("missing.toml: this file cannot be used"),
        "{faults}"
    );
}

#[test]
fn a_section_of_a_later_version_is_refused_with_those_that_are_known() {
    let faults =
        faults_of("[periscope]\nlisten = 'off'\n[pannel]\nring = 'x'\n[brocker]\nurl = 'x'\n");
    assert_eq!(faults.len(), 3);
    assert!(
        faults[0]
            .1
            .starts_with("a section that this version knows: [appliance] [broker]")
    );
    assert!(
        faults[2].1.ends_with("did you mean [broker]?"),
        "{faults:?}"
    );
}

#[test]
fn a_key_in_the_wrong_section_is_sent_home() {
    let faults = faults_of("url = 'mqtt://x'\n[broker]\nmax_prompt_bytes = 512\n");
    assert_eq!(
        faults[0].1,
        "this key in its section; did you mean broker.url?"
    );
    assert_eq!(
        faults[1].1,
        "this key in its section; did you mean intake.max_prompt_bytes?"
    );
}

#[test]
fn a_secret_that_everyone_may_read_is_refused_and_a_private_one_taken() {
    let folder = Folder::new();
    let text = "[broker]\nurl = 'mqtt://b'\nusername = 'u'\npassword_file = 'secret'\n";
    folder.write("config.toml", text, 0o644);
    for mode in [0o604, 0o642, 0o641] {
        folder.write("secret", "hunter2\n", mode);
        let faults = folder.faults();
        assert!(faults.contains("chmod 640"), "{faults}");
        assert!(!faults.contains("hunter2"), "{faults}");
    }
    folder.write("secret", "hunter2\n", 0o640);
    let settings = folder.load().unwrap();
    let login = settings.link.login.clone().unwrap();
    assert_eq!(login.password.reveal(), "hunter2");
    assert!(!format!("{settings:?}").contains("hunter2"));
    assert!(!settings.effective_toml().contains("hunter2"));
    folder.write("secret", "\n", 0o640);
    assert!(folder.faults().contains("1 to 65535 bytes of secret"));
}

#[test]
fn the_serial_console_opens_with_a_pin_or_where_the_site_says_so() {
    let folder = Folder::new();
    let pin = Pin::make("4711-canary", std::num::NonZeroU32::new(1000).unwrap()).unwrap();
    folder.write("pin", &pin.line(), 0o640);
    folder.write("plain", "4711-canary\n", 0o640);
    let of = |more: &str| {
        let text = format!("[console]\ndevice = '/dev/ttyS0'\n{more}\n");
        folder.write("config.toml", &text, 0o644);
        folder.load().map(|settings| settings.console.unwrap())
    };
    assert_eq!(of("").unwrap().entry, Entry::Shut, "nobody said who may in");
    assert_eq!(of("pin = 'none'").unwrap().entry, Entry::Open);
    let console = of("pin_file = 'pin'\nparity = 'even'\nflow_control = 'hardware'").unwrap();
    assert_eq!(console.entry, Entry::Pin(pin));
    assert_eq!(
        (console.parity, console.flow_control),
        (Parity::Even, Flow::Hardware)
    );
    assert_eq!(console.idle_timeout, Duration::from_mins(10));
    let plain = of("pin_file = 'plain'").unwrap_err().to_string();
    assert!(
        plain.contains("lineside pin") && !plain.contains("canary"),
        "{plain}"
    );
    let both = of("pin_file = 'pin'\npin = 'none'")
        .unwrap_err()
        .to_string();
    assert!(both.contains("not both"), "{both}");
}

#[test]
fn a_credential_is_found_in_the_folder_that_systemd_names() {
    let folder = Folder::new();
    fs::create_dir(folder.0.join("creds")).unwrap();
    folder.write("creds/broker", "s3cret", 0o400);
    let config =
        "[broker]\nurl = 'mqtt://b'\nusername = 'u'\npassword_file = 'credential:broker'\n";
    folder.write("config.toml", config, 0o644);
    assert!(folder.faults().contains("LoadCredential=broker:"));
    let mut around = folder.around();
    let credentials = folder.0.join("creds").into_os_string();
    around
        .env
        .insert("CREDENTIALS_DIRECTORY".into(), credentials);
    let login = load(&around).unwrap().link.login.unwrap();
    assert_eq!(login.password.reveal(), "s3cret");
    folder.write(
        "config.toml",
        &config.replace(":broker", ":../config.toml"),
        0o644,
    );
    let faults = load(&around).unwrap_err().to_string();
    assert!(
        faults.contains("the name of a systemd credential"),
        "{faults}"
    );
}

#[test]
fn the_control_socket_is_found_without_reading_a_secret() {
    let folder = Folder::new();
    folder.write("secret", "hunter2", 0o604);
    let text = "appliance.state_dir = 'state'\n[broker]\nurl = 'mqtt://b'\nusername = 'u'\npassword_file = 'secret'\n";
    folder.write("config.toml", text, 0o644);
    assert!(folder.load().is_err());
    let socket = control_socket(&folder.around()).unwrap();
    assert_eq!(socket, folder.0.join("state/control.sock"));
    let mut around = folder.around();
    around
        .env
        .insert("RUNTIME_DIRECTORY".into(), "/run/lineside".into());
    let socket = control_socket(&around).unwrap();
    assert_eq!(socket, Path::new("/run/lineside/control.sock"));
}

#[test]
fn a_pipe_in_place_of_a_file_does_not_make_the_check_wait() {
    let folder = Folder::new();
    let pipe = folder.0.join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    folder.write(
        "config.toml",
        "[broker]\nurl = 'mqtt://b'\nusername = 'u'\npassword_file = 'pipe'\n",
        0o644,
    );
    assert!(folder.faults().contains("no regular file"));
}

#[test]
fn a_broker_url_is_taken_apart_or_refused() {
    let plain = |text: &str| match settings_of(&format!("broker.url = '{text}'")) {
        Ok(settings) => match settings.link.endpoint {
            Endpoint::Plain { host, port } | Endpoint::Tls { host, port, .. } => Some((host, port)),
            Endpoint::Embedded { .. } => None,
        },
        Err(_) => None,
    };
    assert_eq!(plain("mqtt://b"), Some(("b".into(), 1883)));
    assert_eq!(plain("mqtts://b.plant"), Some(("b.plant".into(), 8883)));
    assert_eq!(
        plain("mqtt://10.0.0.1:1884/"),
        Some(("10.0.0.1".into(), 1884))
    );
    assert_eq!(plain("mqtt://[::1]:99"), Some(("::1".into(), 99)));
    for bad in [
        "mqtt://",
        "mqtt://:1883",
        "mqtt://b:",
        "mqtt://b:0",
        "mqtt://b:+1",
        "mqtt://b:65536",
        "mqtt://b/x",
        "mqtt://[::1",
        "mqtt://[b]",
        "mqtt://::1",
        "ws://b",
        "b:1883",
        "mqtt://b c",
    ] {
        assert_eq!(plain(bad), None, "{bad}");
    }
    let faults = settings_of("broker.url = 'mqtt://u:hunter2@b'")
        .unwrap_err()
        .to_string();
    assert!(faults.contains("a URL without a login"), "{faults}");
    assert!(!faults.contains("hunter2"), "{faults}");
}

#[test]
fn keys_that_need_each_other_are_asked_for() {
    assert_eq!(
        keys_at_fault("broker.url = 'mqtt://b'\nbroker.username = 'u'"),
        ["broker.username"]
    );
    assert_eq!(
        keys_at_fault("broker.username = 'u'"),
        ["broker.username"],
        "the embedded broker asks for none"
    );
    assert_eq!(
        keys_at_fault("broker.url = 'mqtt://b'\nbroker.ca_file = '/nonexistent'"),
        ["broker.ca_file"]
    );
    let cert_alone = faults_of("broker.url = 'mqtts://b'\nbroker.cert_file = '/etc/hostname'");
    assert_eq!(
        cert_alone[0].1,
        "broker.key_file beside it: one is of no use without the other"
    );
    assert_eq!(
        keys_at_fault("intake.max_in_flight_per_client = 9\nintake.max_in_flight = 8"),
        ["intake.max_in_flight_per_client"]
    );
    assert_eq!(keys_at_fault("console.baud = 9601"), ["console.baud"]);
}

#[test]
fn the_smallest_spool_has_room_for_the_largest_packet() {
    let text = "broker.max_packet_bytes = 2097152\nspool.max_bytes = 8388608";
    let settings = settings_of(text).unwrap();
    assert!(settings.spool.inbox_bytes >= settings.link.max_packet_bytes.into());
    let more = "broker.max_packet_bytes = 2097153";
    assert_eq!(keys_at_fault(more), ["broker.max_packet_bytes"]);
}

#[test]
fn a_rule_about_two_keys_is_silent_where_one_of_them_is_faulty() {
    let text = "broker.max_packet_bytes = 1\nintake.max_prompt_bytes = 2000000";
    assert_eq!(keys_at_fault(text), ["broker.max_packet_bytes"]);
}

#[test]
fn a_name_that_would_speak_for_a_pool_is_refused() {
    assert_eq!(keys_at_fault("appliance.name = 'pool'"), ["appliance.name"]);
    assert_eq!(
        settings_of("broker.pool = 'pool'")
            .unwrap()
            .topics
            .pool
            .unwrap(),
        "pool"
    );
}

#[test]
fn a_host_name_becomes_a_name_that_a_topic_can_hold() {
    for (host, name) in [
        ("line-3.plant.example", "line-3"),
        ("Linie Ä", "Linie---"),
        ("", "appliance"),
        ("(none)", "-none-"),
        ("++", "appliance"),
        ("pool", "appliance"),
    ] {
        assert_eq!(ApplianceName::of_host(host).as_str(), name, "{host}");
    }
}

#[test]
fn under_systemd_state_and_socket_lie_where_the_unit_says() {
    let mut around = bare();
    for (variable, folder) in [
        ("STATE_DIRECTORY", "/var/lib/lineside:/var/lib/other"),
        ("RUNTIME_DIRECTORY", "/run/lineside"),
    ] {
        around.env.insert(variable.into(), folder.into());
    }
    let settings = load(&around).unwrap();
    assert_eq!(settings.state_dir, Path::new("/var/lib/lineside"));
    assert_eq!(
        settings.control_socket,
        Path::new("/run/lineside/control.sock")
    );
    around.env.clear();
    let faults = load(&around).unwrap_err();
    assert_eq!(faults.0[0].key, "appliance.state_dir");
    assert_eq!(faults.0[0].value, "(not set)");
}

#[test]
fn exceptions_to_the_classification_keep_their_order() {
    let settings = settings_of(
        "[[intake.classification]]\ntopic = 'lineside/+/request/vision-7'\n\
         classification = 'public'\n[[intake.classification]]\n\
         topic = 'lineside/pool/press/request'\nclassification = 'internal'\n",
    );
    let filters = settings.unwrap().intake.classification_by_topic;
    assert_eq!(filters[0].1, Classification::Public);
    assert!(filter_matches(
        &filters[0].0,
        "lineside/line-9/request/vision-7"
    ));
    assert_eq!(filters[1].1, Classification::Internal);
    assert_eq!(
        keys_at_fault("[[intake.classification]]\ntopic = 7\nlevel = 'public'\n"),
        [
            "intake.classification.topic",
            "intake.classification.classification",
            "intake.classification.level",
        ]
    );
}

#[test]
fn the_shares_of_the_spool_never_exceed_the_whole() {
    for max_bytes in [8 << 20, 268_435_456, 1_000_000_007, 64 << 30] {
        let settings = settings_of(&format!("spool.max_bytes = {max_bytes}")).unwrap();
        let limits = settings.spool;
        let shared = limits.live_bytes() - limits.telemetry_bytes;
        assert!(
            shared <= max_bytes && shared > max_bytes - 100,
            "{shared} of {max_bytes}"
        );
        assert_eq!(limits.inbox_bytes, max_bytes / 100 * 40);
    }
}

#[test]
fn the_effective_settings_are_a_configuration_that_gives_the_same() {
    let first = settings_of("[broker]\nurl = 'mqtts://b:99'\npool = \"press\"\n").unwrap();
    let second = settings_of(first.effective_toml()).unwrap();
    assert_eq!(first.link, second.link);
    assert_eq!(first.topics, second.topics);
    assert_eq!(first.intake, second.intake);
    assert_eq!(first.state_dir, second.state_dir);
}

#[test]
fn the_engine_finds_out_by_itself_what_nobody_sets() {
    let settings = settings_of("").unwrap();
    assert_eq!(settings.engine, Engine::default());
    assert_eq!(settings.model_package, None);
    let text = "[engine]\nthreads = 2\nsequences = 4\ncontext_tokens = 256\ngpu_layers = 0\n\
                kv_type = 'q8_0'\nflash_attention = 'on'\nunload_after_idle_s = 300\n";
    let engine = settings_of(text).unwrap().engine;
    let expected = Engine {
        threads: Some(2),
        sequences: Some(4),
        context_tokens: Some(256),
        gpu_layers: Some(0),
        kv_type: Some(KvType::Q8),
        flash_attention: Some(true),
        draft_model: None,
        unload_after_idle: Some(std::time::Duration::from_mins(5)),
    };
    assert_eq!(engine, expected);
}

#[test]
fn a_number_or_a_word_is_one_of_the_two() {
    for (text, wanted) in [
        (
            "threads = 'automatic'",
            "\"auto\", or a whole number from 1 to 256",
        ),
        ("threads = 0", "\"auto\", or a whole number"),
        ("sequences = 65", "\"auto\", or a whole number from 1 to 64"),
        (
            "unload_after_idle_s = 'auto'",
            "\"never\", or a whole number",
        ),
        ("unload_after_idle_s = 1.5", "\"never\", or a whole number"),
        (
            "kv_type = 'q5_0'",
            "one of \"auto\", \"f16\", \"q8_0\", \"q4_0\"",
        ),
        (
            "draft_model = '/nonexistent.gguf'",
            "\"off\", or a model file",
        ),
        (
            "kv_type = 'q4_0'\nflash_attention = 'off'",
            "needs engine.flash_attention",
        ),
    ] {
        let faults = faults_of(&format!("[engine]\n{text}\n"));
        assert_eq!(faults.len(), 1, "{text}: {faults:?}");
        assert!(faults[0].1.contains(wanted), "{text}: {faults:?}");
    }
}

#[test]
fn a_memory_budget_is_a_number_of_bytes_or_what_the_machine_leaves() {
    let budget = |text: &str| {
        let text = format!("[governor]\nmemory_budget_bytes = {text}\n");
        settings_of(&text).map(|settings| settings.memory_budget_bytes)
    };
    assert_eq!(budget("'auto'").unwrap(), None);
    assert_eq!(budget("8_589_934_592").unwrap(), Some(8 << 30));
    for text in ["1024", "'4GiB'", "-1"] {
        let faults = faults_of(&format!("[governor]\nmemory_budget_bytes = {text}\n"));
        assert_eq!(faults.len(), 1, "{text}: {faults:?}");
        let wanted = "\"auto\", or a whole number from 67108864";
        assert!(faults[0].1.contains(wanted), "{text}: {faults:?}");
    }
}

#[test]
fn the_bundled_package_is_served_where_it_is_installed_and_none_is_set() {
    let folder = Folder::new();
    let around = Surroundings {
        packages: vec!["/nonexistent".into(), folder.0.clone()],
        ..bare()
    };
    let settings = load(&around).unwrap();
    assert_eq!(settings.model_package.as_ref(), Some(&folder.0));
    let effective = settings.effective_toml();
    assert!(effective.contains("the bundled package"), "{effective}");
    let set = [document(
        "/etc/lineside/config.toml",
        "model.package = 'own'",
    )];
    let settings = load_documents(&set, &around).unwrap();
    assert_eq!(
        settings.model_package.as_deref(),
        Some(Path::new("/etc/lineside/own"))
    );
}

#[test]
fn every_default_comes_from_the_reference() {
    let mut faults = Faults::default();
    let layers = Layers::of_documents(&[document("x", "")], &mut faults);
    assert_eq!(faults.0, []);
    assert_eq!(Origin::Default, layers.origin("broker.prefix").unwrap());
    layers.file().unwrap();
}

proptest! {
    #[test]
    fn no_text_makes_the_check_panic(text in "\\PC{0,200}") {
        let _ = settings_of(&text).map_err(|faults| faults.to_string());
    }

    #[test]
    fn no_bytes_make_the_check_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let folder = Folder::new();
        fs::write(folder.0.join("config.toml"), bytes).unwrap();
        let _ = folder.load().map_err(|faults| faults.to_string());
    }

    #[test]
    fn no_value_of_any_key_makes_the_check_panic(
        entries in proptest::collection::vec((0..KEYS.len(), value()), 0..12),
    ) {
        let mut seen = std::collections::BTreeMap::new();
        for (index, value) in entries {
            seen.insert(KEYS[index].name, value);
        }
        let lines = seen.iter().map(|(name, value)| format!("{name} = {value}\n"));
        let text = lines.collect::<String>();
        let _ = settings_of(&text).map_err(|faults| faults.to_string());
    }

    #[test]
    fn whatever_name_a_host_has_the_appliance_gets_a_valid_one(host in "\\PC{0,100}") {
        let name = ApplianceName::of_host(&host);
        prop_assert_eq!(ApplianceName::parse(name.as_str()), Some(name));
    }
}

/// TOML values of all sorts, some of them right.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        (0i64..100_000).prop_map(|number| number.to_string()),
        "[a-z/+#$:@.\\[\\]]{0,24}".prop_map(|text| format!("'{text}'")),
        "(mqtts?://)?[a-z0-9:.\\[\\]]{0,12}".prop_map(|text| format!("'{text}'")),
        "[a-z/+#]{0,8}".prop_map(|text| format!("['{text}', 'a/+']")),
        "[a-z/+#]{0,8}"
            .prop_map(|text| format!("[{{ topic = '{text}', classification = 'public' }}]")),
        Just("[1, [2], {a = 1}]".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("nan".to_owned()),
        Just("true".to_owned()),
    ]
}
