//! What a link to a broker needs to know: checked settings, no vendor types.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Absent: plain TCP.
    pub tls: Option<Tls>,
    /// Absent: anonymous.
    pub username: Option<String>,
    /// Goes with the user name.
    pub password: Option<Secret>,
    /// Names the session at the broker: two connections with the same one throw each other out.
    pub client_id: String,
    /// How often a silent line is tested; at least five seconds, less counts as five.
    pub keep_alive: Duration,
    /// The largest packet that we take, all of it counted.
    pub max_packet_bytes: u32,
    /// How many messages the broker may send ahead of our acknowledgements.
    pub receive_maximum: u16,
    /// How long the broker keeps the session while we are away.
    pub session_expiry_s: u32,
    /// Topic filters to listen to, shared ones included.
    pub subscriptions: Vec<String>,
    /// What the broker says for us when we vanish.
    pub will: Option<Will>,
    /// Whose session it is.
    pub role: Role,
}

impl Link {
    /// The same broker and credentials, but in the place of a pool member that has died: takes
    /// over its session by `client_id`, subscribes to nothing itself, and leaves when the owner
    /// is back. `session_expiry_s` must be what the owner uses, for it replaces the owner's.
    #[must_use]
    pub fn stand_in(&self, client_id: String) -> Self {
        Self {
            client_id,
            subscriptions: Vec::new(),
            will: None,
            role: Role::StandIn,
            ..self.clone()
        }
    }
}

/// Whose session a link uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its own: comes back after everything, also after another client took the session.
    Owner,
    /// That of a dead member of the pool: connects once, and ends with that connection.
    StandIn,
    /// One without a memory: connects once, with nothing left of a connection before, and ends with
    /// it. For those whose will is another each time.
    Visitor,
}

/// How the connection is secured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who vouches for the broker; absent: the system's roots.
    pub ca_file: Option<PathBuf>,
    /// What proves us to the broker; absent: nothing.
    pub identity: Option<Identity>,
}

/// A client certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PEM, the own certificate first.
    pub cert_file: PathBuf,
    /// PEM.
    pub key_file: PathBuf,
}

/// The last will: published at QoS 1 by the broker if the line breaks without a goodbye.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// Whether it stays as the topic's last word.
    pub retain: super::Retain,
}

/// Something that must not be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The one way to it; each use is easy to find.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_in_debug_output() {
        let printed = format!("{:?}", Secret::new("hunter2".into()));
        assert!(!printed.contains("hunter2"));
    }
}
