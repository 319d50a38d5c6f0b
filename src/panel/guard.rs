//! The guard: who may look, who may change something, and where they are.
//!
//! | What | Against |
//! | --- | --- |
//! | the `Host` is an address, localhost, the appliance's name or one that the site lists | a name that was bent to this address (DNS rebinding) |
//! | the token, where there is one | strangers |
//! | a change comes with `X-Lineside`, and with no `Origin` but our own | pages elsewhere (CSRF): without our consent, which we never give, a browser sends no such header for them |
//!
//! A viewer is at the appliance ([`Viewer::Here`]) if the site says that nothing passes on what reaches
//! the loopback (`panel.restricted`), the connection comes from the loopback to a name of the loopback,
//! and nobody on the way says that it was passed on. Everybody else is elsewhere. The site's word is
//! needed because a proxy may say nothing: nginx as it is installed adds no header, and asks for the name
//! that stands in its `proxy_pass`. Who can open a tunnel to the loopback has an account on the appliance.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, Method, header};
use ring::digest::{SHA256, digest};

/// The header that a change comes with.
pub(super) const OWN_HEADER: &str = "x-lineside";
/// Headers by which a proxy says that it passes something on.
const PASSED_ON: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// Where somebody is who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Viewer {
    /// At the appliance.
    Here,
    /// Anywhere else.
    Elsewhere,
}

/// Why somebody is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    /// The `Host` is none of ours.
    #[error("this appliance does not go by that name; the site may list it in panel.hosts")]
    Host,
    /// No token was shown.
    #[error("the token is asked for")]
    NoToken,
    /// Another token was shown.
    #[error("this is not the token")]
    BadToken,
    /// A change that may not be this page's own.
    #[error("a change needs the header X-Lineside and comes from this page alone")]
    Foreign,
}

/// The guard.
#[derive(Debug)]
pub(super) struct Guard {
    hosts: Vec<String>,
    /// The digest: so a comparison tells nothing by its time.
    token: Option<Vec<u8>>,
    /// Whether the loopback is the appliance, and not the way of a proxy.
    loopback_is_here: bool,
}

impl Guard {
    pub(super) fn new(
        name: &str,
        hosts: &[String],
        token: Option<&str>,
        loopback_is_here: bool,
    ) -> Self {
        let own = [name.to_ascii_lowercase()];
        Self {
            hosts: own.into_iter().chain(hosts.iter().cloned()).collect(),
            token: token.map(|token| hashed(token.as_bytes())),
            loopback_is_here,
        }
    }

    /// Whether the request goes on, and as whose.
    pub(super) fn admit(
        &self,
        peer: SocketAddr,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Viewer, Denied> {
        let host = host(headers).ok_or(Denied::Host)?;
        if !self.is_ours(&host) {
            return Err(Denied::Host);
        }
        // Whether it is alive at all may be known to whoever reaches it.
        let open_to_all = ["/healthz", "/readyz"].contains(&path);
        if !open_to_all {
            self.check_token(headers)?;
        }
        if *method != Method::GET && *method != Method::HEAD && !is_own(headers) {
            return Err(Denied::Foreign);
        }
        let passed_on = PASSED_ON.iter().any(|name| headers.contains_key(*name));
        let local = peer.ip().to_canonical().is_loopback() && is_loopback(&host);
        let here = self.loopback_is_here && local && !passed_on;
        Ok(if here {
            Viewer::Here
        } else {
            Viewer::Elsewhere
        })
    }

    fn is_ours(&self, host: &str) -> bool {
        host == "localhost"
            || host.parse::<IpAddr>().is_ok()
            || self.hosts.iter().any(|own| own == host)
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        let shown = headers.get(header::AUTHORIZATION);
        let shown = shown.and_then(|it| it.to_str().ok()).and_then(shown_in);
        let shown = shown.ok_or(Denied::NoToken)?;
        let fits = hashed(&shown) == *token;
        fits.then_some(()).ok_or(Denied::BadToken)
    }
}

fn hashed(token: &[u8]) -> Vec<u8> {
    digest(&SHA256, token).as_ref().to_vec()
}

/// The one host of a request, without its port, in lower case.
fn host(headers: &HeaderMap) -> Option<String> {
    let mut all = headers.get_all(header::HOST).iter();
    let (host, None) = (all.next()?.to_str().ok()?, all.next()) else {
        return None;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => host.split(':').next()?,
    };
    (!name.is_empty()).then(|| name.to_ascii_lowercase())
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

/// Whether a change was sent by our own page, or by a program.
fn is_own(headers: &HeaderMap) -> bool {
    let word = |name: header::HeaderName| headers.get(name).and_then(|it| it.to_str().ok());
    let marked = headers.contains_key(OWN_HEADER);
    let site = headers
        .get("sec-fetch-site")
        .and_then(|it| it.to_str().ok());
    let same_site = site.is_none_or(|it| it == "same-origin" || it == "none");
    let same_origin = word(header::ORIGIN).is_none_or(|origin| {
        let authority = origin.split_once("://").map(|(_, rest)| rest);
        authority.is_some() && authority == word(header::HOST)
    });
    marked && same_site && same_origin
}

/// The token in `Bearer TOKEN`, or the password in `Basic …`.
fn shown_in(authorization: &str) -> Option<Vec<u8>> {
    let (scheme, rest) = authorization.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let login = from_base64(rest.trim())?;
    let colon = login.iter().position(|byte| *byte == b':')?;
    Some(login[colon + 1..].to_vec())
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xFF).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
