//! The appliance as a whole: which tasks there are, in which order they start and end.
//!
//! ```text
//!  start:  state directory ─► control socket ─► store ─► dispatcher ─► engine ─► governor
//!            ─► uplink ─► broker ─► ready; the keeper of packages beside all that
//!  drain:  dispatcher (finishes what runs, sends what it can) ─► governor ─► engine (its processes end)
//!            ─► uplink (keeps its counters) ─► broker (says "offline", says goodbye)
//!            ─► store (last commit) ─► socket
//! ```
//!
//! The control socket comes first because it is also the lock: who cannot open it has a twin
//! that is running. Ready means that requests are taken, not that a broker is there: an
//! appliance without a broker is a normal state of affairs.
//!
//! One time limit bounds the whole drain. What it cuts off is on the disk and is taken up at the
//! next start. A task that ends unasked ends the process, and the service manager restarts it.

mod air;
mod cloud;
mod ending;
mod figures;
mod heat;
mod inference;
mod lessons;
mod line;
mod neighbours;
mod packages;
pub mod plan;
mod planner;
mod surfaces;
mod swap;

use figures::Shelf;
pub use inference::router;
use surfaces::Surfaces;

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::mpsc;
use tokio::time::timeout;

use self::air::Air;
use crate::broker::mqtt::TlsError;
use crate::clock::Clock;
use crate::config::{self, Settings};
use crate::console::commands::Counter;
pub use crate::console::house::Ending;
use crate::console::house::{self, Ender, House};
use crate::console::socket::{ControlSocket, SocketError};
use crate::dispatch::shell::{self, Inlets, Outlet, Outlets};
use crate::dispatch::{Dispatch, Patience, Recovered, Setup};
use crate::governor::memory::Board;
use crate::package::{self, Manifest};
use crate::panel::PanelError;
use crate::review::{self, Fallback, Forms};
use crate::safe;
use crate::service::{self, LogTail, Notifier, Pulse, Pulses, Stop, Stopper, Watchdog};
use crate::spool::shell as spool_shell;
use crate::spool::sled::{SledDisk, SledSettings};
use crate::spool::timed::{Timed, Work};
use crate::spool::{Caps, DiskError, PerTree, Spool, Tree};
use crate::telemetry::Meters;
use crate::ticket::Window;
use crate::uplink::openai::SetupError;
use crate::uplink::{self, Briefs};

/// `EX_UNAVAILABLE`: a socket, a port or the store cannot be had.
const EXIT_UNAVAILABLE: u8 = 69;
/// `EX_SOFTWARE`: it ended for a reason of its own.
const EXIT_INTERNAL: u8 = 70;
/// Items between two tasks before the sender waits: a group commit's worth.
const CHANNEL: usize = 1024;
/// A stage that has not moved for this long has stalled. A commit on a slow card can take
/// seconds; this is far beyond.
const ALLOWED_SILENCE: Duration = Duration::from_secs(30);
/// Of the time for the drain, what is kept for the goodbye to the broker and the last commit.
const GOODBYE: Duration = Duration::from_secs(3);
/// Only the service and its group look into the state directory.
const STATE_DIR_MODE: u32 = 0o750;

/// What the process lends to the appliance.
#[derive(Debug)]
pub struct Host {
    /// Stops it, on somebody's word.
    pub stopper: Stopper,
    /// Says that it is to stop.
    pub stop: Stop,
    /// The last lines of its log.
    pub log: Option<LogTail>,
}

/// Runs the appliance until it is told to stop, and says what is to come then.
pub async fn run(settings: Settings, clock: Clock, host: Host) -> anyhow::Result<Ending> {
    let Host { stopper, stop, log } = host;
    let (notifier, upstreams, socket) = ground(&settings).await?;

    let mut pulses = Pulses::default();
    let mut pulse = |stage| pulses.stage(stage, ALLOWED_SILENCE, clock.now());
    let (spool_pulse, dispatch_pulse) = (pulse("spool"), pulse("dispatch"));
    let (line_pulse, engine_pulse) = (pulse("broker"), pulse("engine"));
    let (uplink_pulse, governor_pulse) = (pulse("uplink"), pulse("governor"));

    let meters = surfaces::meters(&settings);
    let store = Store::open(&settings, &meters, clock, spool_pulse).await?;
    let (board, _) = plan::board(&settings);
    let air = Air::open(&settings, &board, clock)?;
    let dispatch = dispatcher(&settings, &air, &board, store.recovered, clock);
    let dispatch = dispatch.metered(Arc::clone(&meters));

    let (broker_events, broker_inlet) = mpsc::channel(CHANNEL);
    let (broker_commands, broker_outlet) = mpsc::channel(CHANNEL);
    let (engine_events, engine_inlet) = mpsc::channel(CHANNEL);
    let (engine_commands, engine_outlet) = mpsc::channel(CHANNEL);
    let (uplink_events, uplink_inlet) = mpsc::channel(CHANNEL);
    let (uplink_commands, uplink_outlet) = mpsc::channel(CHANNEL);
    let (inquiries, inquiry_inlet) = mpsc::channel(CHANNEL);
    let (outfits, outfit_inlet) = mpsc::channel(1);
    let (planner, orders) = mpsc::channel(CHANNEL);

    let (inference, reins) = inference::start(
        &settings,
        board,
        clock,
        inference::Ways {
            commands: engine_outlet,
            events: engine_events,
            outfits,
            orders,
        },
        engine_pulse,
    );
    let (keeping, swaps) = air.start(&settings, board, clock, planner, &reins).await?;
    let (uplink, spent) =
        cloud::start(upstreams, clock, uplink_outlet, uplink_events, uplink_pulse);
    let (learnt, lessons) = lessons::keep(&settings);
    let line = line::start(&settings, clock, broker_outlet, broker_events, line_pulse).await?;
    let ender = Ender::new(stopper);
    let house = House::new(&settings, log, ender.clone(), reins.processes.clone());
    let counter = Counter::new(inquiries, house, swaps.desk);
    let ends = (store.shelf, broker_commands.clone());
    let (surfaces, tap) = Surfaces::open(&settings, &counter, (&meters, spent), ends, clock)?;
    let serving = tokio::spawn(socket.serve(counter));
    let watching = watch_over(pulses, notifier.clone(), clock);

    let (governing, allowance, appetite) = heat::start(&settings, reins, clock, governor_pulse)?;

    let inlets = Inlets {
        broker: broker_inlet,
        spool: store.events,
        engine: engine_inlet,
        uplink: uplink_inlet,
        allowance,
        inquiries: inquiry_inlet,
        outfits: outfit_inlet,
        probes: swaps.probes,
        rollout: swaps.rollout,
    };
    let outlets = Outlets {
        broker: Outlet::new(broker_commands.clone()),
        spool: store.commands,
        engine: Outlet::new(engine_commands),
        uplink: Outlet::new(uplink_commands),
        learnt,
        appetite,
        heard: Outlet::new(swaps.heard),
        tap,
    };
    announce_ready(&notifier, &settings);
    // On the heap: it holds all that is under way.
    let dispatching = Box::pin(shell::run(
        dispatch,
        inlets,
        outlets,
        clock,
        &dispatch_pulse,
        stop.clone(),
    ));
    let limit = settings.drain_timeout.saturating_sub(GOODBYE);
    let end = until_drained(dispatching, stop, limit, &notifier, &ender).await;
    dispatch_pulse.retire();

    let parts = ending::Parts {
        governing,
        keeping,
        inference,
        uplink,
        lessons,
        line,
        broker_commands,
        surfaces,
        store: store.thread,
        serving,
        watching,
    };
    parts.close().await;
    if let Some(shell::End::Abandoned(who)) = end {
        bail!("{who} ended unasked");
    }
    Ok(ender.wish())
}

/// Tells the service manager that every stage is alive, as long as it is.
fn watch_over(pulses: Pulses, notifier: Notifier, clock: Clock) -> tokio::task::JoinHandle<()> {
    tokio::spawn(service::watch(Watchdog::new(pulses), notifier, clock))
}

/// The dispatcher's end, or none if the time for the drain ran out.
async fn until_drained(
    dispatching: impl Future<Output = shell::End>,
    mut stop: Stop,
    limit: Duration,
    notifier: &Notifier,
    ender: &Ender,
) -> Option<shell::End> {
    let mut dispatching = std::pin::pin!(dispatching);
    let early = tokio::select! {
        end = &mut dispatching => Some(end), // it may hear of the stop first, with nothing left to do
        () = stop.requested() => None,
    };
    if ender.wish() == Ending::Stop {
        let _ = notifier.stopping(); // the service manager will see for itself
    }
    if early.is_some() {
        return early;
    }
    let end = timeout(limit, dispatching).await.ok();
    if end.is_none() {
        tracing::warn!("not everything was finished in time; the rest waits on the disk");
    }
    end
}

/// The dispatcher, with what is to serve first.
fn dispatcher(
    settings: &Settings,
    air: &Air,
    board: &Board,
    recovered: Recovered,
    clock: Clock,
) -> Dispatch {
    let manifest = air.manifest(settings, board);
    let now = clock.now();
    let learning = lessons::resumed(settings, manifest.as_ref(), now.wall);
    let setup = setup(settings, air.first(), manifest.as_ref());
    Dispatch::new(setup, recovered, now).with(learning)
}

/// What is needed before anything else, and fails most plainly.
async fn ground(
    settings: &Settings,
) -> anyhow::Result<(Notifier, uplink::Settings, ControlSocket)> {
    let notifier = Notifier::from_env().context("the service manager's socket")?;
    let upstreams = cloud::settings(settings)?;
    keep_secret(settings);
    make_state_dir(&settings.state_dir)?;
    let max_line_bytes = settings.link.max_packet_bytes as usize + 1024;
    let socket = ControlSocket::open(&settings.control_socket, max_line_bytes).await?;
    forget_if_asked(settings)?;
    Ok((notifier, upstreams, socket))
}

/// A process that has the key of the device leaves no core dump.
fn keep_secret(settings: &Settings) {
    if settings.at_rest.device_key.is_none() {
        return;
    }
    if let Err(error) = safe::keep_out_of_dumps() {
        tracing::warn!(%error, "a core dump of this process would have the key of the device in it");
    }
    let swaps = std::fs::read_to_string(settings.roots.procfs.join("swaps"));
    if swaps.is_ok_and(|swaps| safe::swaps_to_disk(&swaps)) {
        tracing::warn!(
            "this machine swaps to a disk, where plain weights may be written: MemorySwapMax=0 in \
             the unit prevents it"
        );
    }
}

/// Forgets what a factory reset forgets, where somebody asked for one.
fn forget_if_asked(settings: &Settings) -> anyhow::Result<()> {
    let forgotten = house::reset_if_marked(&settings.state_dir);
    if let Some(left) = forgotten.context("the factory reset")? {
        tracing::warn!(path = %settings.state_dir.display(), "factory reset: all was forgotten");
        for path in left {
            tracing::warn!(path = %path.display(), "factory reset: this could not be removed, and stays");
        }
    }
    Ok(())
}

fn announce_ready(notifier: &Notifier, settings: &Settings) {
    tracing::info!(
        appliance = settings.name.as_str(),
        path = %settings.state_dir.display(),
        "ready"
    );
    if let Err(error) = notifier.ready() {
        tracing::warn!(%error, "the service manager did not hear that the appliance is ready");
    }
}

fn make_state_dir(path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(STATE_DIR_MODE)
        .create(path)
        .with_context(|| format!("cannot create the state directory {}", path.display()))
}

/// The store's thread, and what it found.
struct Store {
    thread: JoinHandle<Result<(), DiskError>>,
    commands: std::sync::mpsc::Sender<spool_shell::Command>,
    events: mpsc::Receiver<spool_shell::Event>,
    recovered: Recovered,
    shelf: Shelf,
}

impl Store {
    async fn open(
        settings: &Settings,
        meters: &Arc<Meters>,
        clock: Clock,
        pulse: Pulse,
    ) -> anyhow::Result<Self> {
        let meters = Arc::clone(meters);
        let note = move |work, took| match work {
            Work::Write => meters.written(took),
            Work::Sync => meters.synced(took),
        };
        let caps = caps(settings);
        let disk = SledSettings {
            dir: settings.state_dir.join("spool"),
            ballast_bytes: settings.spool.ballast_bytes,
        };
        let opening = tokio::task::spawn_blocking(move || open_spool(disk, caps, clock, note));
        let (spool, recovered) = opening.await.context("opening the store")??;
        let left = figures::left(&spool).context("the figures in the store")?;
        let (commands, inlet) = std::sync::mpsc::channel();
        let (outlet, events) = mpsc::channel(CHANNEL);
        let (figures_outlet, figures_events) = mpsc::channel(CHANNEL);
        let tell = move |event: spool_shell::Event| {
            if figures::is_ours(&event) {
                let _ = figures_outlet.blocking_send(event); // nobody reports
                return;
            }
            if let spool_shell::Event::Restored { live } = event {
                let _ = figures_outlet.try_send(spool_shell::Event::Restored { live });
            }
            let _ = outlet.blocking_send(event); // the dispatcher is gone: nobody waits
        };
        let shelf = Shelf {
            left,
            events: figures_events,
            commands: commands.clone(),
        };
        let beat = move || pulse.beat(clock.now());
        let thread = spool_shell::spawn(spool, inlet, tell, clock, beat)?;
        Ok(Self {
            thread,
            commands,
            events,
            recovered,
            shelf,
        })
    }
}

fn open_spool<F: Fn(Work, Duration)>(
    settings: SledSettings,
    caps: Caps,
    clock: Clock,
    note: F,
) -> anyhow::Result<(Spool<Timed<SledDisk, F>>, Recovered)> {
    let dir: PathBuf = settings.dir.clone();
    let context = || format!("cannot open the store in {}", dir.display());
    let opened = SledDisk::open(settings).with_context(context)?;
    if let Some(aside) = opened.set_aside {
        tracing::error!(
            path = %aside.display(),
            "the store could not be opened; it was moved aside and a fresh one begun"
        );
    }
    let disk = Timed::new(opened.disk, clock, note);
    let mut spool = Spool::open(disk, caps).with_context(context)?;
    if spool.set_aside() > 0 {
        tracing::error!(count = spool.set_aside(), "damaged records were set aside");
    }
    let recovered = Recovered::read(&mut spool).with_context(context)?;
    Ok((spool, recovered))
}

fn caps(settings: &Settings) -> Caps {
    let limits = &settings.spool;
    let mut bytes = PerTree::default();
    for (tree, cap) in [
        (Tree::Inbox, limits.inbox_bytes),
        (Tree::Outbox, limits.outbox_bytes),
        (Tree::Cloud, limits.cloud_bytes),
        (Tree::Review, limits.review_bytes),
        (Tree::Telemetry, limits.telemetry_bytes),
        (Tree::Outcomes, limits.outcomes_bytes),
        (Tree::Trail, limits.trail_bytes),
        (Tree::Aside, limits.aside_bytes),
    ] {
        bytes.set(tree, cap);
    }
    Caps {
        bytes,
        headroom_bytes: limits.headroom_bytes,
    }
}

fn setup(settings: &Settings, folder: Option<&Path>, manifest: Option<&Manifest>) -> Setup {
    let key = settings.at_rest.device_key.as_ref();
    let package = folder.and_then(|folder| package::Package::open_with(folder, key).ok());
    Setup {
        topics: settings.topics.clone(),
        limits: settings.intake.clone(),
        gate: settings.gate,
        router: router(settings, manifest),
        window: Window {
            count: usize::try_from(settings.spool.outcomes_kept).unwrap_or(usize::MAX),
            age: settings.spool.outcomes_kept_for,
            bytes: settings.spool.outcomes_bytes,
            trail_bytes: settings.spool.trail_bytes,
        },
        outbox_bytes: settings.spool.outbox_bytes,
        reply_expiry_s: settings.link.reply_expiry_s,
        review: review::Site {
            forms: package.as_ref().map(Forms::of).unwrap_or_default(),
            at_expiry: match settings.review.at_expiry {
                config::Expiry::Draft => Fallback::Draft,
                config::Expiry::Refuse => Fallback::Refuse,
            },
        },
        briefs: package.as_ref().map(Briefs::of).unwrap_or_default(),
        patience: Patience {
            cloud: cloud::patience(settings),
            cloud_keep: settings.cloud_keep,
            review_keep: settings.review.expires_after,
        },
    }
}

/// Connects to the broker for `lineside check`; the embedded one only if it runs.
pub async fn probe(settings: &Settings) -> Result<Duration, String> {
    line::probe(settings, Clock::start()).await
}

/// The process's exit code for an appliance that could not start or go on.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let is_unavailable = error.is::<SocketError>()
        || error.downcast_ref::<DiskError>().is_some()
        || line::is_unavailable(error);
    if error.is::<TlsError>() || error.is::<PanelError>() || error.is::<SetupError>() {
        config::EXIT_CODE
    } else if is_unavailable {
        EXIT_UNAVAILABLE
    } else {
        EXIT_INTERNAL
    }
}
