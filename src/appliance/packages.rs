//! The keeper of packages: its thread, which asks, fetches and hashes, and may take all the time
//! that it needs.
//!
//! ```text
//!  desk (console, command line) ──orders──► thread: rounds ─► keeper ─► STATE_DIR/{trust,ota,models}
//!       ◄──────────report───────────────────┘
//! ```
//!
//! Nobody waits for it: neither requests nor the drain. What it was fetching is gone on with at the
//! next start. That it cannot begin, because its root or its store cannot be read, is told as its
//! outcome and tried again, and ends nothing else.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::plan;
use super::swap::{Holding, Looked};
use crate::clock::{Clock, Now};
use crate::config::{self, AtRest, Form, PackageSource, Settings};
use crate::governor::memory::{self, Board, Wishes};
use crate::ota::course::{Named, Ring};
use crate::ota::desk::{self, Desk, Order, Outcome, Report, Root};
use crate::ota::disk;
use crate::ota::fetch::{RealPulse, Stop, Terms};
use crate::ota::floor::{Book, Journal};
use crate::ota::keeper::{Around, Found, KeepError, Keeper, LAST_RING, Progress, Site, Wish};
use crate::ota::rollout::{self, Turn};
use crate::ota::rounds::{Ended, Rounds};
use crate::ota::source::{self, Folder, Source};
use crate::ota::store::PackageId;
use crate::ota::update::{UpdateError, VariantHeader};

/// The longest sleep, so that the end of the process is soon noticed.
const BREATH: Duration = Duration::from_millis(250);
/// Before its root expires by less than this, people are told with each look: a new root takes
/// several of them, and some are on holiday.
const EXPIRES_SOON: Duration = Duration::from_hours(30 * 24);

/// The keeper's thread.
pub(super) struct Keeping {
    stop: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
}

impl Keeping {
    /// Ends it: within a breath where it waits, else as soon as its source gives way.
    pub(super) fn close(self) {
        self.end.store(true, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What the keeper and the course have to do with each other.
pub(super) struct Ties {
    /// The files in which both write; none where they cannot be read.
    pub(super) journal: Option<Journal<disk::Folder>>,
    /// What the course holds.
    pub(super) holding: Arc<Mutex<Holding>>,
    /// Hears what is here.
    pub(super) looked: Box<dyn Fn(Looked) + Send>,
}

/// Starts it, where packages come over the air.
pub(super) fn start(
    settings: &Settings,
    ota: config::Ota,
    board: &Board,
    clock: Clock,
    ties: Ties,
) -> std::io::Result<(Keeping, Desk, watch::Receiver<Report>)> {
    let ring = ota.ring.clone().unwrap_or_else(|| LAST_RING.into());
    let device = settings.name.to_string();
    let report = Report {
        place: rollout::place(&ring, &device),
        ring: ring.clone(),
        sources: ota.sources.iter().map(named).collect(),
        state: desk::IDLE,
        ..Report::default()
    };
    let (orders, inbox) = sync_channel(1);
    let (say, report) = watch::channel(report);
    let (stop, end) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let desk = Desk::new(orders, report.clone(), Arc::clone(&stop));
    let thread = Thread {
        site: Site {
            device,
            ring,
            terms: Terms::of(&ota, settings.utc_offset_minutes),
            keep_bytes: ota.keep_bytes,
        },
        state_dir: settings.state_dir.clone(),
        headroom_bytes: settings.spool.headroom_bytes,
        configured: settings.model_package.clone(),
        rounds: Rounds::new(ota.check_every),
        ota,
        engine: settings.engine.clone(),
        at_rest: settings.at_rest.clone(),
        board: *board,
        clock,
        keeper: None,
        ties,
        pointed: None,
        say,
        stop: Arc::clone(&stop),
        end: Arc::clone(&end),
    };
    std::thread::Builder::new()
        .name("packages".into())
        .spawn(move || thread.run(&inbox))?;
    Ok((Keeping { stop, end }, desk, report))
}

fn named(source: &PackageSource) -> String {
    match source {
        PackageSource::Url(url) => url.clone(),
        PackageSource::Folder(path) => path.display().to_string(),
    }
}

struct Thread {
    site: Site,
    state_dir: PathBuf,
    headroom_bytes: u64,
    /// The configuration's package.
    configured: Option<PathBuf>,
    rounds: Rounds,
    ota: config::Ota,
    engine: config::Engine,
    at_rest: AtRest,
    board: Board,
    clock: Clock,
    /// None until its root and its store could be read.
    keeper: Option<Keeper>,
    ties: Ties,
    /// What `current` names.
    pointed: Option<PackageId>,
    say: watch::Sender<Report>,
    stop: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
}

/// Why the waiting ended.
enum Due {
    Time,
    Order(Order),
    End,
}

impl Thread {
    fn run(mut self, inbox: &Receiver<Order>) {
        let mut pause = self.rounds.first(fastrand::f64());
        loop {
            let order = match self.wait(pause, inbox) {
                Due::Order(order) => Some(order),
                Due::Time => None,
                Due::End => return,
            };
            self.stop.store(false, Ordering::Relaxed);
            if self.end.load(Ordering::Relaxed) {
                return; // it came between
            }
            self.begin();
            // One that came before everybody could see that a look begins is that look's.
            let order = order.or_else(|| inbox.try_recv().ok());
            let looked = self.look(&order.unwrap_or_default());
            let ended = ended(&looked);
            pause = self.rounds.after(ended, fastrand::f64());
            self.tell(&looked, pause);
        }
    }

    /// Until the next look, or an order that comes before.
    fn wait(&mut self, pause: Duration, inbox: &Receiver<Order>) -> Due {
        let due = self.clock.now().mono.after(pause);
        loop {
            self.point();
            let left = due.since(self.clock.now().mono);
            if left.is_zero() {
                return Due::Time;
            }
            match inbox.recv_timeout(left.min(BREATH)) {
                Ok(order) => return Due::Order(order),
                Err(RecvTimeoutError::Timeout) if self.end.load(Ordering::Relaxed) => {
                    return Due::End;
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Nobody can ask any more, and the rounds go on.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(left.min(BREATH)),
            }
            if self.end.load(Ordering::Relaxed) {
                return Due::End;
            }
        }
    }

    /// Everybody sees that a look is under way.
    fn begin(&self) {
        self.say.send_modify(|report| {
            report.state = "asking";
            report.next_ms = None;
            report.progress = None;
            report.troubles.clear();
        });
    }

    fn look(&mut self, order: &Order) -> Result<Found, KeepError> {
        let mut sources = self.sources(order)?;
        if self.keeper.is_none() {
            if self.ties.journal.is_none() {
                // It could not be read at the start; nothing is swapped until a restart.
                self.ties.journal = Some(Book::open(disk::Folder::new(&self.state_dir))?.journal());
            }
            if let Some(journal) = &self.ties.journal {
                let keeper = Keeper::open(
                    self.site.clone(),
                    &self.state_dir,
                    journal,
                    &self.ota.root_file,
                    self.headroom_bytes,
                )?;
                self.keeper = Some(keeper.lying(self.at_rest.clone()));
            }
        }
        let configured = self.configured();
        let Some(keeper) = &mut self.keeper else {
            return Ok(Found::Nothing); // it was opened just now
        };
        let wish = match &order.package {
            Some(id) => Wish::Package(id.clone()),
            None => Wish::Ring,
        };
        let mut pulse = RealPulse {
            clock: self.clock,
            stop: Arc::clone(&self.stop),
        };
        let (board, engine, say) = (&self.board, &self.engine, &self.say);
        let (holding, form) = (&self.ties.holding, self.at_rest.form);
        let around = Around {
            sources: &mut sources,
            pulse: &mut pulse,
            held: &|| {
                let mut held = locked(holding).held.clone();
                held.extend(configured.clone());
                held
            },
            taken_back: &|digest| {
                let holding = locked(holding);
                let own = holding.taken_back.iter().find(|(it, _)| *it == digest);
                own.map(|(_, why)| why.clone())
            },
            fits: &mut |variant| fits(variant, board, engine, form),
            tell: &mut |progress| told(say, progress),
        };
        let looked = keeper.check(&wish, around);
        (self.ties.looked)(heard(&wish, &looked));
        looked
    }

    fn sources(&self, order: &Order) -> Result<Vec<Box<dyn Source>>, KeepError> {
        match &order.from {
            Some(folder) => Ok(vec![Box::new(Folder::new(folder.clone()))]),
            None => source::all(&self.ota).map_err(|error| KeepError::File {
                path: "ota.repository".into(),
                why: error.to_string(),
            }),
        }
    }

    /// The link that names what is committed follows the journal.
    fn point(&mut self) {
        let current = locked(&self.ties.holding).current.clone();
        if let (Some(keeper), Some(id)) = (&mut self.keeper, &current)
            && self.pointed != current
        {
            match keeper.point(id) {
                Ok(()) => self.pointed = current,
                Err(error) => tracing::warn!(%error, "the link to what is committed"),
            }
        }
    }

    /// The configuration's package, where it is one of the store.
    fn configured(&self) -> Option<PackageId> {
        let keeper = self.keeper.as_ref()?;
        let served = std::fs::canonicalize(self.configured.as_ref()?).ok()?;
        let is_served = |id: &PackageId| {
            std::fs::canonicalize(keeper.folder(id)).is_ok_and(|folder| folder == served)
        };
        keeper.packages().ok()?.into_iter().find(is_served)
    }

    fn tell(&self, looked: &Result<Found, KeepError>, pause: Duration) {
        let Now { wall, .. } = self.clock.now();
        match looked {
            Ok(Found::Nothing) => tracing::info!("no package is meant for this ring"),
            Ok(Found::Waiting(id, _)) => {
                tracing::info!(package = %id, "a package is on offer, and not yet for this device");
            }
            Ok(Found::Ready(ready)) if ready.is_new => {
                tracing::info!(
                    package = %ready.id,
                    variant = ready.quantization,
                    path = %ready.folder.display(),
                    "a package has come"
                );
                for variant in &ready.left_out {
                    tracing::info!(
                        package = %ready.id,
                        variant = variant.quantization,
                        reason = variant.why,
                        "a better variant was not taken"
                    );
                }
            }
            Ok(Found::Ready(_)) => {}
            Ok(Found::TakenBack(id, why)) => {
                tracing::info!(
                    package = %id,
                    reason = why,
                    "the package that is meant was taken back here and is not tried again"
                );
            }
            Err(error) => tracing::warn!(code = error.code(), %error, "no package came"),
        }
        let keeper = self.keeper.as_ref();
        let root = keeper.map(Keeper::root);
        if let Some((version, expires)) = root
            && expires.moment() < wall.after(EXPIRES_SOON)
        {
            tracing::warn!(version, %expires, "the trusted root expires soon");
        }
        self.say.send_modify(|report| {
            report.state = desk::IDLE;
            report.looks += 1;
            report.looked_ms = Some(wall.0);
            report.next_ms = Some(wall.after(pause).0);
            report.outcome = Some(Outcome::of(looked));
            report.root = root.map(|(version, expires)| Root {
                version,
                expires: expires.to_string(),
            });
            let here = keeper.and_then(|keeper| keeper.packages().ok());
            let here = here.into_iter().flatten();
            report.packages = here.map(|id| id.to_string()).collect();
        });
    }
}

fn locked(holding: &Mutex<Holding>) -> MutexGuard<'_, Holding> {
    // It is replaced as a whole, so a thread that ended with the lock left a whole one.
    holding.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a look says to the course. One that failed says nothing, and one for a package that was named
/// says nothing of the ring.
fn heard(wish: &Wish, looked: &Result<Found, KeepError>) -> Looked {
    let ring = match (wish, looked) {
        (Wish::Package(_), _) | (Wish::Ring, Err(_)) => None,
        (Wish::Ring, Ok(Found::Waiting(_, Turn::Halted))) => Some(Ring::Halted),
        (Wish::Ring, Ok(_)) => Some(Ring::Open),
    };
    let ready = match looked {
        Ok(Found::Ready(ready)) => Some(Named {
            id: ready.id.clone(),
            digest: ready.digest,
        }),
        Ok(_) | Err(_) => None,
    };
    Looked { ready, ring }
}

fn told(say: &watch::Sender<Report>, progress: Progress<'_>) {
    say.send_modify(|report| match progress {
        Progress::Asking(source) => report.source = Some(source.to_owned()),
        Progress::Believed(versions) => report.metadata = Some(versions.into()),
        Progress::Bringing(id, state) => report.bringing(id, state),
        Progress::Trouble(trouble) => {
            let said = (trouble.source.clone(), trouble.fault.to_string());
            report.troubles.push(said);
        }
    });
}

fn ended(looked: &Result<Found, KeepError>) -> Ended {
    match looked {
        Err(KeepError::Update(UpdateError::Stop(Stop::Shut(opens)))) => Ended::Shut(*opens),
        // What nobody wants now, or what will never do, is no reason to hurry.
        Ok(_)
        | Err(KeepError::Refused(_) | KeepError::Update(UpdateError::Stop(Stop::Unwanted))) => {
            Ended::Well
        }
        Err(KeepError::Update(error)) if error.is_final() => Ended::Well,
        Err(_) => Ended::Failed,
    }
}

/// Whether a variant could be served here.
fn fits(
    variant: &VariantHeader,
    board: &Board,
    engine: &config::Engine,
    form: Form,
) -> Result<(), String> {
    let wishes = Wishes {
        sealed: form == Form::Encrypted,
        ..plan::wishes_of_site(engine)
    };
    let planned = memory::plan(&plan::shape(&variant.header), board, &wishes);
    planned.map(drop).map_err(|refusal| refusal.to_string())
}
