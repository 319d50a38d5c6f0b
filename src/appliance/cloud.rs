//! The way to models elsewhere: which there are, who may have what, and the uplink's task.

use std::path::Path;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::GOODBYE;
use crate::broker::{Secret, Tls};
use crate::clock::Clock;
use crate::config::{self, Settings};
use crate::service::Pulse;
use crate::uplink::openai::{self, SetupError};
use crate::uplink::shell::{self, Ends};
use crate::uplink::{
    self, Allotment, Budget, Command, Cost, Event, Limits, Price, Proxy, Spending,
};

/// Where the counters of the budgets are kept, below the state directory.
const USED: &str = "uplink/used.json";
/// Calls for one errand before it is given back: one try and one more, perhaps elsewhere.
const TRIES: u32 = 2;

/// What the budgets look like, by the upstreams' names.
pub(super) type Spent = watch::Receiver<Vec<(String, Spending)>>;

/// The uplink's task.
pub(super) struct Uplink {
    task: Option<JoinHandle<Result<(), SetupError>>>,
    /// Keeps the dispatcher's inlet open where there is no task.
    _events: mpsc::Sender<Event>,
}

/// What the uplink is to be set up with; the error is a fault of the configuration.
pub(super) fn settings(settings: &Settings) -> Result<uplink::Settings, SetupError> {
    let made = uplink::Settings {
        upstreams: settings.clouds.iter().map(upstream).collect(),
        tries: TRIES.max(u32::try_from(settings.clouds.len()).unwrap_or(TRIES)),
        kept_in: used(&settings.state_dir),
    };
    openai::check(&made)?;
    Ok(made)
}

fn used(state_dir: &Path) -> std::path::PathBuf {
    state_dir.join(USED)
}

/// Starts the uplink, where there is a cloud.
pub(super) fn start(
    settings: uplink::Settings,
    clock: Clock,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    pulse: Pulse,
) -> (Uplink, Spent) {
    let kept = events.clone();
    let (spending, spent) = watch::channel(Vec::new());
    if settings.upstreams.is_empty() {
        pulse.retire();
        let uplink = Uplink {
            task: None,
            _events: kept,
        };
        return (uplink, spent);
    }
    let ends = Ends {
        commands,
        events,
        spending,
    };
    let task = tokio::spawn(async move {
        let beat = || pulse.beat(clock.now());
        let end = shell::run(settings, ends, clock, fastrand::u64(..), beat).await;
        pulse.retire();
        end
    });
    let uplink = Uplink {
        task: Some(task),
        _events: kept,
    };
    (uplink, spent)
}

impl Uplink {
    /// Waits for the counters to be on the disk. The dispatcher's end is what ends it.
    pub(super) async fn close(self) {
        let Some(task) = self.task else { return };
        match timeout(GOODBYE, task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!(%error, "the uplink"),
            Ok(Err(_)) => tracing::error!("the uplink's task did not end well"),
            Err(_) => tracing::warn!("the uplink did not end in time"),
        }
    }
}

fn upstream(cloud: &config::Upstream) -> uplink::Upstream {
    let secret = |secret: &config::Secret| Secret::new(secret.reveal().to_owned());
    uplink::Upstream {
        name: cloud.name.clone(),
        url: cloud.url.clone(),
        model: cloud.model.clone(),
        key: cloud.api_key.as_ref().map(secret),
        tls: Tls {
            ca_file: cloud.ca_file.clone(),
            identity: None,
        },
        proxy: match &cloud.proxy {
            None => Proxy::None,
            Some(config::Proxy::System) => Proxy::Environment,
            Some(config::Proxy::At(url)) => Proxy::Url {
                url: url.clone(),
                login: None,
            },
        },
        accepts: cloud.accepts,
        limits: Limits {
            connect: cloud.connect_timeout,
            total: cloud.timeout,
            ..Limits::default()
        },
        budget: Budget {
            hour: Allotment {
                requests: Some(u64::from(cloud.requests_per_hour)),
                tokens: cloud.bill.tokens_per_hour,
                cost: cloud.bill.cents_per_hour.map(cost),
            },
            month: Allotment {
                requests: cloud.bill.requests_per_month,
                tokens: cloud.bill.tokens_per_month,
                cost: cloud.bill.cents_per_month.map(cost),
            },
            price: Price {
                prompt: cloud.bill.prompt_cents * MILLIONTHS_IN_A_CENT,
                completion: cloud.bill.completion_cents * MILLIONTHS_IN_A_CENT,
            },
        },
    }
}

/// Prices are kept in millionths of the currency's unit.
const MILLIONTHS_IN_A_CENT: u64 = 10_000;
/// What is spent is kept in millionths of those.
const PARTS_IN_A_MILLIONTH: u64 = 1_000_000;

fn cost(cents: u64) -> Cost {
    Cost(cents * MILLIONTHS_IN_A_CENT * PARTS_IN_A_MILLIONTH)
}

/// How long the slowest upstream may take before the device is told something meanwhile.
pub(super) fn patience(settings: &Settings) -> Duration {
    let times = settings.clouds.iter().map(|cloud| cloud.timeout);
    times.max().unwrap_or_default()
}
