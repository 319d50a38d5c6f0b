//! The page and the metrics: the rules about `[panel]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::check::Checker;
use super::secret::{self, Secret};

/// Stands for no panel.
const OFF: &str = "off";
/// Bytes of a token at least: as many guesses as that leaves, nobody makes.
const MIN_TOKEN_BYTES: usize = 16;
/// Names of one appliance; a dozen would be odd.
const MAX_HOSTS: usize = 16;
/// Bytes of a host's name in the domain name system.
const MAX_HOST_BYTES: usize = 253;

/// The page and the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panel {
    /// Where they are.
    pub listen: SocketAddr,
    /// The panel's certificate and its key; absent: in the clear.
    pub identity: Option<PanelIdentity>,
    /// What who looks must show.
    pub token: Option<Secret>,
    /// Further names under which it is reached, in lower case.
    pub hosts: Vec<String>,
    /// Whether viewers at the appliance see what is restricted.
    pub restricted: bool,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanelIdentity {
    /// The chain, own certificate first.
    pub cert_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

/// The section as it is written.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    pub(super) listen: String,
    pub(super) cert_file: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) token_file: Option<String>,
    pub(super) hosts: Vec<String>,
    pub(super) restricted: bool,
}

/// What becomes of it; the inner `None` is no panel, the outer one a fault.
#[allow(clippy::option_option, reason = "as every part: none after a fault")]
pub(super) fn check(checker: &mut Checker<'_>, section: &Section) -> Option<Option<Panel>> {
    let identity = identity(checker, section);
    let token = token(checker, section.token_file.as_deref());
    let hosts = hosts(checker, &section.hosts);
    if section.listen == OFF {
        return Some(None);
    }
    let address = section.listen.parse::<SocketAddr>().ok();
    let Some(listen) = address.filter(|address| address.port() != 0) else {
        let wanted = "an IP address and a port, such as 127.0.0.1:9470, or \"off\"";
        checker.fault("panel.listen", wanted);
        return None;
    };
    let (identity, token) = (identity?, token?);
    if !listen.ip().is_loopback() && (identity.is_none() || token.is_none()) {
        let wanted = "an address of the loopback; any other only with panel.cert_file, \
                      panel.key_file and panel.token_file";
        checker.fault("panel.listen", wanted);
        return None;
    }
    Some(Some(Panel {
        listen,
        identity,
        token,
        hosts: hosts?,
        restricted: section.restricted,
    }))
}

#[allow(clippy::option_option, reason = "as every part: none after a fault")]
fn identity(checker: &mut Checker<'_>, section: &Section) -> Option<Option<PanelIdentity>> {
    let (cert, key) = (section.cert_file.as_deref(), section.key_file.as_deref());
    for (given, missing, wanted) in [
        (cert, key, ["panel.cert_file", "panel.key_file"]),
        (key, cert, ["panel.key_file", "panel.cert_file"]),
    ] {
        let pair = given.is_none() || missing.is_some();
        checker.rule(pair, wanted, format!("{} beside it", wanted[1]));
    }
    if cert.is_none() || key.is_none() {
        return (cert.is_none() && key.is_none()).then_some(None);
    }
    let cert_file = checker.file_path("panel.cert_file", cert)?;
    if let Err(wanted) = secret::open_plain(&cert_file) {
        checker.fault("panel.cert_file", wanted);
        return None;
    }
    let key_file = checker.file_path("panel.key_file", key)?;
    if let Err(wanted) = secret::open_private(&key_file) {
        checker.fault("panel.key_file", wanted);
        return None;
    }
    Some(Some(PanelIdentity {
        cert_file,
        key_file,
    }))
}

#[allow(clippy::option_option, reason = "as every part: none after a fault")]
fn token(checker: &mut Checker<'_>, given: Option<&str>) -> Option<Option<Secret>> {
    if given.is_none() {
        return Some(None);
    }
    let token = checker.secret("panel.token_file", given)?;
    if token.reveal().len() < MIN_TOKEN_BYTES {
        let wanted = format!("a file with at least {MIN_TOKEN_BYTES} bytes of secret in it");
        checker.fault("panel.token_file", wanted);
        return None;
    }
    Some(Some(token))
}

fn hosts(checker: &mut Checker<'_>, given: &[String]) -> Option<Vec<String>> {
    let good = |host: &String| {
        (1..=MAX_HOST_BYTES).contains(&host.len())
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    if given.len() > MAX_HOSTS || !given.iter().all(good) {
        let wanted = format!("at most {MAX_HOSTS} names of hosts, without a port");
        checker.fault("panel.hosts", wanted);
        return None;
    }
    Some(given.iter().map(|host| host.to_ascii_lowercase()).collect())
}
