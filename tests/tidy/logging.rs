//! A log line is a constant message with listed fields.
//!
//! The log itself leaves other fields out; here they are found before anybody misses them. A
//! message with a placeholder is a fault because what it would say passes no list.

use lineside::service::FIELDS;

use super::source::{Source, ident, is_ident, words};

const MACROS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "event"];

/// Faults of one file.
pub(crate) fn told(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for name in MACROS {
        for at in words(source.production(), name) {
            let open = at + name.len() + 2;
            let rest = &source.code[at + name.len()..];
            if rest.starts_with("!(") {
                for argument in arguments(source, open) {
                    faults.extend(
                        fault_of(&source.text[argument.0..argument.1])
                            .map(|what| source.fault(argument.0, &what)),
                    );
                }
            }
        }
    }
    faults
}

/// The places of a macro's arguments.
fn arguments(source: &Source, open: usize) -> Vec<(usize, usize)> {
    let mut depth = 0;
    let mut found = Vec::new();
    let mut from = open;
    for (offset, c) in source.code[open..].char_indices() {
        match c {
            ')' | ']' | '}' if depth == 0 => {
                found.push((from, open + offset));
                break;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push((from, open + offset));
                from = open + offset + 1;
            }
            _ => {}
        }
    }
    // Places without the blanks around, so that a fault names the right line.
    found
        .into_iter()
        .map(|(from, to)| {
            let text = &source.text[from..to];
            let start = from + text.len() - text.trim_start().len();
            (start, start + text.trim().len())
        })
        .filter(|(from, to)| from < to)
        .collect()
}

/// What is wrong with one argument: a target or level, a message, or a field.
fn fault_of(argument: &str) -> Option<String> {
    if argument.starts_with('"') {
        return argument
            .contains('{')
            .then(|| "a log message with a placeholder: put what varies into a field".to_owned());
    }
    if ["target:", "name:", "parent:", "Level::", "tracing::Level::"]
        .iter()
        .any(|setting| argument.starts_with(setting))
    {
        return None;
    }
    let field = argument.trim_start_matches(['?', '%']);
    let name: String = match field.split_once('=') {
        Some((name, _)) => name.trim().to_owned(),
        // The shorthand `client` or `self.client`.
        None if field.chars().all(|c| is_ident(c) || c == '.') => field.to_owned(),
        None => ident(field).to_owned(),
    };
    (!FIELDS.contains(&name.as_str()))
        .then(|| format!("`{name}` is no field of the log: see `service::FIELDS`"))
}

#[test]
fn a_field_or_message_that_could_tell_content_is_a_fault() {
    let faults = |text: &str| told(&Source::new("src/a.rs", text)).len();
    assert_eq!(
        faults("fn a() { tracing::info!(client, ticket = 7, \"taken\"); }"),
        0
    );
    assert_eq!(faults("fn a() { info!(?request, \"taken\"); }"), 1);
    assert_eq!(
        faults("fn a() { tracing::warn!(prompt = %b(1, 2), client, \"taken\"); }"),
        1
    );
    assert_eq!(faults("fn a() { tracing::warn!(self.prompt); }"), 1);
    assert_eq!(faults("fn a() { debug!(\"taken {request:?}\"); }"), 1);
    assert_eq!(faults("fn a() { debug!(\"taken {}\", request); }"), 2);
    assert_eq!(
        faults("fn a() { tracing::event!(Level::WARN, error = ?e, \"a {\"); }"),
        1
    );
    assert_eq!(
        faults("fn a() { tracing::error!(target: \"b\", code = 1, \"c\",); }"),
        0
    );
    assert_eq!(
        faults("// info!(prompt)\nfn info() { warning!(prompt) }"),
        0
    );
}
