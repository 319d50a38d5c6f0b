//! A broker inside the process, so that the first run needs nothing else.
//!
//! Purpose: rumqttd on a loopback address, for trying things out and for a line of one machine.
//! It keeps nothing on disk, honours no client's limits, and redelivers under new ids; a plant
//! has a broker of its own.
//!
//! rumqttd speaks each version of the protocol on a port of its own, and not every version well.
//! So a small porter owns the public address, reads the version in the first packet, which stays
//! in the socket, and joins the connection to the inner port for MQTT 5; what an older device
//! says and hears is [translated](translate).
//!
//! How it fails: an address that is taken is an [`EmbeddedError`] at the start. Later faults of
//! one connection end that connection.

mod translate;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream as StdTcpStream};
use std::sync::Arc;
use std::time::Duration;

use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use translate::Way;

/// Connections at once; each costs some kilobytes.
const MAX_CONNECTIONS: usize = 1024;
/// Each filter keeps up to this much for slow listeners, and forgets the oldest beyond.
const SEGMENT_BYTES: usize = 4 << 20;
/// Segments of a filter.
const SEGMENTS: usize = 4;
/// Unacknowledged messages for each connection.
const MAX_INFLIGHT: usize = 100;
/// Room for what a broker adds to a message on its way. rumqttd ignores the size that a client
/// announces, and a message that is too large for the appliance would come back for ever.
const ENVELOPE_BYTES: usize = 1024;
/// A client that connects and says nothing is dropped after this.
const FIRST_PACKET_WITHIN: Duration = Duration::from_secs(5);
/// rumqttd listens well within this, also on a slow board.
const START_WITHIN: Duration = Duration::from_secs(10);

/// What the embedded broker needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Where devices connect, with MQTT 3.1.1 or 5.
    pub listen: SocketAddr,
    /// Largest packet that the appliance takes.
    pub max_packet_bytes: usize,
}

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Most often: another broker runs there.
    #[error(
        "the embedded broker cannot listen on {listen}: {why}; to use a broker that runs there \
         already, set broker.url = \"mqtt://{listen}\""
    )]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// In the system's words.
        why: io::Error,
    },
    /// The system gives no thread or no inner port.
    #[error("embedded broker cannot start: {0}")]
    Start(#[from] io::Error),
    /// rumqttd did not come up.
    #[error("embedded broker did not start within {START_WITHIN:?}")]
    Late,
}

/// Starts rumqttd on threads of its own and the porter on this runtime, and returns the address
/// once it answers there. It ends with the process.
pub async fn start(settings: Embedded) -> Result<SocketAddr, EmbeddedError> {
    let listen = settings.listen;
    let at = |why| EmbeddedError::Listen { listen, why };
    let door = TcpListener::bind(listen).await.map_err(at)?;
    let address = door.local_addr().map_err(at)?;
    let inner = free_port()?;
    let config = config(settings.max_packet_bytes, inner);
    std::thread::Builder::new()
        .name("embedded-broker".into())
        .spawn(move || {
            // Returns only with an error; the porter's clients then find nobody.
            if let Err(error) = Broker::new(config).start() {
                tracing::error!(%error, "embedded broker ended");
            }
        })?;
    timeout(START_WITHIN, answers(inner))
        .await
        .map_err(|_| EmbeddedError::Late)?;
    tokio::spawn(porter(door, inner, settings.max_packet_bytes));
    Ok(address)
}

/// The configuration of rumqttd that listens on `inner`.
fn config(max_packet_bytes: usize, inner: SocketAddr) -> Config {
    let server = |name: &str, listen| {
        let server = ServerSettings {
            name: name.into(),
            listen,
            tls: None,
            next_connection_delay_ms: 1,
            connections: ConnectionSettings {
                connection_timeout_ms: 5000,
                max_payload_size: max_packet_bytes.saturating_sub(ENVELOPE_BYTES),
                max_inflight_count: MAX_INFLIGHT,
                auth: None,
                external_auth: None,
                dynamic_filters: true,
            },
        };
        Some(HashMap::from([(name.to_owned(), server)]))
    };
    Config {
        router: RouterConfig {
            max_connections: MAX_CONNECTIONS,
            max_outgoing_packet_count: 200,
            max_segment_size: SEGMENT_BYTES,
            max_segment_count: SEGMENTS,
            ..RouterConfig::default()
        },
        v5: server("broker", inner),
        ..Config::default()
    }
}

/// A place for rumqttd, which cannot be handed a socket. The port is given up again before
/// rumqttd takes it, so it lies on a loopback address that nobody else would think of.
fn free_port() -> io::Result<SocketAddr> {
    let address = Ipv4Addr::new(
        127,
        fastrand::u8(1..),
        fastrand::u8(..),
        fastrand::u8(1..255),
    );
    std::net::TcpListener::bind((address, 0))?.local_addr()
}

async fn answers(inner: SocketAddr) {
    while StdTcpStream::connect(inner).is_err() {
        sleep(Duration::from_millis(10)).await;
    }
}

async fn porter(door: TcpListener, inner: SocketAddr, max_packet_bytes: usize) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match door.accept().await {
            Ok((client, _)) => {
                tokio::spawn(async move {
                    if let Err(error) = lead_in(client, inner, max_packet_bytes).await {
                        tracing::debug!(%error, "embedded broker: connection over");
                    }
                    drop(place);
                });
            }
            // Out of descriptors: others will be given back.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn lead_in(
    mut client: TcpStream,
    inner: SocketAddr,
    max_packet_bytes: usize,
) -> io::Result<()> {
    let version = timeout(FIRST_PACKET_WITHIN, version(&client)).await??;
    let mut broker = TcpStream::connect(inner).await?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    match version {
        Version::V5 => {
            copy_bidirectional(&mut client, &mut broker).await?;
        }
        Version::V4 => {
            let (from_client, to_client) = client.into_split();
            let (from_broker, to_broker) = broker.into_split();
            // Either side's end is the end of both.
            tokio::select! {
                end = relay(from_client, to_broker, max_packet_bytes, Way::In) => end?,
                end = relay(from_broker, to_client, max_packet_bytes, Way::Out) => end?,
            }
        }
    }
    Ok(())
}

/// Passes packets on, each rewritten, until the sender hangs up.
async fn relay(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    max_packet_bytes: usize,
    way: Way,
) -> io::Result<()> {
    let broken = |_| io::Error::from(io::ErrorKind::InvalidData);
    let mut waiting = Vec::new();
    while from.read_buf(&mut waiting).await? > 0 {
        let (mut rewritten, mut taken) = (Vec::new(), 0);
        while let Some(packet) =
            translate::next(&waiting[taken..], max_packet_bytes).map_err(broken)?
        {
            taken += packet.length;
            rewritten.extend(packet.rewritten(way).map_err(broken)?);
        }
        waiting.drain(..taken);
        to.write_all(&rewritten).await?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V4,
    V5,
}

/// Reads on without taking anything out of the socket.
async fn version(client: &TcpStream) -> io::Result<Version> {
    // Fixed header of two to five bytes, "MQTT" with its length, the version.
    let mut first = [0; 12];
    loop {
        let length = client.peek(&mut first).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(version) = version_in(&first[..length]) {
            return Ok(version);
        }
        if length == first.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        sleep(Duration::from_millis(5)).await; // `peek` returns at once with what it had before
    }
}

/// None as long as the version has not come yet.
fn version_in(packet: &[u8]) -> Option<Version> {
    let length_bytes = packet.iter().skip(1).position(|byte| byte & 0x80 == 0)? + 1;
    match packet.get(1 + length_bytes + 6)? {
        5 => Some(Version::V5),
        _ => Some(Version::V4), // which refuses what it does not know
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_stands_behind_the_name_however_long_the_packet_is() {
        assert_eq!(version_in(b"\x10\x20\x00\x04MQTT\x05"), Some(Version::V5));
        assert_eq!(
            version_in(b"\x10\xff\x01\x00\x04MQTT\x04"),
            Some(Version::V4)
        );
        assert_eq!(version_in(b"\x10\xff\x01\x00\x04MQT"), None);
        assert_eq!(version_in(b"\x10"), None);
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let listen = taken.local_addr().expect("an address");
        let settings = Embedded {
            listen,
            max_packet_bytes: 10_000,
        };
        let error = start(settings).await.expect_err("taken");
        assert!(error.to_string().contains(&listen.to_string()), "{error}");
    }
}
