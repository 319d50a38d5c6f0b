//! Beginnings of prompts that stay computed: each instruction's prefix, decoded once and shared.
//!
//! Purpose: says which beginning lies in which sequence, how far it is computed, who uses it,
//! and which one goes first when the cache is needed for something else: the one whose tokens
//! cost least to compute again, weighed by how often and how lately it was asked for.
//!
//! ```text
//!            claim                 filled               claim, release
//!   (none) ────────► Filling ────────────────► Ready ◄────────────────┐
//!                     ▲ │  spoiled             │ │ park               │
//!                     │ │                      │ └──────► Empty, and its state is kept
//!                     │ ▼                      ▼              │ claim: Filling, until the
//!                     │ Empty, if it is pinned; gone, if not  │ state is back in the cache
//!                     └────────────────────────────────┴──────┘
//! ```
//!
//! Parked is what nobody uses now while others are answered: each of their tokens would be
//! compared with each of its cells, only to find that they do not concern it. With a small model
//! that costs more than the model itself. A state that was kept once stays kept as long as the
//! beginning has its place, for its tokens never change: to park it again costs nothing.
//!
//! Pure: it moves no token. Invariants: a beginning in use is never evicted or parked; a pinned
//! one keeps its place, though not its tokens; kept states are at most [`MAX_KEPT_BYTES`].

use std::time::Duration;

/// How long a beginning that belongs to no instruction is kept unused: every pass looks over its
/// tokens, and who comes back later than that reads them again once.
const LOOSE_KEPT: Duration = Duration::from_mins(1);
/// Bytes of kept states: some ten thousand tokens of the models that gain from it. A board that
/// has no room for so much serves no model whose states are as large.
pub(super) const MAX_KEPT_BYTES: usize = 64 << 20;

/// A beginning's place on the shelf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place(pub usize);

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// Nothing is computed.
    Empty,
    /// So many tokens are.
    Filling(usize),
    /// All are.
    Ready,
}

/// A beginning.
#[derive(Clone, Debug)]
pub(super) struct Beginning {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// The sequence that holds them.
    pub sequence: u32,
    /// How far it is.
    pub fill: Fill,
    kept: Option<Vec<u8>>,
    too_large: bool,
    pinned: bool,
    users: u32,
    uses: u64,
    used: Duration,
}

/// The beginnings.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    places: Vec<Option<Beginning>>,
    sequences: Vec<u32>,
}

impl Shelf {
    /// A shelf with these sequences to lay beginnings into.
    pub(super) fn new(sequences: Vec<u32>) -> Self {
        Self {
            places: Vec::new(),
            sequences,
        }
    }

    /// Gives a beginning a place for good. False if there is none left.
    pub(super) fn pin(&mut self, tokens: Vec<u32>) -> Option<Place> {
        if let Some(place) = self.find(&tokens) {
            self.at_mut(place).pinned = true;
            return Some(place);
        }
        let place = self.lay(tokens)?;
        self.at_mut(place).pinned = true;
        Some(place)
    }

    /// Whether somebody has these tokens computed, or on the way.
    pub(super) fn has(&self, tokens: &[u32]) -> bool {
        let place = self.find(tokens).map(|place| self.at(place));
        place.is_some_and(|it| it.fill != Fill::Empty || it.kept.is_some())
    }

    /// Somebody wants to begin with these tokens. None if there is no place.
    pub(super) fn claim(&mut self, tokens: &[u32], now: Duration) -> Option<Place> {
        let place = match self.find(tokens) {
            Some(place) => place,
            None => self.lay(tokens.to_vec())?,
        };
        let beginning = self.at_mut(place);
        beginning.users += 1;
        beginning.uses += 1;
        beginning.used = now;
        if beginning.fill == Fill::Empty {
            beginning.fill = Fill::Filling(0);
        }
        Some(place)
    }

    /// Who claimed it is done with it.
    pub(super) fn release(&mut self, place: Place) {
        let beginning = self.at_mut(place);
        beginning.users -= 1;
    }

    /// More of it is computed.
    pub(super) fn filled(&mut self, place: Place, tokens: usize) {
        let beginning = self.at_mut(place);
        let whole = beginning.tokens.len();
        beginning.fill = if tokens >= whole {
            Fill::Ready
        } else {
            Fill::Filling(tokens)
        };
    }

    /// One of them.
    pub(super) fn at(&self, place: Place) -> &Beginning {
        self.places[place.0]
            .as_ref()
            .expect("a place is given only for what lies there")
    }

    fn at_mut(&mut self, place: Place) -> &mut Beginning {
        self.places[place.0]
            .as_mut()
            .expect("a place is given only for what lies there")
    }

    /// Those that somebody waits for.
    pub(super) fn filling(&self) -> impl Iterator<Item = (Place, &Beginning, usize)> {
        self.all().filter_map(|(place, it)| match it.fill {
            Fill::Filling(done) if it.users > 0 => Some((place, it, done)),
            Fill::Filling(_) | Fill::Empty | Fill::Ready => None,
        })
    }

    /// One that somebody waits for and whose state is kept: to be brought back.
    pub(super) fn to_bring_back(&self) -> Option<(Place, &Beginning)> {
        let waits = |it: &Beginning| it.users > 0 && it.fill == Fill::Filling(0);
        let mut waiting = self.all().filter(|(_, it)| waits(it) && it.kept.is_some());
        waiting.next()
    }

    /// Whom to park so that unused beginnings have no more than so many tokens in the cache: those
    /// that are worth least.
    pub(super) fn to_park(&self, near: usize, now: Duration) -> Option<(Place, &Beginning)> {
        let idle = |it: &Beginning| it.users == 0 && it.fill == Fill::Ready;
        let unused = self.all().filter(|(_, it)| idle(it));
        if unused.clone().map(|(_, it)| it.tokens.len()).sum::<usize>() <= near {
            return None;
        }
        unused
            .filter(|(_, it)| it.kept.is_some() || !it.too_large)
            .min_by(|a, b| a.1.worth(now).total_cmp(&b.1.worth(now)))
    }

    /// Bytes that a state may have to be kept.
    pub(super) fn room_to_keep(&self) -> usize {
        let kept = self.all().filter_map(|(_, it)| it.kept.as_deref());
        MAX_KEPT_BYTES.saturating_sub(kept.map(<[u8]>::len).sum())
    }

    /// The state of a beginning, to be kept; none where it is too large for that.
    pub(super) fn keep(&mut self, place: Place, state: Option<Vec<u8>>) {
        let beginning = self.at_mut(place);
        beginning.too_large = state.is_none();
        beginning.kept = state;
    }

    /// It leaves the cache, and its state is kept; tells its sequence, which is to be emptied.
    pub(super) fn park(&mut self, place: Place) -> u32 {
        let beginning = self.at_mut(place);
        debug_assert!(beginning.users == 0 && beginning.kept.is_some());
        beginning.fill = Fill::Empty;
        beginning.sequence
    }

    /// States are kept no longer: memory is short.
    pub(super) fn drop_kept(&mut self) {
        let all = self.places.iter_mut().flatten();
        all.for_each(|beginning| beginning.kept = None);
    }

    /// Those that are computed.
    #[cfg(test)]
    fn ready(&self) -> impl Iterator<Item = (Place, &Beginning)> {
        self.all().filter(|(_, it)| it.fill == Fill::Ready)
    }

    fn all(&self) -> impl Iterator<Item = (Place, &Beginning)> + Clone {
        let places = self.places.iter().enumerate();
        places.filter_map(|(index, it)| Some((Place(index), it.as_ref()?)))
    }

    /// Tokens of the cache that lie here or are on their way.
    pub(super) fn tokens(&self) -> usize {
        self.all().map(|(_, it)| it.held()).sum()
    }

    /// Lets go of the beginning that costs least; tells its sequence, which is to be emptied.
    pub(super) fn evict(&mut self, now: Duration) -> Option<u32> {
        let candidates = self.all().filter(|(_, it)| it.users == 0 && it.held() > 0);
        let (place, _) = candidates.min_by(|a, b| a.1.worth(now).total_cmp(&b.1.worth(now)))?;
        Some(self.spoil(place))
    }

    /// Lets go of a beginning that belongs to no instruction and was not used for long; tells its
    /// sequence, which is to be emptied.
    pub(super) fn let_go(&mut self, now: Duration) -> Option<u32> {
        let is_old = |it: &Beginning| now.saturating_sub(it.used) > LOOSE_KEPT;
        let is_idle = |it: &Beginning| !it.pinned && it.users == 0 && is_old(it);
        let place = self
            .all()
            .find_map(|(place, it)| is_idle(it).then_some(place))?;
        Some(self.spoil(place))
    }

    /// Its tokens are no longer in the cache; tells the sequence.
    pub(super) fn spoil(&mut self, place: Place) -> u32 {
        let beginning = self.at_mut(place);
        let sequence = beginning.sequence;
        if beginning.pinned || beginning.users > 0 {
            beginning.fill = if beginning.users > 0 {
                Fill::Filling(0)
            } else {
                Fill::Empty
            };
        } else {
            self.sequences.push(sequence);
            self.places[place.0] = None;
        }
        sequence
    }

    /// Nothing is in the cache any more.
    pub(super) fn spoil_all(&mut self) {
        let places: Vec<_> = self.all().map(|(place, _)| place).collect();
        for place in places {
            self.spoil(place);
        }
    }

    fn find(&self, tokens: &[u32]) -> Option<Place> {
        let same = |(place, it): (Place, &Beginning)| (it.tokens == tokens).then_some(place);
        self.all().find_map(same)
    }

    /// Puts a new beginning down, in place of an idle one that is not pinned if need be.
    fn lay(&mut self, tokens: Vec<u32>) -> Option<Place> {
        let sequence = self.sequences.pop()?;
        let beginning = Beginning {
            tokens,
            sequence,
            fill: Fill::Empty,
            kept: None,
            too_large: false,
            pinned: false,
            users: 0,
            uses: 0,
            used: Duration::ZERO,
        };
        let free = self.places.iter().position(Option::is_none);
        let index = free.unwrap_or(self.places.len());
        if free.is_none() {
            self.places.push(None);
        }
        self.places[index] = Some(beginning);
        Some(Place(index))
    }

    /// A sequence for a new beginning, by letting go of an idle one that is not pinned.
    pub(super) fn make_place(&mut self, now: Duration) -> Option<u32> {
        if !self.sequences.is_empty() {
            return None;
        }
        let loose = self.all().filter(|(_, it)| it.users == 0 && !it.pinned);
        let (place, _) = loose.min_by(|a, b| a.1.worth(now).total_cmp(&b.1.worth(now)))?;
        Some(self.spoil(place))
    }
}

impl Beginning {
    /// Its state, where it is kept.
    pub(super) fn kept(&self) -> Option<&[u8]> {
        self.kept.as_deref()
    }

    /// Tokens in the cache, or about to be.
    fn held(&self) -> usize {
        match self.fill {
            Fill::Empty => 0,
            Fill::Filling(_) | Fill::Ready => self.tokens.len(),
        }
    }

    /// What computing it again would cost, and how likely that is to be wanted.
    fn worth(&self, now: Duration) -> f64 {
        let idle_s = now.saturating_sub(self.used).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rank needs no exactness")]
        let cost = self.tokens.len() as f64 * self.uses as f64;
        cost / (1.0 + idle_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn ready(shelf: &mut Shelf, tokens: &[u32], uses: usize) -> Place {
        let mut place = None;
        for _ in 0..uses {
            let claimed = shelf.claim(tokens, NOW).unwrap();
            shelf.filled(claimed, tokens.len());
            shelf.release(claimed);
            place = Some(claimed);
        }
        place.unwrap()
    }

    #[test]
    fn the_same_beginning_is_computed_once_for_all_who_want_it() {
        let mut shelf = Shelf::new(vec![0, 1]);
        let first = shelf.claim(&[1, 2, 3], NOW).unwrap();
        let second = shelf.claim(&[1, 2, 3], NOW).unwrap();
        assert_eq!(first, second);
        assert_eq!(shelf.filling().count(), 1);
        shelf.filled(first, 2);
        assert_eq!(shelf.at(first).fill, Fill::Filling(2));
        shelf.filled(first, 3);
        assert_eq!(shelf.at(first).fill, Fill::Ready);
        assert_eq!(shelf.filling().count(), 0);
        assert_eq!(shelf.tokens(), 3);
    }

    #[test]
    fn what_is_in_use_is_never_evicted() {
        let mut shelf = Shelf::new(vec![0]);
        let place = shelf.claim(&[1, 2], NOW).unwrap();
        assert_eq!(shelf.evict(NOW), None);
        shelf.filled(place, 2);
        shelf.release(place);
        assert_eq!(shelf.evict(NOW), Some(0));
        assert_eq!(shelf.tokens(), 0);
    }

    #[test]
    fn the_cheapest_goes_first_by_length_use_and_age() {
        let mut shelf = Shelf::new(vec![0, 1, 2]);
        let long = ready(&mut shelf, &[9; 50], 1);
        let often = ready(&mut shelf, &[8; 10], 9);
        let cheap = ready(&mut shelf, &[7; 10], 1);
        let sequences = [cheap, long, often].map(|place| shelf.at(place).sequence);
        let order: Vec<_> = std::iter::from_fn(|| shelf.evict(NOW)).collect();
        assert_eq!(order, sequences);
    }

    #[test]
    fn a_pinned_beginning_loses_its_tokens_but_not_its_place() {
        let mut shelf = Shelf::new(vec![0]);
        let place = shelf.pin(vec![1, 2]).unwrap();
        let claimed = shelf.claim(&[1, 2], NOW).unwrap();
        shelf.filled(claimed, 2);
        shelf.release(claimed);
        assert_eq!(shelf.evict(NOW), Some(0));
        assert_eq!(shelf.at(place).fill, Fill::Empty);
        assert_eq!(shelf.make_place(NOW), None, "its sequence stays its own");
        assert_eq!(shelf.claim(&[3], NOW), None);
        assert_eq!(shelf.claim(&[1, 2], NOW), Some(place));
    }

    #[test]
    fn a_loose_beginning_makes_place_for_another() {
        let mut shelf = Shelf::new(vec![5]);
        ready(&mut shelf, &[1, 2], 1);
        assert_eq!(shelf.claim(&[3], NOW), None);
        assert_eq!(shelf.make_place(NOW), Some(5));
        assert!(shelf.claim(&[3], NOW).is_some());
    }

    #[test]
    fn a_loose_beginning_is_let_go_when_nobody_comes_back_and_a_pinned_one_never_is() {
        let mut shelf = Shelf::new(vec![5, 6]);
        shelf.pin(vec![7, 8]).unwrap();
        ready(&mut shelf, &[7, 8], 1);
        let loose = ready(&mut shelf, &[1, 2], 1);
        let later = NOW + LOOSE_KEPT + Duration::from_millis(1);
        assert_eq!(shelf.let_go(NOW + LOOSE_KEPT), None);
        let used = shelf.claim(&[1, 2], NOW).unwrap();
        assert_eq!(shelf.let_go(later), None, "somebody uses it");
        shelf.release(used);
        let sequence = shelf.at(loose).sequence;
        assert_eq!(shelf.let_go(later), Some(sequence));
        assert_eq!(shelf.let_go(later), None);
        assert!(shelf.has(&[7, 8]));
    }

    #[test]
    fn what_nobody_uses_is_parked_beyond_what_is_bearable_and_comes_back_for_who_waits() {
        let mut shelf = Shelf::new(vec![0, 1, 2]);
        let cheap = ready(&mut shelf, &[1; 10], 1);
        let dear = ready(&mut shelf, &[2; 10], 9);
        let used = shelf.claim(&[3; 10], NOW).unwrap();
        shelf.filled(used, 10);
        assert_eq!(shelf.to_park(20, NOW).map(|it| it.0), None);
        assert_eq!(shelf.to_park(19, NOW).map(|it| it.0), Some(cheap));
        shelf.keep(cheap, Some(vec![7; 5]));
        shelf.park(cheap);
        assert_eq!(shelf.room_to_keep(), MAX_KEPT_BYTES - 5);
        assert_eq!(shelf.tokens(), 20, "it is no longer in the cache");
        assert!(shelf.has(&[1; 10]), "and yet it need not be computed");
        assert!(shelf.to_bring_back().is_none(), "nobody waits for it");
        assert_eq!(shelf.claim(&[1; 10], NOW), Some(cheap));
        let (place, beginning) = shelf.to_bring_back().unwrap();
        assert_eq!((place, beginning.kept()), (cheap, Some(&[7; 5][..])));
        shelf.filled(cheap, 10);
        assert!(shelf.to_bring_back().is_none());
        shelf.keep(dear, None);
        assert_eq!(
            shelf.to_park(0, NOW).map(|it| it.0),
            None,
            "too large to keep"
        );
        shelf.drop_kept();
        assert_eq!(shelf.room_to_keep(), MAX_KEPT_BYTES);
    }

    #[test]
    fn after_a_failed_pass_everything_is_computed_anew() {
        let mut shelf = Shelf::new(vec![0, 1]);
        let used = shelf.claim(&[1, 2], NOW).unwrap();
        shelf.filled(used, 2);
        ready(&mut shelf, &[3], 1);
        shelf.spoil_all();
        assert_eq!(shelf.at(used).fill, Fill::Filling(0));
        assert_eq!(shelf.ready().count(), 0);
    }
}
