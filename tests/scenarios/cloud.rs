//! An uplink with moods: answers, every fault, slow ones, and ones that come when nobody waits.

use std::collections::VecDeque;
use std::time::Duration;

use lineside::engine::{Form, Tokens};
use lineside::intake::Classification;
use lineside::ticket::TicketNo;
use lineside::uplink::{
    CloudAnswer, Command, Errand, Event, Fault, Garble, Misfit, Reach, Standing, State,
};

/// Stands in every restricted request and in the answers to them, and in nothing else.
pub(crate) const SECRET: &str = "quetzalcoatlus";

#[derive(Debug)]
struct Inside {
    ticket: TicketNo,
    ends: Duration,
    result: Result<CloudAnswer, Fault>,
}

#[derive(Debug)]
pub(crate) struct Cloud {
    upstreams: Vec<String>,
    slots: u32,
    up: bool,
    slow_ms: u64,
    inside: Vec<Inside>,
    pub(crate) commands: VecDeque<Command>,
    pub(crate) events: VecDeque<Event>,
    /// What left that should not have.
    pub(crate) wrong: Option<String>,
    answers: u64,
    /// What comes next, whatever the time; then chance decides.
    pub(crate) script: VecDeque<(Duration, Result<Said, Fault>)>,
    /// The keys of all that was asked.
    pub(crate) asked: Vec<String>,
}

/// An answer, and how sure it is.
pub(crate) type Said = (&'static str, Option<f32>);

impl Cloud {
    pub(crate) fn new(upstreams: Vec<String>, slots: u32, slow_ms: u64) -> Self {
        let mut cloud = Self {
            upstreams,
            slots,
            up: true,
            slow_ms,
            inside: Vec::new(),
            commands: VecDeque::new(),
            events: VecDeque::new(),
            wrong: None,
            answers: 0,
            script: VecDeque::new(),
            asked: Vec::new(),
        };
        cloud.begin();
        cloud
    }

    /// With a new process comes a new uplink.
    pub(crate) fn begin(&mut self) {
        self.inside.clear();
        self.commands.clear();
        self.events.clear();
        self.tell();
    }

    fn tell(&mut self) {
        let reach = if self.up {
            Reach::Open
        } else {
            let until = lineside::clock::Mono(Duration::from_hours(1000));
            Reach::Resting { until }
        };
        let standing = |name: &String| Standing {
            name: name.clone(),
            reach,
        };
        self.events.push_back(Event::State(State {
            slots: if self.up { self.slots } else { 0 },
            upstreams: self.upstreams.iter().map(standing).collect(),
        }));
    }

    pub(crate) fn set_up(&mut self, up: bool) {
        if self.up != up && !self.upstreams.is_empty() {
            self.up = up;
            self.tell();
        }
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        self.inside.iter().map(|inside| inside.ends).min()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.inside.is_empty() && self.commands.is_empty() && self.events.is_empty()
    }

    pub(crate) fn take_command(
        &mut self,
        at: Duration,
        started: Duration,
        rng: &mut fastrand::Rng,
        moody: bool,
    ) {
        match self.commands.pop_front() {
            Some(Command::Send(errand)) => self.take(&errand, at, started, rng, moody),
            Some(Command::Cancel(no)) => self.inside.retain(|inside| inside.ticket != no),
            None => {}
        }
    }

    fn take(
        &mut self,
        errand: &Errand,
        at: Duration,
        started: Duration,
        rng: &mut fastrand::Rng,
        moody: bool,
    ) {
        let ticket = errand.ticket();
        self.asked.push(errand.key.as_str().to_owned());
        let told = format!("{:?}", errand.question);
        if errand.classification == Classification::Restricted || told.contains(SECRET) {
            self.wrong = Some(format!("(3) {ticket:?} is restricted and leaves"));
        }
        if self.inside.iter().any(|inside| inside.ticket == ticket) {
            self.wrong = Some(format!("{ticket:?} is asked about twice at a time"));
        }
        if self.inside.len() > 2 * self.slots as usize {
            return self.end(ticket, Err(Fault::Busy));
        }
        if let Some((after, result)) = self.script.pop_front() {
            let result = result.map(|(text, confidence)| CloudAnswer {
                text: text.into(),
                confidence,
                ..self.answer("", rng)
            });
            let ends = at + after;
            return self.inside.push(Inside {
                ticket,
                ends,
                result,
            });
        }
        let result = if moody && rng.u8(..) < 110 {
            Err(fault(rng))
        } else {
            Ok(self.answer(&errand.question.input, rng))
        };
        let spread = if moody { rng.u64(0..=self.slow_ms) } else { 5 };
        let ends = at + Duration::from_millis(spread);
        let until = started + errand.until.0;
        // A real uplink ends it when its time is up. Now and then the answer is on its way then.
        let (ends, result) = if ends >= until && (!moody || rng.u8(0..4) > 0) {
            (until.max(at), Err(Fault::Late))
        } else {
            (ends, result)
        };
        self.inside.push(Inside {
            ticket,
            ends,
            result,
        });
    }

    fn answer(&mut self, input: &str, rng: &mut fastrand::Rng) -> CloudAnswer {
        self.answers += 1;
        // Sometimes the same as the edge says, so that a verification agrees.
        let text = if input.contains("belt") || rng.bool() {
            "same".into()
        } else {
            format!("from elsewhere {}", self.answers)
        };
        CloudAnswer {
            upstream: self.upstreams.first().cloned().unwrap_or_default(),
            model: "large".into(),
            text,
            form: Form::Text,
            confidence: [None, Some(0.99), Some(0.2)][rng.usize(0..3)],
            tokens: Tokens::default(),
            took_ms: 1.0,
            tries: 1,
        }
    }

    pub(crate) fn pass(&mut self, at: Duration) {
        let (done, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.inside)
            .into_iter()
            .partition(|inside| inside.ends <= at);
        self.inside = rest;
        for inside in done {
            self.end(inside.ticket, inside.result);
        }
    }

    fn end(&mut self, ticket: TicketNo, result: Result<CloudAnswer, Fault>) {
        self.events.push_back(Event::Ended { ticket, result });
    }
}

fn fault(rng: &mut fastrand::Rng) -> Fault {
    let after = Duration::from_millis(rng.u64(0..100_000));
    match rng.u8(0..17) {
        0 => Fault::Uncleared,
        1 => Fault::Busy,
        2 => Fault::Resting { after },
        3 => Fault::Budget { after },
        4 => Fault::TooDear,
        5 => Fault::Unreachable,
        6 => Fault::Untrusted,
        7 => Fault::Broken,
        8 => Fault::Slow,
        9 => Fault::Late,
        10 => Fault::Limited { after: Some(after) },
        11 => Fault::Limited { after: None },
        12 => Fault::Failing(503),
        13 => Fault::Denied(401),
        14 => Fault::Elsewhere,
        15 => Fault::Rejected(400),
        _ if rng.bool() => Fault::Garbled(Garble::Json),
        _ => Fault::Misfit(Misfit::Truncated),
    }
}
