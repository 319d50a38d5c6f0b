//! A few colours for states, for those who ask for them.
//!
//! Only the word that says how something is gets one: green for well, yellow for not quite, red for
//! what needs somebody. A page without them says the same.

use std::borrow::Cow;

/// Lines that tell a state, by their label.
const LABELS: [&str; 9] = [
    "state",
    "engine",
    "store",
    "heat",
    "governor",
    "broker",
    "error",
    "maintenance",
    "verified",
];
const GREEN: &str = "32";
const YELLOW: &str = "33";
const RED: &str = "31";

/// The line with its state in colour.
pub fn paint(line: &str) -> Cow<'_, str> {
    let Some((at, word)) = state_of(line) else {
        return line.into();
    };
    let Some(colour) = colour(line, word) else {
        return line.into();
    };
    let (before, after) = (&line[..at], &line[at + word.len()..]);
    format!("{before}\u{1b}[{colour}m{word}\u{1b}[0m{after}").into()
}

/// Where the word stands that tells the state of a line.
fn state_of(line: &str) -> Option<(usize, &str)> {
    let first = word_at(line, 0)?;
    // A line of a check begins with it.
    if ["ok", "warn", "fail"].contains(&first) && line[first.len()..].starts_with("  ") {
        return Some((0, first));
    }
    if !LABELS.contains(&first) {
        return None;
    }
    let gap = line[first.len()..].bytes().take_while(|byte| *byte == b' ');
    let at = first.len() + gap.count();
    Some((at, word_at(line, at)?))
}

fn word_at(line: &str, at: usize) -> Option<&str> {
    let word = line[at..].split([' ', ',', ':', ';']).next()?;
    (!word.is_empty()).then_some(word)
}

fn colour(line: &str, word: &str) -> Option<&'static str> {
    if line.starts_with("error ") {
        return Some(RED);
    }
    if line.starts_with("maintenance ") {
        return (word == "on").then_some(YELLOW);
    }
    Some(match word {
        "online" | "ready" | "ok" | "well" | "cool" | "every" => GREEN,
        "starting" | "restarting" | "unloaded" | "draining" | "warm" | "warn" | "slow" => YELLOW,
        "offline" | "absent" | "unloadable" | "failing" | "full" | "hot" | "fail" => RED,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_state_is_coloured_and_nothing_else() {
        for (line, painted) in [
            (
                "state       offline",
                "state       \u{1b}[31moffline\u{1b}[0m",
            ),
            (
                "engine      restarting, package a 2",
                "engine      \u{1b}[33mrestarting\u{1b}[0m, package a 2",
            ),
            ("store       ok", "store       \u{1b}[32mok\u{1b}[0m"),
            ("ok    clock  set", "\u{1b}[32mok\u{1b}[0m    clock  set"),
            (
                "error       gone (no_answer)",
                "error       \u{1b}[31mgone\u{1b}[0m (no_answer)",
            ),
            ("maintenance on", "maintenance \u{1b}[33mon\u{1b}[0m"),
        ] {
            assert_eq!(paint(line), painted);
        }
        for line in [
            "",
            "state",
            "state       ",
            "maintenance off",
            "question:",
            "ok, it is offline",
            "            offline",
            "requests    7 open",
            "heat        läuft",
        ] {
            assert_eq!(paint(line), line);
        }
    }

    #[test]
    fn a_page_without_its_colours_is_the_page() {
        for line in include_str!("golden.txt").lines() {
            let mut plain = paint(line).into_owned();
            for code in ["[31m", "[32m", "[33m", "[0m"] {
                plain = plain.replace(&format!("\u{1b}{code}"), "");
            }
            assert_eq!(plain, line);
        }
    }
}
