//! What the engine is to serve: from a package's folder to a model and how it is run.
//!
//! ```text
//!  course ── Order ──┐                          ┌─ Wanted ─► engine
//!                    ├─► looks, verifies, plans ─┤
//!  governor ─ Replan ┘                          └─ Outfit ─► dispatcher, before it
//! ```
//!
//! Purpose: a package's folder is opened and verified here, byte by byte, before anything of it is
//! loaded, and planned for the memory that there is; planned anew when the governor asks for it.
//! What goes with a model outside the engine (bars, forms, what was learnt) is an [`Outfit`], made of
//! the same look at the same folder, so that nobody ever sees half of each.
//!
//! Owns the plan in force. Invariants: one order at a time, the last one counts; a load that fails
//! here is told under its number, as one that fails in the engine is.
//!
//! How it fails: a trial that cannot be planned leaves what serves as it is; anything else that
//! cannot be served makes the engine absent, with the reason.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, watch};

use super::{inference, lessons, plan};
use crate::clock::Clock;
use crate::config::Settings;
use crate::dispatch::Outfit;
use crate::engine::order::Book;
use crate::engine::supervise::{ActiveModel, Succession, Wanted};
use crate::engine::{LoadNo, Standing};
use crate::governor::memory::pressure::Replan;
use crate::governor::memory::{Board, Learned, Plan};
use crate::governor::sysfs::make;
use crate::package::{Package, Variant};
use crate::review::Forms;
use crate::uplink::Briefs;

/// Why nothing is served where there is nothing to serve.
pub(super) const NO_PACKAGE: &str = "no model package is set";

/// What is to be done.
#[derive(Debug)]
pub(super) enum Order {
    /// Load this and let it serve.
    Serve(Serve),
    /// Nothing serves until [`Order::Go`]: the memory is needed, for this.
    Rest(String),
    /// What served before the rest serves again.
    Go,
}

/// What is to serve.
#[derive(Clone, Debug, Default)]
pub(super) struct Serve {
    /// The number of the load.
    pub(super) load: LoadNo,
    /// The package's folder; none is none at all.
    pub(super) folder: Option<PathBuf>,
    /// What its gate found here: items that were right, and how many there were.
    pub(super) gate: Option<(usize, usize)>,
    /// On trial: if it cannot be loaded, what serves goes on.
    pub(super) is_trial: bool,
    /// Hears of a load that comes to nothing, or has nothing to load.
    pub(super) hears: Option<mpsc::Sender<Planned>>,
}

/// What became of an order, where the engine never hears of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Planned {
    /// There is nothing to load, so it serves.
    Nothing(LoadNo),
    /// It cannot be loaded.
    Failed(LoadNo, String),
}

/// Where orders come from and models go.
pub(super) struct Ends {
    pub(super) say: watch::Sender<Wanted>,
    pub(super) planned: watch::Sender<Option<u16>>,
    pub(super) outfits: mpsc::Sender<Outfit>,
    pub(super) asked_for: mpsc::Receiver<Replan>,
    pub(super) orders: mpsc::Receiver<Order>,
}

/// See the module.
pub(super) struct Planner {
    settings: Settings,
    board: Board,
    clock: Clock,
    /// What is to serve.
    serve: Serve,
    /// What kills by the kernel have taught.
    learned: Learned,
    /// The plan in force.
    plan: Option<Plan>,
    /// Bytes that it needs, for others to see.
    needs: Arc<AtomicU64>,
}

/// What a look brought.
struct Look {
    wanted: Wanted,
    outfit: Option<Outfit>,
}

impl Planner {
    pub(super) fn new(
        settings: Settings,
        board: Board,
        clock: Clock,
        needs: Arc<AtomicU64>,
    ) -> Self {
        Self {
            settings,
            board,
            clock,
            serve: Serve::default(),
            learned: Learned::default(),
            plan: None,
            needs,
        }
    }

    /// Until nobody can ask for anything any more.
    pub(super) async fn run(mut self, mut ends: Ends) {
        loop {
            let cause = tokio::select! {
                order = ends.orders.recv() => match order {
                    Some(Order::Serve(serve)) => {
                        self.serve = serve;
                        None
                    }
                    Some(Order::Rest(why)) => {
                        self.needs.store(0, Ordering::Relaxed);
                        ends.say.send_replace(Wanted::Resting { why });
                        continue;
                    }
                    Some(Order::Go) => Some(Replan::Whole),
                    None => return,
                },
                Some(cause) = ends.asked_for.recv() => {
                    if matches!(*ends.say.borrow(), Wanted::Resting { .. }) {
                        continue; // it is planned anew after the rest
                    }
                    Some(cause)
                }
            };
            // It reads and digests gigabytes.
            let work = move || {
                let look = self.look(cause);
                (self, look)
            };
            let Ok((planner, look)) = tokio::task::spawn_blocking(work).await else {
                return; // a defect, logged as such; what is served goes on
            };
            self = planner;
            self.tell(look, &ends).await;
        }
    }

    async fn tell(&mut self, look: Look, ends: &Ends) {
        let (load, hears) = (self.serve.load, self.serve.hears.clone());
        let answer = match (&look.wanted, &self.serve.folder) {
            (Wanted::Nothing { .. }, None) => Some(Planned::Nothing(load)),
            (Wanted::Nothing { why }, Some(_)) => Some(Planned::Failed(load, why.clone())),
            (Wanted::Coming | Wanted::Resting { .. } | Wanted::Model(_), _) => None,
        };
        let stays = self.serve.is_trial && answer.is_some();
        if !stays {
            let plan = self.plan.as_ref();
            let needs = plan.map_or(0, |plan| plan.needs_bytes);
            self.needs.store(needs, Ordering::Relaxed);
            ends.planned
                .send_replace(plan.map(|plan| plan.run.sequences));
            // The dispatcher is gone: so is everybody soon.
            if let Some(outfit) = look.outfit {
                let _ = ends.outfits.send(outfit).await;
            }
            ends.say.send_replace(look.wanted);
        }
        if let (Some(hears), Some(answer)) = (hears, answer) {
            let _ = hears.send(answer).await; // nobody waits for it at the end
        }
    }

    /// What is to be served, planned for what there is now.
    fn look(&mut self, cause: Option<Replan>) -> Look {
        match (cause, &self.plan) {
            (Some(Replan::Killed), Some(plan)) => self.learned.on_oom(plan),
            (Some(Replan::Killed | Replan::Smaller | Replan::Whole) | None, _) => {}
        }
        let mut board = self.learned.lower(self.board);
        if let (Some(Replan::Smaller), Some(plan)) = (cause, &self.plan) {
            let mut once = self.learned;
            once.on_oom(plan);
            board = once.lower(self.board);
        }
        let nothing = |why: String| Look {
            wanted: Wanted::Nothing { why },
            outfit: None,
        };
        let Some(folder) = self.serve.folder.clone() else {
            self.plan = None;
            return nothing(NO_PACKAGE.into());
        };
        match found_good(&folder, &self.settings, &board) {
            Ok(found) => self.dress(found, cause, &board),
            Err(why) => {
                let path = folder.display();
                tracing::error!(%path, error = why, "the package is not served");
                nothing(why)
            }
        }
    }

    fn dress(&mut self, found: Found, cause: Option<Replan>, board: &Board) -> Look {
        let before = self.plan.as_ref().map_or(0, |plan| plan.needs_bytes);
        let both = before.saturating_add(found.plan.needs_bytes);
        let succession = if cause.is_some() || both > board.ram_bytes {
            Succession::InPlace
        } else {
            Succession::Beside
        };
        let engine = &self.settings.engine;
        let model = ActiveModel {
            book: Book::of(&found.package, &found.variant),
            options: plan::options(&found.plan, engine),
            draft: engine.draft_model.as_deref().map(PathBuf::from),
            succession,
            load: self.serve.load,
        };
        let outfit = outfit(&self.settings, &found, &self.serve, self.clock);
        self.plan = Some(found.plan);
        Look {
            wanted: Wanted::Model(Arc::new(model)),
            outfit: Some(outfit),
        }
    }
}

/// A package whose every byte was verified, and how its best variant that fits is run.
struct Found {
    package: Package,
    variant: Variant,
    plan: Plan,
}

/// One that does not fit is never loaded.
fn found_good(folder: &Path, settings: &Settings, board: &Board) -> Result<Found, String> {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let key = settings.at_rest.device_key.as_ref();
    let package = Package::open_with(&folder, key).map_err(|faults| faults.to_string())?;
    // First what takes no time.
    let chosen = plan::choose(&package, board, &settings.engine);
    let chosen = chosen.map_err(|refused| plan::why(&refused))?;
    package.verify().map_err(|faults| faults.to_string())?;
    tracing::info!(
        path = %folder.display(),
        reason = plan::told(&chosen),
        "the model is planned"
    );
    let (variant, plan) = (chosen.variant.clone(), chosen.plan);
    Ok(Found {
        package,
        variant,
        plan,
    })
}

/// What goes with it outside the engine.
fn outfit(settings: &Settings, found: &Found, serve: &Serve, clock: Clock) -> Outfit {
    let manifest = plan::as_served(found.package.manifest(), &found.variant, &found.plan);
    Outfit {
        load: serve.load,
        package: (manifest.name.clone(), manifest.seq),
        standing: Standing {
            variant: found.variant.quantization.clone(),
            board: make(&settings.roots.sysfs),
            ring: settings.ota.as_ref().and_then(|it| it.ring.clone()),
            gate: serve.gate,
        },
        router: inference::router(settings, Some(&manifest)),
        forms: Forms::of(&found.package),
        briefs: Briefs::of(&found.package),
        learning: lessons::resumed(settings, Some(&manifest), clock.now().wall),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn bundled() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage")
    }

    /// Those of a site that says nothing but its name.
    fn settings() -> Settings {
        let around = config::Surroundings {
            config: None,
            env: [("HOME".to_owned(), "/nonexistent".into())].into(),
            host_name: "line-3".into(),
            etc: "/nonexistent".into(),
            packages: Vec::new(),
        };
        config::load(&around).unwrap()
    }

    fn planner(folder: &Path, ram_bytes: u64) -> Planner {
        let settings = settings();
        let board = plan::board_with(ram_bytes);
        let mut planner = Planner::new(settings, board, Clock::start(), Arc::default());
        planner.serve = Serve {
            load: LoadNo(1),
            folder: Some(folder.to_owned()),
            ..Serve::default()
        };
        planner
    }

    fn why(folder: &Path, ram_bytes: u64) -> String {
        match planner(folder, ram_bytes).look(None).wanted {
            Wanted::Nothing { why } => why,
            Wanted::Model(_) | Wanted::Coming | Wanted::Resting { .. } => panic!("it is served"),
        }
    }

    fn served(ram_bytes: u64) -> Arc<ActiveModel> {
        model(planner(&bundled(), ram_bytes).look(None).wanted)
    }

    fn model(wanted: Wanted) -> Arc<ActiveModel> {
        match wanted {
            Wanted::Model(model) => model,
            Wanted::Nothing { why } => panic!("it is not served: {why}"),
            Wanted::Coming | Wanted::Resting { .. } => panic!("it is not looked at"),
        }
    }

    #[test]
    fn an_engine_that_the_kernel_killed_is_planned_smaller_and_takes_over_in_place() {
        let mut planner = planner(&bundled(), u64::MAX);
        let first = model(planner.look(None).wanted);
        assert_eq!(first.succession, Succession::Beside);
        let smaller = model(planner.look(Some(Replan::Killed)).wanted);
        assert_eq!(smaller.succession, Succession::InPlace);
        let size = |model: &ActiveModel| (model.options.sequences, model.options.cache_tokens);
        assert!(size(&smaller) < size(&first), "{smaller:?}");
        // It is remembered: enough again is not more than what was killed.
        let again = model(planner.look(Some(Replan::Whole)).wanted);
        assert_eq!(size(&again), size(&smaller));
    }

    #[test]
    fn a_plan_that_was_made_smaller_for_a_shortage_is_whole_again_after_it() {
        let mut planner = planner(&bundled(), u64::MAX);
        let first = model(planner.look(None).wanted);
        let smaller = model(planner.look(Some(Replan::Smaller)).wanted);
        assert!(smaller.options.cache_tokens < first.options.cache_tokens);
        let again = model(planner.look(Some(Replan::Whole)).wanted);
        assert_eq!(again.options, first.options);
    }

    #[test]
    fn the_bundled_package_can_be_served_and_one_that_is_not_there_has_a_reason() {
        assert!(served(u64::MAX).book.file().starts_with(bundled()));
        let why = why(Path::new("/nonexistent/package"), u64::MAX);
        assert!(why.contains("manifest"), "{why}");
    }

    #[test]
    fn a_model_that_does_not_fit_is_not_loaded_and_the_reason_has_the_numbers() {
        let why = why(&bundled(), 16 << 20);
        assert!(why.contains("does not fit into memory"), "{why}");
        assert!(why.contains("16.0 MiB are there"), "{why}");
        let package = Package::open(&bundled()).unwrap();
        for (variant, _) in package.variants() {
            assert!(why.contains(&variant.quantization), "{why}");
        }
    }

    #[test]
    fn where_the_best_variant_does_not_fit_the_next_one_is_served() {
        let package = Package::open(&bundled()).unwrap();
        let all: Vec<_> = package.variants().map(|(variant, _)| variant).collect();
        let engine = config::Engine::default();
        let file = |ram_bytes| served(ram_bytes).book.file().to_owned();
        assert_eq!(file(u64::MAX), package.model_path(all[0]));
        let first_fits = |ram_bytes: &u64| {
            let chosen = plan::choose(&package, &plan::board_with(*ram_bytes), &engine);
            chosen.is_ok_and(|chosen| chosen.variant == all[0])
        };
        let mut sizes = (16..256).map(|mib: u64| mib << 20);
        let least = sizes.find(first_fits).unwrap();
        assert_eq!(file(least), package.model_path(all[0]));
        assert_eq!(file(least - (1 << 20)), package.model_path(all[1]));
    }

    #[test]
    fn a_model_that_fits_beside_the_one_that_serves_takes_over_beside_it_and_else_in_its_place() {
        let succession = |ram_bytes| {
            let mut planner = planner(&bundled(), ram_bytes);
            let first = model(planner.look(None).wanted);
            assert_eq!(first.succession, Succession::Beside);
            planner.serve.load = LoadNo(2);
            let look = planner.look(None);
            assert_eq!(look.outfit.unwrap().load, LoadNo(2));
            model(look.wanted).succession
        };
        assert_eq!(succession(u64::MAX), Succession::Beside);
        let mut one = planner(&bundled(), u64::MAX);
        one.look(None);
        let needs = one.plan.unwrap().needs_bytes;
        assert_eq!(succession(needs * 3 / 2), Succession::InPlace);
    }
}
