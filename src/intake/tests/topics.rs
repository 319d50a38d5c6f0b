//! Filters against names.

use proptest::prelude::*;

use super::*;

#[test]
fn filters_match_as_the_protocol_says() {
    for (filter, name, matches) in [
        ("a", "a", true),
        ("a", "a/b", false),
        ("a/b", "a", false),
        ("a/#", "a", true),
        ("a/#", "a/", true),
        ("a/#", "a/b/c", true),
        ("a/#", "ab", false),
        ("a/b/#", "a", false),
        ("#", "a/b", true),
        ("#", "/", true),
        ("+", "a", true),
        ("+", "/a", false),
        ("+/+", "/a", true),
        ("/+", "/a", true),
        ("a/+", "a", false),
        ("a/+", "a/", true),
        ("a/+/c", "a//c", true),
        ("+/#", "a", true),
        ("#", "$SYS/load", false),
        ("+/load", "$SYS/load", false),
        ("+/#", "$SYS", false),
        ("$SYS/#", "$SYS/load", true),
        ("a/+", "a/$b", true),
    ] {
        assert_eq!(filter_matches(filter, name), matches, "{filter} {name}");
    }
}

#[test]
fn a_filter_that_is_none_is_told_why() {
    for good in ["a", "/", "#", "+", "a/#", "+/a/+/#", "$SYS/#", "a//b"] {
        assert_eq!(is_topic_filter(good), Ok(()), "{good}");
    }
    let longest = "x".repeat(MAX_TOPIC_BYTES);
    assert_eq!(is_topic_filter(&longest), Ok(()));
    for (bad, why) in [
        ("", FilterError::Empty),
        ("a#", FilterError::Hash),
        ("#/a", FilterError::Hash),
        ("a/##", FilterError::Hash),
        ("a+", FilterError::Plus),
        ("a/+b/c", FilterError::Plus),
        ("a\0", FilterError::Bytes),
        (&format!("{longest}x"), FilterError::Bytes),
    ] {
        assert_eq!(is_topic_filter(bad), Err(why), "{bad}");
    }
}

/// The protocol's words, one after the other: slow, but plain to see.
fn reference(filter: &[&str], name: &[&str]) -> bool {
    match (filter.split_first(), name.split_first()) {
        // The parent level and everything below.
        (Some((&"#", _)), _) => true,
        (Some((want, filter)), Some((level, name))) => {
            (*want == "+" || want == level) && reference(filter, name)
        }
        (filter, name) => filter.is_none() && name.is_none(),
    }
}

fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "a", "b", "$a", "$"])
}

fn wildcard_or_level() -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => level(), 2 => Just("+")]
}

proptest! {
    #[test]
    fn filters_match_as_the_reference_does(
        mut filter in prop::collection::vec(wildcard_or_level(), 1..5),
        hash in any::<bool>(),
        name in prop::collection::vec(level(), 1..5),
    ) {
        if hash {
            filter.push("#");
        }
        prop_assume!(is_topic_filter(&filter.join("/")).is_ok());
        let hidden = name[0].starts_with('$') && ["+", "#"].contains(&filter[0]);
        prop_assert_eq!(
            filter_matches(&filter.join("/"), &name.join("/")),
            !hidden && reference(&filter, &name)
        );
    }

    #[test]
    fn no_filter_and_no_name_make_the_match_panic(filter in ".{0,40}", name in ".{0,40}") {
        let _ = (is_topic_filter(&filter), is_topic_name(&name));
        let _ = filter_matches(&filter, &name);
    }
}
