//! The way of one errand: on, another way, again, or back.

use std::sync::Arc;

use super::{Call, CallNo, Desk, Held, LONGEST_PAUSE, Outcome, SHORTEST_PAUSE, Stage, Under, Way};
use crate::clock::{Now, millis};
use crate::ticket::TicketNo;
use crate::uplink::breaker::{Moved, pause};
use crate::uplink::line::{Answer, Billed, Line};
use crate::uplink::{CloudAnswer, Event, Fault, Reach, Worth};

impl Desk {
    /// Those that may go now, in their order.
    pub(super) fn due(&self, now: Now) -> Vec<TicketNo> {
        let waiting = |held: &Held| match held.stage {
            Stage::Waiting { from } => from <= now.mono,
            Stage::Calling(_) => false,
        };
        let due = self.errands.iter().filter(|(_, held)| waiting(held));
        let mut due: Vec<_> = due
            .map(|(ticket, held)| (held.urgency, held.accepted, *ticket))
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, _, ticket)| ticket).collect()
    }

    /// Sends an errand on its way, leaves it where it is for a moment, or gives it back.
    pub(super) fn go(&mut self, ticket: TicketNo, now: Now) {
        let Some(held) = self.errands.get(&ticket) else {
            return;
        };
        let mut shut = Vec::new();
        let mut may_wait = false;
        for (place, way) in held.ways.iter().enumerate() {
            if way.tried {
                continue;
            }
            match self.asked(held, way.line, now) {
                Answer::Now => return self.begin(ticket, place, now),
                Answer::Full | Answer::At(_) => may_wait = true,
                answer @ (Answer::Resting(_) | Answer::Spent(_) | Answer::TooDear) => {
                    shut.push(answer);
                }
            }
        }
        if !may_wait {
            let fault = held.last.clone().unwrap_or_else(|| mildest(&shut, now));
            self.give_back(ticket, Err(fault));
        }
    }

    pub(super) fn asked(&self, held: &Held, line: usize, now: Now) -> Answer {
        let line = &self.lines[line];
        line.ask(line.worst(held.bytes, held.question.max_tokens), now)
    }

    fn begin(&mut self, ticket: TicketNo, place: usize, now: Now) {
        let held = self
            .errands
            .get_mut(&ticket)
            .expect("it was just looked at");
        let way = &mut held.ways[place];
        way.tried = true;
        let line = &mut self.lines[way.line];
        let no = CallNo(self.next_call);
        self.next_call += 1;
        let left = held.until.since(now.mono);
        let total = line.upstream.limits.total;
        held.tries += 1;
        held.stage = Stage::Calling(no);
        let worst = line.worst(held.bytes, held.question.max_tokens);
        let under = Under {
            ticket,
            line: way.line,
            booking: line.begin(no, worst, now),
            began: now.mono,
            hurried: left < total,
        };
        self.out.calls.push(Call {
            no,
            upstream: under.line,
            key: held.key.clone(),
            question: Arc::clone(&held.question),
            limit: left.min(total),
        });
        self.calls.insert(no, under);
    }

    pub(super) fn ended(&mut self, no: CallNo, under: &Under, outcome: Outcome, now: Now) {
        let Outcome { result, billed } = outcome;
        // Less time than the upstream usually has says nothing about the upstream.
        let result = match result {
            Err(Fault::Slow) if under.hurried => Err(Fault::Late),
            result => result,
        };
        let line = &mut self.lines[under.line];
        let moved = line.end(no, under.booking, (billed, result.as_ref().err()), now);
        log_move(moved, line, result.as_ref().err(), now);
        let name = line.upstream.name.clone();
        let Some(held) = self.errands.get_mut(&under.ticket) else {
            return;
        };
        match result {
            Ok(reading) => {
                let answer = CloudAnswer {
                    upstream: name,
                    model: reading.model,
                    text: reading.text,
                    form: held.question.form,
                    confidence: reading.confidence,
                    tokens: reading.tokens,
                    took_ms: now.mono.since(under.began).as_secs_f32() * 1000.0,
                    tries: held.tries,
                };
                self.give_back(under.ticket, Ok(answer));
            }
            Err(fault) => self.failed(under.ticket, fault, now),
        }
    }

    /// A call of an errand failed: another way, another try, or the end.
    fn failed(&mut self, ticket: TicketNo, fault: Fault, now: Now) {
        let Some(held) = self.errands.get(&ticket) else {
            return;
        };
        let is_shut = |way: &Way| {
            matches!(
                self.asked(held, way.line, now),
                Answer::Resting(_) | Answer::Spent(_) | Answer::TooDear
            )
        };
        let all_shut = held.ways.iter().all(is_shut);
        let another_way = held.ways.iter().any(|way| !way.tried && !is_shut(way));
        let pause = pause(
            &mut self.dice,
            SHORTEST_PAUSE,
            held.tries - 1,
            LONGEST_PAUSE,
        );
        let from = if another_way {
            now.mono
        } else {
            now.mono.after(pause)
        };
        let over = all_shut
            || held.tries >= self.tries
            || from >= held.until
            || (!another_way && fault.worth() == Worth::Never);
        if over {
            return self.give_back(ticket, Err(fault));
        }
        let held = self
            .errands
            .get_mut(&ticket)
            .expect("it was just looked at");
        if !another_way {
            held.ways.iter_mut().for_each(|way| way.tried = false);
        }
        held.last = Some(fault);
        held.stage = Stage::Waiting { from };
    }

    /// Errands whose time is up.
    pub(super) fn expire(&mut self, now: Now) {
        let late = self
            .errands
            .iter()
            .filter(|(_, held)| held.until <= now.mono);
        let late: Vec<_> = late.map(|(ticket, _)| *ticket).collect();
        for ticket in late {
            if let Some(held) = self.errands.remove(&ticket) {
                self.break_off(held.stage, now);
                self.tell_end(ticket, Err(Fault::Late));
            }
        }
    }

    /// Breaks off the call of an errand that has left. What it was billed, nobody will know.
    pub(super) fn break_off(&mut self, stage: Stage, now: Now) {
        if let Stage::Calling(no) = stage
            && let Some(under) = self.calls.remove(&no)
        {
            let how = (Billed::Unknown, Some(&Fault::Late));
            self.lines[under.line].end(no, under.booking, how, now);
            self.out.aborts.push(no);
        }
    }

    fn give_back(&mut self, ticket: TicketNo, result: Result<CloudAnswer, Fault>) {
        if self.errands.remove(&ticket).is_some() {
            self.tell_end(ticket, result);
        }
    }

    pub(super) fn tell_end(&mut self, ticket: TicketNo, result: Result<CloudAnswer, Fault>) {
        self.out.events.push(Event::Ended { ticket, result });
    }
}

/// Of all that keeps an errand from going, what ends first.
fn mildest(shut: &[Answer], now: Now) -> Fault {
    let mut faults = Vec::new();
    for answer in shut {
        match answer {
            Answer::Resting(until) => {
                let after = until.since(now.mono);
                faults.push((after, Fault::Resting { after }));
            }
            Answer::Spent(until) => {
                let after = until.since(now.mono);
                faults.push((after, Fault::Budget { after }));
            }
            Answer::TooDear | Answer::Now | Answer::Full | Answer::At(_) => {}
        }
    }
    let first = faults.into_iter().min_by_key(|(after, _)| *after);
    first.map_or(Fault::TooDear, |(_, fault)| fault)
}

fn log_move(moved: Moved, line: &Line, fault: Option<&Fault>, now: Now) {
    let source = line.upstream.name.as_str();
    match (moved, line.reach(now)) {
        (Moved::Opened, Reach::Resting { until }) => tracing::warn!(
            source,
            reason = fault.map_or("unknown", Fault::word),
            pause_ms = millis(until.since(now.mono)),
            "an upstream rests"
        ),
        (Moved::Closed, _) => tracing::info!(source, "an upstream is back"),
        (Moved::No | Moved::Opened, _) => {}
    }
}
