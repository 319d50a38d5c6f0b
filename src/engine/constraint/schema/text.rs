//! Strings in JSON: their characters, and patterns over them.

use super::super::expr::{Class, Expr, Rules};
use super::super::{RuleFault, regex};

/// What must be escaped in a string.
fn special() -> Class {
    Class::new([('\0', '\u{1f}'), ('"', '"'), ('\\', '\\')])
}

/// One character of a string, written in the one way in which it is written here.
pub(super) fn character() -> Expr {
    quoted_class(&Class::any())
}

fn quoted_class(class: &Class) -> Expr {
    let special = special();
    let escaped = ('\0'..='\\').filter(|&c| class.contains(c) && special.contains(c));
    let escapes = escaped.map(|c| Expr::text(&escape(c)[1..])).collect();
    Expr::Alt(vec![
        Expr::Class(class.without(&special)),
        Expr::Seq(vec![Expr::text("\\"), Expr::Alt(escapes)]),
    ])
}

/// A character as it stands in a string.
fn escape(c: char) -> String {
    let quoted = super::json::quoted(c.encode_utf8(&mut [0; 4]));
    quoted[1..quoted.len() - 1].to_owned()
}

/// Strings in which the pattern is found, as JSON Schema means it.
pub(super) fn matching(pattern: &str, any: &Expr) -> Result<Expr, RuleFault> {
    let pattern = regex::parse(&as_rust(pattern)?)?;
    let mut all = vec![Expr::text("\"")];
    if !pattern.at_start {
        all.push(any.clone().times(0, None));
    }
    all.push(quoted(pattern.expr)?);
    if !pattern.at_end {
        all.push(any.clone().times(0, None));
    }
    all.push(Expr::text("\""));
    Ok(Expr::Seq(all))
}

/// What an expression looks like inside of a string.
fn quoted(expr: Expr) -> Result<Expr, RuleFault> {
    let all = |list: Vec<Expr>| list.into_iter().map(quoted).collect::<Result<Vec<_>, _>>();
    Ok(match expr {
        Expr::Bytes(bytes) => {
            let text = String::from_utf8(bytes);
            let text = text.map_err(|_| fault("bytes that are no text"))?;
            Expr::text(&text.chars().map(escape).collect::<String>())
        }
        Expr::Class(class) => quoted_class(&class),
        Expr::Seq(list) => Expr::Seq(all(list)?),
        Expr::Alt(list) => Expr::Alt(all(list)?),
        Expr::Repeat {
            of,
            between,
            min,
            max,
        } => Expr::Repeat {
            of: Box::new(quoted(*of)?),
            between,
            min,
            max,
        },
        same @ (Expr::Members(..) | Expr::Call(_)) => same,
    })
}

fn fault(why: &str) -> RuleFault {
    RuleFault::Regex(why.to_owned())
}

/// `\s` as ECMAScript means it.
const SPACES: &str =
    r"\t-\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}";

/// A pattern of ECMAScript, which JSON Schema speaks, in our dialect: shorthands mean ASCII, and
/// brackets inside of brackets are characters.
fn as_rust(pattern: &str) -> Result<String, RuleFault> {
    let mut text = String::with_capacity(2 * pattern.len());
    let mut rest = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('d') => text.push_str("[0-9]"),
                Some('D') => text.push_str("[^0-9]"),
                Some('w') => text.push_str("[0-9A-Za-z_]"),
                Some('W') => text.push_str("[^0-9A-Za-z_]"),
                Some('s') => text.extend(["[", SPACES, "]"]),
                Some('S') => text.extend(["[^", SPACES, "]"]),
                Some(c @ ('n' | 'r' | 't' | 'f' | 'v' | 'x' | 'u')) => text.extend(['\\', c]),
                // Behind a backslash these mean something only to us.
                Some(c @ ('<' | '>')) => text.push(c),
                Some(c) if c.is_ascii_punctuation() => text.extend(['\\', c]),
                _ => return Err(fault("an escape that is not supported")),
            },
            '[' if !in_class => {
                in_class = true;
                text.push('[');
                if rest.next_if_eq(&'^').is_some() {
                    text.push('^');
                }
                if rest.peek() == Some(&']') {
                    return Err(fault("a class without characters"));
                }
            }
            ']' => {
                in_class = false;
                text.push(']');
            }
            // What means something inside of a class only to us.
            '-' if in_class && rest.peek() == Some(&'-') => {
                return Err(fault("two `-` in a class"));
            }
            '[' | '&' | '~' if in_class => text.extend(['\\', c]),
            '.' if !in_class => text.push_str(r"[^\n\r\u{2028}\u{2029}]"),
            '(' if !in_class => {
                text.push('(');
                if rest.next_if_eq(&'?').is_some() {
                    if rest.next_if_eq(&':').is_none() {
                        return Err(fault("of groups with `(?` only `(?:` is supported"));
                    }
                    text.push_str("?:");
                }
            }
            c => text.push(c),
        }
    }
    Ok(text)
}

/// A rule for the characters of strings: a copy of it is a call.
pub(super) fn add_character_rule(rules: &mut Rules) -> Expr {
    rules.list.push(("a character".to_owned(), character()));
    Expr::Call(rules.list.len() - 1)
}
