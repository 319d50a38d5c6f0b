//! Nothing that is allowed is too long for a record.

use super::*;
use crate::engine::MAX_TEXT_BYTES;
use crate::reply::{Condition, Connectivity, Finality, Outcome, Reply, Timing};
use crate::spool::MAX_RECORD_BYTES;

/// Of a reply: where it goes, why, and the logarithms of each token.
const ROOM_FOR_THE_REST: usize = 512 << 10;

#[test]
fn the_longest_request_with_the_longest_answer_to_it_fits_into_a_record() {
    let longest = 2 << 20; // what broker.max_packet_bytes may be at most
    let mut passed = passed();
    passed.waiting.request.ask = Ask::Prompt("x".repeat(longest));
    let mut draft = draft(Source::Edge);
    draft.completion.text = "\u{1}".repeat(MAX_TEXT_BYTES);
    passed.draft = Some(draft.clone());
    assert!(passed.seal().len() <= MAX_RECORD_BYTES);
    let string = format!("\"{}\"", "\\n".repeat(MAX_TEXT_BYTES / 2 - 1));
    for (text, form) in [
        (draft.completion.text.clone(), Form::Text),
        (string, Form::Json),
    ] {
        let reply = Reply {
            id: Some("press7-1".into()),
            outcome: Outcome::Answered {
                source: Source::Edge,
                completion: Completion {
                    text,
                    form,
                    ..draft.completion.clone()
                },
            },
            finality: Finality::Final,
            condition: Condition {
                connectivity: Connectivity::Online,
                degraded: false,
            },
            route: Route::default(),
            timing: Timing::default(),
        };
        let bytes = reply.to_json().len();
        assert!(bytes > MAX_TEXT_BYTES, "it says all of it");
        assert!(bytes + ROOM_FOR_THE_REST <= MAX_RECORD_BYTES, "{bytes}");
    }
}
