//! The desk: which items wait for a person, in which order, and who has taken which.
//!
//! A plain struct without a text in it. The order is that of the inbox: by priority, then by age.
//! Leases are in memory alone: a restart ends them all, and the items are there again.
//!
//! Invariants: an item is in all of the tables or in none; an item has at most one holder, and none
//! whose time is over. When an item expires is its ticket's matter: whoever settles it removes it.

use std::collections::{BTreeMap, BTreeSet};

use super::{ItemId, LEASE, MAX_ITEMS, MAX_PAGE, Named, Refusal, Reviewer};
use crate::clock::{Mono, Now, Wall};
use crate::intake::{Classification, Priority};
use crate::ticket::TicketNo;

/// What is known of an item without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The request's ticket.
    pub no: TicketNo,
    /// The item's name.
    pub id: ItemId,
    /// The request's id.
    pub request: String,
    /// The client's name.
    pub client: String,
    /// The task, where one is named.
    pub task: Option<String>,
    /// Who goes first.
    pub priority: Priority,
    /// Where it may be seen.
    pub classification: Classification,
    /// When the request was accepted.
    pub accepted: Wall,
    /// When nobody is waited for any more.
    pub expires: Wall,
    /// Whether persons elsewhere may see it.
    pub elsewhere: Elsewhere,
}

/// Whether persons who are not at the appliance may see an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// They may not; for them there is no such item.
    Never,
    /// They may.
    Allowed,
}

/// An item as the list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The item.
    pub head: Head,
    /// Who has taken it, and until when.
    pub held: Option<(Reviewer, Wall)>,
}

/// A part of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Items, the most urgent first.
    pub items: Vec<Seen>,
    /// How many wait in all.
    pub total: usize,
    /// Where the next page begins; none if there is none.
    pub next: Option<Cursor>,
}

/// A place in the order of the list. It stays good when items come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    priority: Priority,
    accepted: Wall,
    no: TicketNo,
}

/// From where somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// At the appliance: everything is to be seen.
    Here,
    /// Elsewhere: only what was cleared for there.
    Elsewhere,
}

/// Everything that waits for a person.
#[derive(Debug, Default)]
pub struct Desk {
    items: BTreeMap<TicketNo, Item>,
    order: BTreeSet<Cursor>,
    ids: BTreeMap<ItemId, TicketNo>,
    /// To be published, or to be published once more.
    unpublished: BTreeSet<TicketNo>,
}

#[derive(Debug)]
struct Item {
    head: Head,
    lease: Option<Lease>,
}

#[derive(Debug)]
struct Lease {
    by: Reviewer,
    until: Mono,
}

impl Desk {
    /// Whether there is room for one more; who passes a request to persons asks first.
    pub fn has_room(&self) -> bool {
        self.items.len() < MAX_ITEMS
    }

    /// An item joins. One that is there is replaced, its lease with it.
    pub fn put(&mut self, head: Head) {
        let no = head.no;
        self.remove(no);
        self.order.insert(Cursor::of(&head));
        self.ids.insert(head.id, no);
        if head.elsewhere == Elsewhere::Allowed {
            self.unpublished.insert(no);
        }
        let lease = None;
        self.items.insert(no, Item { head, lease });
    }

    /// An item goes: it was settled, one way or the other.
    pub fn remove(&mut self, no: TicketNo) -> Option<Head> {
        let item = self.items.remove(&no)?;
        self.order.remove(&Cursor::of(&item.head));
        self.unpublished.remove(&no);
        if self.ids.get(&item.head.id) == Some(&no) {
            self.ids.remove(&item.head.id);
        }
        Some(item.head)
    }

    /// The one item that is meant.
    pub fn find(&self, named: &Named, from: From) -> Result<&Head, Refusal> {
        let meant = self.ids.range(named.low..=named.high);
        let mut meant = meant.filter_map(|(_, no)| {
            let head = &self.items.get(no)?.head;
            let seen = match from {
                From::Here => true,
                From::Elsewhere => head.elsewhere == Elsewhere::Allowed,
            };
            seen.then_some(head)
        });
        let first = meant.next().ok_or(Refusal::Unknown)?;
        match meant.count() {
            0 => Ok(first),
            more => Err(Refusal::Ambiguous { count: more + 1 }),
        }
    }

    /// One item, as the list shows it.
    pub fn seen(&self, no: TicketNo, now: Now) -> Option<Seen> {
        Some(self.items.get(&no)?.seen(now))
    }

    /// The items behind a place, from the most urgent on.
    pub fn list(&self, from: From, after: Option<Cursor>, max: usize, now: Now) -> Page {
        use std::ops::Bound::{Excluded, Unbounded};
        let max = max.clamp(1, MAX_PAGE);
        let shown = |item: &Item| from == From::Here || item.head.elsewhere == Elsewhere::Allowed;
        let places = (self.order).range((after.map_or(Unbounded, Excluded), Unbounded));
        let mut places = places.filter(|place| self.items.get(&place.no).is_some_and(shown));
        let page: Vec<_> = places.by_ref().take(max).collect();
        let items = page.iter().filter_map(|place| self.seen(place.no, now));
        Page {
            items: items.collect(),
            total: self.items.values().filter(|item| shown(item)).count(),
            next: places.next().and(page.last().map(|place| **place)),
        }
    }

    /// Gives an item to a reviewer, or leaves it to them for longer. Returns until when.
    pub fn take(&mut self, no: TicketNo, by: &Reviewer, now: Now) -> Result<Wall, Refusal> {
        self.may_rule(no, by, now)?;
        let item = self.items.get_mut(&no).ok_or(Refusal::Unknown)?;
        item.lease = Some(Lease {
            by: by.clone(),
            until: now.mono.after(LEASE),
        });
        Ok(now.wall.after(LEASE))
    }

    /// Takes an item back from who has it.
    pub fn give_back(&mut self, no: TicketNo, by: &Reviewer, now: Now) -> Result<(), Refusal> {
        self.must_hold(no, by, now)?;
        if let Some(item) = self.items.get_mut(&no) {
            item.lease = None;
        }
        Ok(())
    }

    /// Whether a reviewer may settle an item now: it is theirs, or nobody's.
    pub fn may_rule(&self, no: TicketNo, by: &Reviewer, now: Now) -> Result<(), Refusal> {
        let item = self.items.get(&no).ok_or(Refusal::Unknown)?;
        match item.lease(now) {
            Some(lease) if lease.by != *by => Err(lease.refusal(now)),
            Some(_) | None => Ok(()),
        }
    }

    /// A verdict: the item is settled by it, and gone from here.
    pub fn verdict(&mut self, no: TicketNo, by: &Reviewer, now: Now) -> Result<Head, Refusal> {
        self.may_rule(no, by, now)?;
        self.remove(no).ok_or(Refusal::Unknown)
    }

    fn must_hold(&self, no: TicketNo, by: &Reviewer, now: Now) -> Result<(), Refusal> {
        let item = self.items.get(&no).ok_or(Refusal::Unknown)?;
        match item.lease(now) {
            Some(lease) if lease.by == *by => Ok(()),
            Some(lease) => Err(lease.refusal(now)),
            None => Err(Refusal::NotHeld),
        }
    }

    /// An item that persons elsewhere are to see and were not shown yet; the caller shows it.
    pub fn publish_next(&mut self) -> Option<TicketNo> {
        self.unpublished.pop_first()
    }

    /// Whether there is one.
    pub fn has_unpublished(&self) -> bool {
        !self.unpublished.is_empty()
    }

    /// An item is to be shown elsewhere (again).
    pub fn publish_again(&mut self, no: TicketNo) {
        let item = self.items.get(&no);
        if item.is_some_and(|item| item.head.elsewhere == Elsewhere::Allowed) {
            self.unpublished.insert(no);
        }
    }

    /// A new line to the broker: whoever listens there now may have seen nothing.
    pub fn publish_all_again(&mut self) {
        let allowed = self.items.values();
        let allowed = allowed.filter(|item| item.head.elsewhere == Elsewhere::Allowed);
        self.unpublished.extend(allowed.map(|item| item.head.no));
    }

    /// Whether this ticket's item is here.
    pub fn holds(&self, no: TicketNo) -> bool {
        self.items.contains_key(&no)
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl Item {
    /// The lease, if its time is not over.
    fn lease(&self, now: Now) -> Option<&Lease> {
        self.lease.as_ref().filter(|lease| lease.until > now.mono)
    }

    fn seen(&self, now: Now) -> Seen {
        Seen {
            head: self.head.clone(),
            held: self.lease(now).map(|it| (it.by.clone(), it.ends(now))),
        }
    }
}

impl Lease {
    fn ends(&self, now: Now) -> Wall {
        now.wall.after(self.until.since(now.mono))
    }

    fn refusal(&self, now: Now) -> Refusal {
        Refusal::Held {
            by: self.by.as_str().to_owned(),
            until: self.ends(now),
        }
    }
}

impl Cursor {
    fn of(head: &Head) -> Self {
        Self {
            priority: head.priority,
            accepted: head.accepted,
            no: head.no,
        }
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rank = match self.priority {
            Priority::High => 0,
            Priority::Normal => 1,
            Priority::Low => 2,
        };
        write!(f, "{rank}-{}-{}", self.accepted.0, self.no.0)
    }
}

impl std::str::FromStr for Cursor {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let mut parts = text.splitn(3, '-').map(|part| part.parse::<u64>().ok());
        let mut next = || parts.next().flatten().ok_or(Refusal::BadCursor);
        Ok(Self {
            priority: match next()? {
                0 => Priority::High,
                1 => Priority::Normal,
                2 => Priority::Low,
                _ => return Err(Refusal::BadCursor),
            },
            accepted: Wall(next()?),
            no: TicketNo(next()?),
        })
    }
}

#[cfg(test)]
mod tests;
