//! Names of items, names of reviewers, and the limits of what they say.

use std::time::Duration;

use super::*;
use crate::intake::{
    Ask, Classification, Client, Detail, Late, Priority, RequestId, ReturnAddress, Stream,
};

/// A request of a client, whose text is this.
pub(super) fn request(client: &str, id: &str, text: &str) -> Request {
    let ask = Ask::Prompt(text.to_owned());
    let classification = Classification::Public;
    Request {
        id: RequestId::Given(id.to_owned()),
        client: Client::Claimed(client.to_owned()),
        content: crate::intake::digest_of(&ask, classification, None, None, None, None),
        ask,
        classification,
        risk: None,
        complexity: None,
        priority: Priority::Normal,
        deadline: Duration::from_mins(1),
        late: Late::Yes,
        max_tokens: None,
        schema: None,
        stream: Stream::No,
        detail: Detail::Whole,
        reply: ReturnAddress::Local,
    }
}

#[test]
fn an_item_keeps_its_name_and_another_item_has_another() {
    let one = request("press7", "a-1", "hums");
    assert_eq!(ItemId::of(&one), ItemId::of(&one.clone()));
    for other in [
        request("press8", "a-1", "hums"),
        request("press7", "a-2", "hums"),
        request("press7", "a-1", "hums still"),
    ] {
        assert_ne!(ItemId::of(&one), ItemId::of(&other));
        assert_ne!(ItemId::of(&one).short(), ItemId::of(&other).short());
    }
}

#[test]
fn an_item_is_known_by_the_key_of_its_request() {
    let one = request("press7", "a-1", "hums");
    let other = request("press7", "a-1", "another text under the same id");
    assert_eq!(ItemId::of(&one).key(), Key::of(&one.client, "a-1"));
    assert_eq!(ItemId::of(&one).key(), ItemId::of(&other).key());
}

#[test]
fn some_of_the_first_digits_name_an_item_and_all_of_them_name_it_alone() {
    let id = ItemId::of(&request("press7", "a-1", "hums"));
    let text = id.to_string();
    assert_eq!(text.len(), ID_DIGITS);
    let whole: Named = text.parse().unwrap();
    assert_eq!(whole.whole(), Some(id));
    assert_eq!(whole, Named::from(id));
    for digits in MIN_DIGITS..ID_DIGITS {
        let named: Named = text[..digits].to_uppercase().parse().unwrap();
        assert_eq!(named.whole(), None, "{digits}");
        assert!(named.low <= id && id <= named.high, "{digits}");
        assert_eq!(named.to_string(), text[..digits]);
    }
    for bad in ["", "abcde", "xyzxyz", "abc def", &format!("{text}0")] {
        assert_eq!(bad.parse::<Named>(), Err(Refusal::BadId), "{bad}");
    }
}

#[test]
fn a_reviewer_has_a_name_that_can_be_shown() {
    assert_eq!(Reviewer::named(" Anna B. ").unwrap().as_str(), "Anna B.");
    for bad in ["", "  ", "a\nb", "\u{1b}[2J", &"x".repeat(65)] {
        assert_eq!(Reviewer::named(bad), Err(Refusal::BadReviewer), "{bad:?}");
    }
}

#[test]
fn a_verdict_without_its_text_or_with_too_much_of_it_is_refused() {
    assert_eq!(Verdict::Approve.check(), Ok(()));
    assert_eq!(Verdict::Correct("stop".into()).check(), Ok(()));
    let code = |verdict: Verdict| verdict.check().unwrap_err().code();
    assert_eq!(code(Verdict::Correct(" \n".into())), "empty");
    assert_eq!(code(Verdict::Reject(String::new())), "empty");
    let long = "x".repeat(MAX_TEXT_BYTES + 1);
    assert_eq!(code(Verdict::Correct(long)), "too_long");
    let long = "x".repeat(MAX_REASON_BYTES + 1);
    assert_eq!(code(Verdict::Reject(long)), "too_long");
}

#[test]
fn who_holds_an_item_is_said_with_the_time_of_day() {
    let held = Refusal::Held {
        by: "anna".into(),
        until: Wall(DAY_MS * 20_000 + 45_296_789),
    };
    assert_eq!(held.to_string(), "held by anna until 12:34:56 UTC");
}
