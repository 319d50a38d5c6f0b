//! What goes with a model: how its answers are judged, shown and learnt from; and what is heard of it
//! by whoever decides whether it stays.
//!
//! ```text
//!   on_outfit ──► coming ──┐
//!                          ├── the same load ──► worn ──► former, for answers that come late
//!   Load { Serves } ───────┘
//! ```
//!
//! An outfit is put on when the engine says that its load serves, whichever of the two comes first. An
//! answer is judged by the outfit of the load that it was computed under.

use super::{Dispatch, Phase, engine};
use crate::clock::Now;
use crate::engine::{Completion, Fault, LoadEnd, LoadNo, Standing};
use crate::governor::{Cause, Level, Taken};
use crate::intake::{Code, Request};
use crate::ota::course::Answer;
use crate::reply::Source;
use crate::router::Router;
use crate::router::confidence::learning::Learning;
use crate::spool::forms::Draft;
use crate::ticket::TicketNo;
use crate::{review, uplink};

/// What a model refuses, and not the appliance.
const OF_THE_MODEL: [Code; 3] = [Code::OverContext, Code::Schema, Code::UnknownTask];

/// Everything outside the engine that belongs to a model.
#[derive(Clone, Debug)]
pub struct Outfit {
    /// Of which load.
    pub load: LoadNo,
    /// Package and number.
    pub package: (String, u64),
    /// How it came to serve.
    pub standing: Standing,
    /// Where requests go, and how sure answers must be.
    pub router: Router,
    /// How a person may answer.
    pub forms: review::Forms,
    /// How requests read for a model elsewhere.
    pub briefs: uplink::Briefs,
    /// What was learnt of its answers here.
    pub learning: Learning,
}

/// What is heard of a load.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// It serves, or does not.
    Load(LoadNo, LoadEnd),
    /// A request of it ended.
    Answer(LoadNo, Answer),
    /// The board got so hot that nothing is computed, or it is no longer.
    Hot(bool),
    /// A [`Probe`] was answered with this, or had to give way.
    Mark {
        /// Of which load.
        load: LoadNo,
        /// Which.
        item: usize,
        /// The answer.
        text: Option<String>,
    },
}

/// An item of a gate suite, to be asked of a load while nothing else is.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Of which load.
    pub load: LoadNo,
    /// Which.
    pub item: usize,
    /// The question.
    pub request: Request,
    /// Only if something was computed since the last one: an engine that nobody needs is to be ended,
    /// and not to be started for this.
    pub after_work: bool,
}

/// The ticket of a probe: no request has it.
const PROBE: TicketNo = TicketNo(u64::MAX);

/// The outfit that is worn, besides what lies in the setup.
#[derive(Debug, Default)]
pub(super) struct Worn {
    load: LoadNo,
    package: (String, u64),
    standing: Standing,
    /// It came before its load served.
    coming: Option<Box<Outfit>>,
    /// The load that serves, where its outfit has not come yet.
    awaited: Option<LoadNo>,
    former: Option<Box<Former>>,
    is_hot: bool,
    /// The probe under way.
    probe: Option<(LoadNo, usize)>,
    /// Something was computed since the last one.
    worked: bool,
}

/// What was worn before: its load's last answers may still come.
#[derive(Debug)]
struct Former {
    load: LoadNo,
    package: (String, u64),
    standing: Standing,
    router: Router,
    learning: Learning,
}

impl Dispatch {
    /// Something goes with a load that serves, or soon will.
    pub fn on_outfit(&mut self, outfit: Outfit) {
        let serves = [Some(self.worn.load), self.worn.awaited];
        if serves.contains(&Some(outfit.load)) {
            self.wear(outfit);
        } else {
            self.worn.coming = Some(Box::new(outfit));
        }
    }

    /// A load serves, or does not.
    pub(super) fn on_load(&mut self, load: LoadNo, end: LoadEnd) {
        if end == LoadEnd::Serves && load != self.worn.load {
            match self.worn.coming.take() {
                Some(outfit) if outfit.load == load => self.wear(*outfit),
                coming => {
                    self.worn.coming = coming;
                    self.worn.awaited = Some(load);
                }
            }
        }
        self.out.heard.push(Heard::Load(load, end));
    }

    fn wear(&mut self, outfit: Outfit) {
        self.worn.awaited = None;
        let router = std::mem::replace(&mut self.setup.router, outfit.router);
        self.setup.review.forms = outfit.forms;
        self.setup.briefs = outfit.briefs;
        if outfit.load == self.worn.load {
            return; // planned anew: the model and what was learnt of it are the same
        }
        let same = |package: &(String, u64), standing: &Standing| {
            *package == outfit.package && standing.variant == outfit.standing.variant
        };
        let former = self.worn.former.take();
        let learning = match former.filter(|it| same(&it.package, &it.standing)) {
            // What was learnt since it served last was learnt of another.
            Some(former) => former.learning,
            None if same(&self.worn.package, &self.worn.standing) => self.learning.clone(),
            None => outfit.learning,
        };
        self.worn.former = Some(Box::new(Former {
            load: self.worn.load,
            package: std::mem::replace(&mut self.worn.package, outfit.package),
            standing: std::mem::replace(&mut self.worn.standing, outfit.standing),
            router,
            learning: std::mem::replace(&mut self.learning, learning),
        }));
        self.worn.load = outfit.load;
    }

    /// An answer of a model says how that came to serve.
    pub(super) fn tell_standing(&self, draft: &mut Draft) {
        if draft.source != Source::Edge {
            return;
        }
        let model = &mut draft.completion.model;
        let is_own =
            |(package, seq): &(String, u64)| *package == model.package && *seq == model.seq;
        let former = self.worn.former.as_ref().filter(|it| is_own(&it.package));
        let standing = match former {
            _ if is_own(&self.worn.package) => Some(&self.worn.standing),
            former => former.map(|it| &it.standing),
        };
        model.standing = standing.cloned();
    }

    /// How what serves came to serve; none before anything does.
    pub(super) fn standing(&self) -> Option<&Standing> {
        let worn = &self.worn;
        (!worn.package.0.is_empty()).then_some(&worn.standing)
    }

    /// By whose bars an answer of this load is judged.
    pub(super) fn router_of(&self, load: LoadNo) -> &Router {
        let former = self.worn.former.as_ref().filter(|it| it.load == load);
        former.map_or(&self.setup.router, |it| &it.router)
    }

    /// What was learnt of the answers of this load.
    pub(super) fn learning_of(&self, load: LoadNo) -> &Learning {
        let former = self.worn.former.as_ref().filter(|it| it.load == load);
        former.map_or(&self.learning, |it| &it.learning)
    }

    /// A job ended without an answer: what that says of the model.
    pub(super) fn hear_fault(&mut self, load: LoadNo, fault: &Fault) {
        let answer = match fault {
            Fault::Crashed => Answer::Failed,
            Fault::Refused { code, .. } if *code == Code::Deadline => Answer::Failed,
            // Other tasks or a smaller context refuse what was answered before.
            Fault::Refused { code, .. } if OF_THE_MODEL.contains(code) => Answer::Refused,
            Fault::Busy | Fault::Refused { .. } => return,
        };
        self.hear(load, answer);
    }

    /// The edge answered; one that was computed before says nothing new.
    pub(super) fn hear_answer(&mut self, load: LoadNo, completion: &Completion, doubted: bool) {
        if completion.origin == engine::Origin::Model {
            self.hear(
                load,
                if doubted {
                    Answer::Escalated
                } else {
                    Answer::Good
                },
            );
        }
    }

    /// A request's time was up while the engine had it.
    pub(super) fn hear_late(&mut self) {
        self.hear(self.worn.load, Answer::Failed);
    }

    fn hear(&mut self, load: LoadNo, answer: Answer) {
        self.worn.worked = true;
        if load != LoadNo::default() {
            self.out.heard.push(Heard::Answer(load, answer));
        }
    }

    /// Something is to be asked again, if the engine has nothing else to do.
    pub fn on_probe(&mut self, probe: Probe, now: Now) {
        let Probe {
            load,
            item,
            request,
            after_work,
        } = probe;
        let is_idle = matches!(self.engine.state, engine::State::Ready { .. })
            && (self.engine.running, self.engine.queued) == (0, 0)
            && self.phase == Phase::Serving
            && self.allowance.state == Level::Nominal
            && (self.worn.worked || !after_work);
        if !is_idle || self.worn.probe.is_some() || load != self.worn.load {
            let text = None;
            self.out.heard.push(Heard::Mark { load, item, text });
            return;
        }
        self.worn.probe = Some((load, item));
        self.worn.worked = false;
        self.out.engine.push(engine::Command::Start(engine::Job {
            ticket: PROBE,
            due: now.mono.after(request.deadline),
            request,
            fresh: true,
        }));
    }

    /// Whether that was a probe's end, and no request's.
    pub(super) fn is_probe(&mut self, no: TicketNo, result: &Result<Completion, Fault>) -> bool {
        if no != PROBE {
            return false;
        }
        if let Some((load, item)) = self.worn.probe.take() {
            let text = result.as_ref().ok().map(|it| it.text.clone());
            self.out.heard.push(Heard::Mark { load, item, text });
        }
        true
    }

    /// The governor stops the engine, or lets it go on.
    pub(super) fn hear_heat(&mut self) {
        let is_shut = self.allowance.taken == Taken::Nobody;
        let is_hot = is_shut && self.allowance.cause == Some(Cause::Heat);
        if is_hot != self.worn.is_hot {
            self.worn.is_hot = is_hot;
            self.out.heard.push(Heard::Hot(is_hot));
        }
    }
}
