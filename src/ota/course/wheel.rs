//! What people and programs see of a course, and may order.
//!
//! Purpose: a [`Wheel`] is what the console holds, a [`Sight`] the course's latest word with every
//! package that is here. How it fails: [`WheelError`], with a stable code.

use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use super::super::store::PackageId;
use super::memory::Memory;
use super::speech::{Refusal, UNLOADABLE};
use super::{Course, Report, Stage};

/// What a person wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// This package, whatever the ring says.
    Pin(PackageId),
    /// What the ring says again.
    Unpin,
    /// What is on its way is taken back, or what was committed last; this is why.
    Rollback(String),
}

/// A wish and the way back.
#[derive(Debug)]
pub struct Order {
    /// What is wanted.
    pub wish: Wish,
    /// Takes what became of it.
    pub answer: oneshot::Sender<Result<Sight, WheelError>>,
}

/// Everything that there is to see.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sight {
    /// Where the course stands.
    pub course: Report,
    /// The package of the configuration, by its folder; it serves where none is committed.
    pub configured: Option<String>,
    /// Every package that is here or was taken back.
    pub packages: Vec<Standing>,
}

/// Where a package stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Standing {
    /// Name and number.
    pub package: String,
    /// `serving`, `trial`, `candidate`, `before`, `taken_back` or `here`.
    pub standing: &'static str,
    /// Whether its files are here.
    pub is_here: bool,
    /// Of its gate here: items that were right, and how many there were.
    pub gate: Option<(usize, usize)>,
    /// Why it was taken back, or is committed and does not serve, for programs.
    pub code: Option<String>,
    /// The same in words.
    pub reason: Option<String>,
}

impl Sight {
    /// Of a course, given what is in the store.
    pub fn of(course: &Course, configured: Option<String>, here: &[PackageId]) -> Self {
        let memory = course.memory();
        let mut packages: Vec<_> = here.iter().map(|id| standing(course, id, true)).collect();
        let gone = memory.taken_back.iter().map(|it| &it.package.id);
        let gone = gone.filter(|id| !here.contains(id));
        packages.extend(gone.map(|id| standing(course, id, false)));
        Self {
            course: course.report(),
            configured,
            packages,
        }
    }
}

fn standing(course: &Course, id: &PackageId, is_here: bool) -> Standing {
    let memory = course.memory();
    let candidate = memory.candidate.as_ref().filter(|it| it.package.id == *id);
    let place = memory.commits.iter().rposition(|it| it.package.id == *id);
    let taken_back = memory.taken_back.iter().find(|it| it.package.id == *id);
    let on_trial = memory.candidate.as_ref().map(|it| it.stage) == Some(Stage::Trial);
    let serves = place.is_some_and(|place| place + 1 == course.standings()) && !on_trial;
    let is_aside = place.is_some_and(|place| place >= course.standings());
    let commit = place.map(|place| &memory.commits[place]);
    let word = match (candidate.map(|it| it.stage), commit, taken_back) {
        (Some(Stage::Trial), ..) => "trial",
        (Some(Stage::Staged | Stage::Gated), ..) => "candidate",
        (None, Some(_), _) if serves => "serving",
        (None, Some(_), _) if is_aside => "here",
        (None, Some(_), _) => "before",
        (None, None, Some(_)) => "taken_back",
        (None, None, None) => "here",
    };
    let findings = candidate.map(|it| &it.findings);
    let findings = findings.or(commit.map(|it| &it.findings));
    let why = match word {
        "taken_back" => taken_back.map(|it| (it.code.clone(), it.reason.clone())),
        "here" if is_aside => Some(aside(memory, id)),
        _ => None,
    };
    let (code, reason) = why.unzip();
    Standing {
        package: id.to_string(),
        standing: word,
        is_here,
        gate: findings.and_then(|it| it.as_ref().map(super::super::verdict::Findings::overall)),
        code,
        reason,
    }
}

/// Why a committed package does not serve: of several that stand aside, the last word is of one.
fn aside(memory: &Memory, id: &PackageId) -> (String, String) {
    let last = memory.last.as_ref();
    let own = last.filter(|it| it.package.id == *id && it.is_standing_aside());
    let reason = own.map_or_else(|| "it does not load".into(), |it| it.reason.clone());
    (UNLOADABLE.into(), reason)
}

/// Why a wish was not followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WheelError {
    /// There is no course.
    #[error(
        "packages come only by hand here: set model.package to another folder and restart, or set \
         ota.repository, ota.root_file and ota.ring"
    )]
    NoOta,
    /// There is one, and it cannot be read.
    #[error("{0}")]
    Broken(String),
    /// The package is not in the store.
    #[error("package {0} is not here: `ota check --package {0}` brings it")]
    NotHere(PackageId),
    /// The course refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It has enough to do, or ends.
    #[error("whoever decides on packages does not answer; try again")]
    Silent,
}

impl WheelError {
    /// The word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoOta => "no_ota",
            Self::Broken(_) => "store",
            Self::NotHere(_) => "not_there",
            Self::Refused(Refusal::Nothing) => "nothing_to_take_back",
            Self::Refused(Refusal::TakenBack { .. }) => "taken_back",
            Self::Silent => "no_answer",
        }
    }
}

/// The way to the course; without one, it says so.
#[derive(Clone, Debug, Default)]
pub struct Wheel(Option<Ways>);

#[derive(Clone, Debug)]
enum Ways {
    There {
        orders: mpsc::Sender<Order>,
        sight: watch::Receiver<Sight>,
    },
    Broken(String),
}

impl Wheel {
    /// One that turns.
    pub fn new(orders: mpsc::Sender<Order>, sight: watch::Receiver<Sight>) -> Self {
        Self(Some(Ways::There { orders, sight }))
    }

    /// One that does not, for this reason.
    pub fn broken(why: String) -> Self {
        Self(Some(Ways::Broken(why)))
    }

    /// What there is to see.
    pub fn sight(&self) -> Result<Sight, WheelError> {
        match &self.0 {
            None => Err(WheelError::NoOta),
            Some(Ways::Broken(why)) => Err(WheelError::Broken(why.clone())),
            Some(Ways::There { sight, .. }) => Ok(sight.borrow().clone()),
        }
    }

    /// Follows a wish.
    pub async fn turn(&self, wish: Wish) -> Result<Sight, WheelError> {
        let orders = match &self.0 {
            None => return Err(WheelError::NoOta),
            Some(Ways::Broken(why)) => return Err(WheelError::Broken(why.clone())),
            Some(Ways::There { orders, .. }) => orders,
        };
        let (answer, told) = oneshot::channel();
        let given = orders.try_send(Order { wish, answer });
        given.map_err(|_| WheelError::Silent)?;
        told.await.map_err(|_| WheelError::Silent)?
    }
}
