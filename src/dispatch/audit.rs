//! The dispatcher's books, checked against each other.
//!
//! Several figures are kept twice because counting anew would cost too much: how many wait, how
//! many run, who is let in. The scenarios audit them after every step; so may a self-check.

use std::collections::BTreeSet;

use super::store::Pending;
use super::{Dispatch, InboxRecord, MAX_ADDRESSES};
use crate::spool::Tree;
use crate::ticket::{State, TicketNo};

impl Dispatch {
    /// Says what does not add up.
    pub fn audit(&self) -> Result<(), String> {
        self.audit_counts()?;
        self.audit_keys()?;
        self.audit_held()?;
        self.audit_deadlines()?;
        self.audit_away()?;
        self.audit_desk()?;
        self.audit_ways()
    }

    fn audit_counts(&self) -> Result<(), String> {
        let in_state = |state| self.slips.values().filter(|s| s.state == state).count() as u64;
        same("waiting", self.engine.queued, in_state(State::Waiting))?;
        let running = u64::from(self.engine.running);
        same("running", running, in_state(State::Running))?;
        same("asking", self.away.asking() as u64, in_state(State::Asking))?;
        let gated = self.slips.values().filter(|slip| slip.gated).count() as u64;
        same("let in by the gate", u64::from(self.gate.open()), gated)
    }

    fn audit_keys(&self) -> Result<(), String> {
        let known: Vec<TicketNo> = self.register.open_tickets().into_iter().collect();
        let open = self.slips.keys().chain(self.leaving.keys()).copied();
        let open: Vec<TicketNo> = open.collect::<BTreeSet<_>>().into_iter().collect();
        if known != open {
            return Err(format!("open by key: {known:?}; by slip: {open:?}"));
        }
        let leaked = |no: &&TicketNo| !self.slips.contains_key(no);
        if let Some(no) = self.callers.keys().find(leaked) {
            return Err(format!("{no:?} is gone and has callers"));
        }
        if let Some(no) = self.addresses.keys().find(leaked) {
            return Err(format!("{no:?} is gone and has addresses"));
        }
        let callers = self.callers.values().map(Vec::len).max();
        let addresses = self.addresses.values().map(Vec::len).max();
        match callers.max(addresses) {
            Some(most) if most > MAX_ADDRESSES => Err(format!("{most} wait for one request")),
            Some(_) | None => Ok(()),
        }
    }

    fn audit_held(&self) -> Result<(), String> {
        if let Some(no) = self.held.keys().find(|no| !self.slips.contains_key(no)) {
            return Err(format!("{no:?} is gone and its text is held"));
        }
        for (no, slip) in &self.slips {
            let inbox = self.held.get(no).map(|held| held.inbox);
            let right = match slip.state {
                State::Waiting | State::Away | State::Pending => {
                    matches!(inbox, None | Some(InboxRecord::Writing))
                        || self.held.get(no).is_some_and(|held| held.moving > 0)
                }
                State::Asking => matches!(inbox, Some(InboxRecord::Written)),
                State::Running => {
                    matches!(inbox, Some(InboxRecord::Writing | InboxRecord::Written))
                }
                State::Settled => inbox.is_some(),
                State::Delivered | State::Lost => false,
            };
            if !right {
                return Err(format!("{no:?} is {:?} and held as {inbox:?}", slip.state));
            }
        }
        Ok(())
    }

    fn audit_deadlines(&self) -> Result<(), String> {
        for (due, no) in &self.deadlines {
            if self.slips.get(no).is_none_or(|slip| slip.due != *due) {
                return Err(format!("{no:?} has a deadline that it should not have"));
            }
        }
        for (no, slip) in &self.slips {
            let asked = || {
                let expiring =
                    |pending: &Pending| matches!(pending, Pending::Expire(of) if of == no);
                self.store.under_way().any(expiring)
            };
            let open = slip.state.is_open();
            if open && !self.deadlines.contains(&(slip.due, *no)) && !asked() {
                return Err(format!("{no:?} is open and has no deadline"));
            }
        }
        Ok(())
    }

    /// Whatever waits for the cloud is known to whoever sends it, and nobody else is.
    fn audit_away(&self) -> Result<(), String> {
        for (no, slip) in &self.slips {
            let moving = self
                .held
                .get(no)
                .is_some_and(|held| held.moving > 0 || held.inbox == InboxRecord::Writing);
            let seq = no.inbox_seq(slip.priority);
            let known = self.away.knows(*no, seq);
            if slip.state == State::Away && !known && !moving {
                return Err(format!("{no:?} waits for the cloud and nobody sends it"));
            }
            if self.away.is_asking(*no) != (slip.state == State::Asking) {
                return Err(format!("{no:?} is {:?} and its errand is not", slip.state));
            }
            let away = matches!(slip.state, State::Away | State::Asking);
            let home = match slip.state {
                State::Waiting | State::Running => Tree::Inbox,
                State::Away | State::Asking => Tree::Cloud,
                State::Pending => Tree::Review,
                State::Settled | State::Delivered | State::Lost => slip.home,
            };
            if slip.home != home || slip.trip.is_none() && (away || home == Tree::Review) {
                return Err(format!(
                    "{no:?} is {:?} and lies in {:?}",
                    slip.state, slip.home
                ));
            }
        }
        Ok(())
    }

    /// What is under way, towards the disk and the broker.
    fn audit_ways(&self) -> Result<(), String> {
        if self.post.is_beyond_window() {
            return Err("more letters are under way than may be".into());
        }
        let (mut questions, mut inbox, mut outbox) = (0, false, false);
        for pending in self.store.under_way() {
            inbox |= matches!(pending, Pending::LeaseInbox);
            outbox |= matches!(pending, Pending::LeaseOutbox { .. });
            questions += u64::from(pending.is_counted());
        }
        same("questions", self.store.questions() as u64, questions)?;
        if (inbox, outbox) != (self.engine.leasing, self.post.is_leasing()) {
            return Err("a lease is under way that nobody waits for, or the reverse".into());
        }
        for (no, slip) in &self.slips {
            let settling =
                |pending: &Pending| matches!(pending, Pending::Settle(of) if of.no == *no);
            let way = self.store.under_way().filter(|way| settling(way)).count();
            if way != usize::from(slip.state == State::Settled) {
                return Err(format!("{no:?}: {way} outcomes are on their way"));
            }
        }
        Ok(())
    }
}

fn same(what: &str, kept: u64, counted: u64) -> Result<(), String> {
    if kept == counted {
        Ok(())
    } else {
        Err(format!("{what}: {kept} by the books, {counted} by count"))
    }
}
