//! Whether a table means what its author thinks: what each rule can still get, after those before
//! it.
//!
//! Each aspect is cut into finitely many *kinds* of requests which no rule of the table tells
//! apart: the values at, beside and between the marks that stand in rules, and one kind for
//! everything else. What a rule asks is then a set of kinds in each aspect, a region; what it
//! can still get is its region less those before it. Kinds are found by asking [`When::fits`] about a
//! sample of each, so that this agrees with the real decision by construction.
//!
//! How exact that is: exact for every aspect by itself and for all of them together, as long as
//! aspects are independent. They are not quite: a topic proves a client; a rule about tokens in
//! numbers and one about the context may both hold for one appliance only; keywords may overlap in
//! a text. Where it matters, a kind that cannot come is taken for one that can: a rule that never
//! matches may go unnoticed, but no fault is made up, and no way for restricted content is
//! overlooked. The subtraction is bounded by [`MAX_STEPS`]; beyond it the answer is
//! [`Left::Unknown`], which counts as "can match" for content that must not leave.

use super::facts::{Facts, Strain};
use super::pattern::{self, Found, Lexicon, Minute, NamePattern};
use super::policy::{Accepts, Policy};
use super::rule::{Aspect, Rule, To, Tokens, When};
use crate::intake::{Classification, Topics};
use crate::reply::Connectivity;

/// Comparisons that one subtraction may take. Real tables take some hundred; a contrived one could
/// go on for hours.
pub const MAX_STEPS: usize = 20_000;
/// Kinds of one aspect: beyond, a table has more patterns than anybody reads.
pub const MAX_KINDS: usize = 4096;

/// What is wrong with a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which rule, by its place; none for the table as a whole.
    pub rule: Option<usize>,
    /// What.
    pub what: What,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// No request can be all that the rule asks; these aspects have nothing left.
    Contradiction(Vec<Aspect>),
    /// The rules before it take all that it could get: these.
    Shadowed(Vec<usize>),
    /// It would send restricted requests out of the appliance.
    SendsRestrictedOut,
    /// It sends restricted requests to persons, and there are none at this appliance.
    NobodyHere,
    /// It names an upstream that is not configured.
    NoSuchUpstream,
    /// It names an upstream that does not accept requests of these classifications, which it gets.
    NotAccepted(Vec<Classification>),
    /// It sends to the cloud, and there is none. The edge stands in.
    NoCloud,
    /// Some requests fit no rule. [`super::policy::DEFAULT_RULE`] takes them: the edge.
    NoCatchAll,
    /// There are more patterns than can be looked through.
    TooManyPatterns(Aspect),
}

impl What {
    /// Whether the table may not be used like this; otherwise it is only worth knowing.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Contradiction(_)
            | Self::Shadowed(_)
            | Self::SendsRestrictedOut
            | Self::NobodyHere
            | Self::NoSuchUpstream
            | Self::NotAccepted(_)
            | Self::TooManyPatterns(_) => true,
            Self::NoCloud | Self::NoCatchAll => false,
        }
    }
}

/// Looks through a table. `topics` are the appliance's own.
pub fn look_through(policy: &Policy, topics: &Topics) -> Vec<Finding> {
    let rules = policy.rules();
    let kinds = match Kinds::of(rules, policy.lexicon(), topics) {
        Ok(kinds) => kinds,
        Err(aspect) => {
            let what = What::TooManyPatterns(aspect);
            return vec![Finding { rule: None, what }];
        }
    };
    let boxes: Vec<_> = rules.iter().map(|rule| kinds.of_rule(&rule.when)).collect();
    let mut findings = Vec::new();
    for (place, rule) in rules.iter().enumerate() {
        let (own, before) = (&boxes[place], &boxes[..place]);
        let mut note = |what| {
            findings.push(Finding {
                rule: Some(place),
                what,
            });
        };
        if let Some(empty) = contradiction(own) {
            note(What::Contradiction(empty));
        } else if left(own, before) == Left::Nothing {
            let shares = |it: &usize| !own.apart(&boxes[*it]);
            note(What::Shadowed((0..place).filter(shares).collect()));
        } else {
            let gets = |class| left(&kinds.narrowed(own, class), before) != Left::Nothing;
            destination(policy, rule, gets).into_iter().for_each(note);
        }
    }
    if left(&kinds.all(), &boxes) == Left::Something {
        findings.push(Finding {
            rule: None,
            what: What::NoCatchAll,
        });
    }
    findings
}

/// What is wrong with where a rule sends what it gets.
fn destination(
    policy: &Policy,
    rule: &Rule,
    gets: impl Fn(Classification) -> bool,
) -> Option<What> {
    let ways = policy.ways();
    let restricted = || gets(Classification::Restricted);
    match &rule.to {
        To::Edge | To::Refuse => None,
        To::Review => (!ways.local_review && !ways.remote_review.is_nothing() && restricted())
            .then_some(What::NobodyHere),
        To::Cloud if restricted() => Some(What::SendsRestrictedOut),
        To::Cloud => ways.upstreams.is_empty().then_some(What::NoCloud),
        To::CloudAt(name) => {
            let known = ways.upstreams.iter().find(|it| it.name == *name);
            let Some(accepts) = known.map(|it| it.accepts) else {
                return Some(What::NoSuchUpstream);
            };
            if restricted() {
                return Some(What::SendsRestrictedOut);
            }
            let refused = refused(accepts, gets);
            (!refused.is_empty()).then_some(What::NotAccepted(refused))
        }
    }
}

fn refused(accepts: Accepts, gets: impl Fn(Classification) -> bool) -> Vec<Classification> {
    [Classification::Public, Classification::Internal]
        .into_iter()
        .filter(|class| !accepts.takes(*class) && gets(*class))
        .collect()
}

/// Which kinds, in each aspect.
#[derive(Clone, Debug, PartialEq)]
struct Region(Vec<Set>);

/// Some kinds of one aspect, one bit each.
#[derive(Clone, Debug, PartialEq)]
struct Set(Vec<u64>);

impl Set {
    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    fn both(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect())
    }

    fn less(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & !b).collect())
    }
}

impl Region {
    fn is_empty(&self) -> bool {
        self.0.iter().any(Set::is_empty)
    }

    /// Whether the two have nothing in common.
    fn apart(&self, other: &Self) -> bool {
        let mut pairs = self.0.iter().zip(&other.0);
        pairs.any(|(a, b)| !a.meets(b))
    }

    /// What is left of it without another, in pieces that do not overlap.
    fn less(&self, other: &Self) -> Vec<Self> {
        let mut pieces = Vec::new();
        let mut rest = self.clone();
        for (index, cut) in other.0.iter().enumerate() {
            let mut piece = rest.clone();
            piece.0[index] = rest.0[index].less(cut);
            if !piece.is_empty() {
                pieces.push(piece);
            }
            rest.0[index] = rest.0[index].both(cut);
        }
        pieces
    }
}

/// What a rule can still get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    Something,
    /// Too many pieces to tell.
    Unknown,
}

fn left(own: &Region, before: &[Region]) -> Left {
    if own.is_empty() {
        return Left::Nothing;
    }
    let mut pieces = vec![own.clone()];
    let mut steps = 0;
    for other in before.iter().filter(|other| !own.apart(other)) {
        let mut rest = Vec::new();
        for piece in pieces {
            steps += 1;
            if piece.apart(other) {
                rest.push(piece);
            } else {
                rest.extend(piece.less(other));
            }
        }
        pieces = rest;
        if pieces.is_empty() {
            return Left::Nothing;
        }
        if steps > MAX_STEPS {
            return Left::Unknown;
        }
    }
    Left::Something
}

/// The aspects in which a region has nothing; none for one that has something everywhere.
fn contradiction(own: &Region) -> Option<Vec<Aspect>> {
    let pairs = Aspect::ALL.iter().zip(&own.0);
    let empty: Vec<_> = pairs
        .filter(|(_, set)| set.is_empty())
        .map(|(aspect, _)| *aspect)
        .collect();
    (!empty.is_empty()).then_some(empty)
}

/// A sample of each kind, for each aspect.
struct Kinds<'a> {
    samples: Vec<Vec<Sample>>,
    lexicon: &'a Lexicon,
}

/// A value of one aspect.
#[derive(Clone, Debug, PartialEq)]
enum Sample {
    Classification(Classification),
    Risk(u8),
    Complexity(f32),
    /// With the context that it is held against.
    Tokens(u32, u32),
    Task(Option<String>),
    Client(String),
    Topic(Option<String>),
    Time(Minute),
    Broker(Connectivity),
    Cloud(Connectivity),
    Allowance(Strain),
    /// As the keywords that stand in it.
    Text(Found),
}

impl<'a> Kinds<'a> {
    /// The kinds of a table; fails with the aspect that has too many.
    fn of(rules: &[Rule], lexicon: &'a Lexicon, topics: &Topics) -> Result<Self, Aspect> {
        let samples = Aspect::ALL.map(|aspect| (aspect, samples(aspect, rules, lexicon, topics)));
        let crowded = samples.iter().find(|(_, kinds)| kinds.len() > MAX_KINDS);
        if let Some((aspect, _)) = crowded {
            return Err(*aspect);
        }
        Ok(Self {
            samples: samples.into_iter().map(|(_, kinds)| kinds).collect(),
            lexicon,
        })
    }

    fn of_rule(&self, when: &When) -> Region {
        let aspects = Aspect::ALL.iter().zip(&self.samples);
        Region(
            aspects
                .map(|(aspect, samples)| {
                    // What asks nothing need not be asked about each text.
                    let open = when.wanted(*aspect).is_none();
                    let fits = |it: &Sample| open || when.fits(*aspect, &it.facts(self.lexicon));
                    set(samples, fits)
                })
                .collect(),
        )
    }

    fn all(&self) -> Region {
        self.of_rule(&When::default())
    }

    /// A region, for one classification only.
    fn narrowed(&self, own: &Region, class: Classification) -> Region {
        let mut narrowed = own.clone();
        let pairs = narrowed.0.iter_mut().zip(&self.samples);
        if let Some((kinds, samples)) = pairs.into_iter().next() {
            let only = set(samples, |it| *it == Sample::Classification(class));
            *kinds = kinds.both(&only);
        }
        narrowed
    }
}

fn set(samples: &[Sample], fits: impl Fn(&Sample) -> bool) -> Set {
    let mut words = vec![0; samples.len().div_ceil(64)];
    for (index, sample) in samples.iter().enumerate() {
        if fits(sample) {
            words[index / 64] |= 1 << (index % 64);
        }
    }
    Set(words)
}

impl Sample {
    /// A request that has this value, and nothing else.
    fn facts<'s>(&'s self, lexicon: &'s Lexicon) -> Facts<'s> {
        self.put_into(Facts::blank(lexicon))
    }

    /// The same request with this value.
    fn put_into<'s>(&'s self, mut facts: Facts<'s>) -> Facts<'s> {
        match self {
            Self::Classification(class) => facts.classification = *class,
            Self::Risk(risk) => facts.risk = *risk,
            Self::Complexity(complexity) => facts.complexity = *complexity,
            Self::Tokens(tokens, context) => {
                facts.tokens = *tokens;
                facts.context_tokens = *context;
            }
            Self::Task(task) => facts.task = task.as_deref(),
            Self::Client(client) => facts.client = client,
            Self::Topic(topic) => facts.topic = topic.as_deref(),
            Self::Time(minute) => facts.minute = *minute,
            Self::Broker(broker) => facts.broker = *broker,
            Self::Cloud(cloud) => facts.cloud = *cloud,
            Self::Allowance(strain) => facts.strain = *strain,
            Self::Text(found) => return facts.with_found(*found),
        }
        facts
    }
}

/// A sample of each kind of one aspect.
fn samples(aspect: Aspect, rules: &[Rule], lexicon: &Lexicon, topics: &Topics) -> Vec<Sample> {
    let whens = || rules.iter().map(|rule| &rule.when);
    let lines = [Connectivity::Online, Connectivity::Offline];
    match aspect {
        Aspect::Classification => [
            Classification::Public,
            Classification::Internal,
            Classification::Restricted,
        ]
        .map(Sample::Classification)
        .to_vec(),
        Aspect::Risk => (0..=100).map(Sample::Risk).collect(),
        Aspect::Complexity => complexities(whens().flat_map(|when| when.complexity.marks())),
        Aspect::Tokens => tokens(whens().flat_map(|when| when.tokens.marks())),
        Aspect::Task => {
            let named = names(whens().filter_map(|when| when.task.as_ref()));
            let named = named.into_iter().map(Some).chain([None]);
            named.map(Sample::Task).collect()
        }
        Aspect::Client => {
            let named = names(whens().filter_map(|when| when.client.as_ref()));
            named.into_iter().map(Sample::Client).collect()
        }
        Aspect::Topic => {
            let filters: Vec<_> = whens().filter_map(|when| when.topic.as_ref()).collect();
            topic_names(&filters, topics)
        }
        Aspect::Time => minutes(whens().filter_map(|when| when.time)),
        Aspect::Broker => lines.map(Sample::Broker).to_vec(),
        Aspect::Cloud => lines.map(Sample::Cloud).to_vec(),
        Aspect::Allowance => Strain::ALL.map(Sample::Allowance).to_vec(),
        Aspect::Text => {
            let keywords: Vec<_> = whens().filter_map(|when| when.text.as_ref()).collect();
            let texts = pattern::samples(&keywords);
            let found = texts.iter().map(|text| lexicon.scan(text));
            found.map(Sample::Text).collect()
        }
    }
}

/// The marks, both ends of the scale, and something between each two.
fn complexities(marks: impl Iterator<Item = f32>) -> Vec<Sample> {
    let mut marks: Vec<_> = marks.chain([0.0, 1.0]).collect();
    marks.sort_by(f32::total_cmp);
    marks.dedup();
    let between = marks
        .windows(2)
        .map(|pair| f32::midpoint(pair[0], pair[1]))
        .collect::<Vec<_>>();
    marks
        .into_iter()
        .chain(between)
        .map(Sample::Complexity)
        .collect()
}

/// Each number and its neighbours, within the context, just as long, and beyond it.
fn tokens(marks: impl Iterator<Item = Tokens>) -> Vec<Sample> {
    let counts = marks.filter_map(|mark| match mark {
        Tokens::Count(count) => Some(count),
        Tokens::Context => None,
    });
    let around = |count: u32| [count.saturating_sub(1), count, count.saturating_add(1)];
    let mut counts: Vec<_> = counts.chain([1]).flat_map(around).collect();
    // A request has at least one token; below there is no context that it could be beyond.
    counts.retain(|count| (1..u32::MAX).contains(count));
    counts.sort_unstable();
    counts.dedup();
    let contexts = |count: u32| [count - 1, count, count + 1].map(|it| Sample::Tokens(count, it));
    counts.into_iter().flat_map(contexts).collect()
}

/// Each name, something that begins with it, and something that none of them begins.
fn names<'r>(patterns: impl Iterator<Item = &'r Vec<NamePattern>>) -> Vec<String> {
    let mut names: Vec<_> = patterns
        .flatten()
        .filter_map(|pattern| match pattern {
            NamePattern::Is(name) | NamePattern::Begins(name) => Some(name.as_str()),
            NamePattern::Absent => None,
        })
        .chain([""])
        .flat_map(|name| [name.to_owned(), format!("{name}{OTHER}")])
        .filter(|name| !name.is_empty())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Ends a name that nobody can have written in a pattern.
const OTHER: char = '\0';

/// Every kind of topic on which requests come: of any appliance that a filter names, since a
/// configuration may be shared, with any client that one names.
fn topic_names(filters: &[&Vec<String>], topics: &Topics) -> Vec<Sample> {
    let depth = topics.prefix.split('/').count();
    let at_level = |level: usize| {
        let found = filters.iter().copied().flatten();
        let found = found.filter_map(move |filter| filter.split('/').nth(level));
        let mut found: Vec<_> = found
            .filter(|word| !matches!(*word, "+" | "#"))
            .map(str::to_owned)
            .chain([OTHER.to_string()])
            .collect();
        found.sort();
        found.dedup();
        found
    };
    let (mut appliances, clients, pools) =
        (at_level(depth), at_level(depth + 2), at_level(depth + 1));
    appliances.push(topics.appliance.clone());
    let mut samples = vec![Sample::Topic(None)];
    let mut add = |rest: String| {
        samples.push(Sample::Topic(Some(format!("{}/{rest}", topics.prefix))));
    };
    if appliances.len().saturating_mul(clients.len()) <= MAX_KINDS {
        for appliance in &appliances {
            add(format!("{appliance}/request"));
            for client in &clients {
                add(format!("{appliance}/request/{client}"));
            }
        }
    } else {
        // More than may be: whoever counts them says so.
        (0..=MAX_KINDS).for_each(|_| add(String::new()));
    }
    for pool in &pools {
        add(format!("pool/{pool}/request"));
    }
    samples
}

/// The minutes at which a window begins or ends, and those before them.
fn minutes(windows: impl Iterator<Item = pattern::Window>) -> Vec<Sample> {
    let mut minutes: Vec<_> = windows
        .flat_map(|window| [window.from, window.until])
        .chain([Minute::default()])
        .flat_map(|minute| {
            [
                minute.number(),
                (minute.number() + Minute::DAY - 1) % Minute::DAY,
            ]
        })
        .filter_map(Minute::new)
        .collect();
    minutes.sort_unstable();
    minutes.dedup();
    minutes.into_iter().map(Sample::Time).collect()
}

#[cfg(test)]
mod tests;
