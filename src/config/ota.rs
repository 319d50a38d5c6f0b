//! Packages over the air: the rules about `[ota]`.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::check::Checker;
use super::file::NumberOr;
use super::settings::{AtRest, Form, OnAlarm, Ota, PackageSource};
use super::{keys, secret, tiers};
use crate::router::Window;
use crate::safe::{DeviceKey, KEY_BYTES};

/// The most sources: a server, its mirrors, a stick, and room.
const MAX_SOURCES: usize = 8;
/// Bytes of a file with a device key: two digits for each byte, the end of a line, and one more that
/// shows a longer one.
const MAX_KEY_FILE_BYTES: usize = 2 * KEY_BYTES + 3;

/// The section as it is written.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    pub(super) repository: Option<super::file::OneOrMore>,
    pub(super) root_file: Option<String>,
    pub(super) ca_file: Option<String>,
    pub(super) plain_http: bool,
    pub(super) ring: Option<String>,
    pub(super) check_every_s: u64,
    pub(super) max_bytes_per_s: NumberOr,
    pub(super) min_bytes_per_s: u64,
    pub(super) hours: Option<String>,
    pub(super) at_rest: String,
    pub(super) device_key_file: Option<String>,
    pub(super) keep_bytes: u64,
    pub(super) trial_requests: u32,
    pub(super) trial_s: u64,
    pub(super) watch_every_s: NumberOr,
    pub(super) on_alarm: String,
}

/// How models lie. Without a repository, too: what came from one may be served still.
pub(super) fn at_rest(checker: &mut Checker<'_>, section: &Section) -> Option<AtRest> {
    const KEY: &str = "ota.device_key_file";
    let form = match section.at_rest.as_str() {
        "encrypted" => Form::Encrypted,
        _ => Form::Plain,
    };
    let Some(given) = section.device_key_file.as_deref() else {
        let wanted = "a file with this device's key: models are encrypted with it";
        checker.rule(form == Form::Plain, [KEY, "ota.at_rest"], wanted);
        return Some(AtRest::default());
    };
    let path = checker.file_path(KEY, Some(given))?;
    match device_key(&path) {
        Ok(key) => Some(AtRest {
            form,
            device_key: Some(key),
        }),
        Err(wanted) => {
            checker.fault(KEY, wanted);
            None
        }
    }
}

/// The key in a file; the fault says what would be right and quotes nothing.
fn device_key(path: &Path) -> Result<DeviceKey, String> {
    let file = secret::open_private(path)?;
    let mut content = Zeroizing::new([0; MAX_KEY_FILE_BYTES]);
    let mut length = 0;
    loop {
        // Into a buffer of our own, which is wiped.
        match (&file).read(&mut content[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("a file that can be read ({error})")),
        }
    }
    DeviceKey::read(&content[..length]).ok_or_else(|| {
        "a file with 32 bytes that nobody can guess, or with 64 hexadecimal digits: \
         openssl rand -hex 32"
            .into()
    })
}

/// What becomes of it; the inner `None` is no OTA, the outer one a fault.
#[allow(clippy::option_option, reason = "as every part: none after a fault")]
pub(super) fn check(checker: &mut Checker<'_>, section: &Section) -> Option<Option<Ota>> {
    let ring = ring(checker, section.ring.as_deref());
    let hours = hours(checker, section.hours.as_deref());
    let Some(repository) = &section.repository else {
        let wanted = "ota.repository beside it: without one, packages come only by hand";
        for (key, given) in [
            ("ota.root_file", section.root_file.is_some()),
            ("ota.ca_file", section.ca_file.is_some()),
            ("ota.ring", section.ring.is_some()),
            ("ota.hours", section.hours.is_some()),
        ] {
            checker.rule(!given, [key, "ota.repository"], wanted);
        }
        return Some(None);
    };
    let sources = sources(checker, repository.texts(), section.plain_http);
    let ca_file = readable(checker, "ota.ca_file", section.ca_file.as_deref());
    let root_file = readable(checker, "ota.root_file", section.root_file.as_deref());
    if section.root_file.is_none() {
        let wanted = "the first root metadata (root.json): without it nothing can be verified";
        checker.fault("ota.root_file", wanted);
    }
    Some(Some(Ota {
        sources: sources?,
        root_file: root_file??,
        ca_file: ca_file?,
        ring: ring?,
        check_every: Duration::from_secs(section.check_every_s),
        max_bytes_per_s: section.max_bytes_per_s.number().map(u64::from),
        min_bytes_per_s: section.min_bytes_per_s,
        hours: hours?,
        keep_bytes: section.keep_bytes,
        trial_requests: section.trial_requests,
        trial_for: Duration::from_secs(section.trial_s),
        watch_every: section
            .watch_every_s
            .number()
            .map(|it| Duration::from_secs(it.into())),
        on_alarm: match section.on_alarm.as_str() {
            "roll_back" => OnAlarm::RollBack,
            _ => OnAlarm::Tell,
        },
    }))
}

#[allow(clippy::option_option, reason = "as every part: none after a fault")]
fn ring(checker: &mut Checker<'_>, given: Option<&str>) -> Option<Option<String>> {
    if given.is_none_or(is_ring) {
        return Some(given.map(str::to_owned));
    }
    checker.fault("ota.ring", RING_WANTED);
    None
}

/// What the name of a ring is.
pub const RING_WANTED: &str = "1 to 64 letters, digits, '-', '_' or '.', the first no '.'";

/// Whether a text is the name of a ring. It becomes the name of a file.
pub fn is_ring(name: &str) -> bool {
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(is_sign) && !name.starts_with('.')
}

#[allow(clippy::option_option, reason = "as every part: none after a fault")]
fn hours(checker: &mut Checker<'_>, given: Option<&str>) -> Option<Option<Window>> {
    let window = given.map(Window::parse);
    if window == Some(None) {
        let wanted = "two times of day such as \"22:00-06:00\", the first inclusive";
        checker.fault("ota.hours", wanted);
        return None;
    }
    Some(window.flatten())
}

/// A file that must be readable, if it is named.
#[allow(clippy::option_option, reason = "as every part: none after a fault")]
fn readable(checker: &mut Checker<'_>, key: &str, given: Option<&str>) -> Option<Option<PathBuf>> {
    if given.is_none() {
        return Some(None);
    }
    let path = checker.file_path(key, given)?;
    match secret::open_plain(&path) {
        Ok(_) => Some(Some(path)),
        Err(wanted) => {
            checker.fault(key, wanted);
            None
        }
    }
}

fn sources(
    checker: &mut Checker<'_>,
    given: &[String],
    plain_http: bool,
) -> Option<Vec<PackageSource>> {
    let key = "ota.repository";
    if given.len() > MAX_SOURCES {
        checker.fault(key, format!("at most {MAX_SOURCES} sources"));
        return None;
    }
    let mut sources = Vec::new();
    for text in given {
        match source(text, plain_http) {
            Ok(PackageSource::Folder(path)) => {
                let path = checker.beside(key, &path);
                sources.push(PackageSource::Folder(path));
            }
            Ok(url @ PackageSource::Url(_)) => sources.push(url),
            Err(wanted) => {
                let shown = if text.contains('@') {
                    super::fault::HIDDEN.to_owned()
                } else {
                    keys::short(&toml::Value::String(text.clone()))
                };
                checker.fault(key, format!("{wanted} ({shown} is not)"));
                return None;
            }
        }
    }
    Some(sources)
}

/// A source by its text; the error says what would be right.
fn source(text: &str, plain_http: bool) -> Result<PackageSource, &'static str> {
    const WANTED: &str = "https://HOST[:PORT][/PATH], file:///FOLDER, or a folder's absolute path";
    let path = text.strip_prefix("file://").unwrap_or(text);
    if Path::new(path).is_absolute() {
        return Ok(PackageSource::Folder(path.into()));
    }
    let login = tiers::url_authority(text).is_some_and(|authority| authority.contains('@'));
    if login || text.contains(char::is_whitespace) || text.contains(['?', '#']) {
        return Err(WANTED);
    }
    match (text.split_once("://"), tiers::url_host(text)) {
        (Some(("https", _)), Some(_)) => Ok(PackageSource::Url(text.to_owned())),
        (Some(("http", _)), Some(host)) if plain_http || tiers::is_this_machine(host) => {
            Ok(PackageSource::Url(text.to_owned()))
        }
        (Some(("http", _)), Some(_)) => Err(
            "https, or ota.plain_http = true: packages are verified either way, but in the clear \
             others see which come in",
        ),
        (Some(_) | None, _) => Err(WANTED),
    }
}
