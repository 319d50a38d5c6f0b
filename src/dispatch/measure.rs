//! What the meters hear of a request.

use std::sync::Arc;
use std::time::Duration;

use super::{Dispatch, Held};
use crate::clock::Now;
use crate::engine::{Completion, Origin};
use crate::reply::{Outcome, Source};
use crate::telemetry::{self, By, Meters};

impl Dispatch {
    /// With meters that somebody reads.
    #[must_use]
    pub fn metered(mut self, meters: Arc<Meters>) -> Self {
        self.meters = meters;
        self
    }

    /// A request has its outcome.
    pub(super) fn measure(&self, held: &Held, outcome: &Outcome, now: Now) {
        let rule = &held.decision.route.rule;
        match outcome {
            Outcome::Answered { source, .. } => {
                let by = match source {
                    Source::Edge => By::Edge,
                    Source::Cloud(_) => By::Cloud,
                    Source::Human => By::Human,
                };
                self.meters.ended(rule, telemetry::Outcome::Answered(by));
                self.meters.answered(by, held.age(now));
            }
            Outcome::Refused { code, .. } => {
                self.meters.ended(rule, telemetry::Outcome::Refused(*code));
            }
            Outcome::Awaited => {}
        }
    }

    /// The engine has an answer, whatever becomes of it. One from memory costs no tokens.
    pub(super) fn measure_computed(&self, completion: &Completion) {
        if completion.origin == Origin::Model {
            let first = f64::from(completion.first_token_ms) / 1000.0;
            let first = Duration::try_from_secs_f64(first).unwrap_or_default();
            self.meters.computed(completion.tokens, first);
        }
    }
}
