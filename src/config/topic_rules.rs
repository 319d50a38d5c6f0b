//! Rules about topics that a filter must meet to mean anything here.

use crate::intake::{FilterError, Topics, filter_matches, is_topic_filter};

/// Why a filter is of no use as a reply topic; none if it is.
pub(super) fn reply_filter_fault(filter: &str, topics: &Topics) -> Option<String> {
    if let Some(fault) = form_fault(filter) {
        return Some(fault);
    }
    // A filter with wildcards covers many names. Two of them tell whether any is free: one where
    // each wildcard reads as some word, one where each reads as the one word that is not
    // reserved below an appliance.
    let only_reserved = ["x", "reply"]
        .iter()
        .all(|word| topics.is_reserved(&instance(filter, word)));
    only_reserved.then(|| {
        format!(
            "a filter with topics that are not the appliances' own (of those below {0}/, only \
             {0}/NAME/reply/… can be answered on)",
            topics.prefix
        )
    })
}

/// Why a filter never decides a classification; none if it may. A rule that never matches is a
/// leak in waiting: its author believes that it holds.
pub(super) fn classification_filter_fault(filter: &str, topics: &Topics) -> Option<String> {
    if let Some(fault) = form_fault(filter) {
        return Some(fault);
    }
    let reaches = request_topics(filter, topics)
        .iter()
        .any(|name| filter_matches(filter, name));
    (!reaches).then(|| {
        format!(
            "a filter that matches a topic of requests: {0}/NAME/request, \
             {0}/NAME/request/CLIENT or {0}/pool/POOL/request",
            topics.prefix
        )
    })
}

fn form_fault(filter: &str) -> Option<String> {
    match is_topic_filter(filter) {
        Ok(()) if filter.starts_with('$') => {
            Some("a topic filter that does not start with '$'".into())
        }
        Ok(()) => None,
        Err(
            error @ (FilterError::Empty
            | FilterError::Hash
            | FilterError::Plus
            | FilterError::Bytes),
        ) => Some(format!("a topic filter (this one: {error})")),
    }
}

/// A name that the filter matches, with `word` for each wildcard.
fn instance(filter: &str, word: &str) -> String {
    let levels = filter.split('/').map(|level| match level {
        "+" => word.to_owned(),
        "#" => format!("{word}/{word}"),
        literal => literal.to_owned(),
    });
    levels.collect::<Vec<_>>().join("/")
}

/// Topics of requests that agree with the filter where it is literal: a file may be shared by
/// appliances, so the name in it may be another's.
fn request_topics(filter: &str, topics: &Topics) -> [String; 3] {
    let prefix = &topics.prefix;
    let depth = prefix.split('/').count();
    let level = |index: usize| match filter.split('/').nth(index) {
        None | Some("+" | "#") => "x",
        Some(literal) => literal,
    };
    let name = level(depth);
    [
        format!("{prefix}/{name}/request"),
        format!("{prefix}/{name}/request/{}", level(depth + 2)),
        format!("{prefix}/pool/{}/request", level(depth + 1)),
    ]
}
