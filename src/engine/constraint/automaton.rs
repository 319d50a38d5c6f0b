//! Runs a program: states are found as answers need them, and remembered.
//!
//! A state is all places in the program where an answer may be at once, each with the calls that
//! it is inside of. Two ways to the same places are one state, so the second answer of a task
//! finds its states, their masks and their forced tokens made.
//!
//! Invariants: a state's number is good until [`Automaton::forget`], which counts the generation
//! up; memory stays below [`MAX_BYTES`] and a little; no call does more than [`MAX_WORK`] steps.
//!
//! How it fails: by [`Trouble`]. After `Full` the caller forgets all and begins again; the others
//! mean that the rule asks for too much.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Excess;
use super::mask::Mask;
use super::program::{Node, Program, RETURN};
use super::vocabulary::Vocabulary;

/// Bytes of states, masks and forced tokens of one rule: a schema of a hundred fields takes a
/// tenth of it.
pub(super) const MAX_BYTES: usize = 8 << 20;
/// Places of a state. Rules that people write have some dozens; more means that a text can be
/// read in very many ways.
pub(super) const MAX_PLACES: usize = 10_000;
/// Steps for one mask or one token, about 20 ns each.
pub(super) const MAX_WORK: u32 = 2_000_000;
/// Calls inside calls. What would go deeper is not allowed in an answer.
pub(super) const MAX_CALL_DEPTH: u32 = 256;
/// Bytes that are forced in one go: what a tokenizer reads in microseconds. What is beyond is
/// forced in the next.
pub(super) const MAX_FORCED_BYTES: usize = 512;

/// A state's number.
pub(super) type StateNo = u32;
/// The state that nothing leads out of: what came is no part of an answer.
pub(super) const DEAD: StateNo = 0;
/// Not looked at yet.
const UNKNOWN: StateNo = StateNo::MAX;
/// Bytes of a state beside its places and ways.
const STATE_BYTES: usize = 160;

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There is no memory left for new states.
    Full,
    /// It takes too much.
    Excess(Excess),
    /// No token leads on, and the answer may not end here.
    Stuck,
}

/// A node, and the calls it is inside of.
type Place = (u32, CallNo);
type CallNo = u32;
/// Outside of all calls.
const OUTSIDE: CallNo = 0;

struct Call {
    back: u32,
    outer: CallNo,
    depth: u32,
}

struct State {
    places: Arc<[Place]>,
    may_end: bool,
    /// By group of bytes.
    next: Box<[StateNo]>,
}

/// What was found of a program so far.
pub(super) struct Automaton {
    /// Counts how often all was forgotten.
    pub(super) generation: u64,
    states: Vec<State>,
    numbers: HashMap<(Arc<[Place]>, bool), StateNo>,
    calls: Vec<Call>,
    call_numbers: HashMap<(u32, CallNo), CallNo>,
    masks: HashMap<StateNo, Mask>,
    forced: HashMap<(StateNo, Box<[u32]>), Arc<[u32]>>,
    bytes: usize,
    work_left: u32,
}

impl Automaton {
    pub(super) fn new() -> Self {
        let mut new = Self {
            generation: 0,
            states: Vec::new(),
            numbers: HashMap::new(),
            calls: Vec::new(),
            call_numbers: HashMap::new(),
            masks: HashMap::new(),
            forced: HashMap::new(),
            bytes: 0,
            work_left: MAX_WORK,
        };
        new.forget();
        new
    }

    /// Lets go of everything; numbers of states mean nothing any more.
    pub(super) fn forget(&mut self) {
        self.generation += 1;
        self.states.clear();
        self.numbers.clear();
        self.calls.clear();
        self.call_numbers.clear();
        self.masks.clear();
        self.forced.clear();
        self.bytes = 0;
        // Numbers begin at one: zero is outside of all calls, and the dead state.
        self.calls.push(Call {
            back: RETURN,
            outer: OUTSIDE,
            depth: 0,
        });
        self.states.push(State {
            places: Arc::from([]),
            may_end: false,
            next: Box::default(),
        });
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// To be called before each mask and each token.
    pub(super) fn rest(&mut self) {
        self.work_left = MAX_WORK;
    }

    /// The state in which an answer begins.
    pub(super) fn start(&mut self, program: &Program) -> Result<StateNo, Trouble> {
        self.close(program, vec![(program.start, OUTSIDE)])
    }

    /// Whether the answer may end here.
    pub(super) fn may_end(&self, state: StateNo) -> bool {
        self.states[state as usize].may_end
    }

    /// Whether nothing but the end can follow.
    pub(super) fn is_over(&self, state: StateNo) -> bool {
        let state = &self.states[state as usize];
        state.may_end && state.places.is_empty()
    }

    /// The state behind a byte.
    pub(super) fn step(
        &mut self,
        program: &Program,
        state: StateNo,
        byte: u8,
    ) -> Result<StateNo, Trouble> {
        if state == DEAD {
            return Ok(DEAD);
        }
        let group = program.group(byte);
        let known = self.states[state as usize].next[group];
        if known != UNKNOWN {
            return Ok(known);
        }
        let places = Arc::clone(&self.states[state as usize].places);
        self.spend(places.len())?;
        let mut behind = Vec::new();
        for &(node, call) in &*places {
            if let Node::Jump(edges) = program.node(node) {
                let hits = edges.iter().filter(|it| (it.lo..=it.hi).contains(&byte));
                behind.extend(hits.map(|edge| (edge.to, call)));
            }
        }
        let next = self.close(program, behind)?;
        self.states[state as usize].next[group] = next;
        Ok(next)
    }

    /// The state behind several bytes.
    pub(super) fn walk(
        &mut self,
        program: &Program,
        state: StateNo,
        bytes: &[u8],
    ) -> Result<StateNo, Trouble> {
        let mut bytes = bytes.iter();
        bytes.try_fold(state, |state, &byte| self.step(program, state, byte))
    }

    /// The bytes that follow in any case, and the state behind them.
    pub(super) fn forced_bytes(
        &mut self,
        program: &Program,
        mut state: StateNo,
    ) -> Result<(Vec<u8>, StateNo), Trouble> {
        let mut bytes = Vec::new();
        while bytes.len() < MAX_FORCED_BYTES
            && let Some(byte) = self.only_byte(program, state)
        {
            let next = self.step(program, state, byte)?;
            if next == DEAD {
                break;
            }
            bytes.push(byte);
            state = next;
        }
        Ok((bytes, state))
    }

    fn only_byte(&self, program: &Program, state: StateNo) -> Option<u8> {
        let state = &self.states[state as usize];
        if state.may_end {
            return None;
        }
        let mut only = None;
        for &(node, _) in &*state.places {
            let Node::Jump(edges) = program.node(node) else {
                continue;
            };
            for edge in edges {
                if edge.lo != edge.hi || only.is_some_and(|only| only != edge.lo) {
                    return None;
                }
                only = Some(edge.lo);
            }
        }
        only
    }

    /// The tokens that may follow.
    pub(super) fn mask(
        &mut self,
        program: &Program,
        vocabulary: &Vocabulary,
        state: StateNo,
    ) -> Result<Mask, Trouble> {
        if let Some(mask) = self.masks.get(&state) {
            return Ok(mask.clone());
        }
        let end = self.may_end(state).then(|| vocabulary.end());
        let mask = vocabulary
            .trie()
            .mask(state, end, |state, byte| self.step(program, state, byte))?;
        if mask.count() == 0 {
            return Err(Trouble::Stuck);
        }
        self.take(mask.bytes() + 32)?;
        self.masks.insert(state, mask.clone());
        Ok(mask)
    }

    /// Forced tokens that were found before, behind these.
    pub(super) fn forced(&self, state: StateNo, behind: &[u32]) -> Option<Arc<[u32]>> {
        self.forced.get(&(state, behind.into())).cloned()
    }

    /// Remembers forced tokens.
    pub(super) fn remember_forced(&mut self, state: StateNo, behind: &[u32], forced: Arc<[u32]>) {
        if self.take(4 * (behind.len() + forced.len()) + 64).is_ok() {
            self.forced.insert((state, behind.into()), forced);
        }
    }

    /// The state of all places that can be reached from these without a byte.
    fn close(&mut self, program: &Program, mut open: Vec<Place>) -> Result<StateNo, Trouble> {
        let mut seen: HashSet<Place> = HashSet::with_capacity(open.len());
        let mut places = Vec::new();
        let mut may_end = false;
        while let Some(place) = open.pop() {
            if !seen.insert(place) {
                continue;
            }
            self.spend(1)?;
            let (node, call) = place;
            match program.node(node) {
                Node::Jump(_) => places.push(place),
                Node::Fork(to) => open.extend(to.iter().map(|&to| (to, call))),
                // Behind the last call of a rule nothing is left to be done in it.
                Node::Call { rule, back: RETURN } => open.push((*rule, call)),
                Node::Call { rule, back } => {
                    if let Some(inner) = self.call(*back, call)? {
                        open.push((*rule, inner));
                    }
                }
                Node::Return if call == OUTSIDE => may_end = true,
                Node::Return => {
                    let Call { back, outer, .. } = self.calls[call as usize];
                    open.push((back, outer));
                }
            }
            if places.len() > MAX_PLACES {
                return Err(Trouble::Excess(Excess::Ways(MAX_PLACES)));
            }
        }
        if places.is_empty() && !may_end {
            return Ok(DEAD);
        }
        places.sort_unstable();
        self.number(program, places, may_end)
    }

    fn call(&mut self, back: u32, outer: CallNo) -> Result<Option<CallNo>, Trouble> {
        if let Some(&known) = self.call_numbers.get(&(back, outer)) {
            return Ok(Some(known));
        }
        let depth = self.calls[outer as usize].depth + 1;
        if depth > MAX_CALL_DEPTH {
            return Ok(None);
        }
        self.take(48)?;
        let number = CallNo::try_from(self.calls.len()).map_err(|_| Trouble::Full)?;
        self.calls.push(Call { back, outer, depth });
        self.call_numbers.insert((back, outer), number);
        Ok(Some(number))
    }

    fn number(
        &mut self,
        program: &Program,
        places: Vec<Place>,
        may_end: bool,
    ) -> Result<StateNo, Trouble> {
        let key: (Arc<[Place]>, bool) = (places.into(), may_end);
        if let Some(&known) = self.numbers.get(&key) {
            return Ok(known);
        }
        let ways = program.group_count;
        self.take(STATE_BYTES + size_of_val(&*key.0) + size_of::<StateNo>() * ways)?;
        let number = StateNo::try_from(self.states.len()).map_err(|_| Trouble::Full)?;
        self.states.push(State {
            places: Arc::clone(&key.0),
            may_end,
            next: vec![UNKNOWN; ways].into_boxed_slice(),
        });
        self.numbers.insert(key, number);
        Ok(number)
    }

    fn take(&mut self, bytes: usize) -> Result<(), Trouble> {
        if self.bytes + bytes > MAX_BYTES {
            return Err(Trouble::Full);
        }
        self.bytes += bytes;
        Ok(())
    }

    fn spend(&mut self, steps: usize) -> Result<(), Trouble> {
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        let left = self.work_left.checked_sub(steps);
        self.work_left = left.ok_or(Trouble::Excess(Excess::Work))?;
        Ok(())
    }
}
