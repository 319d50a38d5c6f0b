//! One rule of the table: what it asks of a request, and where it sends what fits.
//!
//! A rule is a conjunction: each [`Aspect`] that it names must fit, what it does not name may be
//! anything. [`When::fits`] is the only place where a condition meets a request; the check of the
//! table ([`super::reach`]) and the explanation ([`super::explain`]) go through it too, so that
//! they cannot tell another story than the one that decides.

use std::fmt::{self, Write as _};

use super::facts::{Facts, Strain};
use super::pattern::{Keywords, NamePattern, Window};
use crate::intake::{Classification, filter_matches};
use crate::reply::Connectivity;

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// How replies, logs and people call it.
    pub name: String,
    /// Which requests it is about.
    pub when: When,
    /// Where they go.
    pub to: To,
}

/// Where a rule sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// The model on this appliance.
    Edge,
    /// The first upstream that accepts the request and can be reached.
    Cloud,
    /// This upstream, and no other.
    CloudAt(String),
    /// A person.
    Review,
    /// Nobody: it is refused.
    Refuse,
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edge => f.write_str("edge"),
            Self::Cloud => f.write_str("cloud"),
            Self::CloudAt(name) => write!(f, "cloud:{name}"),
            Self::Review => f.write_str("review"),
            Self::Refuse => f.write_str("refuse"),
        }
    }
}

/// What a rule asks of a request; what is absent asks nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct When {
    /// One of these.
    pub classification: Option<Vec<Classification>>,
    /// A task that one of these names.
    pub task: Option<Vec<NamePattern>>,
    /// A topic that one of these filters matches.
    pub topic: Option<Vec<String>>,
    /// A client that one of these names.
    pub client: Option<Vec<NamePattern>>,
    /// 0 to 100.
    pub risk: Bounds<u8>,
    /// 0 to 1.
    pub complexity: Bounds<f32>,
    /// Of prompt and answer.
    pub tokens: Bounds<Tokens>,
    /// One of these stands in the text.
    pub text: Option<Keywords>,
    /// A time of day.
    pub time: Option<Window>,
    /// Whether the broker is there.
    pub broker: Option<Connectivity>,
    /// Whether any upstream can be reached.
    pub cloud: Option<Connectivity>,
    /// One of these.
    pub allowance: Option<Vec<Strain>>,
}

/// A number of tokens, or the appliance's own limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// So many.
    Count(u32),
    /// What fits the context of the model on this appliance.
    Context,
}

/// An interval; absent ends are open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds<T> {
    /// Where it begins.
    pub low: Option<Low<T>>,
    /// Where it ends.
    pub high: Option<High<T>>,
}

/// The lower end of an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Low<T> {
    /// This, or more.
    AtLeast(T),
    /// More than this.
    Above(T),
}

/// The upper end of an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum High<T> {
    /// This, or less.
    AtMost(T),
    /// Less than this.
    Below(T),
}

impl<T> Default for Bounds<T> {
    fn default() -> Self {
        Self {
            low: None,
            high: None,
        }
    }
}

impl<T: Copy> Bounds<T> {
    /// Whether it asks for anything.
    pub fn is_open(&self) -> bool {
        self.low.is_none() && self.high.is_none()
    }

    /// The values at its ends.
    pub fn marks(&self) -> impl Iterator<Item = T> {
        let low = self.low.map(|low| match low {
            Low::AtLeast(mark) | Low::Above(mark) => mark,
        });
        let high = self.high.map(|high| match high {
            High::AtMost(mark) | High::Below(mark) => mark,
        });
        low.into_iter().chain(high)
    }

    /// Whether a value lies inside, where `number` says what a mark stands for.
    fn hold<N: PartialOrd>(&self, value: &N, number: impl Fn(T) -> N) -> bool {
        let low = self.low.is_none_or(|low| match low {
            Low::AtLeast(mark) => *value >= number(mark),
            Low::Above(mark) => *value > number(mark),
        });
        let high = self.high.is_none_or(|high| match high {
            High::AtMost(mark) => *value <= number(mark),
            High::Below(mark) => *value < number(mark),
        });
        low && high
    }

    /// In words, such as "at least 3 and below 5".
    fn wanted(&self, shown: impl Fn(T) -> String) -> String {
        let low = self.low.map(|low| match low {
            Low::AtLeast(mark) => format!("at least {}", shown(mark)),
            Low::Above(mark) => format!("above {}", shown(mark)),
        });
        let high = self.high.map(|high| match high {
            High::AtMost(mark) => format!("at most {}", shown(mark)),
            High::Below(mark) => format!("below {}", shown(mark)),
        });
        let both: Vec<_> = low.into_iter().chain(high).collect();
        both.join(" and ")
    }
}

/// What a condition can be about. In this order they are looked at: the dear one last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// Where the content may go.
    Classification,
    /// How much is at stake.
    Risk,
    /// How hard it is.
    Complexity,
    /// How long it is.
    Tokens,
    /// What is asked for.
    Task,
    /// Who asks.
    Client,
    /// On which topic it came.
    Topic,
    /// The time of day.
    Time,
    /// Whether the broker is there.
    Broker,
    /// Whether any upstream can be reached.
    Cloud,
    /// What the governor allows.
    Allowance,
    /// What is written.
    Text,
}

impl Aspect {
    /// All of them, in order.
    pub const ALL: [Self; 12] = [
        Self::Classification,
        Self::Risk,
        Self::Complexity,
        Self::Tokens,
        Self::Task,
        Self::Client,
        Self::Topic,
        Self::Time,
        Self::Broker,
        Self::Cloud,
        Self::Allowance,
        Self::Text,
    ];

    /// The word in explanations: the key, or what the keys begin with.
    pub fn word(self) -> &'static str {
        match self {
            Self::Classification => "classification",
            Self::Risk => "risk",
            Self::Complexity => "complexity",
            Self::Tokens => "tokens",
            Self::Task => "task",
            Self::Client => "client",
            Self::Topic => "topic",
            Self::Time => "time",
            Self::Broker => "broker",
            Self::Cloud => "cloud",
            Self::Allowance => "allowance",
            Self::Text => "text",
        }
    }
}

impl When {
    /// Whether a request fits in every aspect.
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        Aspect::ALL.iter().all(|aspect| self.fits(*aspect, facts))
    }

    /// Whether a request fits in one aspect.
    pub fn fits(&self, aspect: Aspect, facts: &Facts<'_>) -> bool {
        match aspect {
            Aspect::Classification => one_of(self.classification.as_ref(), &facts.classification),
            Aspect::Risk => self.risk.hold(&facts.risk, |mark| mark),
            Aspect::Complexity => self.complexity.hold(&facts.complexity, |mark| mark),
            Aspect::Tokens => self.tokens.hold(&facts.tokens, |mark| match mark {
                Tokens::Count(count) => count,
                Tokens::Context => facts.context_tokens,
            }),
            Aspect::Task => named(self.task.as_ref(), facts.task),
            Aspect::Client => named(self.client.as_ref(), Some(facts.client)),
            Aspect::Topic => self.topic.as_ref().is_none_or(|filters| {
                let fits = |topic: &str| filters.iter().any(|it| filter_matches(it, topic));
                facts.topic.is_some_and(fits)
            }),
            Aspect::Time => self.time.is_none_or(|window| window.holds(facts.minute)),
            Aspect::Broker => self.broker.is_none_or(|wanted| wanted == facts.broker),
            Aspect::Cloud => self.cloud.is_none_or(|wanted| wanted == facts.cloud),
            Aspect::Allowance => one_of(self.allowance.as_ref(), &facts.strain),
            Aspect::Text => (self.text.as_ref()).is_none_or(|text| text.stand_in(facts.found())),
        }
    }

    /// What it asks for in one aspect, in words; none where it asks nothing.
    pub fn wanted(&self, aspect: Aspect) -> Option<String> {
        match aspect {
            Aspect::Classification => Some(either(self.classification.as_ref()?, |it| it.word())),
            Aspect::Risk => numbers(&self.risk, |mark| mark.to_string()),
            Aspect::Complexity => numbers(&self.complexity, |mark| mark.to_string()),
            Aspect::Tokens => numbers(&self.tokens, |mark| match mark {
                Tokens::Count(count) => count.to_string(),
                Tokens::Context => "the edge context".into(),
            }),
            Aspect::Task => Some(either(self.task.as_ref()?, NamePattern::to_string)),
            Aspect::Client => Some(either(self.client.as_ref()?, NamePattern::to_string)),
            Aspect::Topic => Some(either(self.topic.as_ref()?, String::as_str)),
            Aspect::Time => Some(self.time?.to_string()),
            Aspect::Broker => Some(self.broker?.word().into()),
            Aspect::Cloud => Some(self.cloud?.word().into()),
            Aspect::Allowance => Some(either(self.allowance.as_ref()?, |it| it.word())),
            Aspect::Text => Some(self.text.as_ref()?.to_string()),
        }
    }

    /// The aspects that it asks something of.
    pub fn aspects(&self) -> impl Iterator<Item = Aspect> {
        let asks = |aspect: &Aspect| self.wanted(*aspect).is_some();
        Aspect::ALL.into_iter().filter(asks)
    }
}

fn one_of<T: PartialEq>(wanted: Option<&Vec<T>>, value: &T) -> bool {
    wanted.is_none_or(|wanted| wanted.contains(value))
}

fn named(wanted: Option<&Vec<NamePattern>>, name: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| wanted.iter().any(|pattern| pattern.holds(name)))
}

fn numbers<T: Copy>(bounds: &Bounds<T>, shown: impl Fn(T) -> String) -> Option<String> {
    (!bounds.is_open()).then(|| bounds.wanted(shown))
}

/// The words of a list, such as "a, b or c".
fn either<'a, T, W: AsRef<str>>(all: &'a [T], word: impl Fn(&'a T) -> W) -> String {
    let mut text = String::new();
    for (index, one) in all.iter().enumerate() {
        let joint = match index {
            0 => "",
            _ if index + 1 == all.len() => " or ",
            _ => ", ",
        };
        let _ = write!(text, "{joint}{}", word(one).as_ref()); // a String takes all
    }
    text
}
