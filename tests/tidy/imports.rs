//! Imports run downwards only, so that each module can be read knowing only those below it.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, ident, words};

/// The modules, top to bottom. A module may name those of lower tiers.
const TIERS: &[(&[&str], &str)] = &[
    (&["main"], "arguments, then everything"),
    (&["fleet"], "the operator's tool, called by its own main"),
    (&["cli"], "the subcommands, called by the mains"),
    (&["appliance"], "the wiring: knows every stage"),
    (
        &["panel"],
        "shows the appliance on a page, by what the console knows",
    ),
    (&["console"], "shows the appliance to people"),
    (&["dispatch"], "drives the stages"),
    (
        &["uplink", "review", "telemetry"],
        "escalations and figures, which wait in the spool",
    ),
    (&["router", "spool"], "decide and keep"),
    (
        &["ota", "broker", "ticket", "reply"],
        "carry models, messages, a request's life, answers",
    ),
    (&["engine", "intake"], "define Job and Request"),
    (&["package", "governor", "config", "service"], "stand alone"),
    (&["clock", "fault", "safe"], "know nobody"),
];

/// Arrows that run up or sideways all the same.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "config",
        "intake",
        "settings are checked straight into the intake's limits",
    ),
    (
        "config",
        "service",
        "settings are checked straight into the log's levels",
    ),
    (
        "config",
        "router",
        "settings are checked straight into the table of rules",
    ),
    ("engine", "intake", "a job carries the request"),
    (
        "ota",
        "broker",
        "servers are believed by the same certificates as the broker is",
    ),
    ("engine", "ticket", "a job is known by its ticket's number"),
];

fn tier(module: &str) -> Option<usize> {
    TIERS
        .iter()
        .position(|(modules, _)| modules.contains(&module))
}

/// The top-level module that a file belongs to; none for the table of contents.
fn module_of(path: &str) -> Option<&str> {
    let path = path.strip_prefix("src/")?;
    match ident(path) {
        "lib" => None,
        "bin" => Some("main"),
        module => Some(module),
    }
}

/// Every top-level module that the production code names, and where.
fn arrows(source: &Source) -> Vec<(usize, String)> {
    let code = source.production();
    let mut found = Vec::new();
    for root in ["crate", "lineside"] {
        for at in words(code, root) {
            if let Some(path) = code[at + root.len()..].strip_prefix("::") {
                found.extend(heads(path).into_iter().map(|head| (at, head)));
            }
        }
    }
    found.extend(through_super(source));
    found
}

/// The first names of what follows `crate::`, be it a path or a group in braces.
fn heads(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else {
        return vec![ident(path).to_owned()];
    };
    let mut depth = 0;
    let mut heads = vec![String::new()];
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(String::new()),
            c => heads.last_mut().unwrap().push(c),
        }
    }
    heads
        .iter()
        .map(|head| ident(head.trim()).to_owned())
        .filter(|head| !head.is_empty())
        .collect()
}

/// `super` repeated until it leaves the top-level module.
fn through_super(source: &Source) -> Vec<(usize, String)> {
    let code = source.production();
    let depth = source.path.matches('/').count();
    let way_out = "super::".repeat(depth);
    code.match_indices(&way_out)
        .map(|(at, _)| (at, heads(&code[at + way_out.len()..])))
        .flat_map(|(at, heads)| heads.into_iter().map(move |head| (at, head)))
        .collect()
}

fn excepted(from: &str, to: &str) -> bool {
    EXCEPTIONS.iter().any(|(a, b, _)| (*a, *b) == (from, to))
}

/// Faults of one file.
pub(crate) fn downwards(source: &Source) -> Vec<String> {
    let Some(from) = module_of(&source.path) else {
        return Vec::new();
    };
    let Some(height) = tier(from) else {
        return vec![source.fault(0, &format!("`{from}` has no tier: give it one"))];
    };
    let mut faults = Vec::new();
    for (at, to) in arrows(source) {
        let allowed =
            to == from || tier(&to).is_some_and(|below| below > height) || excepted(from, &to);
        if !allowed {
            faults.push(source.fault(at, &format!("`{from}` may not name `{to}`")));
        }
    }
    faults
}

/// Modules that reach themselves again, which the exceptions could allow.
pub(crate) fn circles(sources: &[Source]) -> Vec<String> {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        if let Some(from) = module_of(&source.path) {
            let to = arrows(source).into_iter().map(|(_, to)| to);
            graph
                .entry(from.to_owned())
                .or_default()
                .extend(to.filter(|to| to != from));
        }
    }
    graph
        .keys()
        .filter(|start| reaches_itself(&graph, start))
        .map(|module| format!("`{module}` is part of a circle"))
        .collect()
}

fn reaches_itself(graph: &BTreeMap<String, BTreeSet<String>>, start: &str) -> bool {
    let mut open = vec![start];
    let mut seen = BTreeSet::new();
    while let Some(module) = open.pop() {
        for next in graph.get(module).into_iter().flatten() {
            if next == start {
                return true;
            }
            if seen.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    false
}

#[test]
fn an_arrow_up_is_a_fault_and_an_arrow_down_is_none() {
    let faults = |path, text| downwards(&Source::new(path, text)).len();
    assert_eq!(faults("src/spool.rs", "use crate::appliance::X;"), 1);
    assert_eq!(
        faults("src/spool/sled.rs", "fn a() { crate::panel::b() }"),
        1
    );
    assert_eq!(
        faults(
            "src/spool.rs",
            "use crate::{clock::Now, panel::{A, B}, review};"
        ),
        2
    );
    assert_eq!(faults("src/spool.rs", "use super::review::X;"), 1);
    assert_eq!(
        faults("src/spool/sled.rs", "use super::super::review::X;"),
        1
    );
    assert_eq!(faults("src/spool/sled.rs", "use super::review::X;"), 0);
    assert_eq!(faults("src/cli/ask.rs", "use lineside::appliance::X;"), 0);
    assert_eq!(
        faults("src/spool.rs", "use crate::ticket::X; use crate::spool::Y;"),
        0
    );
    assert_eq!(faults("src/lib.rs", "pub use crate::panel::X;"), 0);
}

#[test]
fn neighbours_and_strangers_are_faults() {
    let faults = |path, text| downwards(&Source::new(path, text)).len();
    assert_eq!(faults("src/broker.rs", "use crate::ticket::X;"), 1);
    assert_eq!(faults("src/engine.rs", "use crate::intake::X;"), 0);
    assert_eq!(faults("src/helpers.rs", ""), 1);
    assert_eq!(faults("src/spool.rs", "use crate::helpers::X;"), 1);
    let tested = "#[cfg(test)]\nmod tests { use crate::appliance::X; }";
    assert_eq!(faults("src/spool.rs", tested), 0);
}

#[test]
fn a_circle_through_an_exception_is_a_fault() {
    let engine = || Source::new("src/engine.rs", "use crate::ticket::TicketNo;");
    let ticket = Source::new("src/ticket.rs", "use crate::engine::Job;");
    assert_eq!(circles(&[engine(), ticket]).len(), 2);
    assert_eq!(
        circles(&[engine(), Source::new("src/ticket.rs", "")]).len(),
        0
    );
}
