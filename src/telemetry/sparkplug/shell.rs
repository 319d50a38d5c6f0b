//! The task around the node: its connections one after the other, each with the will that belongs
//! to it, and the file that keeps their number.
//!
//! How it fails: a broker that is away is another try after a growing, jittered pause, for ever; a
//! file that cannot be written is told in the log, and the number goes on in memory.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{sleep_until, timeout};

use super::{Look, Node, Plan, Tally};
use crate::broker::mqtt::{self, Backoff, Outcome};
use crate::broker::{Command, Event, Link, Role};
use crate::clock::{Clock, Mono};
use crate::telemetry::note;

/// The longest sleep.
const BEAT: Duration = Duration::from_secs(1);
/// Commands and events between the node and a connection: some turns' worth.
const CHANNEL: usize = 64;
/// How long a connection may take to end that was asked to.
const GOODBYE: Duration = Duration::from_secs(2);

/// Where the node is.
#[derive(Debug)]
pub struct Site {
    /// The broker and the credentials; will, session and filters are the node's own.
    pub link: Link,
    /// The file that keeps the number of the last connection.
    pub kept_in: PathBuf,
    /// For the jitter of the pauses.
    pub seed: u64,
}

/// Whether there are more looks to come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goes {
    On,
    Closed,
}

/// Speaks for the node until no more looks come.
pub async fn run(
    plan: Plan,
    site: Site,
    mut looks: mpsc::Receiver<Look>,
    told: watch::Sender<Tally>,
    clock: Clock,
) {
    let mut node = Node::new(plan.clone(), kept(&site.kept_in));
    let mut backoff = Backoff::new(site.seed);
    loop {
        let will = node.on_connecting(clock.now());
        keep(&site.kept_in, node.bd_seq()).await;
        let link = Link {
            client_id: format!("{}-sparkplug", site.link.client_id),
            session_expiry_s: 0,
            subscriptions: plan.subscriptions(),
            will: Some(will),
            role: Role::Visitor,
            ..site.link.clone()
        };
        let (goes, outcome) = connection(&mut node, link, &mut looks, &told, clock).await;
        node.on_gone();
        if goes == Goes::Closed {
            return;
        }
        let until = clock.now().mono.after(backoff.pause(outcome));
        if rest(&mut node, until, &mut looks, &told, clock).await == Goes::Closed {
            return;
        }
    }
}

/// One connection, from the first packet to the last.
async fn connection(
    node: &mut Node,
    link: Link,
    looks: &mut mpsc::Receiver<Look>,
    told: &watch::Sender<Tally>,
    clock: Clock,
) -> (Goes, Outcome) {
    let (commands, outlet) = mpsc::channel(CHANNEL);
    let (inlet, mut events) = mpsc::channel(CHANNEL);
    let line = tokio::spawn(mqtt::run(link, outlet, inlet, clock, 0, || {}));
    let mut since: Option<Mono> = None;
    let mut goes = Goes::On;
    loop {
        let effects = node.take_effects();
        let hangs_up = effects.contains(&Command::Close);
        for command in effects {
            let _ = commands.send(command).await; // the line has ended; so do its events, in a moment
        }
        told.send_replace(node.tally());
        if hangs_up || goes == Goes::Closed {
            break;
        }
        let now = clock.now().mono;
        let beat = now.after(BEAT);
        let wake = node.deadline().map_or(beat, |due| due.max(now).min(beat));
        tokio::select! {
            look = looks.recv() => if let Some(look) = look {
                node.on_look(look, clock.now());
            } else {
                goes = Goes::Closed;
                node.on_close(clock.now());
            },
            event = events.recv() => match event {
                Some(event) => {
                    log(&event);
                    if let Event::Up(_) = event {
                        since = Some(clock.now().mono);
                    }
                    node.on_broker(&event, clock.now());
                }
                None => break,
            },
            () = sleep_until(clock.instant(wake).into()) => node.on_timeout(clock.now()),
        }
    }
    drop(commands); // means goodbye, where nobody said so yet
    let ending = async {
        while events.recv().await.is_some() {}
        line.await
    };
    if let Ok(Ok(Err(error))) = timeout(GOODBYE, ending).await {
        tracing::error!(%error, "the connection for Sparkplug");
    }
    let held = since.map(|since| clock.now().mono.since(since));
    (goes, held.map_or(Outcome::Refused, Outcome::Lost))
}

/// Between two connections, in which what is seen is held.
async fn rest(
    node: &mut Node,
    until: Mono,
    looks: &mut mpsc::Receiver<Look>,
    told: &watch::Sender<Tally>,
    clock: Clock,
) -> Goes {
    loop {
        tokio::select! {
            look = looks.recv() => match look {
                Some(look) => {
                    node.on_look(look, clock.now());
                    told.send_replace(node.tally());
                }
                None => return Goes::Closed,
            },
            () = sleep_until(clock.instant(until).into()) => return Goes::On,
        }
    }
}

fn log(event: &Event) {
    match event {
        Event::Deaf { filter, why } => {
            tracing::warn!(
                topic = filter,
                error = why,
                "the broker refuses Sparkplug a topic"
            );
        }
        Event::Undeliverable { why, .. } => {
            tracing::warn!(error = why, "the broker refused a message of Sparkplug");
        }
        Event::Down { why } => tracing::debug!(error = why, "Sparkplug has no broker"),
        Event::Up(_) | Event::Message(_) | Event::Delivered(_) => {}
    }
}

/// The number of the last connection; none where there was none.
fn kept(path: &Path) -> Option<u8> {
    let number = match note::read(path) {
        Ok(Some(text)) => text
            .trim()
            .parse()
            .map_err(|_| io::ErrorKind::InvalidData.into()),
        Ok(None) => return None,
        Err(error) => Err(error),
    };
    let told = number.inspect_err(|error: &io::Error| {
        tracing::error!(path = %path.display(), %error, "the number of Sparkplug's connections");
    });
    told.ok()
}

async fn keep(path: &Path, number: u8) {
    let (path, told) = (path.to_owned(), path.display().to_string());
    let write = move || note::replace(&path, &format!("{number}\n"));
    if let Ok(Err(error)) = tokio::task::spawn_blocking(write).await {
        tracing::error!(path = told, %error, "the number of Sparkplug's connections cannot be kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_number_comes_back_and_a_damaged_file_has_none() {
        let folder = std::env::temp_dir().join(format!("lineside-bdseq-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("sparkplug-bdseq");
        assert_eq!(kept(&path), None);
        for number in [0, 255] {
            keep(&path, number).await;
            assert_eq!(kept(&path), Some(number));
        }
        note::replace(&path, "256\n").unwrap();
        assert_eq!(kept(&path), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
