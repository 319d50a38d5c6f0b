//! What a decision goes by: the request, as far as rules may look at it, and how things stand.
//!
//! [`Facts`] are numbers and names without an origin. What a request does not say is estimated
//! before they are made; the clock was read and the state asked by whoever hands over the
//! [`Situation`].

use std::cell::OnceCell;

use super::pattern::{Found, Lexicon, Minute};
use super::rule::Aspect;
use crate::governor::Level;
use crate::intake::{Classification, Code};
use crate::reply::Connectivity;

/// How things stand when a request is decided on. Plain values: no clock, no channel behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation<'a> {
    /// The topic on which the request came, where that is known. It is not for what was asked at
    /// the appliance itself, nor for what comes back from the disk: no filter matches those.
    pub topic: Option<&'a str>,
    /// The time of day, in the site's offset from UTC.
    pub minute: Minute,
    /// Whether the broker is there.
    pub broker: Connectivity,
    /// Whether the model on this appliance can take the request.
    pub edge: Edge,
    /// Whether each upstream can be reached, in the order of the configuration. One that is not
    /// told of cannot.
    pub clouds: &'a [Reach],
    /// Whether there is a desk at which persons answer.
    pub review: Reach,
    /// What the governor allows.
    pub strain: Strain,
}

/// Whether the model on this appliance can take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// It can, at once or as soon as it has started.
    Open,
    /// It cannot, and a device is told so with this code.
    Shut(Code),
}

/// Whether somebody can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// They can.
    Open,
    /// They cannot now: offline, over budget, or resting after failures. What is for them waits.
    Shut,
    /// There is nobody.
    Absent,
}

/// How near to its limits the governor says that the appliance is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strain {
    /// Far from them.
    #[default]
    Nominal,
    /// It paces itself.
    Warm,
    /// It takes less.
    Hot,
    /// It takes nothing that can wait.
    Critical,
}

impl From<Level> for Strain {
    fn from(state: Level) -> Self {
        match state {
            Level::Nominal => Self::Nominal,
            Level::Warm => Self::Warm,
            Level::Hot => Self::Hot,
            Level::Critical => Self::Critical,
        }
    }
}

impl Strain {
    /// All of them, least first.
    pub const ALL: [Self; 4] = [Self::Nominal, Self::Warm, Self::Hot, Self::Critical];

    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nominal => "nominal",
            Self::Warm => "warm",
            Self::Hot => "hot",
            Self::Critical => "critical",
        }
    }
}

/// Everything that a rule can ask about.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Where the content may go.
    pub classification: Classification,
    /// The task; a free prompt has none.
    pub task: Option<&'a str>,
    /// The client's name, proven or claimed.
    pub client: &'a str,
    /// The topic.
    pub topic: Option<&'a str>,
    /// 0 to 100.
    pub risk: u8,
    /// 0 to 1.
    pub complexity: f32,
    /// Of prompt and answer.
    pub tokens: u32,
    /// What fits on the edge.
    pub context_tokens: u32,
    /// What is asked.
    pub text: &'a str,
    /// The time of day.
    pub minute: Minute,
    /// Whether the broker is there.
    pub broker: Connectivity,
    /// Whether any upstream can be reached.
    pub cloud: Connectivity,
    /// What the governor allows.
    pub strain: Strain,
    pub(super) lexicon: &'a Lexicon,
    /// The walk through the text, where a rule asked for it.
    pub(super) found: OnceCell<Found>,
}

impl<'a> Facts<'a> {
    /// Facts in which nothing stands out, to be filled in.
    pub(super) fn blank(lexicon: &'a Lexicon) -> Self {
        Self {
            classification: Classification::Public,
            task: None,
            client: "",
            topic: None,
            risk: 0,
            complexity: 0.0,
            tokens: 0,
            context_tokens: u32::MAX,
            text: "",
            minute: Minute::default(),
            broker: Connectivity::Online,
            cloud: Connectivity::Offline,
            strain: Strain::Nominal,
            lexicon,
            found: OnceCell::new(),
        }
    }

    /// The same about a text in which these keywords stand.
    pub(super) fn with_found(self, found: Found) -> Self {
        Self {
            found: OnceCell::from(found),
            ..self
        }
    }

    /// Which keywords of the table stand in the text; looked for once.
    pub(super) fn found(&self) -> &Found {
        self.found.get_or_init(|| self.lexicon.scan(self.text))
    }

    /// One of them in words. Never the text: an explanation may be read over a shoulder.
    pub fn shown(&self, aspect: Aspect) -> String {
        match aspect {
            Aspect::Classification => self.classification.word().into(),
            Aspect::Risk => self.risk.to_string(),
            Aspect::Complexity => rounded(self.complexity),
            Aspect::Tokens => match self.context_tokens {
                u32::MAX => format!("{} (edge context unknown)", self.tokens),
                context => format!("{} (edge context {context})", self.tokens),
            },
            Aspect::Task => self.task.unwrap_or(super::pattern::NONE).into(),
            Aspect::Client => self.client.into(),
            Aspect::Topic => self.topic.unwrap_or(super::pattern::NONE).into(),
            Aspect::Time => self.minute.to_string(),
            Aspect::Broker => self.broker.word().into(),
            Aspect::Cloud => self.cloud.word().into(),
            Aspect::Allowance => self.strain.word().into(),
            Aspect::Text => format!("{} bytes", self.text.len()),
        }
    }
}

/// Four digits: more than an estimate is worth, and enough to see on which side of a limit it is.
fn rounded(share: f32) -> String {
    let text = format!("{share:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
