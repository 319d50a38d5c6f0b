//! What a signature would change, in words: every difference between a document and the one before
//! it, none left out.
//!
//! ```text
//! packages: version 3 → 4, good until 2027-11-28T12:00:00Z (before: 2027-10-01T09:30:00Z)
//!   + targets/factory-triage-4.json  {"custom":{…},"hashes":{"sha256":"…"},"length":5210}
//! ```
//!
//! It compares the two as they stand there, field by field, so that a field which this version does
//! not know is shown like any other.

use serde_json::Value;

use crate::ota::tuf::draft::Draft;

/// The difference, one line each, with a headline.
pub fn diff(role: &str, before: Option<&Draft>, after: &Draft) -> String {
    let text = |value: &Value, key: &str| {
        let value = value.get(key);
        let plain = value.and_then(Value::as_str).map(clean);
        plain.or_else(|| value.map(line)).unwrap_or_default()
    };
    let new = after.value();
    let (version, until) = (text(new, "version"), text(new, "expires"));
    let mut lines = vec![match before {
        None => format!("{role}: new, version {version}, good until {until}"),
        Some(before) => {
            let old = before.value();
            format!(
                "{role}: version {} → {version}, good until {until} (before: {})",
                text(old, "version"),
                text(old, "expires")
            )
        }
    }];
    let nothing = Value::Object(serde_json::Map::new());
    let old = before.map_or(&nothing, Draft::value);
    compare(&mut Vec::new(), old, new, &mut lines);
    if lines.len() == 1 {
        lines.push("  = nothing else differs".to_owned());
    }
    lines.join("\n")
}

/// What the headline says already.
const HEADLINE: [&str; 2] = ["version", "expires"];

fn compare(at: &mut Vec<String>, old: &Value, new: &Value, lines: &mut Vec<String>) {
    if old == new {
        return;
    }
    match (named(old), named(new)) {
        (Some(old), Some(new)) => {
            let mut names: Vec<_> = old.iter().chain(&new).map(|(name, _)| name).collect();
            names.sort();
            names.dedup();
            for name in names {
                if at.is_empty() && HEADLINE.contains(&name.as_str()) {
                    continue;
                }
                let find = |list: &[(String, Value)]| {
                    let found = list.iter().find(|(own, _)| own == name);
                    found.map(|(_, value)| value.clone())
                };
                at.push(clean(name));
                match (find(&old), find(&new)) {
                    (Some(old), Some(new)) => compare(at, &old, &new, lines),
                    (None, Some(new)) => added(at, &new, lines),
                    (Some(old), None) => {
                        lines.push(format!("  - {}  {}", at.join("/"), line(&old)));
                    }
                    (None, None) => {}
                }
                at.pop();
            }
            let order = |list: &[(String, Value)]| {
                let names = list.iter().map(|(name, _)| name.clone());
                names.collect::<Vec<_>>()
            };
            let (mut was, mut is) = (order(&old), order(&new));
            let same = |list: &mut Vec<String>, other: &[String]| {
                list.retain(|name| other.contains(name));
            };
            let (all_was, all_is) = (was.clone(), is.clone());
            same(&mut was, &all_is);
            same(&mut is, &all_was);
            if was != is {
                let place = at.join("/");
                lines.push(format!("  ~ {place}  in the order {}", is.join(", ")));
            }
        }
        (_, _) => lines.push(format!(
            "  ~ {}  {} → {}",
            at.join("/"),
            line(old),
            line(new)
        )),
    }
}

/// Something new: a line for each of its parts near the top, where they are many.
fn added(at: &mut Vec<String>, new: &Value, lines: &mut Vec<String>) {
    const SHALLOW: usize = 2;
    match named(new).filter(|parts| at.len() < SHALLOW && !parts.is_empty()) {
        Some(parts) => {
            for (name, value) in parts {
                at.push(clean(&name));
                added(at, &value, lines);
                at.pop();
            }
        }
        None => lines.push(format!("  + {}  {}", at.join("/"), line(new))),
    }
}

/// The parts of an object, or of a list of roles, by their names.
fn named(value: &Value) -> Option<Vec<(String, Value)>> {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter();
            Some(
                fields
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect(),
            )
        }
        Value::Array(list) if !list.is_empty() => {
            let name = |value: &Value| value.get("name")?.as_str().map(str::to_owned);
            let parts = list.iter().map(|value| Some((name(value)?, value.clone())));
            let parts: Option<Vec<_>> = parts.collect();
            // Of two with one name only one would be looked at.
            parts.filter(|parts| {
                let mut names: Vec<_> = parts.iter().map(|(name, _)| name).collect();
                names.sort();
                names.windows(2).all(|two| two[0] != two[1])
            })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            None
        }
    }
}

fn line(value: &Value) -> String {
    clean(&value.to_string())
}

/// Without signs that a terminal obeys, or that turn the direction of writing.
pub(super) fn clean(text: &str) -> String {
    let harmless = |sign: char| {
        !sign.is_control()
            && !matches!(sign, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let shown = text.chars().map(|sign| match sign {
        sign if harmless(sign) => sign.to_string(),
        sign => sign.escape_unicode().to_string(),
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;
    use crate::ota::tuf::Expiry;
    use crate::ota::tuf::metadata::{Delegation, Root, Targets};
    use crate::ota::tuf::write::{Then, target_file};

    const LATER: Wall = Wall(2_000_000_000_000);

    fn targets(version: u64, names: &[&str]) -> Targets {
        let mut targets = Targets::new(version, Expiry::at(LATER));
        for name in names {
            let custom = Some(serde_json::json!({"note": "a\u{1b}[2Jb\u{202e}"}));
            let file = target_file(name.as_bytes(), custom);
            targets.targets.insert((*name).to_owned(), file);
        }
        targets
    }

    fn between(old: &Targets, new: &Targets) -> String {
        let (old, new) = (Draft::of(old).unwrap(), Draft::of(new).unwrap());
        diff("packages", Some(&old), &new)
    }

    #[test]
    fn what_comes_goes_and_changes_is_shown_with_size_hash_and_custom() {
        let mut after = targets(4, &["a-1.json", "b-2.json"]);
        after.targets.get_mut("a-1.json").unwrap().length = 9;
        let told = between(&targets(3, &["a-1.json", "c-1.json"]), &after);
        assert!(
            told.starts_with("packages: version 3 → 4, good until 2033-05-18"),
            "{told}"
        );
        assert!(told.contains("+ targets/b-2.json  {\"custom\""), "{told}");
        assert!(told.contains("\"length\":8"), "{told}");
        assert!(told.contains("- targets/c-1.json"), "{told}");
        assert!(told.contains("~ targets/a-1.json/length  8 → 9"), "{told}");
        assert!(!told.contains("~ version"), "{told}");
    }

    #[test]
    fn a_field_that_nobody_knows_and_an_order_that_changed_are_shown() {
        let mut old = targets(1, &[]);
        for name in ["one", "two"] {
            let role = Delegation::of_paths(name, &["*"], 1, &[], Then::Stop);
            old.delegate(role, &[]);
        }
        let mut new = old.clone();
        new.version = 2;
        new.delegations.as_mut().unwrap().roles.reverse();
        new.extra.insert("x-new".into(), true.into());
        let told = between(&old, &new);
        assert!(told.contains("+ x-new  true"), "{told}");
        assert!(told.contains("in the order two, one"), "{told}");
        new.delegations.as_mut().unwrap().roles[0].threshold = 3;
        let told = between(&old, &new);
        assert!(
            told.contains("~ delegations/roles/two/threshold  1 → 3"),
            "{told}"
        );
    }

    #[test]
    fn a_new_root_shows_every_key_and_threshold() {
        let (ann, _) = crate::ota::tuf::write::Signer::generate().unwrap();
        let mut root = Root::new(1, Expiry::at(LATER));
        for kind in crate::ota::tuf::metadata::Kind::ALL {
            root.entrust(kind, 1, &[&ann]);
        }
        let told = diff("root", None, &Draft::of(&root).unwrap());
        assert!(told.contains("root: new, version 1"), "{told}");
        assert!(told.contains(&format!("+ keys/{}", ann.id())), "{told}");
        assert!(told.contains("+ roles/timestamp  {\"keyids\":"), "{told}");
    }

    #[test]
    fn signs_that_a_terminal_obeys_are_spelled_out() {
        let told = between(&targets(1, &[]), &targets(2, &["a-1.json"]));
        assert!(
            !told.contains('\u{1b}') && !told.contains('\u{202e}'),
            "{told}"
        );
        assert!(told.contains("u{202e}"), "{told}");
        assert_eq!(clean("a\nb"), "a\\u{a}b");
    }

    #[test]
    fn a_mere_renewal_says_that_nothing_else_differs() {
        let told = between(&targets(1, &["a"]), &targets(2, &["a"]));
        assert!(told.contains("nothing else differs"), "{told}");
    }
}
