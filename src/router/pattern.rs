//! What names, words and times are held against.

use std::collections::HashMap;
use std::fmt::{self, Write as _};

/// The word for a request that has no such thing: a free prompt has no task. No name has brackets.
pub const NONE: &str = "(none)";

/// Names: of a task, or of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// This one.
    Is(String),
    /// All that begin so.
    Begins(String),
    /// None at all.
    Absent,
}

impl NamePattern {
    /// The pattern, where `is_name` says what a name may be: a name, the beginning of one and
    /// `*`, or [`NONE`].
    pub fn parse(text: &str, is_name: impl Fn(&str) -> bool) -> Option<Self> {
        match text.strip_suffix('*') {
            None if text == NONE => Some(Self::Absent),
            None => is_name(text).then(|| Self::Is(text.to_owned())),
            Some(head) => (head.is_empty() || is_name(head)).then(|| Self::Begins(head.to_owned())),
        }
    }

    /// Whether it is about this name.
    pub fn holds(&self, name: Option<&str>) -> bool {
        match (self, name) {
            (Self::Is(wanted), Some(name)) => wanted == name,
            (Self::Begins(head), Some(name)) => name.starts_with(head.as_str()),
            (Self::Absent, None) => true,
            (Self::Is(_) | Self::Begins(_), None) | (Self::Absent, Some(_)) => false,
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(name) => f.write_str(name),
            Self::Begins(head) => write!(f, "{head}*"),
            Self::Absent => f.write_str(NONE),
        }
    }
}

/// A minute of the day, from midnight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minute(u16);

impl Minute {
    /// Minutes of a day.
    pub const DAY: u16 = 24 * 60;
    /// The first one.
    pub const MIDNIGHT: Self = Self(0);

    /// The minute, if a day has it.
    pub fn new(minute: u16) -> Option<Self> {
        (minute < Self::DAY).then_some(Self(minute))
    }

    /// The minute at which a wall clock stands that is so many minutes ahead of UTC.
    pub fn of(since_1970_ms: u64, ahead_minutes: i16) -> Self {
        let minutes = i64::try_from(since_1970_ms / 60_000).unwrap_or(0) + i64::from(ahead_minutes);
        let of_day = minutes.rem_euclid(i64::from(Self::DAY));
        Self(u16::try_from(of_day).unwrap_or(0))
    }

    /// The minute of a text such as `06:30`.
    pub fn parse(text: &str) -> Option<Self> {
        let (hour, minute) = text.split_once(':')?;
        let number = |digits: &str, below: u16| {
            let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            let number = digits.parse::<u16>().ok()?;
            (plain && number < below).then_some(number)
        };
        Self::new(number(hour, 24)? * 60 + number(minute, 60)?)
    }

    /// Minutes since midnight.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// A part of each day; it may go over midnight. Its first minute belongs to it, its last does not,
/// so that shifts follow one another without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first minute.
    pub from: Minute,
    /// The first minute after it.
    pub until: Minute,
}

impl Window {
    /// The window of a text such as `22:00-06:00`. One that begins where it ends has no meaning.
    pub fn parse(text: &str) -> Option<Self> {
        let (from, until) = text.split_once('-')?;
        let (from, until) = (Minute::parse(from.trim())?, Minute::parse(until.trim())?);
        (from != until).then_some(Self { from, until })
    }

    /// Whether a minute lies in it.
    pub fn holds(self, minute: Minute) -> bool {
        if self.from < self.until {
            (self.from..self.until).contains(&minute)
        } else {
            minute >= self.from || minute < self.until
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from, self.until)
    }
}

/// Keywords of a whole table: each has a bit.
pub const MAX_KEYWORDS: usize = 1024;

/// Which keywords stand in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found([u64; MAX_KEYWORDS / 64]);

impl Found {
    /// None.
    pub const NONE: Self = Self([0; MAX_KEYWORDS / 64]);

    fn set(&mut self, bit: usize) {
        if let Some(word) = self.0.get_mut(bit / 64) {
            *word |= 1 << (bit % 64);
        }
    }

    fn shares(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }
}

/// Words of which one must stand in the text. Case does not count, in any script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keywords {
    /// As whole words.
    pub words: Vec<String>,
    /// Anywhere, also inside a word: for compounds, and for scripts without spaces.
    pub fragments: Vec<String>,
    own: Found,
}

impl Keywords {
    /// Keywords; they find nothing until a [`Lexicon`] has taken them up.
    pub fn new(words: Vec<String>, fragments: Vec<String>) -> Self {
        Self {
            words,
            fragments,
            own: Found::NONE,
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.words.len() + self.fragments.len()
    }

    /// Their bits.
    pub(super) fn own(&self) -> &Found {
        &self.own
    }

    pub(super) fn stand_in(&self, found: &Found) -> bool {
        self.own.shares(found)
    }
}

impl fmt::Display for Keywords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |all: &[String]| {
            let quoted: Vec<_> = all.iter().map(|one| format!("\"{one}\"")).collect();
            quoted.join(", ")
        };
        match (self.words.is_empty(), self.fragments.is_empty()) {
            (false, true) => write!(f, "one of the words {}", quoted(&self.words)),
            (true, _) => write!(f, "with a part such as {}", quoted(&self.fragments)),
            (false, false) => write!(
                f,
                "one of the words {}, or with a part such as {}",
                quoted(&self.words),
                quoted(&self.fragments)
            ),
        }
    }
}

/// All keywords of a table, looked for in one walk through a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lexicon {
    /// By their first word: what must follow it, and the bit.
    words: HashMap<String, Vec<(Vec<String>, usize)>>,
    fragments: Vec<(String, usize)>,
    known: HashMap<(Whole, String), usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Whole {
    Word,
    Fragment,
}

impl Lexicon {
    /// Takes keywords up. Beyond [`MAX_KEYWORDS`] they would find nothing; the configuration does
    /// not let so many in.
    pub fn take_up(&mut self, keywords: &mut Keywords) {
        let mut own = Found::NONE;
        for word in &keywords.words {
            own.set(self.word(word));
        }
        for fragment in &keywords.fragments {
            own.set(self.fragment(fragment));
        }
        keywords.own = own;
    }

    fn word(&mut self, text: &str) -> usize {
        let folded = fold(text);
        let next = self.known.len();
        let bit = *self
            .known
            .entry((Whole::Word, folded.clone()))
            .or_insert(next);
        let mut parts = words(&folded).map(str::to_owned);
        if let (true, Some(first)) = (bit == next, parts.next()) {
            self.words
                .entry(first)
                .or_default()
                .push((parts.collect(), bit));
        }
        bit
    }

    fn fragment(&mut self, text: &str) -> usize {
        let folded = fold(text);
        let next = self.known.len();
        let bit = *self
            .known
            .entry((Whole::Fragment, folded.clone()))
            .or_insert(next);
        if bit == next {
            self.fragments.push((folded, bit));
        }
        bit
    }

    /// Which keywords stand in a text.
    pub fn scan(&self, text: &str) -> Found {
        let mut found = Found::NONE;
        if self.known.is_empty() {
            return found;
        }
        let folded = fold(text);
        if !self.words.is_empty() {
            let mut rest = words(&folded);
            while let Some(word) = rest.next() {
                for (following, bit) in self.words.get(word).into_iter().flatten() {
                    let mut ahead = rest.clone();
                    if following
                        .iter()
                        .all(|next| ahead.next() == Some(next.as_str()))
                    {
                        found.set(*bit);
                    }
                }
            }
        }
        for (fragment, bit) in &self.fragments {
            if folded.contains(fragment.as_str()) {
                found.set(*bit);
            }
        }
        found
    }
}

/// The words of a text: runs of letters and digits, in any script.
fn words(text: &str) -> impl Iterator<Item = &str> + Clone {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
}

/// Whether a text has any word.
pub fn has_word(text: &str) -> bool {
    words(text).next().is_some()
}

/// A text in which case no longer tells: over the capital and back, so that `ß` is `ss` and the
/// two small sigmas are one.
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            folded.push(c.to_ascii_lowercase());
        } else {
            folded.extend(c.to_uppercase().flat_map(char::to_lowercase));
        }
    }
    folded
}

/// For the check of a table: texts that tell all keywords apart as far as any text can.
pub(super) fn samples(all: &[&Keywords]) -> Vec<String> {
    let mut samples = vec![String::new()];
    for keywords in all {
        samples.extend(keywords.words.iter().cloned());
        for fragment in &keywords.fragments {
            samples.push(fragment.clone());
            let mut inside = String::new();
            let _ = write!(inside, "{SELDOM}{fragment}{SELDOM}"); // a String takes all
            samples.push(inside);
        }
    }
    samples.sort();
    samples.dedup();
    samples
}

/// A letter that hardly any keyword has.
const SELDOM: char = '\u{A66E}';

#[cfg(test)]
mod tests {
    use super::*;

    fn stands(keywords: Keywords, text: &str) -> bool {
        let mut keywords = keywords;
        let mut lexicon = Lexicon::default();
        lexicon.take_up(&mut keywords);
        keywords.stand_in(&lexicon.scan(text))
    }

    fn word(keyword: &str, text: &str) -> bool {
        stands(Keywords::new(vec![keyword.into()], vec![]), text)
    }

    fn fragment(keyword: &str, text: &str) -> bool {
        stands(Keywords::new(vec![], vec![keyword.into()]), text)
    }

    #[test]
    fn a_word_stands_by_itself_and_a_fragment_anywhere() {
        assert!(word("fire", "FIRE!"));
        assert!(word("fire", "no smoke without fire"));
        assert!(!word("fire", "firewall"));
        assert!(fragment("fire", "the firewall"));
        assert!(!fragment("fire", "fir e"));
        assert!(fragment("火", "小火灾"));
    }

    #[test]
    fn case_does_not_count_in_any_script() {
        assert!(word("straße", "STRASSE 7"));
        assert!(word("STRASSE", "die Straße"));
        assert!(word("ΟΔΟΣ", "οδος"));
        assert!(word("пожар", "ПОЖАР"));
        assert!(fragment("ÜBERDRUCK", "kesselüberdruckventil"));
    }

    #[test]
    fn a_keyword_of_several_words_wants_them_in_a_row() {
        assert!(word("emergency stop", "Emergency-Stop pressed"));
        assert!(!word("emergency stop", "emergency, no stop"));
        assert!(!word("emergency stop", "emergency"));
    }

    #[test]
    fn a_window_may_go_over_midnight_and_ends_before_its_last_minute() {
        let holds = |window: &str, minute: &str| {
            let minute = Minute::parse(minute).unwrap();
            Window::parse(window).unwrap().holds(minute)
        };
        assert!(holds("22:00-06:00", "22:00"));
        assert!(holds("22:00-06:00", "00:00"));
        assert!(holds("22:00-06:00", "05:59"));
        assert!(!holds("22:00-06:00", "06:00"));
        assert!(!holds("22:00-06:00", "21:59"));
        assert!(holds("06:00-22:00", "06:00"));
        assert!(!holds("06:00-22:00", "22:00"));
        for bad in [
            "6:00-22:00",
            "06:00",
            "24:00-06:00",
            "06:60-07:00",
            "06:00-06:00",
            "+6:00-07:00",
        ] {
            assert_eq!(Window::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_minute_is_that_of_the_clock_on_the_wall() {
        assert_eq!(Minute::of(0, 0).to_string(), "00:00");
        assert_eq!(Minute::of(0, -60).to_string(), "23:00");
        assert_eq!(Minute::of(1_800_000_000_000, 0).to_string(), "08:00");
        assert_eq!(Minute::of(1_800_000_000_000, 330).to_string(), "13:30");
    }

    #[test]
    fn a_name_a_beginning_or_none() {
        let known =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
        let holds = |pattern: &str, name: Option<&str>| {
            NamePattern::parse(pattern, known).unwrap().holds(name)
        };
        assert!(holds("press", Some("press")) && !holds("press", Some("press7")));
        assert!(holds("press*", Some("press7")) && holds("press*", Some("press")));
        assert!(holds("*", Some("any")) && !holds("*", None));
        assert!(holds(NONE, None) && !holds(NONE, Some("any")));
        assert_eq!(NamePattern::parse("a*b", known), None);
        assert_eq!(NamePattern::parse("", known), None);
    }
}
