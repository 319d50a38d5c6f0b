//! What a person types becomes the JSON that the socket takes: one grammar for all commands.
//!
//! ```text
//! line    = JSON object | command [action] { --option value } { word } [ rest of the line ]
//! word    = characters without blanks | "…" with \" and \\ | '…'
//! ```
//!
//! Purpose: [`understand`] turns a line into a [`Call`] by the [`TABLE`](super::table::TABLE), and
//! [`complete`] says how a line can go on. A quote counts only at the beginning of a word, so that
//! a text such as `what's that` needs none.
//!
//! How it fails: a [`Slip`] with a stable code, which says what would be right. It may quote the
//! command and its options, never a text.

use serde_json::{Map, Value};

use super::table::{self, Command, Form, Ids, Need, Take, What};
use crate::fault::nearest;

/// A line that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Which command; none of the table's where a program sent the JSON itself.
    pub command: &'static str,
    /// What it becomes.
    pub json: Value,
}

/// A line that was not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Slip {
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl Slip {
    fn syntax(message: impl Into<String>) -> Self {
        Self {
            code: "syntax",
            message: message.into(),
        }
    }

    fn missing(message: impl Into<String>) -> Self {
        Self {
            code: "missing_argument",
            message: message.into(),
        }
    }
}

/// What stands in the audit for a command that is none.
pub const UNKNOWN: &str = "(unknown)";

/// Understands one line. None for an empty one.
pub fn understand(line: &str) -> Result<Option<Call>, Slip> {
    if line.trim_start().starts_with('{') {
        let json = serde_json::from_str::<Value>(line).map_err(|_| {
            Slip::syntax("this begins like JSON and is none; a command is typed without braces")
        })?;
        let name = json["cmd"].as_str().unwrap_or_default();
        let command = table::find(name).map_or(UNKNOWN, |command| command.name);
        return Ok(Some(Call { command, json }));
    }
    let words = split(line)?;
    let Some((name, words)) = words.split_first() else {
        return Ok(None);
    };
    let command = table::find(&name.text).ok_or_else(|| unknown(&name.text))?;
    let mut json = Map::new();
    json.insert("cmd".into(), command.name.into());
    let (form, words) = choose(command, words)?;
    if !form.action.is_empty() {
        json.insert("action".into(), form.action.into());
    }
    fill(command, form, words, line, &mut json)?;
    finish(&mut json);
    Ok(Some(Call {
        command: command.name,
        json: Value::Object(json),
    }))
}

/// A task has an input, a free request a prompt.
fn finish(json: &mut Map<String, Value>) {
    if let Some(Value::Object(request)) = json.get_mut("request")
        && request.contains_key("task")
        && let Some(text) = request.remove("prompt")
    {
        request.insert("input".into(), text);
    }
}

fn unknown(name: &str) -> Slip {
    let mut begun = table::names().filter(|it| it.starts_with(name));
    let only = begun.next().filter(|_| begun.next().is_none());
    let meant = nearest(name, table::names()).or(only);
    let shown: String = name.chars().filter(|c| !c.is_control()).take(32).collect();
    let hint = match meant {
        Some(meant) => format!("did you mean {meant}?"),
        None => "help lists the commands".into(),
    };
    Slip {
        code: "unknown_command",
        message: format!("no command '{shown}'; {hint}"),
    }
}

/// The form that the next word chooses.
fn choose<'w>(
    command: &'static Command,
    words: &'w [Word],
) -> Result<(&'static Form, &'w [Word]), Slip> {
    let first = &command.forms[0];
    let Some(word) = words.first().filter(|_| command.has_actions()) else {
        return Ok((first, words));
    };
    if let Some(form) = command.form(&word.text) {
        return Ok((form, &words[1..]));
    }
    if word.is_option() {
        return Ok((first, words));
    }
    let actions = || command.forms.iter().map(|form| form.action);
    let hint = match nearest(&word.text, actions()) {
        Some(meant) => format!("did you mean {} {meant}?", command.name),
        None => format!("there are {}", actions().collect::<Vec<_>>().join(", ")),
    };
    Err(Slip {
        code: "unknown_action",
        message: format!("{} has no such action; {hint}", command.name),
    })
}

fn fill(
    command: &Command,
    form: &Form,
    words: &[Word],
    line: &str,
    json: &mut Map<String, Value>,
) -> Result<(), Slip> {
    let mut takes = form.takes.iter();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word.is_option() {
            let (name, inline) = word.option();
            let option = option(command, form, name)?;
            if matches!(option.what, What::Flag) {
                if inline.is_some() {
                    return Err(Slip::syntax(format!("--{name} takes no value")));
                }
                json.insert(option.key.into(), true.into());
                continue;
            }
            let value = match inline {
                Some(value) => value.to_owned(),
                None => match words.next() {
                    Some(word) => word.text.clone(),
                    None => return Err(Slip::missing(format!("--{name} needs a value"))),
                },
            };
            set(json, option, &value)?;
            continue;
        }
        let Some(take) = takes.next() else {
            let usage = command.usage().join("; ");
            return Err(Slip::syntax(format!("too many words; it is {usage}")));
        };
        if matches!(take.what, What::Rest) {
            let alone = words.len() == 0;
            let text = if alone {
                &word.text
            } else {
                line[word.start..].trim_end()
            };
            set(json, take, text)?;
            break;
        }
        set(json, take, &word.text)?;
    }
    match takes.find(|take| take.need == Need::Must && !is_set(json, take)) {
        Some(take) => Err(Slip::missing(format!(
            "{} is missing; it is {}",
            take.name,
            command.usage().join("; ")
        ))),
        None => Ok(()),
    }
}

fn option(command: &Command, form: &Form, name: &str) -> Result<&'static Take, Slip> {
    let all: &'static [Take] = form.options;
    if let Some(option) = all.iter().find(|option| option.name == name) {
        return Ok(option);
    }
    let meant = nearest(name, all.iter().map(|option| option.name));
    let hint = match meant {
        Some(meant) => format!("did you mean --{meant}?"),
        None if all.is_empty() => "it has none here".into(),
        None => {
            let all: Vec<_> = all.iter().map(|it| format!("--{}", it.name)).collect();
            format!("there are {}", all.join(", "))
        }
    };
    Err(Slip::syntax(format!(
        "{} has no such option; {hint}",
        command.name
    )))
}

fn is_set(json: &Map<String, Value>, take: &Take) -> bool {
    match take.key.split_once('.') {
        Some((outer, inner)) => json.get(outer).is_some_and(|it| !it[inner].is_null()),
        None => json.contains_key(take.key),
    }
}

fn set(json: &mut Map<String, Value>, take: &Take, text: &str) -> Result<(), Slip> {
    let value = match take.what {
        What::Number => match text.parse::<u64>() {
            Ok(number) => number.into(),
            Err(_) => {
                return Err(Slip::syntax(format!(
                    "--{} takes a whole number",
                    take.name
                )));
            }
        },
        What::OneOf(words) if !words.contains(&text) => {
            let words = words.join(", ");
            return Err(Slip::syntax(format!("{} is one of {words}", take.name)));
        }
        What::Word | What::Flag | What::OneOf(_) | What::Rest | What::Id(_) => Value::from(text),
    };
    match take.key.split_once('.') {
        Some((outer, inner)) => {
            let object = json
                .entry(outer)
                .or_insert_with(|| Value::Object(Map::new()));
            object[inner] = value;
        }
        None => {
            json.insert(take.key.into(), value);
        }
    }
    Ok(())
}

/// A word, and where it began.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    text: String,
    start: usize,
    quoted: bool,
}

impl Word {
    fn is_option(&self) -> bool {
        !self.quoted && self.text.len() > 2 && self.text.starts_with("--")
    }

    /// Its name, and the value behind `=`.
    fn option(&self) -> (&str, Option<&str>) {
        let text = &self.text[2..];
        match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        }
    }
}

fn split(line: &str) -> Result<Vec<Word>, Slip> {
    let mut words = Vec::new();
    let mut chars = line.char_indices().peekable();
    while let Some(&(start, c)) = chars.peek() {
        if c.is_whitespace() {
            chars.next();
            continue;
        }
        let mut text = String::new();
        let quoted = c == '"' || c == '\'';
        if quoted {
            chars.next();
            let mut closed = false;
            while let Some((_, next)) = chars.next() {
                match next {
                    '\\' if c == '"' => text.extend(chars.next().map(|(_, it)| it)),
                    next if next == c => {
                        closed = true;
                        break;
                    }
                    next => text.push(next),
                }
            }
            let ends = chars.peek().is_none_or(|(_, next)| next.is_whitespace());
            if !closed || !ends {
                return Err(Slip::syntax(format!("a quote {c} without its end")));
            }
        } else {
            while let Some((_, next)) = chars.next_if(|(_, next)| !next.is_whitespace()) {
                text.push(next);
            }
        }
        words.push(Word {
            text,
            start,
            quoted,
        });
    }
    Ok(words)
}

/// How a line can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ways {
    /// One of these words stands for the last one.
    Words {
        /// What is typed of it.
        begun: String,
        /// All that begin so.
        words: Vec<String>,
    },
    /// An id that only the appliance knows.
    Ids {
        /// What is typed of it.
        begun: String,
        /// Of what.
        ids: Ids,
    },
}

/// How the line up to the cursor can go on; none where anything may follow.
pub fn complete(before: &str) -> Option<Ways> {
    let words = split(before).ok()?;
    let fresh = before.is_empty() || before.ends_with(char::is_whitespace);
    let (begun, words) = match words.split_last() {
        Some((last, _)) if !fresh && last.quoted => return None,
        Some((last, rest)) if !fresh => (last.text.clone(), rest),
        Some(_) | None => (String::new(), words.as_slice()),
    };
    let of = |all: &mut dyn Iterator<Item = String>| {
        let mut words: Vec<_> = all.filter(|it| it.starts_with(&begun)).collect();
        words.sort();
        (!words.is_empty()).then(|| Ways::Words {
            begun: begun.clone(),
            words,
        })
    };
    let Some((name, words)) = words.split_first() else {
        return of(&mut table::names().map(str::to_owned));
    };
    let command = table::find(&name.text)?;
    let (form, words) = match words.split_first() {
        None if command.has_actions() && !begun.starts_with('-') => {
            return of(&mut command.forms.iter().map(|form| form.action.to_owned()));
        }
        Some((action, rest)) if command.has_actions() => (command.form(&action.text)?, rest),
        Some(_) | None => (&command.forms[0], words),
    };
    if begun.starts_with('-') {
        return of(&mut form.options.iter().map(|it| format!("--{}", it.name)));
    }
    let what = next(form, words)?;
    match what {
        What::OneOf(words) => of(&mut words.iter().map(|&word| word.to_owned())),
        What::Id(Ids::Commands) => of(&mut table::names().map(str::to_owned)),
        What::Id(ids) => Some(Ways::Ids { begun, ids }),
        What::Word | What::Number | What::Flag | What::Rest => None,
    }
}

/// What the next word is, after these.
fn next(form: &Form, words: &[Word]) -> Option<What> {
    let mut takes = form.takes.iter();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word.is_option() {
            let (name, inline) = word.option();
            let option = form.options.iter().find(|it| it.name == name);
            let takes_value = option.is_none_or(|it| !matches!(it.what, What::Flag));
            if takes_value && inline.is_none() && words.next().is_none() {
                return option.map(|it| it.what);
            }
        } else {
            takes.next();
        }
    }
    takes.next().map(|take| take.what)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::console::table::TABLE;

    fn json_of(line: &str) -> Value {
        understand(line).unwrap().unwrap().json
    }

    fn slip(line: &str) -> Slip {
        understand(line).unwrap_err()
    }

    #[test]
    fn words_become_the_json_of_the_socket() {
        for (line, wanted) in [
            ("status", json!({"cmd": "status"})),
            ("  trace  p-1 ", json!({"cmd": "trace", "id": "p-1"})),
            ("quit", json!({"cmd": "exit"})),
            ("review", json!({"cmd": "review", "action": "list"})),
            (
                "review --last 3",
                json!({"cmd": "review", "action": "list", "max": 3}),
            ),
            (
                "review correct --as anna 9f  stop  the spindle ",
                json!({"cmd": "review", "action": "correct", "id": "9f", "reviewer": "anna", "text": "stop  the spindle"}),
            ),
            (
                "ask what's that --loud noise?",
                json!({"cmd": "ask", "request": {"prompt": "what's that --loud noise?"}}),
            ),
            (
                r#"ask --task=triage "a \"b\"""#,
                json!({"cmd": "ask", "request": {"task": "triage", "input": "a \"b\""}}),
            ),
            (
                "requests --client 'press 7' --state refused",
                json!({"cmd": "requests", "client": "press 7", "state": "refused"}),
            ),
            (
                "maintenance on",
                json!({"cmd": "maintenance", "action": "on"}),
            ),
            (r#"{"cmd":"status"}"#, json!({"cmd": "status"})),
        ] {
            assert_eq!(json_of(line), wanted, "{line}");
        }
        assert_eq!(understand("   "), Ok(None));
    }

    #[test]
    fn every_example_of_the_table_is_understood_as_its_command() {
        for command in TABLE {
            for example in command.examples {
                let call = understand(example).unwrap().unwrap();
                assert_eq!(call.command, command.name, "{example}");
            }
        }
    }

    #[test]
    fn a_slip_has_a_code_and_says_what_would_be_right() {
        for (line, code, words) in [
            ("statsu", "unknown_command", "did you mean status?"),
            ("stat", "unknown_command", "did you mean status?"),
            ("make coffee", "unknown_command", "help lists"),
            ("trace", "missing_argument", "ID is missing; it is trace ID"),
            ("trace a b", "syntax", "too many words; it is trace ID"),
            (
                "review aprove 9f",
                "unknown_action",
                "did you mean review approve?",
            ),
            ("review dance", "unknown_action", "there are list, show"),
            ("logs --lvel warn", "syntax", "did you mean --level?"),
            ("logs --level loud", "syntax", "level is one of error, warn"),
            ("logs --last few", "syntax", "--last takes a whole number"),
            ("logs --last", "missing_argument", "--last needs a value"),
            ("ask \"unfinished", "syntax", "a quote \" without its end"),
            ("{\"cmd\":", "syntax", "begins like JSON"),
            ("mode loud", "syntax", "MODE is one of json, text"),
        ] {
            let slip = slip(line);
            assert_eq!(slip.code, code, "{line}");
            assert!(slip.message.contains(words), "{line}: {}", slip.message);
        }
    }

    #[test]
    fn a_slip_never_quotes_a_text() {
        for line in [
            "ask --task triage --secret-word x",
            "review secret-word",
            "review correct 9f \"secret-word",
            "logs --level secret-word",
        ] {
            assert!(!slip(line).message.contains("secret-word"), "{line}");
        }
    }

    #[test]
    fn tab_knows_what_can_follow() {
        let words = |line: &str| match complete(line) {
            Some(Ways::Words { words, .. }) => words,
            Some(Ways::Ids { .. }) | None => Vec::new(),
        };
        assert_eq!(words("st"), ["status"]);
        assert_eq!(words("re"), ["requests", "restart", "review"]);
        assert_eq!(words("").len(), TABLE.len());
        assert_eq!(words("review re"), ["reject", "release"]);
        assert_eq!(words("maintenance "), ["off", "on", "show"]);
        assert_eq!(words("help rev"), ["review"]);
        assert_eq!(words("logs --l"), ["--last", "--level"]);
        assert_eq!(words("logs --level w"), ["warn"]);
        assert_eq!(words("ask hel"), [""; 0]);
        let ids = |line: &str| match complete(line) {
            Some(Ways::Ids { begun, ids }) => Some((begun, ids)),
            Some(Ways::Words { .. }) | None => None,
        };
        assert_eq!(ids("trace pre"), Some(("pre".into(), Ids::Requests)));
        assert_eq!(ids("review show "), Some((String::new(), Ids::Items)));
        assert_eq!(
            ids("review take --as anna 9"),
            Some(("9".into(), Ids::Items))
        );
        assert_eq!(ids("trace a "), None);
    }
}
