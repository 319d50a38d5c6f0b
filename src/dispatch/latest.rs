//! The latest requests, for those who look at the appliance itself.
//!
//! The newest tickets are read back from the disk, open ones and settled ones; what is in memory
//! anyway is told from there. A listing looks at [`LOOKED_AT`] tickets at most, whatever it is to
//! show, so that a question about an old client cannot read the whole store.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::store::Pending;
use super::{Answer, Dispatch, MAX_QUESTIONS, SessionNo};
use crate::intake::Client;
use crate::spool::forms::{Filed, Waiting};
use crate::spool::{Numbered, Tree};
use crate::ticket::{State, TicketNo};

/// Tickets that one listing looks at: their records are read, with replies of any length.
const LOOKED_AT: usize = 100;
/// Requests in one answer where nobody says how many.
const SHOWN: usize = 20;

/// What somebody wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// So many at most.
    pub max: Option<usize>,
    /// Of this client only.
    pub client: Option<String>,
    /// Of these only.
    pub state: Option<Standing>,
}

/// How a request stands, roughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Without an outcome.
    Open,
    /// With one.
    Settled,
    /// Settled by an answer.
    Answered,
    /// Settled by a refusal.
    Refused,
}

impl Standing {
    /// The one of this name.
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "open" => Self::Open,
            "settled" => Self::Settled,
            "answered" => Self::Answered,
            "refused" => Self::Refused,
            _ => return None,
        })
    }
}

/// The latest requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Latest {
    /// The newest first.
    pub requests: Vec<Brief>,
    /// How many tickets were looked at to find them.
    pub looked_at: usize,
}

/// A request in one line.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Brief {
    /// Its id.
    pub id: String,
    /// Whose.
    pub client: String,
    /// Its ticket.
    pub ticket: u64,
    /// Where it stands.
    pub state: &'static str,
    /// When it was accepted: milliseconds since 1970.
    pub accepted_ms: u64,
    /// When it had its outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_ms: Option<u64>,
    /// The rule that decided, once it is settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// `answered`, or the code of the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// `edge`, `cloud` or `human`, where it was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How sure the answer was, where somebody could say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
}

/// Of a reply on record, what a line has room for. Its text is not among it.
#[derive(Debug, Default, Deserialize)]
struct Told {
    source: Option<String>,
    confidence: Option<f64>,
}

/// Listings in the making.
#[derive(Debug, Default)]
pub(super) struct Listings {
    next: u64,
    open: HashMap<u64, Listing>,
}

#[derive(Debug)]
struct Listing {
    session: SessionNo,
    wanted: Wanted,
    looked_at: usize,
    found: BTreeMap<TicketNo, Brief>,
    /// Records that are being read.
    parts: usize,
}

impl Wanted {
    /// Tickets to look at: without a filter, no more than are shown.
    fn looks_at(&self) -> usize {
        if self.client.is_none() && self.state.is_none() {
            self.max.unwrap_or(SHOWN).min(LOOKED_AT)
        } else {
            LOOKED_AT
        }
    }

    fn fits(&self, brief: &Brief) -> bool {
        let settled = brief.verdict.as_deref();
        let state = match self.state {
            None => true,
            Some(Standing::Open) => settled.is_none(),
            Some(Standing::Settled) => settled.is_some(),
            Some(Standing::Answered) => settled == Some("answered"),
            Some(Standing::Refused) => settled.is_some_and(|verdict| verdict != "answered"),
        };
        state && self.client.as_ref().is_none_or(|it| *it == brief.client)
    }
}

impl Dispatch {
    pub(super) fn list_latest(&mut self, session: SessionNo, wanted: Wanted) {
        let most = wanted.looks_at();
        let open = self.slips.iter().rev().take(most);
        let mut numbers: Vec<_> = open.map(|(no, slip)| (*no, Some(slip.state))).collect();
        let settled = self.register.newest(most);
        let settled = settled.filter(|no| !self.slips.contains_key(no));
        numbers.extend(settled.map(|no| (no, None)));
        numbers.sort_by_key(|(no, _)| std::cmp::Reverse(*no));
        numbers.truncate(most);
        let room = MAX_QUESTIONS.saturating_sub(self.store.questions());
        numbers.truncate(room);
        let mut listing = Listing {
            session,
            wanted,
            looked_at: numbers.len(),
            found: BTreeMap::new(),
            parts: 0,
        };
        self.listings.next += 1;
        let listing_no = self.listings.next;
        for (no, state) in numbers {
            let filed = state.is_none_or(has_outcome);
            if let (false, Some(held)) = (filed, self.held.get(&no)) {
                let waiting = Waiting {
                    no,
                    accepted: held.accepted,
                    request: held.request.clone(),
                    topic: None,
                    course: None,
                };
                listing.found.insert(no, open_brief(&waiting, state));
                continue;
            }
            let (tree, seq) = if filed {
                (Tree::Outcomes, no.0)
            } else {
                self.home(no)
            };
            listing.parts += 1;
            let pending = Pending::Latest {
                listing: listing_no,
                tree,
            };
            self.ask(tree, seq, seq, 1, pending);
        }
        self.listings.open.insert(listing_no, listing);
        self.close_listing(listing_no);
    }

    pub(super) fn latest_part(&mut self, listing_no: u64, tree: Tree, records: &[Numbered]) {
        let record = records.first().map(|(_, body)| body.as_slice());
        let brief = record.and_then(|body| {
            if tree == Tree::Outcomes {
                Filed::read(body)
                    .ok()
                    .map(|filed| (filed.no, settled_brief(&filed)))
            } else {
                let (waiting, _) = super::moves::read_home(tree, body).ok()?;
                let state = self.slips.get(&waiting.no).map(|slip| slip.state);
                Some((waiting.no, open_brief(&waiting, state)))
            }
        });
        if let Some(listing) = self.listings.open.get_mut(&listing_no) {
            listing.parts -= 1;
            listing.found.extend(brief);
        }
        self.close_listing(listing_no);
    }

    /// Answers once everything is read.
    fn close_listing(&mut self, listing_no: u64) {
        let done = |listing: &Listing| listing.parts == 0;
        if !self.listings.open.get(&listing_no).is_some_and(done) {
            return;
        }
        let Some(listing) = self.listings.open.remove(&listing_no) else {
            return;
        };
        let max = listing.wanted.max.unwrap_or(SHOWN);
        let found = listing.found.into_values().rev();
        let requests = found.filter(|brief| listing.wanted.fits(brief)).take(max);
        let latest = Latest {
            requests: requests.collect(),
            looked_at: listing.looked_at,
        };
        let answer = (listing.session, Answer::Latest(latest));
        self.out.answers.push(answer);
    }
}

/// Whether the outcome is on record, or about to be.
fn has_outcome(state: State) -> bool {
    match state {
        State::Settled | State::Delivered | State::Lost => true,
        State::Waiting | State::Running | State::Away | State::Asking | State::Pending => false,
    }
}

fn open_brief(waiting: &Waiting, state: Option<State>) -> Brief {
    Brief {
        id: waiting.request.id.as_str().into(),
        client: waiting.request.client.name().into(),
        ticket: waiting.no.0,
        state: match state {
            Some(State::Running) => "running",
            Some(State::Away) => "waiting for the cloud",
            Some(State::Asking) => "cloud asked",
            Some(State::Pending) => "waiting for a person",
            Some(State::Waiting | State::Settled | State::Delivered | State::Lost) | None => {
                "waiting"
            }
        },
        accepted_ms: waiting.accepted.0,
        ..Brief::default()
    }
}

fn settled_brief(filed: &Filed) -> Brief {
    let told: Told = serde_json::from_slice(&filed.reply).unwrap_or_default();
    Brief {
        id: filed.id.as_str().into(),
        client: Client::name_in_scope(&filed.scope).into(),
        ticket: filed.no.0,
        state: "settled",
        accepted_ms: filed.accepted.0,
        settled_ms: Some(filed.settled.0),
        rule: Some(filed.rule.clone()),
        verdict: Some(filed.verdict.clone()),
        source: told.source,
        confidence: told.confidence,
    }
}
