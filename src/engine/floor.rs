//! Where answers are computed: seats for conversations, one cache, one pass after the other.
//!
//! Owns the context, the shelf of shared beginnings, the desk of waiting work and all talks.
//! Lives on one thread of the engine process. [`Floor::take`] is told what the service wants,
//! [`Floor::step`] does one pass; both leave what is to be said in [`Floor::news`].
//!
//! A pass is made up in this order, so that nobody who writes waits for one who reads:
//!
//! ```text
//!  │ writers: pending tokens and guesses │ shared beginnings │ prompts, by rank │
//!  └──────────────────── at most what fits into the time of a pass ─────────────┘
//! ```
//!
//! Invariants: the cache is never promised twice (`reserved` of all talks and the shelf fit into
//! it, so no pass can find it full); each work is answered or failed exactly once; a failed pass
//! fails the talks in it and nothing else, and the cache is built anew.

mod order;
mod park;
mod pass;
mod state;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use order::{Known, Order};

use super::constraint::Compiler;
use super::desk::{Desk, Slip};
use super::foresight::Foresight;
use super::guess::{Guesses, MAX_GUESSED};
use super::native::{Batch, Context, PassError};
use super::pace::{MAX_PASS, MAX_REST, Pace};
use super::protocol::{
    Allowance, Beat, Failure, FromEngine, Guessing, Instruction, Keeping, Options, ToEngine, Work,
    WorkNo,
};
use super::shelf::{Fill, Place, Shelf};
use super::talk::{Opening, Talk, TalkError, Turn};
use super::trial::{self, Effort};
use super::wording::Wording;
use crate::clock::Clock;
use crate::governor::memory::parts::BESIDE_SEQUENCES;

/// Sequences for further lines of trees: enough for four large ones at a time.
pub(super) const TREE_LINES: u32 = 16;
/// Sequences for beginnings that no task owns: free prompts share one, an old one and a new one.
pub(super) const LOOSE_BEGINNINGS: u32 = 4;
// What the plan of memory counts with.
const _: () = assert!(TREE_LINES + LOOSE_BEGINNINGS + 1 == BESIDE_SEQUENCES);
/// Between two choices of the number of threads: a choice takes some dozen passes.
const REVIEW: Duration = Duration::from_secs(10);

/// The place of work.
pub(super) struct Floor<'m> {
    context: Context<'m>,
    foresight: Option<Foresight<'m>>,
    wording: &'m Wording<'m>,
    compiler: Compiler,
    known: Vec<Rc<Known>>,
    /// How it goes with guessing answers to free prompts.
    guesses: Rc<Cell<Guesses>>,
    options: Options,
    allowance: Allowance,
    desk: Desk<Order>,
    shelf: Shelf,
    talks: Vec<Talk>,
    sequences: Vec<u32>,
    batch: Batch,
    pace: Pace,
    /// States that are on their way, one each way, and of which instruction.
    saving: Option<(u16, Vec<u8>)>,
    restoring: Option<(u16, Vec<u8>)>,
    /// The best number of threads, and when it was found.
    chosen: u16,
    reviewed: Duration,
    done: Beat,
    news: Vec<FromEngine>,
}

impl<'m> Floor<'m> {
    /// Everything in its place, nothing computed yet.
    pub(super) fn new(
        context: Context<'m>,
        foresight: Option<Foresight<'m>>,
        wording: &'m Wording<'m>,
        compiler: Compiler,
        options: Options,
        instructions: Vec<Instruction>,
        pace: Pace,
    ) -> Self {
        let total = context.shape().sequences - 1; // the last is for trials
        let seats = u32::from(options.sequences) + TREE_LINES;
        let shelf = Shelf::new((seats.min(total)..total).rev().collect());
        let allowance = Allowance {
            sequences: options.sequences,
            threads: None,
            rest_permille: 0,
            guessing: Guessing::default(),
            keeping: Keeping::default(),
        };
        let mut floor = Self {
            desk: Desk::new(usize::from(options.queue)),
            shelf,
            talks: Vec::new(),
            sequences: (0..seats.min(total)).rev().collect(),
            batch: Batch::default(),
            known: Vec::new(),
            guesses: Rc::default(),
            saving: None,
            restoring: None,
            chosen: 1,
            reviewed: Duration::ZERO,
            done: Beat::default(),
            news: Vec::new(),
            context,
            foresight,
            wording,
            compiler,
            options,
            allowance,
            pace,
        };
        for instruction in instructions {
            floor.learn(instruction);
        }
        floor
    }

    /// Sequences that a context needs for these options and so many instructions.
    pub(super) fn sequences_for(options: &Options, instructions: usize) -> u32 {
        let pinned = u32::try_from(instructions).unwrap_or(u32::MAX);
        (u32::from(options.sequences) + TREE_LINES + LOOSE_BEGINNINGS + 1)
            .saturating_add(pinned)
            .min(super::native::MAX_SEQUENCES)
    }

    /// What is to be said.
    pub(super) fn news(&mut self) -> Vec<FromEngine> {
        std::mem::take(&mut self.news)
    }

    /// Whether there is something to compute, and leave to compute it.
    pub(super) fn is_busy(&self) -> bool {
        self.allowance.sequences > 0 && !(self.talks.is_empty() && self.desk.is_empty())
    }

    /// The rest that is due after a pass that took so long.
    pub(super) fn rest_after(&self, pass: Duration) -> Duration {
        (pass * u32::from(self.allowance.rest_permille) / 1000).min(MAX_REST)
    }

    /// The longest pass, such that the rest after it is none that anybody notices.
    fn longest_pass(&self) -> Duration {
        match u32::from(self.allowance.rest_permille) {
            0..=1000 => MAX_PASS,
            rest => MAX_REST * 1000 / rest,
        }
    }

    /// What one more guess in a pass costs, as a share of a pass without.
    fn guess_share(&self) -> f64 {
        match self.allowance.guessing {
            Guessing::WherePaying => self.pace.token_share(),
            Guessing::Never => f64::INFINITY,
        }
    }

    /// Sign of life.
    pub(super) fn beat(&self) -> Beat {
        let narrow = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        Beat {
            running: narrow(self.talks.len()),
            waiting: narrow(self.desk.len()),
            cache_used: u32::try_from(self.used()).unwrap_or(u32::MAX),
            warm: self.warm(),
            ..self.done
        }
    }

    /// So many threads are best; fewer compute where fewer are allowed.
    pub(super) fn set_threads(&mut self, chosen: u16) {
        self.chosen = chosen;
        let threads = self
            .allowance
            .threads
            .map_or(chosen, |most| most.min(chosen));
        self.context.set_threads(threads);
        if let Some(foresight) = &mut self.foresight {
            foresight.set_threads(threads);
        }
        self.done.threads = threads;
    }

    /// The service wants something.
    pub(super) fn take(&mut self, message: ToEngine, now: Duration) {
        match message {
            ToEngine::Start(work) => self.accept(*work, now),
            ToEngine::Cancel(no) => self.cancel(no),
            ToEngine::Allow(allowance) => {
                self.context.release_brake();
                self.allowance = allowance;
                if allowance.keeping == Keeping::Nothing {
                    self.shelf.drop_kept();
                }
                self.set_threads(self.chosen);
            }
            ToEngine::Evict { free_tokens } => {
                self.shelf.drop_kept();
                let most = self.options.cache_tokens as usize;
                let wanted = most.saturating_sub(free_tokens as usize);
                while self.used() > wanted && self.evict_one(now) {}
            }
            ToEngine::SavePrefix {
                instruction,
                offset,
            } => self.save_prefix(instruction, offset),
            ToEngine::RestorePrefix(piece) => self.restore_prefix(&piece, now),
            // A second model in the same process would be a defect of the service; it hears
            // nothing of it and does without. The end is seen by whoever reads the socket.
            ToEngine::Load(_) | ToEngine::Shutdown | ToEngine::Files { .. } => {}
        }
    }

    fn accept(&mut self, work: Work, now: Duration) {
        let slip = Slip {
            no: work.no,
            priority: work.priority,
            client: work.client,
            due: now + Duration::from_millis(work.due_ms.into()),
        };
        match self.order(work, now) {
            Ok(order) => {
                if self.pace.pass(order.own.len()) > slip.due.saturating_sub(now) {
                    self.fail(slip.no, Failure::Late);
                } else if self.desk.put(slip, order).is_err() {
                    self.fail(slip.no, Failure::Full);
                }
            }
            Err(why) => self.fail(slip.no, why),
        }
    }

    fn cancel(&mut self, no: WorkNo) {
        if self.desk.withdraw(no).is_some() {
            self.fail(no, Failure::Cancelled);
        } else if let Some(index) = self.talks.iter().position(|talk| talk.slip().no == no) {
            self.end(index, Err(Failure::Cancelled), Duration::ZERO);
        }
    }

    fn fail(&mut self, no: WorkNo, why: Failure) {
        self.news.push(FromEngine::Failed { no, why });
    }

    /// Tokens of the cache that are promised.
    fn used(&self) -> usize {
        let talks: usize = self.talks.iter().map(Talk::reserved).sum();
        talks + self.shelf.tokens()
    }

    fn evict_one(&mut self, now: Duration) -> bool {
        let Some(sequence) = self.shelf.evict(now) else {
            return false;
        };
        self.empty(sequence);
        true
    }

    fn empty(&mut self, sequence: u32) {
        let emptied = self.context.forget(sequence, 0);
        debug_assert!(emptied, "a whole sequence can always be forgotten");
    }

    /// Measures anew, if passes have become slow and the last time was long enough ago.
    fn review_pace(&mut self, clock: &Clock) {
        let now = clock.now().mono.0;
        let due = now.saturating_sub(self.reviewed) >= REVIEW;
        if !due || !self.pace.has_changed() {
            return;
        }
        let scratch = self.context.shape().sequences - 1;
        let candidates = match (self.options.threads, self.allowance.threads) {
            (Some(fixed), _) => vec![fixed.max(1)],
            (None, at_most) => trial::candidates(at_most),
        };
        let measured = trial::measure(
            &mut self.context,
            scratch,
            &candidates,
            Effort::AT_WORK,
            clock,
        );
        match measured {
            Ok((threads, pace)) => {
                self.pace = pace;
                self.set_threads(threads);
            }
            Err(_) => self.set_threads(self.chosen), // the next pass will tell what is wrong
        }
        self.reviewed = clock.now().mono.0;
    }

    /// One pass, if there is anything to compute. Tells how long it took.
    pub(super) fn step(&mut self, clock: &Clock) -> Option<Duration> {
        let now = clock.now().mono.0;
        self.drop_late(now);
        while let Some(sequence) = self.shelf.let_go(now) {
            self.empty(sequence);
        }
        self.admit(now);
        self.park_beginnings(now);
        self.bring_back_beginnings();
        self.share_beginnings();
        if self.allowance.sequences == 0 {
            return None;
        }
        self.foresee(clock);
        let plan = self.compose();
        if self.batch.is_empty() {
            return None;
        }
        let tokens = self.batch.len();
        let result = self.context.pass(&mut self.batch);
        let after = clock.now().mono.0;
        let took = after.saturating_sub(now);
        match result {
            Ok(()) => {
                self.done.passes += 1;
                self.done.computed += tokens as u64;
                self.pace.learn(tokens, took);
                self.absorb(plan, after);
                self.review_pace(clock); // only now: its passes overwrite the logits
            }
            Err(PassError::Stopped) => self.undo(&plan),
            Err(error @ (PassError::Full | PassError::Failed(_))) => self.give_up(&plan, error),
        }
        Some(took)
    }

    fn drop_late(&mut self, now: Duration) {
        let pace = self.pace;
        let late = self
            .desk
            .take_late(|slip, order| now + pace.pass(order.own.len()) > slip.due);
        for (slip, _) in late {
            self.fail(slip.no, Failure::Late);
        }
        let is_late = |talk: &Talk| talk.slip().due <= now;
        while let Some(index) = self.talks.iter().position(is_late) {
            self.end(index, Err(Failure::Late), now);
        }
    }

    /// Gives seats to those who are next, while there are seats, sequences and room in the cache.
    fn admit(&mut self, now: Duration) {
        let seats = self.allowance.sequences.min(self.options.sequences);
        while self.talks.len() < usize::from(seats) {
            let Some((_, order)) = self.desk.first() else {
                return;
            };
            let own = order.own.len() + order.limit + order.tree.1 + MAX_GUESSED;
            let (lines, prefix) = (1 + order.tree.0, order.prefix.clone());
            if self.sequences.len() < lines {
                return;
            }
            let place = self.claim(&prefix, now);
            let reserved = own + if place.is_none() { prefix.len() } else { 0 };
            let cache = self.options.cache_tokens as usize;
            while self.used() + reserved > cache && self.evict_one(now) {}
            if self.used() + reserved > cache {
                // Those who write now will make room.
                if let Some((place, _)) = place {
                    self.shelf.release(place);
                }
                return;
            }
            if let Some((slip, order)) = self.desk.take() {
                self.begin(slip, order, place, reserved, now);
            }
        }
    }

    /// A shared beginning for this prompt, and how much of it others have computed or caused.
    fn claim(&mut self, prefix: &[u32], now: Duration) -> Option<(Place, usize)> {
        if self.options.without.prefixes || prefix.is_empty() {
            return None;
        }
        let cached = if self.shelf.has(prefix) {
            prefix.len()
        } else {
            0
        };
        let claimed = self.shelf.claim(prefix, now).or_else(|| {
            let sequence = self.shelf.make_place(now)?;
            self.empty(sequence);
            self.shelf.claim(prefix, now)
        });
        Some((claimed?, cached))
    }

    fn begin(
        &mut self,
        slip: Slip,
        order: Order,
        place: Option<(Place, usize)>,
        reserved: usize,
        now: Duration,
    ) {
        let lines = 1 + order.tree.0;
        let opening = Opening {
            slip,
            stream: order.stream,
            arrived: order.arrived,
            began: now,
            shared: place.map(|(place, _)| (place, order.prefix.len())),
            cached: place.map_or(0, |(_, cached)| cached),
            prompt: [order.prefix, order.own].concat(),
            limit: order.limit,
            guide: order.guide,
            sequences: self.sequences.split_off(self.sequences.len() - lines),
            reserved,
            guesses: order.guesses,
            without: self.options.without,
        };
        self.news.push(FromEngine::Began(slip.no));
        let sequences = opening.sequences.clone();
        match Talk::open(opening, self.wording) {
            Ok((talk, turn)) => {
                self.talks.push(talk);
                if let Turn::Over(finish) = turn {
                    self.tell(self.talks.len() - 1);
                    self.end(self.talks.len() - 1, Ok(finish), now);
                }
            }
            Err(error) => {
                self.sequences.extend(sequences);
                if let Some((place, _)) = place {
                    self.shelf.release(place);
                }
                self.fail(slip.no, failure(&error));
            }
        }
    }

    /// Beginnings that are computed go to those who wait for them. Nothing is copied.
    fn share_beginnings(&mut self) {
        for talk in &mut self.talks {
            let Some(place) = talk.waits_for() else {
                continue;
            };
            let beginning = self.shelf.at(place);
            if beginning.fill == Fill::Ready {
                let from = beginning.sequence;
                for to in talk.sequences() {
                    self.context.share(from, *to);
                }
                talk.shared_is_there();
            }
        }
    }

    /// Tells the words that are new, to whom wants them as they come.
    fn tell(&mut self, index: usize) {
        let talk = &mut self.talks[index];
        if !talk.streams() {
            return;
        }
        let (no, text) = (talk.slip().no, talk.news());
        if !text.is_empty() {
            self.news.push(FromEngine::Tokens { no, text });
        }
    }

    /// A talk is over.
    fn end(&mut self, index: usize, how: Result<super::protocol::Finish, Failure>, now: Duration) {
        let talk = self.talks.swap_remove(index);
        for sequence in talk.sequences() {
            let emptied = self.context.forget(*sequence, 0);
            debug_assert!(emptied, "a whole sequence can always be forgotten");
        }
        self.sequences.extend_from_slice(talk.sequences());
        if let Some(place) = talk.shared() {
            self.shelf.release(place);
        }
        let no = talk.slip().no;
        if let Some(foresight) = &mut self.foresight {
            foresight.forget(no);
        }
        self.news.push(match how {
            Ok(finish) => FromEngine::Done(Box::new(talk.close(finish, now))),
            Err(why) => FromEngine::Failed { no, why },
        });
    }
}

fn failure(error: &TalkError) -> Failure {
    match error {
        TalkError::Rule(_) | TalkError::DeadEnd => Failure::Rule(error.to_string()),
        TalkError::Unsound => Failure::Sick(error.to_string()),
    }
}
