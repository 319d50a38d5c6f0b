//! The command `review`: what stands in its line, and what in its answer.
//!
//! | `action` | needs | gives |
//! | --- | --- | --- |
//! | `list` | (`after`, `max`) | `items`, `total`, `next` |
//! | `show` | `id` | the item with its texts |
//! | `take` | `id`, `reviewer` | the same; it is held for the reviewer now |
//! | `release` | `id`, `reviewer` | `id` |
//! | `approve` | `id`, `reviewer` | `id`; the device has its answer |
//! | `correct` | `id`, `reviewer`, `text` | the same |
//! | `reject` | `id`, `reviewer`, `reason` | the same |

use serde::Serialize;
use serde_json::value::RawValue;

use super::commands::{CommandError, raw};
use crate::review::{Asked, MAX_PAGE, Named, Reviewer, Row, Told, Verdict};

/// Every action.
pub const ACTIONS: &[&str] = &[
    "list", "show", "take", "release", "approve", "correct", "reject",
];

/// What a line says besides the command's name.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub action: Option<String>,
    pub id: Option<String>,
    pub reviewer: Option<String>,
    pub text: Option<String>,
    pub reason: Option<String>,
    pub after: Option<String>,
    pub max: Option<usize>,
}

#[derive(Serialize)]
struct Listed {
    items: Vec<Row>,
    total: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Serialize)]
struct Done {
    id: String,
    done: &'static str,
}

/// What a line asks.
pub(super) fn asked(said: Said) -> Result<Asked, CommandError> {
    let missing = |what| CommandError::Missing {
        cmd: "review",
        what,
    };
    let action = said.action.ok_or(missing("action"))?;
    let named = || -> Result<Named, CommandError> {
        let id = said.id.as_deref().ok_or(missing("id"))?;
        id.parse().map_err(CommandError::Review)
    };
    let reviewer = || {
        let name = said.reviewer.as_deref().ok_or(missing("reviewer"))?;
        Reviewer::named(name).map_err(CommandError::Review)
    };
    let rule = |verdict: Verdict| {
        verdict.check().map_err(CommandError::Review)?;
        Ok(Asked::Rule(named()?, reviewer()?, verdict))
    };
    match action.as_str() {
        "list" => {
            let after = said.after.as_deref().map(str::parse).transpose();
            Ok(Asked::List {
                after: after.map_err(CommandError::Review)?,
                max: said.max.unwrap_or(MAX_PAGE),
            })
        }
        "show" => Ok(Asked::Show(named()?)),
        "take" => Ok(Asked::Take(named()?, reviewer()?)),
        "release" => Ok(Asked::GiveBack(named()?, reviewer()?)),
        "approve" => rule(Verdict::Approve),
        "correct" => rule(Verdict::Correct(said.text.clone().ok_or(missing("text"))?)),
        "reject" => rule(Verdict::Reject(
            said.reason.clone().ok_or(missing("reason"))?,
        )),
        _ => Err(super::commands::unknown_action(&action, ACTIONS)),
    }
}

/// What the answer says.
pub(super) fn told(told: Told) -> Box<RawValue> {
    let done = |id: String, done| raw(&Done { id, done });
    match told {
        Told::Listed { rows, total, next } => raw(&Listed {
            items: rows,
            total,
            next: next.map(|next| next.to_string()),
        }),
        Told::Sheet(sheet) => raw(&sheet),
        Told::GivenBack(id) => done(id.to_string(), "released"),
        Told::Ruled(id) => done(id.to_string(), "settled"),
    }
}
