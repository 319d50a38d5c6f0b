//! What one seed decides before anything happens: the site, its rules, and how much goes wrong.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use lineside::dispatch::{Patience, Setup};
use lineside::engine::State as EngineState;
use lineside::intake::{Classification, DeadlineLimits, GateLimits, Limits, Topics};
use lineside::package::Package;
use lineside::review::{Fallback, Site};
use lineside::router::pattern::NamePattern;
use lineside::router::{Accepts, Bars, Policy, Router, Rule, TaskBar, To, Upstream, Ways, When};
use lineside::spool::{Caps, PerTree, Tree};
use lineside::ticket::Window;
use lineside::uplink::Briefs;

/// What one seed decides before anything happens.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) setup: Setup,
    pub(crate) caps: Caps,
    pub(crate) engine: EngineState,
    pub(crate) slots: u32,
    pub(crate) slow_ms: u64,
    pub(crate) receive_max: usize,
    /// Steps of trouble before the quiet end.
    pub(crate) steps: u32,
    /// Of 256: how often a step is a fault.
    pub(crate) trouble: u8,
    pub(crate) cloud_slots: u32,
    pub(crate) cloud_slow_ms: u64,
}

impl Plan {
    /// A site where nothing is scarce.
    pub(crate) fn calm() -> Self {
        let mut bytes = PerTree::default();
        for tree in Tree::ALL {
            bytes.set(tree, 1 << 20);
        }
        Self {
            setup: Setup {
                topics: Topics {
                    prefix: "lineside".into(),
                    appliance: "A".into(),
                    pool: None,
                },
                limits: Limits {
                    max_payload_bytes: 4096,
                    max_prompt_bytes: 2048,
                    deadlines: DeadlineLimits {
                        default: Duration::from_secs(30),
                        max: Duration::from_mins(1),
                    },
                    default_classification: Classification::Restricted,
                    classification_by_topic: Vec::new(),
                    reply_topics: vec!["lineside/#".into(), "devices/+/answers".into()],
                },
                router: Router::default(),
                gate: GateLimits {
                    per_client: 16,
                    total: 32,
                    rate_per_s: 1000.0,
                    burst: 1000.0,
                },
                window: Window {
                    count: 1000,
                    age: Duration::from_hours(72),
                    bytes: 1 << 20,
                    trail_bytes: 1 << 20,
                },
                outbox_bytes: 1 << 19,
                reply_expiry_s: 3600,
                review: Site::default(),
                briefs: briefs(),
                patience: Patience {
                    cloud: Duration::from_secs(2),
                    cloud_keep: Duration::from_mins(10),
                    review_keep: Duration::from_mins(10),
                },
            },
            caps: Caps {
                bytes,
                headroom_bytes: 1,
            },
            engine: EngineState::Starting,
            slots: 2,
            slow_ms: 50,
            receive_max: 16,
            steps: 0,
            trouble: 0,
            cloud_slots: 2,
            cloud_slow_ms: 100,
        }
    }

    pub(crate) fn of(rng: &mut fastrand::Rng) -> Self {
        let mut plan = Self::calm();
        let tight = |rng: &mut fastrand::Rng| rng.u8(0..4) == 0;
        plan.setup.gate.total = rng.u32(4..24);
        plan.setup.gate.per_client = rng.u32(2..12);
        if tight(rng) {
            plan.setup.gate.rate_per_s = 5.0;
            plan.setup.gate.burst = 3.0;
        }
        if tight(rng) {
            plan.caps.bytes.set(Tree::Inbox, rng.u64(400..1500));
        }
        if tight(rng) {
            plan.caps.bytes.set(Tree::Outbox, rng.u64(500..3000));
            plan.setup.outbox_bytes = rng.u64(500..3000);
        }
        if tight(rng) {
            plan.setup.window.count = rng.usize(1..12);
        }
        if tight(rng) {
            plan.engine = EngineState::Absent;
        }
        plan.slots = rng.u32(1..4);
        plan.slow_ms = [5, 200, 3000][rng.usize(0..3)];
        plan.receive_max = rng.usize(2..16);
        plan.steps = rng.u32(100..400);
        plan.trouble = [0, 4, 10, 25][rng.usize(0..4)];
        if rng.u8(0..4) > 0 {
            plan.setup.router = random_router(rng);
        }
        plan.cloud_slots = rng.u32(1..4);
        plan.cloud_slow_ms = [5, 300, 4000, 40_000][rng.usize(0..4)];
        if rng.bool() {
            plan.setup.review.at_expiry = Fallback::Refuse;
        }
        plan.setup.patience = Patience {
            cloud: Duration::from_millis([20, 500, 3000][rng.usize(0..3)]),
            cloud_keep: Duration::from_millis(rng.u64(1000..600_000)),
            review_keep: Duration::from_millis(rng.u64(1000..600_000)),
        };
        if tight(rng) {
            plan.caps.bytes.set(Tree::Cloud, rng.u64(0..2000));
        }
        if tight(rng) {
            plan.caps.bytes.set(Tree::Review, rng.u64(0..2000));
        }
        if tight(rng) {
            plan.setup.window.trail_bytes = rng.u64(500..3000);
        }
        plan
    }
}

/// The words of the bundled package.
fn briefs() -> Briefs {
    static BRIEFS: OnceLock<Briefs> = OnceLock::new();
    let read = || {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
        Briefs::of(&Package::open(&folder).expect("the bundled package"))
    };
    BRIEFS.get_or_init(read).clone()
}

/// A table of rules by chance, with whoever may answer besides the edge.
fn random_router(rng: &mut fastrand::Rng) -> Router {
    let accepts = |rng: &mut fastrand::Rng| {
        let all = [Classification::Public, Classification::Internal];
        Accepts::of(&all[..rng.usize(1..3)])
    };
    let names = ["main", "plant"];
    let upstreams: Vec<_> = names[..rng.usize(0..3)]
        .iter()
        .map(|name| Upstream {
            name: (*name).into(),
            accepts: accepts(rng),
        })
        .collect();
    let ways = Ways {
        doubtful_review: true,
        upstreams,
        local_review: rng.bool(),
        remote_review: if rng.bool() {
            accepts(rng)
        } else {
            Accepts::default()
        },
    };
    let bar = |threshold, verify| TaskBar { threshold, verify };
    let tasks = [
        ("triage".to_owned(), bar(0.65, false)),
        ("extract".to_owned(), bar(0.65, true)),
    ];
    let policy = if rng.bool() {
        Policy::reference(ways)
    } else {
        let to = |rng: &mut fastrand::Rng| match rng.u8(0..8) {
            0 => To::Edge,
            1..=3 => To::Cloud,
            4 => To::CloudAt("plant".into()),
            5 | 6 => To::Review,
            _ => To::Refuse,
        };
        let rule = |name: &str, when, to| Rule {
            name: name.into(),
            when,
            to,
        };
        let restricted = When {
            classification: Some(vec![Classification::Restricted]),
            ..When::default()
        };
        let triage = When {
            task: Some(vec![NamePattern::Is("triage".into())]),
            ..When::default()
        };
        let rules = vec![
            rule("stays", restricted, To::Edge),
            rule("triage", triage, to(rng)),
            rule("rest", When::default(), to(rng)),
        ];
        Policy::new(rules, ways)
    };
    Router {
        policy,
        bars: Bars {
            site: rng.bool().then_some(0.65),
            cloud: rng.bool().then_some(0.5),
            tasks: tasks.into(),
        },
        ..Router::default()
    }
}
