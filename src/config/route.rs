//! The table of rules: from `[[route]]` to a [`Policy`], and what is wrong with it.
//!
//! Each rule is read by itself first. Only a table whose rules are all in order is looked through
//! as a whole: whether each rule can match, and whether any would let out what must stay.

use super::check::Checker;
use super::file::{self, File, NumberOr, OneOrMore};
use super::keys;
use super::settings::{Review, Upstream, is_level};
use super::tiers;
use crate::intake::{Classification, MAX_NAME_BYTES, Topics, is_topic_filter};
use crate::router::pattern::{Keywords, MAX_KEYWORDS, NONE, NamePattern, Window, has_word};
use crate::router::reach::{self, What};
use crate::router::rule::{Bounds, High, Low, Tokens};
use crate::router::{Connectivity, MAX_RULES, Policy, Rule, Strain, To, Ways, When};

/// Entries of one list in a rule: what a person still reads.
const MAX_ENTRIES: usize = 64;
/// Bytes of a keyword: a word or two in any script.
const MAX_KEYWORD_BYTES: usize = 64;

const KEY: &str = "route";

/// The policy. None after a fault, here or in what it needs.
pub(super) fn policy(
    checker: &mut Checker<'_>,
    file: &File,
    clouds: Option<&[Upstream]>,
    review: Option<&Review>,
    topics: &Topics,
) -> Option<Policy> {
    let ways = match (clouds, review) {
        (Some(clouds), Some(review)) => Some(tiers::ways(clouds, review)),
        (None, _) | (_, None) => None,
    };
    let Some(routes) = &file.route else {
        return Some(Policy::reference(ways?));
    };
    let rules = rules(checker, routes)?;
    let policy = Policy::new(rules, ways?);
    look_through(checker, &policy, topics).then_some(policy)
}

/// The rules, each looked at by itself.
fn rules(checker: &mut Checker<'_>, routes: &[file::Route]) -> Option<Vec<Rule>> {
    let mut good = true;
    if routes.len() > MAX_RULES {
        checker.fault(KEY, format!("at most {MAX_RULES} rules"));
        good = false;
    }
    let mut rules: Vec<Rule> = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        let mut look = Look {
            checker,
            index,
            good: true,
        };
        let name = look.name(&route.name);
        if rules.iter().any(|other| other.name == name) {
            look.fault("name", &route.name, "a name that no rule before has");
        }
        let when = look.when(&route.when);
        let to = look.to(&route.to);
        good &= look.good;
        rules.push(Rule { name, when, to });
    }
    let keywords = rules.iter().filter_map(|rule| rule.when.text.as_ref());
    let keywords: usize = keywords.map(Keywords::count).sum();
    if keywords > MAX_KEYWORDS {
        let wanted = format!("at most {MAX_KEYWORDS} words and fragments in all ({keywords} here)");
        checker.fault(KEY, wanted);
        good = false;
    }
    good.then_some(rules)
}

/// One rule.
struct Look<'a, 'c> {
    checker: &'a mut Checker<'c>,
    index: usize,
    good: bool,
}

impl Look<'_, '_> {
    fn fault(&mut self, below: &str, value: &str, wanted: impl Into<String>) {
        self.good = false;
        let value = keys::short(&toml::Value::String(value.to_owned()));
        self.checker
            .entry_fault(KEY, self.index, below, &value, wanted);
    }

    fn name(&mut self, name: &str) -> String {
        if !is_level(name) {
            let wanted = "1 to 64 letters, digits, '-', '_' or '.'";
            self.fault("name", name, wanted);
        }
        name.to_owned()
    }

    fn to(&mut self, to: &str) -> To {
        match (to, to.strip_prefix("cloud:")) {
            ("edge", _) => To::Edge,
            ("cloud", _) => To::Cloud,
            ("review", _) => To::Review,
            ("refuse", _) => To::Refuse,
            (_, Some(name)) if is_level(name) => To::CloudAt(name.to_owned()),
            (_, Some(_) | None) => {
                let wanted = "\"edge\", \"cloud\", \"cloud:NAME\", \"review\" or \"refuse\"";
                self.fault("to", to, wanted);
                To::Refuse
            }
        }
    }

    fn when(&mut self, when: &file::When) -> When {
        let classification = when.classification.as_ref().map(|it| {
            let classes = it.texts().iter();
            classes.map(|word| class(word)).collect()
        });
        let allowance = when.allowance.as_ref().map(|it| {
            let words = it.texts().iter();
            let strain = |word: &String| Strain::ALL.into_iter().find(|it| it.word() == word);
            words.filter_map(strain).collect()
        });
        When {
            classification,
            task: self.names("task", when.task.as_ref()),
            topic: self.topics(when.topic.as_ref()),
            client: self.names("client", when.client.as_ref()),
            risk: self.bounds(
                "risk",
                [when.risk_at_least, when.risk_above],
                [when.risk_at_most, when.risk_below],
            ),
            complexity: self.bounds(
                "complexity",
                [when.complexity_at_least, when.complexity_above].map(|it| it.map(single)),
                [when.complexity_at_most, when.complexity_below].map(|it| it.map(single)),
            ),
            tokens: self.bounds(
                "tokens",
                [&when.tokens_at_least, &when.tokens_above].map(|it| it.as_ref().map(tokens)),
                [&when.tokens_at_most, &when.tokens_below].map(|it| it.as_ref().map(tokens)),
            ),
            text: self.keywords(when),
            time: self.time(when.time.as_deref()),
            broker: line(when.broker.as_deref()),
            cloud: line(when.cloud.as_deref()),
            allowance,
        }
    }

    /// An interval; each of its ends may be said in one way.
    fn bounds<T: Copy>(
        &mut self,
        what: &str,
        low: [Option<T>; 2],
        high: [Option<T>; 2],
    ) -> Bounds<T> {
        for (ends, keys) in [(low, ["at_least", "above"]), (high, ["at_most", "below"])] {
            if ends.iter().all(Option::is_some) {
                let below = format!("when.{what}_{}", keys[1]);
                let wanted = format!("{what}_{} or {what}_{}, not both", keys[0], keys[1]);
                self.fault(&below, "(both)", wanted);
            }
        }
        let [at_least, above] = low;
        let [at_most, below] = high;
        Bounds {
            low: at_least.map(Low::AtLeast).or(above.map(Low::Above)),
            high: at_most.map(High::AtMost).or(below.map(High::Below)),
        }
    }

    /// A list that is not too long.
    fn texts<'t>(&mut self, key: &str, given: Option<&'t OneOrMore>) -> Option<&'t [String]> {
        let texts = given?.texts();
        if texts.len() > MAX_ENTRIES {
            let wanted = format!("at most {MAX_ENTRIES} of them");
            self.fault(&format!("when.{key}"), "(a list)", wanted);
            return None;
        }
        Some(texts)
    }

    fn names(&mut self, key: &str, given: Option<&OneOrMore>) -> Option<Vec<NamePattern>> {
        let texts = self.texts(key, given)?;
        let mut names = Vec::new();
        for text in texts {
            match NamePattern::parse(text, is_name) {
                Some(NamePattern::Absent) if key == "client" => {
                    let wanted = "a client's name; \"anonymous\" is one that says nothing";
                    self.fault("when.client", text, wanted);
                }
                Some(pattern) => names.push(pattern),
                None => {
                    let none = if key == "task" {
                        format!(", or \"{NONE}\" for a free prompt")
                    } else {
                        String::new()
                    };
                    let wanted = format!(
                        "a name as in a request, or its beginning and '*' at the end{none}"
                    );
                    self.fault(&format!("when.{key}"), text, wanted);
                }
            }
        }
        Some(names)
    }

    fn topics(&mut self, given: Option<&OneOrMore>) -> Option<Vec<String>> {
        let texts = self.texts("topic", given)?;
        for filter in texts {
            let error = is_topic_filter(filter).err();
            let fault = error.map(|error| format!("a topic filter (this one: {error})"));
            if let Some(wanted) = fault {
                self.fault("when.topic", filter, wanted);
            }
        }
        Some(texts.to_vec())
    }

    fn keywords(&mut self, when: &file::When) -> Option<Keywords> {
        if when.words.is_none() && when.fragments.is_none() {
            return None;
        }
        let mut lists = [Vec::new(), Vec::new()];
        let given = [("words", &when.words), ("fragments", &when.fragments)];
        for (list, (key, given)) in lists.iter_mut().zip(given) {
            for text in self.texts(key, given.as_ref()).unwrap_or_default() {
                let said = !text.trim().is_empty() && (key == "fragments" || has_word(text));
                if !said || text.len() > MAX_KEYWORD_BYTES {
                    let wanted =
                        format!("1 to {MAX_KEYWORD_BYTES} bytes with a letter or a digit in them");
                    self.fault(&format!("when.{key}"), text, wanted);
                }
                list.push(text.clone());
            }
        }
        let [words, fragments] = lists;
        Some(Keywords::new(words, fragments))
    }

    fn time(&mut self, given: Option<&str>) -> Option<Window> {
        let given = given?;
        let window = Window::parse(given);
        if window.is_none() {
            let wanted = "two times of day such as \"22:00-06:00\", the first inclusive";
            self.fault("when.time", given, wanted);
        }
        window
    }
}

/// Whether a request can name its task or client so.
fn is_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:@~".contains(&byte);
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(known)
}

/// The table of keys let no other words through; the strictest would be the only safe reading.
fn class(word: &str) -> Classification {
    [Classification::Public, Classification::Internal]
        .into_iter()
        .find(|known| known.word() == word)
        .unwrap_or(Classification::Restricted)
}

fn line(word: Option<&str>) -> Option<Connectivity> {
    [Connectivity::Online, Connectivity::Offline]
        .into_iter()
        .find(|line| Some(line.word()) == word)
}

fn tokens(given: &NumberOr) -> Tokens {
    given.number().map_or(Tokens::Context, Tokens::Count)
}

/// As a request's own complexity is read, so that the same digits are the same number.
#[expect(clippy::cast_possible_truncation, reason = "from 0 to 1")]
fn single(share: f64) -> f32 {
    share as f32
}

/// Looks through the table as a whole; says whether it may be used.
fn look_through(checker: &mut Checker<'_>, policy: &Policy, topics: &Topics) -> bool {
    let mut good = true;
    for finding in reach::look_through(policy, topics) {
        if !finding.what.is_fault() {
            continue;
        }
        good = false;
        let wanted = wanted(&finding.what, policy);
        let Some(index) = finding.rule else {
            checker.fault(KEY, wanted);
            continue;
        };
        let rule = &policy.rules()[index];
        let (below, value) = match finding.what {
            What::Contradiction(_) | What::Shadowed(_) | What::TooManyPatterns(_) => {
                ("when", asked(&rule.when))
            }
            What::SendsRestrictedOut
            | What::NobodyHere
            | What::NoSuchUpstream
            | What::NotAccepted(_)
            | What::NoCloud
            | What::NoCatchAll => ("to", format!("\"{}\"", rule.to)),
        };
        checker.entry_fault(KEY, index, below, &crate::fault::shortened(&value), wanted);
    }
    good
}

/// A condition in a fault.
fn asked(when: &When) -> String {
    let asked = |aspect| {
        Some(format!(
            "{} {}",
            crate::router::Aspect::word(aspect),
            when.wanted(aspect)?
        ))
    };
    let asked: Vec<_> = when.aspects().filter_map(asked).collect();
    if asked.is_empty() {
        "everything".into()
    } else {
        asked.join(", ")
    }
}

/// What would be right instead.
fn wanted(what: &What, policy: &Policy) -> String {
    match what {
        What::Contradiction(aspects) => {
            let words: Vec<_> = aspects.iter().map(|aspect| aspect.word()).collect();
            format!(
                "a rule that some request can meet: none has such {}",
                words.join(" and such ")
            )
        }
        What::Shadowed(before) => {
            let names = before.iter().filter_map(|place| policy.rules().get(*place));
            let names: Vec<_> = names.map(|rule| rule.name.as_str()).collect();
            format!(
                "a rule that can match: all that it asks for is taken before, by {}",
                names.join(", ")
            )
        }
        What::SendsRestrictedOut => "a place on this appliance, or classification = [\"public\", \
                                     \"internal\"]: restricted requests could get here, and they \
                                     never leave"
            .into(),
        What::NobodyHere => "review.local = true, or a rule before it that takes what is \
                             restricted: persons elsewhere never see that"
            .into(),
        What::NoSuchUpstream => match names(policy.ways()) {
            names if names.is_empty() => "an upstream that is configured: there is no cloud".into(),
            names => format!("an upstream that is configured: {names}"),
        },
        What::NotAccepted(classes) => {
            let words: Vec<_> = classes.iter().map(|class| class.word()).collect();
            format!(
                "an upstream that accepts {}, or a rule that does not get such requests",
                words.join(" and ")
            )
        }
        What::TooManyPatterns(aspect) => format!(
            "fewer patterns about {}: so many cannot be held against each other",
            aspect.word()
        ),
        What::NoCloud | What::NoCatchAll => String::new(), // worth knowing, but no fault
    }
}

fn names(ways: &Ways) -> String {
    let names = ways.upstreams.iter().map(|it| format!("cloud:{}", it.name));
    names.collect::<Vec<_>>().join(", ")
}
