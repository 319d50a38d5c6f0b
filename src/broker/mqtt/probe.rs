//! How fast a message comes back from the broker: a short connection of its own.
//!
//! The usual reason for a slow answer on a fast network is Nagle's algorithm at the broker, which
//! holds a small packet back until the last one is confirmed. It makes every QoS 1 step take some
//! 40 ms, and nobody finds it without a figure.

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnAck, Packet};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use tokio::time::timeout;

use super::wire;
use crate::broker::Link;
use crate::broker::tls::TlsError;
use crate::clock::{Clock, Mono};

/// An echo slower than this, on a plant's network, is a setting and not a distance: most likely
/// the broker does not set `TCP_NODELAY`.
pub const SLOW_ECHO: Duration = Duration::from_millis(20);
/// Messages sent, one after the other; the median counts.
const ECHOES: usize = 5;
/// Room for one request at a time, and some.
const QUEUE: usize = 16;

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// From the first packet of TCP to the broker's consent.
    pub connect: Duration,
    /// From publishing to receiving, QoS 1 both ways; the median.
    pub round_trip: Duration,
    /// Unacknowledged publishes that the broker takes; absent: no limit.
    pub receive_maximum: Option<u16>,
    /// Largest packet that the broker takes; absent: no limit.
    pub max_packet_bytes: Option<u32>,
    /// Whether pools work with it.
    pub shared_subscriptions: bool,
}

impl Echo {
    /// Whether the round trip hints at a setting of the broker.
    pub fn is_slow(&self) -> bool {
        self.round_trip > SLOW_ECHO
    }
}

/// Why there was no echo.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The settings.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The connection.
    #[error("{0}")]
    Connection(String),
    /// The broker lets us not listen there.
    #[error("the broker does not let us subscribe to {topic}: {why}")]
    Deaf {
        /// Where.
        topic: String,
        /// In the broker's words.
        why: String,
    },
    /// The broker lets us not speak there, or it went wrong in a way that should not happen.
    #[error("the broker does not let us publish on {topic}: {why}")]
    Mute {
        /// Where.
        topic: String,
        /// In the broker's words.
        why: String,
    },
    /// It took too long.
    #[error("no echo from {host}:{port} within {within:?}")]
    Late {
        /// The broker.
        host: String,
        /// Its port.
        port: u16,
        /// The limit.
        within: Duration,
    },
}

/// Connects with a session and a client id of its own, publishes a few messages on `topic` and
/// measures how they come back. The appliance's own session is not touched.
pub async fn probe(
    link: &Link,
    topic: &str,
    clock: Clock,
    within: Duration,
) -> Result<Echo, ProbeError> {
    let mut options = wire::options(&Link {
        client_id: format!("{}-echo-{}", link.client_id, std::process::id()),
        session_expiry_s: 0,
        will: None,
        ..link.clone()
    })?;
    options.set_clean_start(true).set_manual_acks(false);
    timeout(within, echo(link, topic, clock, options))
        .await
        .unwrap_or_else(|_| {
            Err(ProbeError::Late {
                host: link.host.clone(),
                port: link.port,
                within,
            })
        })
}

async fn echo(
    link: &Link,
    topic: &str,
    clock: Clock,
    options: MqttOptions,
) -> Result<Echo, ProbeError> {
    let (client, mut rumqttc) = AsyncClient::new(options, QUEUE);
    let lost = |error: ConnectionError| ProbeError::Connection(wire::why(&error, link));

    let begun = clock.now().mono;
    let connack = connected(&mut rumqttc).await.map_err(lost)?;
    let connect = clock.now().mono.since(begun);

    let deaf = |why: String| ProbeError::Deaf {
        topic: topic.into(),
        why,
    };
    let subscribed = client.try_subscribe(topic, QoS::AtLeastOnce);
    subscribed.map_err(|error| deaf(error.to_string()))?;
    if let Some(why) = granted(&mut rumqttc).await.map_err(lost)? {
        return Err(deaf(why));
    }

    let mute = |why: String| ProbeError::Mute {
        topic: topic.into(),
        why,
    };
    let mut trips = Vec::with_capacity(ECHOES);
    for _ in 0..ECHOES {
        let sent = clock.now().mono;
        let published = client.try_publish(topic, QoS::AtLeastOnce, false, "echo");
        published.map_err(|error| mute(error.to_string()))?;
        let back = returned(&mut rumqttc, clock).await.map_err(lost)?;
        trips.push(back.map_err(mute)?.since(sent));
    }
    trips.sort_unstable();
    // Best effort: the session ends with the connection either way.
    let _ = client.try_disconnect();
    let _ = timeout(SLOW_ECHO, async { while rumqttc.poll().await.is_ok() {} }).await;

    let properties = connack.properties.as_ref();
    Ok(Echo {
        connect,
        round_trip: trips[ECHOES / 2],
        receive_maximum: properties.and_then(|p| p.receive_max),
        max_packet_bytes: properties.and_then(|p| p.max_packet_size),
        shared_subscriptions: properties.and_then(|p| p.shared_subscription_available) != Some(0),
    })
}

async fn connected(rumqttc: &mut EventLoop) -> Result<ConnAck, ConnectionError> {
    loop {
        if let Event::Incoming(Packet::ConnAck(connack)) = rumqttc.poll().await? {
            return Ok(connack);
        }
    }
}

/// Why the broker lets us not listen, if so.
async fn granted(rumqttc: &mut EventLoop) -> Result<Option<String>, ConnectionError> {
    loop {
        if let Event::Incoming(Packet::SubAck(suback)) = rumqttc.poll().await? {
            return Ok(suback.return_codes.into_iter().find_map(wire::deafness));
        }
    }
}

/// When the message was back, or why the broker did not take it. Waits for both the message and
/// the broker's answer, so that the next one starts on a quiet line.
async fn returned(
    rumqttc: &mut EventLoop,
    clock: Clock,
) -> Result<Result<Mono, String>, ConnectionError> {
    let (mut back, mut answered) = (None, false);
    loop {
        match rumqttc.poll().await? {
            Event::Incoming(Packet::Publish(_)) => back = Some(clock.now().mono),
            Event::Incoming(Packet::PubAck(puback)) => {
                if let Some(why) = wire::refusal(puback.reason) {
                    return Ok(Err(why));
                }
                answered = true;
            }
            Event::Incoming(_) | Event::Outgoing(_) => {}
        }
        if let (Some(back), true) = (back, answered) {
            return Ok(Ok(back));
        }
    }
}
