//! Which processes there are, and why.

use std::sync::Arc;

use super::life::{Life, Phase};
use super::pieces::Place;
use super::stock::MAX_WAIT;
use super::{
    ActiveModel, Beginnings, ChildNo, Errand, ROLES, Role, Succession, Supervisor, Wanted,
};
use crate::clock::Mono;
use crate::engine::protocol::{Facts, ToEngine};
use crate::engine::{Fault, LoadEnd, stockroom};

impl Supervisor {
    pub(super) fn spawn(&mut self, role: Role, now: Mono) {
        self.changed = true;
        self.last_child += 1;
        let (child, kept) = (ChildNo(self.last_child), self.beginnings);
        if let Some(life) = self.life(role) {
            let model = Arc::clone(&life.model);
            let load = model.book.load(&model.options, model.draft.as_deref());
            let keys = match kept {
                Beginnings::Kept => stockroom::keys(model.book.weights(), &load),
                Beginnings::Forgotten => Vec::new(),
            };
            life.start(child, keys.clone(), now);
            let sealed = model.book.sealed().clone();
            self.out.spawn.push(child);
            if !sealed.is_empty() {
                self.out.sealed.push((child, sealed));
            }
            self.out
                .frames
                .push((child, ToEngine::Load(Box::new(load))));
            if !keys.is_empty() {
                self.out.errands.push(Errand::Fetch(child, keys));
            }
        }
    }

    pub(super) fn loaded(&mut self, role: Role, facts: &Facts, now: Mono) {
        let Some(life) = self.life(role) else {
            return;
        };
        if !life.ready(facts, now) {
            return;
        }
        self.changed = true;
        self.unguarded.clone_from(&facts.unguarded);
        let life = self.life(role);
        if let (Some(child), Some(allowance)) = (life.and_then(|life| life.child()), self.allowance)
        {
            self.out.frames.push((child, ToEngine::Allow(allowance)));
        }
        match role {
            Role::Successor => self.promote(),
            Role::Serving => {
                for no in self.pieces.held() {
                    self.hand_out(no, now);
                }
            }
            Role::Retiring => {}
        }
        self.clear_stock();
    }

    /// What no model needs any more leaves the stockroom.
    fn clear_stock(&mut self) {
        let lives = [&self.serving, &self.successor].into_iter().flatten();
        let keys: Vec<_> = lives.flat_map(|life| life.stock.keys()).copied().collect();
        if self.beginnings == Beginnings::Kept {
            self.out.errands.push(Errand::Keep(keys));
        }
    }

    /// The successor serves from now on; the old one finishes what it has.
    pub(super) fn promote(&mut self) {
        self.fail_held(); // its work is worded for the old model
        let old = std::mem::replace(&mut self.serving, self.successor.take());
        if let Some(old) = old
            && let Some(child) = old.child()
        {
            if self.pieces.busy(child) {
                self.retiring = Some(old);
            } else {
                self.out.kill.push(child);
            }
        }
    }

    pub(super) fn unloadable(&mut self, role: Role, child: ChildNo, why: String, now: Mono) {
        let starting = |life: &Life| matches!(life.phase, Phase::Starting { .. });
        let Some(life) = self.life(role).filter(|life| starting(life)) else {
            self.give_up(role, "it spoke out of turn", now);
            return;
        };
        life.refuse(why, now);
        self.changed = true;
        self.out.kill.push(child); // it ends by itself; it must not be in the way until then
        self.look_at_refusal(role);
    }

    /// Ends a process that is not as it should be.
    pub(super) fn give_up(&mut self, role: Role, why: &str, now: Mono) {
        if let Some(child) = self.life(role).and_then(|life| life.child()) {
            self.out.kill.push(child);
        }
        self.lose(role, why, now);
    }

    /// A process is gone, with all that it had.
    pub(super) fn lose(&mut self, role: Role, why: &str, now: Mono) {
        let Some(life) = self.life(role) else {
            return;
        };
        let (child, load) = (life.child(), life.model.load);
        life.died(why, now);
        self.tell_of(load, LoadEnd::Crashed(why.to_owned()));
        self.crashes += 1;
        self.changed = true;
        let lost = self
            .pieces
            .take_all(|piece| child.is_some() && piece.place.child() == child);
        for piece in lost {
            let fault = match piece.place {
                Place::Begun(_) => Fault::Crashed,
                Place::Queued(_) | Place::Held => Fault::Busy,
            };
            self.fail(&piece, &fault);
        }
        if role == Role::Retiring {
            self.retiring = None;
        }
        self.look_at_refusal(role);
    }

    /// What follows if a model cannot be loaded after all.
    pub(super) fn look_at_refusal(&mut self, role: Role) {
        let Some(life) = self.life(role) else {
            return;
        };
        let Phase::Unloadable { why, .. } = &life.phase else {
            return;
        };
        let (why, load) = (why.clone(), life.model.load);
        if role != Role::Retiring {
            self.tell_of(load, LoadEnd::Failed(why.clone()));
        }
        match role {
            Role::Serving => self.fail_held(),
            Role::Successor => {
                self.declined = self.successor.take().map(|life| (life.model, why));
            }
            Role::Retiring => {}
        }
    }

    /// Later while a beginning is on its way to the disk: it is what makes the next start warm.
    pub(super) fn unload_at(&self) -> Option<Mono> {
        let at = self.idle_since?.after(self.unload_after?);
        let saving = self.serving.as_ref().is_some_and(|it| it.stock.is_open());
        Some(if saving { at.after(MAX_WAIT) } else { at })
    }

    /// Nothing of weights or of what was asked stays in memory.
    pub(super) fn unload(&mut self) {
        if let Some(life) = &mut self.serving
            && let Some(child) = life.ready_child()
        {
            self.out.kill.push(child);
            life.unload();
            self.changed = true;
            self.memo.clear();
        }
    }

    /// Takes the next step towards what is wanted.
    pub(super) fn pursue(&mut self, now: Mono) {
        let model = match &self.wanted {
            Wanted::Coming => return,
            Wanted::Nothing { .. } | Wanted::Resting { .. } => return self.take_down(),
            Wanted::Model(model) => Arc::clone(model),
        };
        let is = |life: &Option<Life>| life.as_ref().is_some_and(|it| same(&it.model, &model));
        let declined = self.declined.as_ref();
        let declined = declined.is_some_and(|(it, _)| same(it, &model));
        if is(&self.successor) || (declined && self.successor.is_none()) {
            return;
        }
        if let Some(child) = self.successor.take().and_then(|life| life.child()) {
            self.out.kill.push(child);
        }
        if is(&self.serving) || self.renumber(&model) || self.retiring.is_some() {
            return; // as it should be, or one after the other
        }
        let succession = model.succession;
        let life = Some(Life::new(model));
        if succession == Succession::InPlace {
            self.end_serving();
            self.serving = life;
            self.spawn(Role::Serving, now);
            return;
        }
        match self.serving.as_ref().map(|life| &life.phase) {
            None | Some(Phase::Unloadable { .. }) => {
                self.serving = life;
                self.spawn(Role::Serving, now);
            }
            Some(
                Phase::Unloaded | Phase::Starting { .. } | Phase::Ready(_) | Phase::BackOff { .. },
            ) => {
                self.successor = life;
                self.spawn(Role::Successor, now);
            }
        }
    }

    /// Where what serves is what is wanted but for the number of the load, it gets that number.
    /// One that cannot be loaded is loaded again under it instead.
    fn renumber(&mut self, model: &Arc<ActiveModel>) -> bool {
        let Some(life) = &mut self.serving else {
            return false;
        };
        let is_it = match life.phase {
            Phase::Unloadable { .. } => false,
            Phase::Unloaded | Phase::Starting { .. } | Phase::Ready(_) | Phase::BackOff { .. } => {
                life.model.is_like(model)
            }
        };
        if is_it {
            life.model = Arc::clone(model);
        }
        is_it
    }

    /// The one that serves makes room. It did nothing wrong, and neither did what it had.
    fn end_serving(&mut self) {
        let Some(old) = self.serving.take() else {
            return;
        };
        self.fail_held();
        if let Some(child) = old.child() {
            self.out.kill.push(child);
            for piece in self
                .pieces
                .take_all(|piece| piece.place.child() == Some(child))
            {
                self.fail(&piece, &Fault::Busy);
            }
        }
        self.changed = true;
    }

    pub(super) fn take_down(&mut self) {
        for role in ROLES {
            let child = self.life(role).and_then(|life| life.child());
            self.out.kill.extend(child);
        }
        (self.serving, self.successor, self.retiring) = (None, None, None);
        for piece in self.pieces.take_all(|_| true) {
            self.fail(&piece, &Fault::Busy);
        }
        self.memo.clear();
    }
}

/// Whether two models are one; they are compared in full only if they may be two.
fn same(one: &Arc<ActiveModel>, other: &Arc<ActiveModel>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}
