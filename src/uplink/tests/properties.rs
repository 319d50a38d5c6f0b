//! What holds whatever the order of events.

use std::collections::{BTreeSet, HashMap};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    Send {
        ways: u8,
        urgency: u8,
        until_s: u16,
    },
    Cancel(u8),
    /// The call at this place, of those under way, ends like this.
    End(u8, End),
    /// An answer to a call that was broken off.
    Stray,
    Pass(u32),
    /// The wall clock jumps.
    Jump(i32),
}

#[derive(Clone, Copy, Debug)]
enum End {
    Good,
    Unreachable,
    Failing,
    Slow,
    Limited(Option<u8>),
    Denied,
    Rejected,
    Misfit,
}

impl End {
    fn outcome(self) -> Outcome {
        let fails = |fault, billed| Outcome {
            result: Err(fault),
            billed,
        };
        match self {
            Self::Good => answer(),
            Self::Unreachable => fails(Fault::Unreachable, Billed::Unsent),
            Self::Failing => fails(Fault::Failing(502), Billed::Unknown),
            Self::Slow => fails(Fault::Slow, Billed::Unknown),
            Self::Limited(after) => {
                let after = after.map(|after| u32::from(after) * SECOND);
                fails(Fault::Limited { after }, Billed::TurnedAway)
            }
            Self::Denied => fails(Fault::Denied(401), Billed::TurnedAway),
            Self::Rejected => fails(Fault::Rejected(400), Billed::TurnedAway),
            Self::Misfit => fails(Fault::Misfit(Misfit::Form), answer().billed),
        }
    }

    /// Tokens that the upstream bills at most.
    fn tokens(self) -> u64 {
        match self {
            Self::Good | Self::Misfit => 21,
            Self::Failing | Self::Slow => worst(),
            Self::Unreachable | Self::Limited(_) | Self::Denied | Self::Rejected => 0,
        }
    }
}

fn ends() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => Just(End::Good),
        2 => Just(End::Unreachable),
        3 => Just(End::Failing),
        1 => Just(End::Slow),
        1 => proptest::option::of(0..40_u8).prop_map(End::Limited),
        1 => Just(End::Denied),
        1 => Just(End::Rejected),
        1 => Just(End::Misfit),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..4_u8, 0..3_u8, 1..400_u16)
            .prop_map(|(ways, urgency, until_s)| Step::Send { ways, urgency, until_s }),
        1 => any::<u8>().prop_map(Step::Cancel),
        8 => (any::<u8>(), ends()).prop_map(|(place, end)| Step::End(place, end)),
        1 => Just(Step::Stray),
        4 => (1..8_000_u32).prop_map(Step::Pass),
        1 => (600_000..4_000_000_u32).prop_map(Step::Pass),
        1 => (-40_000_000..0_i32).prop_map(Step::Jump),
    ]
}

const REQUESTS: u64 = 12;
const CONCURRENT: u32 = 3;

fn upstreams() -> Vec<Upstream> {
    ["a", "b"]
        .map(|name| {
            let mut upstream = with_tokens(name, 6 * worst());
            upstream.budget.hour.requests = Some(REQUESTS);
            upstream.limits.concurrent = CONCURRENT;
            upstream
        })
        .into()
}

/// What an observer outside sees, and what must hold of it.
struct Watch {
    world: World,
    next: u64,
    open: BTreeSet<u64>,
    calls_seen: u64,
    /// The budget's hour in which each call began.
    began_in: HashMap<CallNo, u64>,
    /// Of each upstream: the calls that began since it was last seen to rest.
    since_rest: [Option<BTreeSet<CallNo>>; 2],
    /// Of each upstream in this hour by the desk's reckoning: calls and tokens, at most.
    used: [(u64, u64); 2],
    hour: u64,
    /// Since when the wall clock shows an earlier hour.
    behind: Option<Mono>,
    hours_seen: u64,
}

impl Watch {
    fn new() -> Self {
        Self {
            world: World::new(upstreams()),
            next: 1,
            open: BTreeSet::new(),
            calls_seen: 0,
            began_in: HashMap::new(),
            since_rest: [None, None],
            used: [(0, 0); 2],
            hour: NOON / 3_600_000,
            behind: None,
            hours_seen: 0,
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Send {
                ways,
                urgency,
                until_s,
            } => {
                let ways: &[&str] =
                    [&["a"][..], &["b"], &["a", "b"], &["b", "a"]][usize::from(*ways)];
                let until = self.world.now.mono.after(u32::from(*until_s) * SECOND);
                let mut errand = errand(self.next, ways, until);
                let all = [Priority::High, Priority::Normal, Priority::Low];
                errand.urgency = all[usize::from(*urgency)];
                errand.accepted = self.world.now.wall;
                self.open.insert(self.next);
                self.next += 1;
                self.world.give(Command::Send(errand));
            }
            Step::Cancel(which) => {
                let tickets: Vec<_> = self.open.iter().copied().collect();
                if let Some(ticket) = tickets.get(usize::from(*which) % tickets.len().max(1)) {
                    self.open.remove(ticket);
                    self.world.give(Command::Cancel(TicketNo(*ticket)));
                }
            }
            Step::End(place, end) => {
                if !self.world.calls.is_empty() {
                    let place = usize::from(*place) % self.world.calls.len();
                    let call = self.world.calls.remove(place);
                    self.repay(&call, *end);
                    let since = &mut self.since_rest[call.upstream];
                    let probed = since.as_ref().is_some_and(|since| since.contains(&call.no));
                    if probed && matches!(end, End::Good | End::Rejected | End::Misfit) {
                        *since = None;
                    }
                    self.forget(call.no);
                    self.world.end_call(call.no, end.outcome());
                }
            }
            Step::Stray => {
                if let Some(no) = self.world.aborts.last().copied() {
                    self.world.end_call(no, answer());
                }
            }
            Step::Pass(ms) => self.world.pass(Duration::from_millis((*ms).into())),
            Step::Jump(ms) => {
                let wall = self.world.now.wall.0.saturating_add_signed((*ms).into());
                self.world.now.wall = Wall(wall);
                self.world.pass(Duration::ZERO);
            }
        }
        self.look();
    }

    fn forget(&mut self, no: CallNo) {
        for since in self.since_rest.iter_mut().flatten() {
            since.remove(&no);
        }
    }

    /// A call was counted at its worst when it began; now it is known what it cost.
    fn repay(&mut self, call: &Call, end: End) {
        if self.began_in[&call.no] != self.hours_seen {
            return;
        }
        let used = &mut self.used[call.upstream];
        used.1 -= worst() - end.tokens();
        if matches!(end, End::Unreachable) {
            used.0 -= 1;
        }
    }

    /// A new budget comes with a later hour than any before, or when the clock has shown an
    /// earlier one for a whole real hour.
    fn turn_the_hour(&mut self) {
        let hour = self.world.now.wall.0 / 3_600_000;
        if hour >= self.hour {
            self.behind = None;
        }
        let since = self.behind;
        if hour < self.hour {
            self.behind.get_or_insert(self.world.now.mono);
        }
        let waited = since.is_some_and(|since| self.world.now.mono.since(since) >= 3600 * SECOND);
        if hour > self.hour || waited {
            self.hour = hour;
            self.behind = None;
            self.used = [(0, 0); 2];
            self.hours_seen += 1;
        }
    }

    /// Holds everything that was said against what must hold.
    fn look(&mut self) {
        for (ticket, _) in std::mem::take(&mut self.world.ended) {
            assert!(
                self.open.remove(&ticket),
                "{ticket} ended though it was not open"
            );
        }
        for no in self.world.aborts.clone() {
            self.forget(no);
        }
        self.turn_the_hour();
        let calls = self.world.calls.iter();
        let begun = calls.filter(|call| call.no.0 >= self.calls_seen);
        let begun: Vec<_> = begun.map(|call| (call.no, call.upstream)).collect();
        for call in begun {
            self.calls_seen = self.calls_seen.max(call.0.0 + 1);
            self.began_in.insert(call.0, self.hours_seen);
            self.used[call.1].0 += 1;
            self.used[call.1].1 += worst();
            assert!(self.used[call.1].0 <= REQUESTS, "calls: {:?}", self.used);
            assert!(
                self.used[call.1].1 <= 6 * worst(),
                "tokens: {:?}",
                self.used
            );
            if let Some(since) = &mut self.since_rest[call.1] {
                since.insert(call.0);
                assert_eq!(since.len(), 1, "one probe at a time");
            }
        }
        let states = std::mem::take(&mut self.world.states);
        for state in &states {
            for (place, standing) in state.upstreams.iter().enumerate() {
                if matches!(standing.reach, Reach::Resting { .. }) {
                    self.since_rest[place] = Some(BTreeSet::new());
                }
            }
        }
        for place in 0..2 {
            let under_way = self
                .world
                .calls
                .iter()
                .filter(|call| call.upstream == place);
            assert!(under_way.count() <= CONCURRENT as usize);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_errand_ends_once_within_budget_with_one_probe_at_a_time(steps in vec(steps(), 1..120)) {
        let mut watch = Watch::new();
        for step in &steps {
            watch.take(step);
        }
        // Nothing more comes; everything ends by itself.
        for _ in 0..1000 {
            if watch.open.is_empty() {
                break;
            }
            watch.world.wake();
            watch.look();
        }
        prop_assert!(watch.open.is_empty(), "still open: {:?}", watch.open);
    }
}
