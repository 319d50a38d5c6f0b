//! Work that waits: who is next, who comes too late, who is refused at the door.
//!
//! Order: priority first; then the client that has had least; then the earliest deadline; then
//! arrival. What a client has had is counted in tokens, and one who comes anew starts where the
//! least served of those who wait stands, so that silence saves up no right of way.
//!
//! Pure: times are spans since the start of the process, handed in.
//!
//! Invariants: never more than the limit waits; nobody who fits is passed over by one of the same
//! priority whose client has had more.

use std::collections::HashMap;
use std::time::Duration;

use super::protocol::WorkNo;

/// Clients whose share is remembered beyond those who wait: a fleet's gateways, and room.
const MAX_CLIENTS: usize = 4096;

/// What the desk must know of a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slip {
    /// Its number.
    pub no: WorkNo,
    /// Larger is sooner.
    pub priority: u8,
    /// Whose it is.
    pub client: u64,
    /// When it must be done.
    pub due: Duration,
}

/// Work that waits.
#[derive(Debug)]
pub(super) struct Desk<T> {
    waiting: Vec<(Slip, T)>,
    had: HashMap<u64, u64>,
    limit: usize,
}

impl<T> Desk<T> {
    /// A desk with room for so much.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            waiting: Vec::new(),
            had: HashMap::new(),
            limit,
        }
    }

    /// How much waits.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes work, unless there is no room.
    pub(super) fn put(&mut self, slip: Slip, item: T) -> Result<(), T> {
        if self.waiting.len() >= self.limit {
            return Err(item);
        }
        if !self.had.contains_key(&slip.client) {
            self.make_room();
            let start = self
                .waiting
                .iter()
                .map(|(slip, _)| self.had_by(slip.client))
                .min();
            self.had.insert(slip.client, start.unwrap_or(0));
        }
        self.waiting.push((slip, item));
        Ok(())
    }

    /// Who is next, to be looked at.
    pub(super) fn first(&self) -> Option<(&Slip, &T)> {
        let (slip, item) = &self.waiting[self.next_index()?];
        Some((slip, item))
    }

    /// Who is next, to be taken.
    pub(super) fn take(&mut self) -> Option<(Slip, T)> {
        let index = self.next_index()?;
        Some(self.waiting.remove(index))
    }

    /// Those who cannot be done in time any more.
    pub(super) fn take_late(&mut self, is_late: impl Fn(&Slip, &T) -> bool) -> Vec<(Slip, T)> {
        self.waiting
            .extract_if(.., |(slip, item)| is_late(slip, item))
            .collect()
    }

    /// One of them, wherever it stands.
    pub(super) fn withdraw(&mut self, no: WorkNo) -> Option<T> {
        let index = self.waiting.iter().position(|(slip, _)| slip.no == no)?;
        Some(self.waiting.remove(index).1)
    }

    /// A client was served so many tokens.
    pub(super) fn charge(&mut self, client: u64, tokens: u64) {
        if let Some(had) = self.had.get_mut(&client) {
            *had = had.saturating_add(tokens);
        }
    }

    fn had_by(&self, client: u64) -> u64 {
        self.had.get(&client).copied().unwrap_or(0)
    }

    fn next_index(&self) -> Option<usize> {
        let rank = |(index, (slip, _)): (usize, &(Slip, T))| {
            let key = (
                std::cmp::Reverse(slip.priority),
                self.had_by(slip.client),
                slip.due,
                index,
            );
            (key, index)
        };
        let ranked = self.waiting.iter().enumerate().map(rank);
        ranked.min().map(|(_, index)| index)
    }

    /// Forgets clients of whom nothing waits: they start anew, as newcomers do.
    fn make_room(&mut self) {
        if self.had.len() >= MAX_CLIENTS {
            let waiting = &self.waiting;
            self.had
                .retain(|client, _| waiting.iter().any(|(slip, _)| slip.client == *client));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slip(no: u64, priority: u8, client: u64, due_ms: u64) -> Slip {
        Slip {
            no: WorkNo(no),
            priority,
            client,
            due: Duration::from_millis(due_ms),
        }
    }

    fn desk(slips: &[Slip]) -> Desk<()> {
        let mut desk = Desk::new(100);
        for it in slips {
            desk.put(*it, ()).unwrap();
        }
        desk
    }

    fn order(mut desk: Desk<()>) -> Vec<u64> {
        std::iter::from_fn(|| desk.take())
            .map(|(slip, ())| slip.no.0)
            .collect()
    }

    #[test]
    fn priority_goes_before_deadline_and_deadline_before_arrival() {
        let slips = [
            slip(1, 0, 1, 5),
            slip(2, 1, 1, 9),
            slip(3, 1, 1, 7),
            slip(4, 1, 1, 7),
        ];
        assert_eq!(order(desk(&slips)), [3, 4, 2, 1]);
    }

    #[test]
    fn a_client_with_a_hundred_requests_does_not_hold_up_one_with_a_single() {
        let mut desk = Desk::new(200);
        for no in 0..100 {
            desk.put(slip(no, 1, 7, 10), ()).unwrap();
        }
        let (first, ()) = desk.take().unwrap();
        desk.charge(first.client, 50);
        desk.put(slip(100, 1, 8, 1000), ()).unwrap();
        // The newcomer starts level with the least served of those who wait, and once the other
        // has had one more, it is the newcomer's turn.
        let (second, ()) = desk.take().unwrap();
        desk.charge(second.client, 50);
        assert_eq!(desk.take().unwrap().0.no, WorkNo(100));
    }

    #[test]
    fn a_full_desk_takes_no_more() {
        let mut desk = Desk::new(1);
        assert!(desk.put(slip(1, 0, 1, 1), ()).is_ok());
        assert!(desk.put(slip(2, 9, 1, 1), ()).is_err());
        assert_eq!(desk.len(), 1);
    }

    #[test]
    fn the_late_and_the_withdrawn_leave_and_the_others_stay() {
        let mut desk = desk(&[slip(1, 0, 1, 5), slip(2, 0, 1, 50), slip(3, 0, 1, 60)]);
        let late = desk.take_late(|slip, ()| slip.due < Duration::from_millis(10));
        assert_eq!(late.len(), 1);
        assert_eq!(desk.withdraw(WorkNo(3)), Some(()));
        assert_eq!(desk.withdraw(WorkNo(3)), None);
        assert_eq!(order(desk), [2]);
    }

    #[test]
    fn clients_are_forgotten_when_there_are_too_many_and_none_who_waits() {
        let mut desk = Desk::new(1);
        for client in 0..(MAX_CLIENTS as u64 * 3) {
            desk.put(slip(client, 0, client, 1), ()).unwrap();
            desk.charge(client, 10);
            desk.take().unwrap();
            assert!(desk.had.len() <= MAX_CLIENTS);
        }
    }
}
