//! Who is away, and who stands in. Pure: no clock, no connection.
//!
//! ```text
//!            on_status(away), my turn         on_ended(Lost), pause over
//!  Present ──────────────────────► StandingIn ◄──────────────────────── Waiting
//!     ▲                                │ │ ▲                               ▲
//!     └─ on_status(there): step back ──┘ └─┼───── on_ended(Lost) ──────────┘
//!                                          │ on_ended(NoSession): Empty, until the next status
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::broker::End;
use crate::clock::Mono;
use crate::intake::Digest;

/// Members that are told apart. A pool is a handful of boards; the rest of the names on the
/// status topics is not ours to keep.
const MAX_MEMBERS: usize = 64;
/// Stand-ins of one member at a time: each is a connection.
const MAX_STAND_INS: usize = 8;

/// What a line opener has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Connect in this member's place.
    StandIn(String),
    /// It is back, or another's turn: leave.
    StepBack(String),
}

#[derive(Debug)]
pub(super) struct Roster {
    me: String,
    pool: String,
    members: BTreeMap<String, State>,
    /// Members that are back while we stood in for them.
    back: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Connected, by its own word.
    Present,
    /// Away since its last will or goodbye; nobody from here stands in.
    Away,
    /// Away, and its place is ours.
    StandingIn,
    /// Away; our place there was lost, to be tried again at this time.
    Waiting(Mono),
    /// Away, and the broker holds nothing for it.
    Empty,
}

/// What is read of a status message.
#[derive(Deserialize)]
struct Status {
    state: String,
    pool: Option<String>,
}

impl Roster {
    pub(super) fn new(me: &str, pool: &str) -> Self {
        Self {
            me: me.into(),
            pool: pool.into(),
            members: BTreeMap::new(),
            back: Vec::new(),
        }
    }

    /// An appliance said how it is, or its last will did.
    pub(super) fn on_status(&mut self, name: &str, payload: &[u8]) {
        if name == self.me {
            return;
        }
        let status: Option<Status> = serde_json::from_slice(payload).ok();
        let ours = status.filter(|status| status.pool.as_ref() == Some(&self.pool));
        let Some(status) = ours else {
            // Left the pool, or was taken out of service: its requests are no longer ours.
            self.members.remove(name);
            return;
        };
        let known = self.members.get(name).copied();
        if known.is_none() && self.members.len() >= MAX_MEMBERS {
            return;
        }
        let state = match (status.state.as_str(), known) {
            ("offline", Some(state @ (State::StandingIn | State::Waiting(_)))) => state,
            ("offline", Some(State::Present | State::Away | State::Empty) | None) => State::Away,
            (_, _) => State::Present,
        };
        let was = self.members.insert(name.into(), state);
        if was == Some(State::StandingIn) && state == State::Present {
            self.back.push(name.into());
        }
    }

    /// A stand-in ended; if there is reason to try again, then not before `again`.
    pub(super) fn on_ended(&mut self, name: &str, end: End, again: Mono) {
        if let Some(state) = self.members.get_mut(name)
            && *state == State::StandingIn
        {
            *state = match end {
                End::Lost => State::Waiting(again),
                End::NoSession => State::Empty,
                End::Closed => State::Away,
            };
        }
    }

    /// When there is something to do without any news.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.members
            .values()
            .filter_map(|state| match state {
                State::Waiting(at) => Some(*at),
                State::Present | State::Away | State::StandingIn | State::Empty => None,
            })
            .min()
    }

    /// What is to be done now. Each turn is given once.
    pub(super) fn turns(&mut self, now: Mono) -> Vec<Turn> {
        let back = std::mem::take(&mut self.back).into_iter();
        let mut turns: Vec<Turn> = back.map(Turn::StepBack).collect();
        let names: Vec<String> = self.members.keys().cloned().collect();
        for name in names {
            let mine = self.is_my_turn(&name);
            let standing = self.standing_in();
            let Some(state) = self.members.get_mut(&name) else {
                continue;
            };
            match *state {
                State::Waiting(at) if at > now => {}
                State::Away | State::Waiting(_) if mine && standing < MAX_STAND_INS => {
                    *state = State::StandingIn;
                    turns.push(Turn::StandIn(name));
                }
                State::StandingIn if !mine => {
                    *state = State::Away;
                    turns.push(Turn::StepBack(name));
                }
                State::Waiting(_) => *state = State::Away,
                State::Present | State::Away | State::StandingIn | State::Empty => {}
            }
        }
        turns
    }

    fn standing_in(&self) -> usize {
        self.members
            .values()
            .filter(|state| **state == State::StandingIn)
            .count()
    }

    /// Whether, of all who are there, this appliance scores lowest against `away`.
    fn is_my_turn(&self, away: &str) -> bool {
        let score = |candidate: &str| {
            let parts = [away.as_bytes(), candidate.as_bytes()];
            (Digest::of(&parts), candidate.to_owned())
        };
        let mine = score(&self.me);
        self.members
            .iter()
            .filter(|(name, state)| **state == State::Present && *name != away)
            .all(|(name, _)| mine < score(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const ONLINE: &[u8] = br#"{"state":"online","pool":"press"}"#;
    const OFFLINE: &[u8] = br#"{"state":"offline","pool":"press"}"#;

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    fn alone(me: &str) -> Roster {
        Roster::new(me, "press")
    }

    #[test]
    fn of_all_living_members_exactly_one_stands_in_for_a_dead_one() {
        let names = ["a", "b", "c", "d", "e"];
        for dead in names {
            let turns: usize = names
                .iter()
                .filter(|me| **me != dead)
                .map(|me| {
                    let mut roster = alone(me);
                    for other in names.iter().filter(|other| *other != me && **other != dead) {
                        roster.on_status(other, ONLINE);
                    }
                    roster.on_status(dead, OFFLINE);
                    roster.turns(at(0)).len()
                })
                .sum();
            assert_eq!(turns, 1, "for {dead}");
        }
    }

    #[test]
    fn a_turn_is_given_once_and_a_member_that_is_back_needs_none() {
        let mut roster = alone("a");
        roster.on_status("b", OFFLINE);
        assert_eq!(roster.turns(at(0)), [Turn::StandIn("b".into())]);
        roster.on_status("b", OFFLINE);
        assert!(roster.turns(at(1)).is_empty());
        roster.on_status("b", ONLINE);
        assert_eq!(roster.turns(at(2)), [Turn::StepBack("b".into())]);
        roster.on_ended("b", End::Lost, at(9));
        assert_eq!(roster.deadline(), None);
    }

    #[test]
    fn a_stand_in_that_lost_its_line_is_tried_again_after_the_pause() {
        let mut roster = alone("a");
        roster.on_status("b", OFFLINE);
        roster.turns(at(0));
        roster.on_ended("b", End::Lost, at(5));
        assert!(roster.turns(at(4)).is_empty());
        assert_eq!(roster.deadline(), Some(at(5)));
        assert_eq!(roster.turns(at(5)), [Turn::StandIn("b".into())]);
    }

    #[test]
    fn where_the_broker_holds_nothing_nobody_stands_in_until_the_next_word() {
        let mut roster = alone("a");
        roster.on_status("b", OFFLINE);
        roster.turns(at(0));
        roster.on_ended("b", End::NoSession, at(1));
        assert!(roster.turns(at(9)).is_empty());
        roster.on_status("b", ONLINE);
        roster.on_status("b", OFFLINE);
        assert_eq!(roster.turns(at(11)).len(), 1);
    }

    #[test]
    fn others_pools_and_other_programs_are_not_ours() {
        let mut roster = alone("a");
        roster.on_status("b", br#"{"state":"offline","pool":"weld"}"#);
        roster.on_status("c", b"gone");
        roster.on_status("d", b"");
        roster.on_status("a", OFFLINE);
        assert!(roster.turns(at(0)).is_empty());
    }
}
