//! How `lineside provision` gets certificates: the rules about `[provision]`.
//!
//! The service looks at these keys only as words. The files behind them, the secrets above all, are
//! read by whoever asks for a certificate, and by nobody else.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::check::Checker;
use super::layers::Layers;
use super::secret;
use super::settings::{ClientCertificate, Login};
use super::tiers::{url_authority, url_host};

/// Where a server for enrolment keeps everything (RFC 7030, section 3.2.2).
const WELL_KNOWN: &str = "/.well-known/est";
/// Bytes of a label: the name of one of the authorities behind a server.
const MAX_LABEL_BYTES: usize = 64;

const URL: &str = "provision.est_url";
const CA: &str = "provision.ca_file";
const USERNAME: &str = "provision.username";
const PASSWORD: &str = "provision.password_file";
const CERT: &str = "provision.cert_file";
const KEY: &str = "provision.key_file";

/// A server that signs certificates (EST, RFC 7030), and what it knows a new device by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Est {
    /// What all of its addresses begin with; no slash at the end.
    pub url: String,
    /// Certificates that its own must descend from; absent: those of the system.
    pub ca_file: Option<PathBuf>,
    /// A name and a password.
    pub login: Option<Login>,
    /// A certificate that the device was born with, or that a batch of them shares.
    pub birth: Option<ClientCertificate>,
}

/// Whether anything is read that only a request for a certificate needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrol {
    /// The server is asked, so what it knows the device by is read.
    Yes,
    /// Nobody is asked.
    No,
}

/// The section as it is written.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    pub(super) est_url: Option<String>,
    pub(super) ca_file: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<String>,
    pub(super) cert_file: Option<String>,
    pub(super) key_file: Option<String>,
}

impl Section {
    /// For those who read nothing else.
    pub(super) fn of(layers: &Layers) -> Self {
        Self {
            est_url: layers.text(URL),
            ca_file: layers.text(CA),
            username: layers.text(USERNAME),
            password_file: layers.text(PASSWORD),
            cert_file: layers.text(CERT),
            key_file: layers.text(KEY),
        }
    }
}

/// Holds the words to each other; what all addresses begin with, if a server is named.
pub(super) fn check(checker: &mut Checker<'_>, section: &Section) -> Option<String> {
    let pairs = [
        (
            USERNAME,
            &section.username,
            PASSWORD,
            &section.password_file,
        ),
        (
            PASSWORD,
            &section.password_file,
            USERNAME,
            &section.username,
        ),
        (CERT, &section.cert_file, KEY, &section.key_file),
        (KEY, &section.key_file, CERT, &section.cert_file),
    ];
    for (key, given, other, beside) in pairs {
        let pair = given.is_none() || beside.is_some();
        checker.rule(pair, [key, other], format!("{other} beside it"));
    }
    let Some(given) = section.est_url.as_deref() else {
        let keys = [
            (CA, section.ca_file.is_some()),
            (USERNAME, section.username.is_some()),
            (CERT, section.cert_file.is_some()),
        ];
        for (key, given) in keys {
            let wanted = "provision.est_url beside it: without one, certificates come only by hand";
            checker.rule(!given, [key, URL], wanted);
        }
        return None;
    };
    let base = base(given);
    if base.is_none() {
        let wanted = format!("https://HOST[:PORT], and {WELL_KNOWN}/LABEL where there is a label");
        checker.fault(URL, wanted);
    }
    if section
        .username
        .as_deref()
        .is_some_and(|it| it.contains(':'))
    {
        checker.fault(USERNAME, "a name without a colon: HTTP puts one behind it");
    }
    base
}

/// The same, with the files that stand there.
pub(super) fn est(checker: &mut Checker<'_>, section: &Section) -> Option<Est> {
    let url = check(checker, section)?;
    let login = section.username.as_ref().and_then(|username| {
        Some(Login {
            username: username.clone(),
            password: checker.secret(PASSWORD, section.password_file.as_deref())?,
        })
    });
    let ca_file = readable(checker, CA, section.ca_file.as_deref());
    let cert_file = readable(checker, CERT, section.cert_file.as_deref());
    let key_file = checker.file_path(KEY, section.key_file.as_deref());
    if let Some(Err(wanted)) = key_file.as_deref().map(secret::open_private) {
        checker.fault(KEY, wanted);
    }
    let birth = cert_file.zip(key_file);
    let birth = birth.map(|(cert_file, key_file)| ClientCertificate {
        cert_file,
        key_file,
    });
    Some(Est {
        url,
        ca_file,
        login,
        birth,
    })
}

/// A file that must be readable, if it is named.
fn readable(checker: &mut Checker<'_>, key: &str, given: Option<&str>) -> Option<PathBuf> {
    let path = checker.file_path(key, given)?;
    match secret::open_plain(&path) {
        Ok(_) => Some(path),
        Err(wanted) => {
            checker.fault(key, wanted);
            None
        }
    }
}

/// What all addresses of a server begin with, however much of that was written. Never in the clear:
/// the server decides who this device is.
fn base(given: &str) -> Option<String> {
    let login = url_authority(given)?.contains('@');
    let strange = given.contains(char::is_whitespace) || given.contains(['?', '#', '%']);
    let rest = given.strip_prefix("https://")?;
    if login || strange || url_host(given).is_none() {
        return None;
    }
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let path = path.trim_end_matches('/');
    let label = match path.strip_prefix(WELL_KNOWN) {
        Some(label) => label,
        None if path.is_empty() => "",
        None => return None,
    };
    let is_label = label.is_empty()
        || label.strip_prefix('/').is_some_and(|label| {
            let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            (1..=MAX_LABEL_BYTES).contains(&label.len())
                && label.bytes().all(is_sign)
                && !label.starts_with('.')
        });
    is_label.then(|| format!("https://{host}{WELL_KNOWN}{label}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_server_may_be_written_short_or_whole_and_with_a_label() {
        let whole = "https://est.plant:8443/.well-known/est";
        for given in [
            "https://est.plant:8443",
            "https://est.plant:8443/",
            "https://est.plant:8443/.well-known/est",
            "https://est.plant:8443/.well-known/est/",
        ] {
            assert_eq!(base(given).as_deref(), Some(whole), "{given}");
        }
        let labelled = "https://est.plant/.well-known/est/line-3";
        assert_eq!(base(labelled).as_deref(), Some(labelled));
        for wrong in [
            "http://est.plant",
            "https://user@est.plant",
            "https://est.plant/else",
            "https://est.plant/.well-known/established",
            "https://est.plant/.well-known/est/a/b",
            "https://est.plant/.well-known/est/..",
            "https://est.plant/?x",
            "https:///x",
            "est.plant",
            "",
        ] {
            assert_eq!(base(wrong), None, "{wrong}");
        }
    }
}
