//! What the topic `ota/state` says.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use crate::clock::Mono;
use crate::ota::course::Report;
use crate::ota::desk;
use crate::ota::store::PackageId;

/// How often a download's progress is told: each is a message to every subscriber.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// The topic, and what was last told on it.
pub(super) struct Topic {
    say: watch::Sender<Vec<u8>>,
    told: Option<Told>,
}

struct Told {
    /// All but the progress.
    step: String,
    payload: Vec<u8>,
    at: Mono,
}

impl Topic {
    pub(super) fn new(say: watch::Sender<Vec<u8>>) -> Self {
        Self { say, told: None }
    }

    /// Tells it, if that is another word than before. A mere step of progress waits.
    pub(super) fn show(
        &mut self,
        course: &Report,
        keeper: &desk::Report,
        alarm: Option<&str>,
        now: Mono,
    ) {
        let message = Message {
            alarm: alarm.map(str::to_owned),
            ..Message::of(course, keeper)
        };
        let step = format!(
            "{} {:?} {:?} {:?} {:?} {:?}",
            message.state,
            message.package,
            message.serving,
            message.reason,
            message.alarm,
            message.looked.as_ref().map(Looked::step)
        );
        let payload = serde_json::to_vec(&message).unwrap_or_default();
        let is_due = self.told.as_ref().is_none_or(|told| {
            let waited = now.since(told.at) >= PROGRESS_EVERY;
            told.payload != payload && (told.step != step || waited)
        });
        if is_due {
            self.say.send_replace(payload.clone());
            let at = now;
            self.told = Some(Told { step, payload, at });
        }
    }
}

/// The message.
#[derive(Debug, Serialize)]
struct Message {
    /// As in the course's report; `downloading` and `verifying` while a package comes.
    state: &'static str,
    /// How far that is, from 0 to 1.
    progress: Option<f64>,
    package: Option<String>,
    seq: Option<u64>,
    code: Option<String>,
    reason: Option<String>,
    serving: Option<String>,
    attempt: u8,
    pinned: Option<String>,
    halted: bool,
    /// What the watch found wrong with what serves.
    alarm: Option<String>,
    ring: String,
    place: u16,
    /// How the last look for packages ended; none before it.
    looked: Option<Looked>,
}

/// What a look found, and why it does not come here, if it does not.
#[derive(Debug, Serialize)]
struct Looked {
    /// `ready`, `nothing`, `later`, `halted`, `taken_back` or `failed`.
    state: &'static str,
    package: Option<String>,
    code: Option<&'static str>,
    message: Option<String>,
}

impl Looked {
    /// What makes it another word than before: the message of a failure may differ each time.
    fn step(&self) -> (&'static str, Option<&str>, Option<&str>) {
        (self.state, self.package.as_deref(), self.code)
    }
}

impl Message {
    fn of(course: &Report, keeper: &desk::Report) -> Self {
        let coming = keeper.progress.as_ref();
        let coming = coming.filter(|_| ["downloading", "verifying"].contains(&keeper.state));
        let rests = ["idle", "committed", "rolled_back", "withdrawn"].contains(&course.state);
        let mut state = Self {
            state: course.state,
            progress: share_of_trial(course),
            package: course.package.clone(),
            seq: course.seq,
            code: course.code.clone(),
            reason: course.reason.clone(),
            serving: course.serving.clone(),
            attempt: course.attempt,
            pinned: course.pinned.clone(),
            halted: course.halted,
            alarm: None,
            ring: keeper.ring.clone(),
            place: keeper.place,
            looked: keeper.outcome.as_ref().map(|it| Looked {
                state: it.state,
                package: it.package.clone(),
                code: it.code,
                message: it.message.clone(),
            }),
        };
        if let Some(coming) = coming.filter(|_| rests) {
            let id = PackageId::parse(&coming.package);
            state.state = keeper.state;
            state.progress = share(coming.there_bytes, coming.needed_bytes);
            state.seq = id.map(|it| it.seq);
            state.package = Some(coming.package.clone());
            (state.code, state.reason) = (None, None);
        }
        state
    }
}

/// The lesser of what was answered and what has passed.
fn share_of_trial(course: &Report) -> Option<f64> {
    let (good, most) = course.good?;
    let (served, whole) = course.served_ms?;
    let answered = share(good.into(), most.into()).unwrap_or(1.0);
    let passed = share(served, whole).unwrap_or(1.0);
    Some(answered.min(passed))
}

#[expect(clippy::cast_precision_loss, reason = "it is shown with three digits")]
fn share(part: u64, whole: u64) -> Option<f64> {
    let share = (part as f64 / whole as f64).min(1.0);
    (whole > 0).then_some((share * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topic_tells_of_a_download_only_while_no_package_is_on_its_way_here() {
        let fetching = desk::Fetching {
            package: "plant-3".into(),
            needed_bytes: 1000,
            there_bytes: 250,
            reused_bytes: 0,
            fetched_bytes: 250,
        };
        let keeper = desk::Report {
            ring: "canary".into(),
            state: "downloading",
            progress: Some(fetching),
            ..desk::Report::default()
        };
        let mut course = Report {
            state: "committed",
            package: Some("plant-2".into()),
            seq: Some(2),
            ..Report::default()
        };
        let state = Message::of(&course, &keeper);
        assert_eq!((state.state, state.seq), ("downloading", Some(3)));
        assert_eq!(state.progress, Some(0.25));
        course.state = "trial";
        course.good = Some((10, 20));
        course.served_ms = Some((100, 1000));
        let state = Message::of(&course, &keeper);
        assert_eq!((state.state, state.seq), ("trial", Some(2)));
        assert_eq!(state.progress, Some(0.1));
    }

    #[test]
    fn a_step_is_told_at_once_and_mere_progress_now_and_then() {
        let (say, mut heard) = watch::channel(Vec::new());
        let mut topic = Topic::new(say);
        let keeper = desk::Report::default();
        let mut course = Report {
            state: "trial",
            good: Some((0, 10)),
            served_ms: Some((0, 10)),
            ..Report::default()
        };
        let at = |ms| Mono::default().after(Duration::from_millis(ms));
        let mut told = |course: &Report, ms| {
            topic.show(course, &keeper, None, at(ms));
            let is_new = heard.has_changed().unwrap();
            heard.mark_unchanged();
            is_new
        };
        assert!(told(&course, 0));
        assert!(!told(&course, 100), "nothing is new");
        (course.good, course.served_ms) = (Some((5, 10)), Some((5, 10)));
        assert!(!told(&course, 200), "progress alone");
        assert!(told(&course, 5200));
        course.state = "committed";
        assert!(told(&course, 5300));
    }
}
