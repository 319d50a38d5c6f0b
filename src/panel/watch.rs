//! The watch: looks at the appliance at a fixed rate, whoever asks for what.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::facts::{LOOK, Look, Record};
use super::{House, MAX_STREAMS, Rollout};
use crate::config::SpoolLimits;
use crate::dispatch::{Answer, Inquiry, Latest, StatusReport, Wanted};

/// Between two looks in any case, however many come and go.
const LEAST: Duration = Duration::from_millis(250);
/// Requests that the page lists.
const LATEST: usize = 12;
/// Looks from one look at the memory to the next: it reads the files of processes.
const MEMORY_EVERY: u64 = 5;
/// Looks from one list of the latest requests to the next: it reads from the store.
const LATEST_EVERY: u64 = 2;

/// The room of each tree of the spool.
pub(super) fn limits(spool: &SpoolLimits) -> Vec<(&'static str, u64)> {
    use crate::spool::Tree;
    let limit = |tree| match tree {
        Tree::Inbox => spool.inbox_bytes,
        Tree::Outbox => spool.outbox_bytes,
        Tree::Cloud => spool.cloud_bytes,
        Tree::Review => spool.review_bytes,
        Tree::Telemetry => spool.telemetry_bytes,
        Tree::Outcomes => spool.outcomes_bytes,
        Tree::Trail => spool.trail_bytes,
        Tree::Aside => spool.aside_bytes,
    };
    Tree::ALL
        .iter()
        .map(|tree| (tree.word(), limit(*tree)))
        .collect()
}

/// For ever.
pub(super) async fn run(house: Arc<House>) {
    let mut record = Record::default();
    let mut watched_before = false;
    for turn in 0_u64.. {
        let watched = house.streams.available_permits() < MAX_STREAMS;
        let fresh = watched && !watched_before;
        watched_before = watched;
        let due = |every: u64| watched && (fresh || turn.is_multiple_of(every));
        let look = Look {
            status: status(&house).await,
            latest: if due(LATEST_EVERY) {
                latest(&house).await
            } else {
                None
            },
            memory: if due(MEMORY_EVERY) {
                house.sources.counter.memory().await
            } else {
                None
            },
            packages: house.sources.counter.packages(),
            rollout: Rollout::of(house.sources.counter.course()),
        };
        let now = house.clock.now();
        let (broker, limits) = (&house.broker, &house.limits);
        let seen = record.on_look(look, &house.sources.meters, broker, limits, now);
        let governor = seen.status.as_ref().map(|it| &it.governor);
        house.track.send_replace(record.track(governor).into());
        house.seen.send_replace(Arc::new(seen));
        sleep(LEAST).await;
        // The next look, or somebody new who wants to see everything at once.
        let _ = timeout(LOOK.saturating_sub(LEAST), house.hurry.notified()).await;
    }
}

async fn status(house: &House) -> Option<StatusReport> {
    match house.sources.counter.inquire(Inquiry::Status).await? {
        Answer::Status(report) => Some(*report),
        Answer::Reply(_)
        | Answer::Trace(_)
        | Answer::Learned(_)
        | Answer::Review(_)
        | Answer::Latest(_)
        | Answer::Maintenance(_) => None,
    }
}

async fn latest(house: &House) -> Option<Latest> {
    let wanted = Wanted {
        max: Some(LATEST),
        ..Wanted::default()
    };
    match house
        .sources
        .counter
        .inquire(Inquiry::Latest(wanted))
        .await?
    {
        Answer::Latest(latest) => Some(latest),
        Answer::Reply(_)
        | Answer::Status(_)
        | Answer::Trace(_)
        | Answer::Learned(_)
        | Answer::Review(_)
        | Answer::Maintenance(_) => None,
    }
}
