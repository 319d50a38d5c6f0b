//! The panel: the appliance on a page, its metrics, and whether it is well, over HTTP.
//!
//! ```text
//!                         ┌─ own thread ──────────────────────────────────────────────┐
//!  dispatcher ◄─inquiries─┤ watch: looks every two seconds ─► facts (latest value)     │
//!  meters (atomics) ──────┤                                    │                       │
//!                         │ door: connections, TLS, limits ─► guard ─► routes ─► JSON  │
//!                         └───────────────────────────────────────────────────────────┘
//! ```
//!
//! Purpose: one look says whether the appliance is well; whoever reviews does it here; Prometheus
//! fetches its figures here.
//!
//! What it owns: its port, a thread with a scheduler of its own, and the last facts. However many
//! look, the dispatcher is asked by [`watch`] alone, at a fixed rate, and by reviewers, a few at a
//! time. So the panel never stands in a request's way.
//!
//! Invariants:
//!
//! - Facts hold no word of a request or an answer, so they may be shown to whoever may look.
//! - Texts are shown for review alone: to viewers at the appliance, all of them; to viewers elsewhere
//!   only what the policy cleared for reviewers (invariant 3). See [`guard`] for who is where.
//! - Nothing changes without a header that no other page can send (`X-Lineside`), and no name but the
//!   appliance's own is answered to, so a page elsewhere can neither write nor read here.
//! - Connections, event streams, heads, bodies and waits have limits ([`door`], [`routes`]).
//!
//! How it fails: a port that is taken is tried again, and requests go on without a panel. Certificate
//! or key that cannot be read are faults of the start, like those of the broker's.

mod door;
mod facts;
mod guard;
mod metrics;
mod pages;
mod review;
mod routes;
mod watch;
mod wellness;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, watch as latest};

use crate::broker::Identity;
use crate::broker::tls::{self, TlsError};
use crate::clock::Clock;
use crate::config::Settings;
use crate::console::commands::Counter;
use crate::ota::course::Report;
use crate::telemetry::reporter::Tally;
use crate::telemetry::{Meters, sparkplug};
use crate::uplink::Spending;
use door::{Door, Traffic};
use guard::Guard;

/// Pause before a port that was taken is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// Event streams at a time: each browser window that shows the page has one.
pub const MAX_STREAMS: usize = 16;
/// Reviewers' questions to the dispatcher at a time.
const MAX_INQUIRIES: usize = 4;

/// How a roll-out stands, for the page and the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rollout {
    /// One word: `idle`, `staged`, `gate`, `gated`, `trial`, `committed`, `rolled_back`, `withdrawn`;
    /// empty where no packages come.
    pub state: &'static str,
    /// The package that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Why it is so, where there is a reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Rollout {
    fn of(course: Option<Report>) -> Self {
        let Some(course) = course else {
            return Self::default();
        };
        Self {
            state: course.state,
            package: course.package,
            why: course.reason,
        }
    }
}

/// Where the panel looks.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The commands.
    pub counter: Counter,
    /// What is counted on the path of a request.
    pub meters: Arc<Meters>,
    /// What became of samples, and how many batches and bytes of them the disk holds.
    pub tally: latest::Receiver<(Tally, usize, u64)>,
    /// What the budgets of models elsewhere look like, by their names.
    pub spent: latest::Receiver<Vec<(String, Spending)>>,
    /// What became of Sparkplug's messages, where there are any.
    pub node: Option<latest::Receiver<sparkplug::Tally>>,
}

/// Why the panel cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum PanelError {
    /// Its certificate or its key.
    #[error("panel: {0}")]
    Tls(#[from] TlsError),
    /// The system gave no thread.
    #[error("the panel's thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// The panel, at work.
#[derive(Debug)]
pub struct Panel {
    thread: JoinHandle<()>,
    end: Arc<Notify>,
}

impl Panel {
    /// Starts it, where the settings want one.
    pub fn start(
        settings: &Settings,
        sources: Sources,
        clock: Clock,
    ) -> Result<Option<Self>, PanelError> {
        let Some(panel) = &settings.panel else {
            return Ok(None);
        };
        let identity = panel.identity.as_ref().map(|it| Identity {
            cert_file: it.cert_file.clone(),
            key_file: it.key_file.clone(),
        });
        let tls = identity.as_ref().map(tls::server_config).transpose()?;
        let guard = Guard::new(
            settings.name.as_str(),
            &panel.hosts,
            panel.token.as_ref().map(crate::config::Secret::reveal),
            panel.restricted,
        );
        let traffic = Arc::new(Traffic::default());
        let house = House {
            guard,
            seen: latest::Sender::default(),
            track: latest::Sender::default(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            inquiries: Semaphore::new(MAX_INQUIRIES),
            hurry: Notify::new(),
            limits: watch::limits(&settings.spool),
            broker: broker(settings),
            traffic: Arc::clone(&traffic),
            sources,
            clock,
        };
        let house = Arc::new(house);
        let routes = routes::all(Arc::clone(&house));
        let door = Door::new(routes, tls, traffic);
        let (listen, end) = (panel.listen, Arc::new(Notify::new()));
        let ended = Arc::clone(&end);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("panel".into())
            .spawn(move || {
                let serving = serve(door, listen);
                runtime.block_on(async {
                    tokio::select! {
                        () = serving => {}
                        () = watch::run(house) => {}
                        () = ended.notified() => {}
                    }
                });
                // A look into a driver that hangs is not waited for.
                runtime.shutdown_background();
            })?;
        Ok(Some(Self { thread, end }))
    }

    /// Ends it; open connections are cut.
    pub fn close(self) {
        self.end.notify_one();
        let _ = self.thread.join(); // it only panics where a defect is, and that was told
    }
}

/// What all of the panel shares.
#[derive(Debug)]
struct House {
    guard: Guard,
    /// The last look.
    seen: latest::Sender<Arc<facts::Seen>>,
    /// The curves, as JSON.
    track: latest::Sender<Arc<str>>,
    streams: Arc<Semaphore>,
    inquiries: Semaphore,
    /// Somebody has come who wants to see everything at once.
    hurry: Notify,
    /// Bytes that each tree of the spool may take.
    limits: Vec<(&'static str, u64)>,
    broker: String,
    traffic: Arc<Traffic>,
    sources: Sources,
    clock: Clock,
}

fn broker(settings: &Settings) -> String {
    use crate::config::Endpoint;
    match &settings.link.endpoint {
        Endpoint::Embedded { listen } => format!("embedded, on {listen}"),
        Endpoint::Plain { host, port } => format!("mqtt://{host}:{port}"),
        Endpoint::Tls { host, port, .. } => format!("mqtts://{host}:{port}"),
    }
}

/// Binds the port, however long that takes, and serves.
async fn serve(door: Door, listen: SocketAddr) {
    let mut told = false;
    let listener = loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => break listener,
            Err(error) if !told => {
                tracing::warn!(listen = %listen, %error, "no panel: its port cannot be had");
                told = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(TRY_AGAIN).await;
    };
    tracing::info!(listen = %listen, "the panel is open");
    door.serve(listener).await;
}
