//! The line to the broker, checked.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::check::Checker;
use super::file::Broker;
use super::secret;
use super::settings::{ClientCertificate, Endpoint, Link, Login, Trust};

/// The port that MQTT has by custom, in the clear and over TLS.
const PLAIN_PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

/// The keys that mean something only over TLS.
const TLS_KEYS: [&str; 3] = ["broker.ca_file", "broker.cert_file", "broker.key_file"];

/// The keys that mean something only where a broker asks who comes.
const LOGIN_KEYS: [&str; 2] = ["broker.username", "broker.password_file"];

/// Checks everything about the line.
pub(super) fn check(checker: &mut Checker<'_>, broker: &Broker, name: &str) -> Option<Link> {
    let endpoint = endpoint(checker, broker);
    if let Some(Endpoint::Embedded { .. }) = endpoint {
        let given = [&broker.username, &broker.password_file];
        for (key, given) in LOGIN_KEYS.into_iter().zip(given) {
            checker.rule(
                given.is_none(),
                [key, "broker.url"],
                "no login with broker.url = \"embedded\": that broker asks for none",
            );
        }
    }
    let login = login(checker, broker);
    Some(Link {
        endpoint: endpoint?,
        client_id: format!("lineside-{name}"),
        login,
        max_packet_bytes: broker.max_packet_bytes,
        keep_alive: Duration::from_secs(broker.keep_alive_s.into()),
        session_expiry_s: broker.session_expiry_s,
        reply_expiry_s: broker.reply_expiry_s,
        receive_maximum: broker.receive_maximum,
    })
}

fn endpoint(checker: &mut Checker<'_>, broker: &Broker) -> Option<Endpoint> {
    let listen = listen(checker, &broker.embedded_listen);
    if let Some(rest) = broker.url.strip_prefix("mqtts://") {
        let address = address(checker, rest, TLS_PORT);
        let trust = trust(checker, broker);
        let client = client_certificate(checker, broker);
        let (host, port) = address?;
        return Some(Endpoint::Tls {
            host,
            port,
            trust: trust?,
            client,
        });
    }
    let given = [&broker.ca_file, &broker.cert_file, &broker.key_file];
    for (key, given) in TLS_KEYS.into_iter().zip(given) {
        checker.rule(
            given.is_none(),
            [key, "broker.url"],
            "broker.url with mqtts://: there are no certificates without TLS",
        );
    }
    if let Some(rest) = broker.url.strip_prefix("mqtt://") {
        let (host, port) = address(checker, rest, PLAIN_PORT)?;
        return Some(Endpoint::Plain { host, port });
    }
    if broker.url != "embedded" {
        checker.fault(
            "broker.url",
            "mqtt://HOST[:PORT], mqtts://HOST[:PORT] or \"embedded\"",
        );
        return None;
    }
    if !cfg!(feature = "embedded-broker") {
        checker.fault(
            "broker.url",
            "mqtt://HOST[:PORT] or mqtts://HOST[:PORT]: this build has no broker of its own",
        );
        return None;
    }
    Some(Endpoint::Embedded { listen: listen? })
}

fn listen(checker: &mut Checker<'_>, given: &str) -> Option<SocketAddr> {
    let address = given.parse::<SocketAddr>().ok();
    let address = address.filter(|address| address.port() != 0);
    if address.is_none() {
        checker.fault(
            "broker.embedded_listen",
            "an IP address and a port, such as 127.0.0.1:1883",
        );
    }
    address
}

/// What follows the scheme: `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`.
fn address(checker: &mut Checker<'_>, rest: &str, default_port: u16) -> Option<(String, u16)> {
    let wanted = if rest.contains('@') {
        "a URL without a login: broker.username and broker.password_file take it"
    } else {
        match parse_address(rest.strip_suffix('/').unwrap_or(rest), default_port) {
            Some(address) => return Some(address),
            None => "HOST[:PORT] after the scheme, and nothing more ([…] around an IPv6 address)",
        }
    };
    checker.fault("broker.url", wanted);
    None
}

fn parse_address(rest: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = if let Some(inner) = rest.strip_prefix('[') {
        let (host, after) = inner.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        match after {
            "" => (host, None),
            port => (host, Some(port.strip_prefix(':')?)),
        }
    } else {
        match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        }
    };
    let port = match port {
        None => default_port,
        // `parse` alone would take a sign.
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
    };
    let is_name = !host.is_empty()
        && host.len() <= 253
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let is_host = is_name || host.parse::<IpAddr>().is_ok();
    (is_host && port != 0).then(|| (host.to_owned(), port))
}

fn trust(checker: &mut Checker<'_>, broker: &Broker) -> Option<Trust> {
    if broker.ca_file.is_none() {
        return Some(Trust::System);
    }
    let key = "broker.ca_file";
    let path = checker.file_path(key, broker.ca_file.as_deref())?;
    match secret::open_plain(&path) {
        Ok(_) => Some(Trust::File(path)),
        Err(wanted) => {
            checker.fault(key, wanted);
            None
        }
    }
}

fn client_certificate(checker: &mut Checker<'_>, broker: &Broker) -> Option<ClientCertificate> {
    let (cert, key) = ("broker.cert_file", "broker.key_file");
    if broker.cert_file.is_some() != broker.key_file.is_some() {
        let (given, missing) = if broker.cert_file.is_some() {
            (cert, key)
        } else {
            (key, cert)
        };
        checker.rule(
            false,
            [given, missing],
            format!("{missing} beside it: one is of no use without the other"),
        );
    }
    let cert_file = checker.file_path(cert, broker.cert_file.as_deref());
    let key_file = checker.file_path(key, broker.key_file.as_deref());
    if let Some(Err(wanted)) = cert_file.as_deref().map(secret::open_plain) {
        checker.fault(cert, wanted);
    }
    if let Some(Err(wanted)) = key_file.as_deref().map(secret::open_private) {
        checker.fault(key, wanted);
    }
    Some(ClientCertificate {
        cert_file: cert_file?,
        key_file: key_file?,
    })
}

fn login(checker: &mut Checker<'_>, broker: &Broker) -> Option<Login> {
    let (user, file) = ("broker.username", "broker.password_file");
    checker.rule(
        broker.username.is_none() || broker.password_file.is_some(),
        [user, file],
        "broker.password_file beside it",
    );
    checker.rule(
        broker.password_file.is_none() || broker.username.is_some(),
        [file, user],
        "broker.username beside it",
    );
    let username = broker.username.clone();
    if username
        .as_deref()
        .is_some_and(|name| name.is_empty() || name.contains('\0'))
    {
        checker.fault(user, "a user name");
    }
    let password = checker.secret(file, broker.password_file.as_deref());
    Some(Login {
        username: username?,
        password: password?,
    })
}
