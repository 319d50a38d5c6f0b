//! The rules that hold where a site writes none: the reference decision of hybrid edge
//! deployments.

use crate::intake::Classification;
use crate::router::rule::{Bounds, Low, Rule, To, Tokens, When};

/// Risk from which a person answers.
const PERSON_RISK: u8 = 80;
/// Complexity above which the edge is not trusted.
const CLOUD_COMPLEXITY: f32 = 0.72;

/// The five rules.
pub(super) fn rules() -> Vec<Rule> {
    let rule = |name: &str, when, to| Rule {
        name: name.into(),
        when,
        to,
    };
    vec![
        rule(
            "restricted-stays",
            When {
                classification: Some(vec![Classification::Restricted]),
                ..When::default()
            },
            To::Edge,
        ),
        rule(
            "too-long",
            When {
                tokens: above(Tokens::Context),
                ..When::default()
            },
            To::Cloud,
        ),
        rule(
            "high-risk",
            When {
                risk: Bounds {
                    low: Some(Low::AtLeast(PERSON_RISK)),
                    high: None,
                },
                ..When::default()
            },
            To::Review,
        ),
        rule(
            "complex",
            When {
                complexity: above(CLOUD_COMPLEXITY),
                ..When::default()
            },
            To::Cloud,
        ),
        rule(super::DEFAULT_RULE, When::default(), To::Edge),
    ]
}

fn above<T>(mark: T) -> Bounds<T> {
    Bounds {
        low: Some(Low::Above(mark)),
        high: None,
    }
}
