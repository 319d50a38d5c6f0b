//! The line to the broker: where it is, who starts it, how it says goodbye.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::broker::mqtt::{self, TlsError};
use crate::broker::{self, Command, End, Event, Link, Retain, Role, Will, pool};
use crate::clock::{Clock, millis};
use crate::config::{Endpoint, Settings, Trust};
use crate::dispatch::farewell;
use crate::service::Pulse;

/// How long the self-test waits for the broker.
const PROBE_WITHIN: Duration = Duration::from_secs(30);

/// The task that holds the connection.
pub(super) struct Line {
    task: JoinHandle<Result<End, TlsError>>,
    goodbye: Command,
}

/// Starts the embedded broker where one is wanted, and the connection.
pub(super) async fn start(
    settings: &Settings,
    clock: Clock,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    pulse: Pulse,
) -> anyhow::Result<Line> {
    if let Endpoint::Embedded { listen } = settings.link.endpoint {
        start_embedded(listen, settings.link.max_packet_bytes).await?;
    }
    let link = link_of(settings);
    mqtt::check(&link)?;
    let echo = settings.topics.echo();
    tokio::spawn(self_test(link.clone(), echo, clock));
    let beat = move || pulse.beat(clock.now());
    let task = match settings.topics.pool.clone() {
        None => {
            let seed = fastrand::u64(..);
            tokio::spawn(mqtt::run(link, commands, events, clock, seed, beat))
        }
        Some(pool) => {
            let topics = settings.topics.clone();
            tokio::spawn(pool::run(link, topics, pool, commands, events, clock, beat))
        }
    };
    let goodbye = Command::Publish(farewell(&settings.topics));
    Ok(Line { task, goodbye })
}

impl Line {
    /// Says `offline` and goodbye, within the limit.
    pub(super) async fn close(self, commands: &mpsc::Sender<Command>, limit: Duration) {
        let leaving = async {
            let _ = commands.send(self.goodbye).await; // a closed channel: the line is gone
            let _ = commands.send(Command::Close).await;
            self.task.await
        };
        match timeout(limit, leaving).await {
            Ok(Ok(Ok(_))) => {}
            Ok(Ok(Err(error))) => tracing::error!(%error, "the broker's connection"),
            Ok(Err(_)) => tracing::error!("the broker's task did not end well"),
            Err(_) => tracing::warn!("the broker did not answer the goodbye in time"),
        }
    }
}

#[cfg(feature = "embedded-broker")]
async fn start_embedded(listen: std::net::SocketAddr, max_packet_bytes: u32) -> anyhow::Result<()> {
    let embedded = broker::embedded::Embedded {
        listen,
        max_packet_bytes: max_packet_bytes as usize,
    };
    broker::embedded::start(embedded).await?;
    tracing::info!(%listen, "the embedded broker listens");
    Ok(())
}

#[cfg(not(feature = "embedded-broker"))]
#[expect(clippy::unused_async, reason = "the same face as with the feature")]
async fn start_embedded(_: std::net::SocketAddr, _: u32) -> anyhow::Result<()> {
    anyhow::bail!("this build has no embedded broker: set broker.url")
}

/// Whether the embedded broker's port could not be had.
#[cfg(feature = "embedded-broker")]
pub(super) fn is_unavailable(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<broker::embedded::EmbeddedError>()
        .is_some()
}

#[cfg(not(feature = "embedded-broker"))]
pub(super) fn is_unavailable(_: &anyhow::Error) -> bool {
    false
}

/// The connection that the settings describe.
pub(super) fn link_of(settings: &Settings) -> Link {
    let config = &settings.link;
    let (host, port, tls) = match &config.endpoint {
        Endpoint::Embedded { listen } => (listen.ip().to_string(), listen.port(), None),
        Endpoint::Plain { host, port } => (host.clone(), *port, None),
        Endpoint::Tls {
            host,
            port,
            trust,
            client,
        } => {
            let tls = broker::Tls {
                ca_file: match trust {
                    Trust::System => None,
                    Trust::File(file) => Some(file.clone()),
                },
                identity: client.as_ref().map(|client| broker::Identity {
                    cert_file: client.cert_file.clone(),
                    key_file: client.key_file.clone(),
                }),
            };
            (host.clone(), *port, Some(tls))
        }
    };
    let last_word = farewell(&settings.topics);
    Link {
        host,
        port,
        tls,
        username: config.login.as_ref().map(|login| login.username.clone()),
        password: config
            .login
            .as_ref()
            .map(|login| broker::Secret::new(login.password.reveal().to_owned())),
        client_id: config.client_id.clone(),
        keep_alive: config.keep_alive,
        max_packet_bytes: config.max_packet_bytes,
        receive_maximum: config.receive_maximum,
        session_expiry_s: config.session_expiry_s,
        subscriptions: subscriptions(settings),
        will: Some(Will {
            topic: last_word.topic,
            payload: last_word.payload,
            retain: Retain::Yes,
        }),
        role: Role::Owner,
    }
}

/// What the appliance listens to; to verdicts only where there are reviewers elsewhere.
fn subscriptions(settings: &Settings) -> Vec<String> {
    let mut filters = settings.topics.subscriptions();
    if !settings.review.remote.is_nothing() {
        filters.push(settings.topics.review_verdict());
    }
    filters
}

/// Measures the echo once at the start: a slow one is nearly always a setting, and hard to find
/// later.
async fn self_test(link: Link, topic: String, clock: Clock) {
    match mqtt::probe(&link, &topic, clock, PROBE_WITHIN).await {
        Ok(echo) if echo.is_slow() => tracing::warn!(
            elapsed_ms = millis(echo.round_trip),
            "the broker's echo is slow: set TCP_NODELAY there (mosquitto: set_tcp_nodelay true)"
        ),
        Ok(echo) => tracing::info!(
            elapsed_ms = millis(echo.round_trip),
            "the broker echoes in good time"
        ),
        Err(error) => tracing::warn!(%error, "the broker's echo could not be measured"),
    }
}

/// Measures the broker's echo, for `lineside check`.
pub(super) async fn probe(settings: &Settings, clock: Clock) -> Result<Duration, String> {
    let link = link_of(settings);
    mqtt::probe(&link, &settings.topics.echo(), clock, PROBE_WITHIN)
        .await
        .map(|echo| echo.round_trip)
        .map_err(|error| error.to_string())
}
