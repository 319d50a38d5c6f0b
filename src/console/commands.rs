//! The table of commands, and what each does.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{packages, review};
use crate::dispatch::shell::Inquirer;
use crate::dispatch::{Answer, Inquiry, Lesson};
use crate::ota::desk::{Desk, DeskError};
use crate::review::Refusal;

/// One command of the table.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// What is typed.
    pub name: &'static str,
    /// One line for `help`.
    pub about: &'static str,
}

/// Every command, in the order of `help`. Later parts of the appliance add theirs here.
pub const TABLE: &[Command] = &[
    Command {
        name: "help",
        about: "this list",
    },
    Command {
        name: "status",
        about: "how the appliance is",
    },
    Command {
        name: "trace",
        about: "what became of a request; needs id",
    },
    Command {
        name: "learned",
        about: "what reviewers taught, by task; with undo or acknowledge, which need a task",
    },
    Command {
        name: "ask",
        about: "answer a request; needs request, as one that a device would publish",
    },
    Command {
        name: "review",
        about: "what waits for a person; needs action (list, show, take, release, approve, \
                correct or reject), and what that needs",
    },
    Command {
        name: "ota",
        about: "packages over the air; with action (status, check or cancel), and for check from \
                or package",
    },
];

/// How long a command may take unless the request itself sets a later deadline: a little more
/// than the longest that a healthy store needs to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long `ask` waits: the appliance refuses at the request's own deadline, long before this.
const ASK_PATIENCE: Duration = Duration::from_hours(24);

/// A line as it comes in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    cmd: String,
    id: Option<String>,
    request: Option<Box<RawValue>>,
    undo: Option<String>,
    acknowledge: Option<String>,
    action: Option<String>,
    reviewer: Option<String>,
    text: Option<String>,
    reason: Option<String>,
    after: Option<String>,
    max: Option<usize>,
    from: Option<PathBuf>,
    package: Option<String>,
}

/// A line as it goes out.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Told<'a> {
    Well { ok: bool, data: Box<RawValue> },
    Badly { ok: bool, error: Fault<'a> },
}

#[derive(Debug, Serialize)]
struct Fault<'a> {
    code: &'a str,
    message: &'a str,
}

/// Why a command was not carried out; the code is stable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The line is not a command.
    #[error("not a command line: {0}")]
    Syntax(String),
    /// No such command.
    #[error("no command '{0}'; try help")]
    Unknown(String),
    /// A part is missing.
    #[error("{cmd} needs {what}")]
    Missing {
        /// Which command.
        cmd: &'static str,
        /// What it needs.
        what: &'static str,
    },
    /// No such action.
    #[error("no action '{given}'; there are {}", .all.join(", "))]
    UnknownAction {
        /// What was asked.
        given: String,
        /// What there is.
        all: &'static [&'static str],
    },
    /// The desk of items that wait for a person says no.
    #[error(transparent)]
    Review(#[from] Refusal),
    /// The keeper of packages says no.
    #[error(transparent)]
    Packages(#[from] DeskError),
    /// The appliance did not answer in time, or is going down.
    #[error("the appliance did not answer")]
    NoAnswer,
}

impl CommandError {
    /// The word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "syntax",
            Self::Unknown(_) => "unknown_command",
            Self::Missing { .. } => "missing_argument",
            Self::UnknownAction { .. } => "unknown_action",
            Self::Review(refusal) => refusal.code(),
            Self::Packages(error) => error.code(),
            Self::NoAnswer => "no_answer",
        }
    }
}

/// Carries out one line and gives the line that answers it.
pub async fn carry_out(line: &[u8], inquiries: &mpsc::Sender<Inquirer>, desk: &Desk) -> Vec<u8> {
    let told = match understand(line) {
        Ok(Understood::Help) => Ok(raw(&help())),
        Ok(Understood::Inquiry(inquiry)) => inquire(inquiry, inquiries).await,
        Ok(Understood::Packages(asked)) => {
            let put = asked.put(desk).map(|report| raw(&report));
            put.map_err(CommandError::from)
        }
        Err(error) => Err(error),
    };
    let line = match told {
        Ok(data) => serde_json::to_vec(&Told::Well { ok: true, data }),
        Err(error) => serde_json::to_vec(&Told::Badly {
            ok: false,
            error: Fault {
                code: error.code(),
                message: &error.to_string(),
            },
        }),
    };
    let mut line = line.expect("words and JSON always serialize");
    line.push(b'\n');
    line
}

enum Understood {
    Help,
    Inquiry(Inquiry),
    Packages(packages::Asked),
}

fn understand(line: &[u8]) -> Result<Understood, CommandError> {
    let line: Line =
        serde_json::from_slice(line).map_err(|error| CommandError::Syntax(error.to_string()))?;
    match line.cmd.as_str() {
        "help" => Ok(Understood::Help),
        "status" => Ok(Understood::Inquiry(Inquiry::Status)),
        "trace" => {
            let id = line.id.ok_or(CommandError::Missing {
                cmd: "trace",
                what: "id",
            })?;
            Ok(Understood::Inquiry(Inquiry::Trace(id)))
        }
        "learned" => {
            let lesson = match (line.undo, line.acknowledge) {
                (None, None) => Lesson::Show,
                (Some(task), None) => Lesson::Undo(task),
                (None, Some(task)) => Lesson::Acknowledge(task),
                (Some(_), Some(_)) => {
                    let why = "undo or acknowledge, one of them at a time";
                    return Err(CommandError::Syntax(why.into()));
                }
            };
            Ok(Understood::Inquiry(Inquiry::Learned(lesson)))
        }
        "ask" => {
            let request = line.request.ok_or(CommandError::Missing {
                cmd: "ask",
                what: "request",
            })?;
            let payload = request.get().as_bytes().to_vec();
            Ok(Understood::Inquiry(Inquiry::Ask(payload)))
        }
        "review" => {
            let asked = review::asked(review::Said {
                action: line.action,
                id: line.id,
                reviewer: line.reviewer,
                text: line.text,
                reason: line.reason,
                after: line.after,
                max: line.max,
            })?;
            Ok(Understood::Inquiry(Inquiry::Review(asked)))
        }
        "ota" => {
            let action = line.action.as_deref();
            let asked = packages::Asked::read(action, line.from, line.package.as_deref());
            asked
                .map(Understood::Packages)
                .map_err(|wrong| match wrong {
                    packages::Wrong::Action => CommandError::UnknownAction {
                        given: line.action.unwrap_or_default(),
                        all: &packages::ACTIONS,
                    },
                    packages::Wrong::From => {
                        CommandError::Syntax("from needs the absolute path of a folder".into())
                    }
                    packages::Wrong::Package => CommandError::Syntax(
                        "package needs NAME-SEQ, such as factory-triage-3".into(),
                    ),
                })
        }
        _ => Err(CommandError::Unknown(line.cmd)),
    }
}

async fn inquire(
    inquiry: Inquiry,
    inquiries: &mpsc::Sender<Inquirer>,
) -> Result<Box<RawValue>, CommandError> {
    let patience = match inquiry {
        Inquiry::Ask(_) => ASK_PATIENCE,
        Inquiry::Status | Inquiry::Trace(_) | Inquiry::Learned(_) | Inquiry::Review(_) => PATIENCE,
    };
    let (answer, waiting) = oneshot::channel();
    let sent = inquiries.send(Inquirer { inquiry, answer });
    if !matches!(timeout(PATIENCE, sent).await, Ok(Ok(()))) {
        return Err(CommandError::NoAnswer);
    }
    match timeout(patience, waiting).await {
        Ok(Ok(Answer::Reply(json))) => String::from_utf8(json)
            .ok()
            .and_then(|json| RawValue::from_string(json).ok())
            .ok_or(CommandError::NoAnswer),
        Ok(Ok(Answer::Status(report))) => Ok(raw(&report)),
        Ok(Ok(Answer::Trace(timelines))) => Ok(raw(&timelines)),
        Ok(Ok(Answer::Learned(lessons))) => Ok(raw(&lessons)),
        Ok(Ok(Answer::Review(Ok(told)))) => Ok(review::told(told)),
        Ok(Ok(Answer::Review(Err(refusal)))) => Err(refusal.into()),
        Ok(Err(_)) | Err(_) => Err(CommandError::NoAnswer),
    }
}

#[derive(Serialize)]
struct HelpLine {
    name: &'static str,
    about: &'static str,
}

fn help() -> Vec<HelpLine> {
    TABLE
        .iter()
        .map(|command| HelpLine {
            name: command.name,
            about: command.about,
        })
        .collect()
}

pub(super) fn raw<T: Serialize>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("reports of words and numbers always serialize")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ota::desk::Report;
    use crate::review::Told;

    /// A keeper that is idle. The other end of its orders stays open as long as the process.
    fn desk() -> Desk {
        let (orders, inbox) = std::sync::mpsc::sync_channel(1);
        let (say, report) = tokio::sync::watch::channel(Report::default());
        std::mem::forget((inbox, say));
        Desk::new(orders, report, std::sync::Arc::default())
    }

    async fn told(line: &str) -> String {
        let (inquiries, mut asked) = mpsc::channel::<Inquirer>(1);
        tokio::spawn(async move {
            while let Some(caller) = asked.recv().await {
                let answer = match caller.inquiry {
                    Inquiry::Ask(payload) => Answer::Reply(payload),
                    Inquiry::Trace(_) | Inquiry::Status | Inquiry::Learned(_) => {
                        Answer::Trace(Vec::new())
                    }
                    Inquiry::Review(_) => Answer::Review(Ok(Told::Listed {
                        rows: Vec::new(),
                        total: 0,
                        next: None,
                    })),
                };
                let _ = caller.answer.send(answer);
            }
        });
        String::from_utf8(carry_out(line.as_bytes(), &inquiries, &desk()).await).unwrap()
    }

    #[tokio::test]
    async fn every_command_of_the_table_is_understood() {
        for command in TABLE {
            let line = format!(
                r#"{{"cmd":"{}","id":"x","request":{{"prompt":"hi"}},"action":"{}"}}"#,
                command.name,
                if command.name == "ota" {
                    "check"
                } else {
                    "list"
                }
            );
            let answer = told(&line).await;
            assert!(answer.starts_with(r#"{"ok":true"#), "{line} {answer}");
        }
    }

    #[tokio::test]
    async fn a_bad_line_gets_a_stable_code() {
        for (line, code) in [
            ("", "syntax"),
            ("status", "syntax"),
            (r#"{"cmd":"status","idd":"x"}"#, "syntax"),
            (r#"{"cmd":"tarce"}"#, "unknown_command"),
            (r#"{"cmd":"trace"}"#, "missing_argument"),
            (r#"{"cmd":"ask"}"#, "missing_argument"),
            (r#"{"cmd":"ota","action":"stop"}"#, "unknown_action"),
            (r#"{"cmd":"ota","action":"check","from":"usb"}"#, "syntax"),
            (
                r#"{"cmd":"ota","action":"check","package":"triage"}"#,
                "syntax",
            ),
        ] {
            let answer = told(line).await;
            assert!(
                answer.contains(&format!(r#""ok":false,"error":{{"code":"{code}""#)),
                "{line} {answer}"
            );
        }
    }

    #[tokio::test]
    async fn without_packages_over_the_air_that_is_said() {
        let (inquiries, _asked) = mpsc::channel(1);
        let line = br#"{"cmd":"ota"}"#;
        let answer = carry_out(line, &inquiries, &Desk::default()).await;
        assert!(String::from_utf8(answer).unwrap().contains("no_ota"));
    }

    #[tokio::test]
    async fn an_appliance_that_is_gone_is_said_to_be() {
        let (inquiries, asked) = mpsc::channel(1);
        drop(asked);
        let answer = carry_out(br#"{"cmd":"status"}"#, &inquiries, &Desk::default()).await;
        assert!(String::from_utf8(answer).unwrap().contains("no_answer"));
    }
}
