//! What each command does: one line of JSON in, one line of JSON out.
//!
//! Every way in ends here: the socket hands its lines on, and a session turns words into them. What
//! the dispatcher knows is asked of it; what the [`House`] knows without it is answered in any
//! case, so also when it is stuck.
//!
//! Whatever is dead, an answer comes within a second: what was wanted, or who is silent. `ask` alone
//! has the request's own deadline, and what reads a whole model takes as long as that.

mod ask;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::timeout;

use self::ask::{GLANCE, PATIENCE, inquire, inquire_aloud, within};
use super::house::{House, Logs};
use super::table::{self, Nature, TABLE};
use super::words::UNKNOWN;
use super::{house, packages, review};
use crate::dispatch::shell::Inquirer;
use crate::dispatch::{Answer, Doors, Inquiry, Lesson, Standing, StatusReport, Wanted};
use crate::ota::course::{self, WheelError, Wish};
use crate::ota::desk::{Desk, DeskError, Report};
use crate::ota::store::PackageId;
use crate::review::Refusal;

/// What stands behind the commands.
#[derive(Clone, Debug)]
pub struct Counter {
    inquiries: mpsc::Sender<Inquirer>,
    house: House,
    desk: Desk,
}

impl Counter {
    /// A counter before this dispatcher, in this house, with the keeper of packages behind it.
    pub fn new(inquiries: mpsc::Sender<Inquirer>, house: House, desk: Desk) -> Self {
        Self {
            inquiries,
            house,
            desk,
        }
    }

    /// What the dispatcher says, if it does in time.
    pub async fn inquire(&self, inquiry: Inquiry) -> Option<Answer> {
        inquire(inquiry, &self.inquiries, None).await.ok()
    }

    /// How the memory is, and what has it.
    pub async fn memory(&self) -> Option<Box<RawValue>> {
        self.house.memory().await.ok().map(|it| raw(&it))
    }

    /// How the keeper of packages is; none where there is none.
    pub fn packages(&self) -> Option<Report> {
        self.desk.report().ok()
    }

    /// Where the packages stand that came over the air; none where none do.
    pub fn course(&self) -> Option<course::Report> {
        Some(self.desk.wheel().sight().ok()?.course)
    }
}

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
    command: Option<String>,
    client: Option<String>,
    state: Option<String>,
    level: Option<String>,
    since: Option<u64>,
    confirm: Option<String>,
    mode: Option<String>,
    page: Option<String>,
    follow: Option<bool>,
    to: Option<String>,
    from: Option<PathBuf>,
    package: Option<String>,
}

/// Takes the lines that come before the one that answers: `{"part":{"text":"…"}}`. What it has no
/// room for is left out: the answer brings everything in any case.
pub type Parts = mpsc::Sender<Vec<u8>>;

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
    #[error("no action '{given}'; there are {all}")]
    UnknownAction {
        /// What was asked.
        given: String,
        /// What there is.
        all: String,
    },
    /// It is about a session, and this is none.
    #[error("{0} is for a session: the serial console, or lineside console")]
    SessionOnly(&'static str),
    /// The desk of items that wait for a person says no.
    #[error(transparent)]
    Review(#[from] Refusal),
    /// What the house answers could not be had.
    #[error(transparent)]
    House(#[from] house::Fault),
    /// The keeper of packages says no.
    #[error(transparent)]
    Packages(#[from] DeskError),
    /// Whoever decides what serves says no.
    #[error(transparent)]
    Wheel(#[from] WheelError),
    /// The dispatcher did not answer in time, or is going down.
    #[error("the dispatcher does not answer: it is busy, stuck or ending")]
    NoAnswer,
    /// The dispatcher is well, and what it waits for is not.
    #[error("the store does not answer: its disk is stuck, full or very slow; the rest works")]
    NoStore,
}

impl CommandError {
    /// The word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "syntax",
            Self::Unknown(_) => "unknown_command",
            Self::Missing { .. } => "missing_argument",
            Self::UnknownAction { .. } => "unknown_action",
            Self::SessionOnly(_) => "session_only",
            Self::Review(refusal) => refusal.code(),
            Self::House(fault) => fault.code(),
            Self::Packages(error) => error.code(),
            Self::Wheel(error) => error.code(),
            Self::NoAnswer => "no_answer",
            Self::NoStore => "no_store",
        }
    }
}

/// A command that was carried out, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The line that answers it.
    pub line: Vec<u8>,
    /// Which command, for the audit.
    pub command: &'static str,
    /// What it may do to the appliance.
    pub nature: Nature,
    /// `ok`, or the code of the refusal.
    pub outcome: &'static str,
}

/// Carries out one line. Parts come only of a request with `"stream": true`.
pub async fn carry_out(line: &[u8], counter: &Counter, parts: Option<&Parts>) -> Done {
    let read = serde_json::from_slice::<Line>(line);
    let read = read.map_err(|error| CommandError::Syntax(error.to_string()));
    let command = read.as_ref().ok().and_then(|line| table::find(&line.cmd));
    let told = match read.and_then(understand) {
        Ok(asked) => answer(asked, counter, parts).await,
        Err(error) => Err(error),
    };
    let outcome = told.as_ref().map_or_else(CommandError::code, |_| "ok");
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
    Done {
        line,
        command: command.map_or(UNKNOWN, |command| command.name),
        nature: command.map_or(Nature::Looks, |command| command.nature),
        outcome,
    }
}

enum Asked {
    Help(Option<String>),
    Inquiry(Inquiry),
    /// What is made of the state.
    Queues,
    Broker,
    Uplink,
    Reset(Option<String>),
    /// What the house knows.
    Config,
    Check,
    Explain(Box<RawValue>),
    Models(house::Models),
    Logs(Logs),
    Thermals,
    Memory,
    Bundle(Option<String>),
    Restart,
    /// What the keeper of packages knows.
    Packages(packages::Asked),
    /// What is wished of whoever decides what serves.
    Wish(Wish),
}

fn understand(line: Line) -> Result<Asked, CommandError> {
    let action = line.action.as_deref();
    match line.cmd.as_str() {
        "help" => Ok(Asked::Help(line.command)),
        "status" => Ok(Asked::Inquiry(Inquiry::Status)),
        "queues" => Ok(Asked::Queues),
        "broker" => Ok(Asked::Broker),
        "uplink" => Ok(Asked::Uplink),
        "check" => Ok(Asked::Check),
        "thermals" => Ok(Asked::Thermals),
        "memory" => Ok(Asked::Memory),
        "bundle" => Ok(Asked::Bundle(line.to)),
        "restart" => Ok(Asked::Restart),
        "factory-reset" => Ok(Asked::Reset(line.confirm)),
        "requests" => wanted(line).map(|wanted| Asked::Inquiry(Inquiry::Latest(wanted))),
        "logs" if line.follow == Some(true) => Err(CommandError::SessionOnly("logs --follow")),
        "logs" => Logs::read(line.level.as_deref(), line.since, line.max)
            .map(Asked::Logs)
            .ok_or_else(|| {
                CommandError::Syntax("level is error, warn, info, debug or trace".into())
            }),
        "trace" => {
            let id = line.id.ok_or(missing("trace", "id"))?;
            Ok(Asked::Inquiry(Inquiry::Trace(id)))
        }
        "learned" => lesson(line.undo, line.acknowledge),
        "ask" => {
            let request = line.request.ok_or(missing("ask", "request"))?;
            let payload = request.get().as_bytes().to_vec();
            Ok(Asked::Inquiry(Inquiry::Ask(payload)))
        }
        "explain" => {
            let request = line.request.ok_or(missing("explain", "request"))?;
            Ok(Asked::Explain(request))
        }
        "config" => match action.unwrap_or("show") {
            "show" => Ok(Asked::Config),
            other => Err(unknown_action(other, &["show"])),
        },
        "models" => match action.unwrap_or("list") {
            "list" => Ok(Asked::Models(house::Models::List)),
            "show" => package(line.package).map(|it| Asked::Models(house::Models::Show(it))),
            "verify" => package(line.package).map(|it| Asked::Models(house::Models::Verify(it))),
            "rollback" => {
                let why = line.reason.unwrap_or_else(|| "it was wished for".into());
                Ok(Asked::Wish(Wish::Rollback(why)))
            }
            "pin" => {
                let id = package(line.package)?.ok_or(missing("models pin", "package"))?;
                Ok(Asked::Wish(Wish::Pin(id)))
            }
            "unpin" => Ok(Asked::Wish(Wish::Unpin)),
            other => {
                let all = ["list", "show", "verify", "rollback", "pin", "unpin"];
                Err(unknown_action(other, &all))
            }
        },
        "ota" => packages_asked(line),
        "maintenance" => {
            let doors = match action.unwrap_or("show") {
                "show" => None,
                "on" => Some(Doors::Shut),
                "off" => Some(Doors::Open),
                other => return Err(unknown_action(other, &["show", "on", "off"])),
            };
            Ok(Asked::Inquiry(Inquiry::Maintenance(doors)))
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
            Ok(Asked::Inquiry(Inquiry::Review(asked)))
        }
        "mode" | "page" | "exit" => {
            let command = table::find(&line.cmd).map_or(UNKNOWN, |command| command.name);
            let _ = (line.mode, line.page); // a session's own words
            Err(CommandError::SessionOnly(command))
        }
        _ => Err(CommandError::Unknown(line.cmd)),
    }
}

fn missing(cmd: &'static str, what: &'static str) -> CommandError {
    CommandError::Missing { cmd, what }
}

pub(super) fn unknown_action(given: &str, all: &[&str]) -> CommandError {
    CommandError::UnknownAction {
        given: given.into(),
        all: all.join(", "),
    }
}

fn wanted(line: Line) -> Result<Wanted, CommandError> {
    let state = match line.state.as_deref() {
        None => None,
        Some(word) => Some(Standing::of(word).ok_or_else(|| {
            CommandError::Syntax("state is open, settled, answered or refused".into())
        })?),
    };
    Ok(Wanted {
        max: line.max,
        client: line.client,
        state,
    })
}

fn lesson(undo: Option<String>, acknowledge: Option<String>) -> Result<Asked, CommandError> {
    let lesson = match (undo, acknowledge) {
        (None, None) => Lesson::Show,
        (Some(task), None) => Lesson::Undo(task),
        (None, Some(task)) => Lesson::Acknowledge(task),
        (Some(_), Some(_)) => {
            let why = "undo or acknowledge, one of them at a time";
            return Err(CommandError::Syntax(why.into()));
        }
    };
    Ok(Asked::Inquiry(Inquiry::Learned(lesson)))
}

/// `NAME-SEQ`, where one is named.
fn package(given: Option<String>) -> Result<Option<PackageId>, CommandError> {
    let read = |text: String| {
        PackageId::parse(&text).ok_or(CommandError::Syntax(format!(
            "'{text}' is no package: NAME-SEQ, as `models` lists them"
        )))
    };
    given.map(read).transpose()
}

fn packages_asked(line: Line) -> Result<Asked, CommandError> {
    let action = line.action.as_deref();
    let asked = packages::Asked::read(action, line.from, line.package.as_deref());
    asked.map(Asked::Packages).map_err(|wrong| match wrong {
        packages::Wrong::Action => unknown_action(action.unwrap_or_default(), &packages::ACTIONS),
        packages::Wrong::From => {
            CommandError::Syntax("from needs the absolute path of a folder".into())
        }
        packages::Wrong::Package => {
            CommandError::Syntax("package needs NAME-SEQ, such as factory-triage-3".into())
        }
    })
}

async fn answer(
    asked: Asked,
    counter: &Counter,
    parts: Option<&Parts>,
) -> Result<Box<RawValue>, CommandError> {
    let house = &counter.house;
    match asked {
        Asked::Help(command) => help(command.as_deref()),
        Asked::Inquiry(inquiry) => match parts {
            Some(parts) => told(inquire_aloud(inquiry, &counter.inquiries, parts).await?),
            None => told(inquire(inquiry, &counter.inquiries, None).await?),
        },
        Asked::Queues => Ok(raw(&house::queues(&status(counter).await?))),
        Asked::Broker => Ok(raw(&house.broker(&status(counter).await?))),
        Asked::Uplink => Ok(raw(&house.uplink(&status(counter).await?))),
        Asked::Config => Ok(raw(&house.config())),
        Asked::Logs(logs) => Ok(raw(&house.logs(logs)?)),
        Asked::Check => Ok(house.check().await?),
        Asked::Models(models) => {
            let served = match models {
                house::Models::List => glance(counter).await.and_then(|it| it.package),
                house::Models::Show(_) | house::Models::Verify(_) => None,
            };
            let sight = counter.desk.wheel().sight().ok();
            Ok(house.models(models, served, sight).await?)
        }
        Asked::Explain(request) => {
            let status = glance(counter).await;
            Ok(house.explain(&request, status.as_ref()).await?)
        }
        Asked::Thermals => {
            let status = glance(counter).await;
            Ok(raw(&house.thermals(status.as_ref()).await?))
        }
        Asked::Memory => Ok(raw(&house.memory().await?)),
        Asked::Bundle(to) => Ok(raw(&bundle(to, counter).await?)),
        Asked::Restart => Ok(raw(&house.restart()?)),
        Asked::Packages(asked) => Ok(raw(&asked.put(&counter.desk)?)),
        Asked::Wish(wish) => {
            let turning = counter.desk.wheel().turn(wish);
            let turned = timeout(PATIENCE, turning).await;
            let sight = turned.map_err(|_| CommandError::NoAnswer)??;
            let served = sight.course.serving.clone();
            Ok(house
                .models(house::Models::List, served, Some(sight))
                .await?)
        }
        Asked::Reset(confirm) => {
            let status = glance(counter).await;
            Ok(raw(&house.reset(confirm.as_deref(), status.as_ref())?))
        }
    }
}

async fn status(counter: &Counter) -> Result<StatusReport, CommandError> {
    report(inquire(Inquiry::Status, &counter.inquiries, None).await?)
}

/// The state, where the answer is worth something without it.
async fn glance(counter: &Counter) -> Option<StatusReport> {
    let status = within(GLANCE, Inquiry::Status, &counter.inquiries, None);
    let answer = timeout(GLANCE, status).await.ok()?.ok()?;
    report(answer).ok()
}

fn report(answer: Answer) -> Result<StatusReport, CommandError> {
    match answer {
        Answer::Status(report) => Ok(*report),
        Answer::Reply(_)
        | Answer::Trace(_)
        | Answer::Learned(_)
        | Answer::Review(_)
        | Answer::Latest(_)
        | Answer::Maintenance(_) => Err(CommandError::NoAnswer),
    }
}

/// What the dispatcher knows and the house does not, for the archive.
async fn bundle(to: Option<String>, counter: &Counter) -> Result<house::Bundled, CommandError> {
    let status = glance(counter).await;
    let latest = Inquiry::Latest(Wanted {
        max: Some(usize::MAX),
        ..Wanted::default()
    });
    let latest = match status {
        Some(_) => inquire(latest, &counter.inquiries, None).await,
        None => Err(CommandError::NoAnswer), // nobody is there to be asked
    };
    let latest = latest.and_then(told).ok();
    let house = &counter.house;
    Ok(house.bundle(to, status.as_ref(), latest.as_deref()).await?)
}

fn told(answer: Answer) -> Result<Box<RawValue>, CommandError> {
    match answer {
        Answer::Reply(json) => String::from_utf8(json)
            .ok()
            .and_then(|json| RawValue::from_string(json).ok())
            .ok_or(CommandError::NoAnswer),
        Answer::Status(report) => Ok(raw(&report)),
        Answer::Trace(timelines) => Ok(raw(&timelines)),
        Answer::Learned(lessons) => Ok(raw(&lessons)),
        Answer::Latest(latest) => Ok(raw(&latest)),
        Answer::Maintenance(report) => Ok(raw(&report)),
        Answer::Review(Ok(told)) => Ok(review::told(told)),
        Answer::Review(Err(refusal)) => Err(refusal.into()),
    }
}

#[derive(Serialize)]
struct HelpLine {
    name: &'static str,
    about: &'static str,
    usage: Vec<String>,
    examples: &'static [&'static str],
}

fn help(command: Option<&str>) -> Result<Box<RawValue>, CommandError> {
    let line = |command: &table::Command| HelpLine {
        name: command.name,
        about: command.about,
        usage: command.usage(),
        examples: command.examples,
    };
    let lines: Vec<_> = match command {
        None => TABLE.iter().map(line).collect(),
        Some(name) => {
            let found = table::find(name).ok_or_else(|| CommandError::Unknown(name.into()))?;
            vec![line(found)]
        }
    };
    Ok(raw(&lines))
}

pub(super) fn raw<T: Serialize>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("reports of words and numbers always serialize")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dispatch::{Latest, Maintenance};
    use crate::review::Told;

    async fn told(line: &str) -> Done {
        let (inquiries, mut asked) = mpsc::channel::<Inquirer>(1);
        tokio::spawn(async move {
            while let Some(caller) = asked.recv().await {
                let answer = match caller.inquiry {
                    Inquiry::Ask(payload) => Answer::Reply(payload),
                    Inquiry::Trace(_) | Inquiry::Learned(_) => Answer::Trace(Vec::new()),
                    Inquiry::Status => Answer::Status(Box::default()),
                    Inquiry::Latest(_) => Answer::Latest(Latest::default()),
                    Inquiry::Maintenance(doors) => Answer::Maintenance(Maintenance {
                        on: doors == Some(Doors::Shut),
                        open: 0,
                    }),
                    Inquiry::Review(_) | Inquiry::ReviewElsewhere(_) => {
                        Answer::Review(Ok(Told::Listed {
                            rows: Vec::new(),
                            total: 0,
                            next: None,
                        }))
                    }
                };
                let _ = caller.answer.send(answer);
            }
        });
        carry_out(
            line.as_bytes(),
            &Counter::new(inquiries, House::default(), Desk::default()),
            None,
        )
        .await
    }

    fn text(done: &Done) -> &str {
        std::str::from_utf8(&done.line).unwrap()
    }

    /// Commands that run the service's own program, which a unit test is not.
    const OWN_PROGRAM: [&str; 3] = ["check", "explain", "bundle"];

    #[tokio::test]
    async fn every_command_of_the_table_is_understood() {
        let commands = TABLE.iter().filter(|it| !OWN_PROGRAM.contains(&it.name));
        for command in commands {
            for form in command.forms {
                let (name, action) = (command.name, form.action);
                if name == "models" && action != "list" {
                    continue;
                }
                let mut line = serde_json::json!({"cmd": name, "id": "x", "request": {"prompt": "hi"}, "reviewer": "a", "text": "t", "reason": "r"});
                if !action.is_empty() {
                    line["action"] = action.into();
                }
                let done = told(&line.to_string()).await;
                let session = command.nature == Nature::Session;
                let known = [
                    "bad_id",
                    "no_log",
                    "session_only",
                    "unavailable",
                    "no_ota",
                    "no_stick",
                ];
                let known = known.contains(&done.outcome);
                assert!(done.outcome == "ok" || known, "{line} {}", text(&done));
                assert_eq!(done.outcome == "session_only", session, "{line}");
                assert_eq!((done.command, done.nature), (name, command.nature));
            }
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
            (
                r#"{"cmd":"maintenance","action":"maybe"}"#,
                "unknown_action",
            ),
            (r#"{"cmd":"requests","state":"odd"}"#, "syntax"),
            (r#"{"cmd":"logs","level":"loud"}"#, "syntax"),
            (r#"{"cmd":"ota"}"#, "no_ota"),
            (r#"{"cmd":"ota","action":"stop"}"#, "unknown_action"),
            (r#"{"cmd":"ota","action":"check","from":"usb"}"#, "syntax"),
            (
                r#"{"cmd":"ota","action":"check","package":"triage"}"#,
                "syntax",
            ),
            (r#"{"cmd":"mode","mode":"json"}"#, "session_only"),
            (r#"{"cmd":"logs","follow":true}"#, "session_only"),
            (r#"{"cmd":"help","command":"coffee"}"#, "unknown_command"),
            (
                r#"{"cmd":"factory-reset","confirm":"other"}"#,
                "not_confirmed",
            ),
        ] {
            let done = told(line).await;
            assert_eq!(done.outcome, code, "{line}");
            let wanted = format!(r#""ok":false,"error":{{"code":"{code}""#);
            assert!(text(&done).contains(&wanted), "{line} {}", text(&done));
        }
    }

    #[tokio::test]
    async fn an_appliance_that_is_gone_is_said_to_be() {
        let (inquiries, asked) = mpsc::channel(1);
        drop(asked);
        let counter = Counter::new(inquiries, House::default(), Desk::default());
        let done = carry_out(br#"{"cmd":"status"}"#, &counter, None).await;
        assert_eq!(done.outcome, "no_answer");
        let done = carry_out(br#"{"cmd":"config"}"#, &counter, None).await;
        assert_eq!(done.outcome, "ok", "the house answers alone");
    }

    /// What nobody needs to wait longer for, on a machine that is busy with something else, too.
    const SECOND: Duration = Duration::from_secs(1);
    const SLACK: Duration = Duration::from_secs(2);

    /// Every line that the dispatcher answers, or a part of it.
    fn lines() -> impl Iterator<Item = String> {
        let commands = TABLE.iter().filter(|it| {
            !OWN_PROGRAM.contains(&it.name) && it.nature != Nature::Session && it.name != "ask"
        });
        commands.flat_map(|command| {
            command.forms.iter().map(|form| {
                let mut line = serde_json::json!({"cmd": command.name, "id": "x", "request": {"prompt": "hi"}, "reviewer": "a", "text": "t", "reason": "r"});
                if !form.action.is_empty() {
                    line["action"] = form.action.into();
                }
                line.to_string()
            })
        })
    }

    #[tokio::test]
    async fn a_dispatcher_that_is_stuck_is_told_within_a_second_whatever_is_asked() {
        let (inquiries, _asked) = mpsc::channel(1);
        let counter = Counter::new(inquiries, House::default(), Desk::default());
        let mut silent = 0;
        for line in lines() {
            let begun = std::time::Instant::now();
            let done = carry_out(line.as_bytes(), &counter, None).await;
            let took = begun.elapsed();
            assert!(took < SECOND + SLACK, "{line}: {took:?}");
            silent += u32::from(done.outcome == "no_answer");
            assert_ne!(done.outcome, "no_store", "{line}");
        }
        assert!(silent > 8, "{silent}");
        assert!(PATIENCE + GLANCE < SECOND);
    }

    #[tokio::test]
    async fn a_store_that_is_stuck_is_told_within_a_second_and_the_rest_works() {
        let (inquiries, mut asked) = mpsc::channel::<Inquirer>(1);
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Some(caller) = asked.recv().await {
                if matches!(caller.inquiry, Inquiry::Status) {
                    let _ = caller.answer.send(Answer::Status(Box::default()));
                } else {
                    kept.push(caller); // waits for a disk that never answers
                }
            }
        });
        let counter = Counter::new(inquiries, House::default(), Desk::default());
        for line in [
            r#"{"cmd":"trace","id":"x"}"#,
            r#"{"cmd":"requests"}"#,
            r#"{"cmd":"review","action":"list"}"#,
            r#"{"cmd":"learned"}"#,
        ] {
            let begun = std::time::Instant::now();
            let done = carry_out(line.as_bytes(), &counter, None).await;
            assert!(begun.elapsed() < SECOND + SLACK, "{line}");
            assert_eq!(done.outcome, "no_store", "{line}");
            assert!(text(&done).contains("the store does not answer"), "{line}");
        }
        for line in [
            r#"{"cmd":"status"}"#,
            r#"{"cmd":"queues"}"#,
            r#"{"cmd":"broker"}"#,
        ] {
            let done = carry_out(line.as_bytes(), &counter, None).await;
            assert_eq!(done.outcome, "ok", "{line}");
        }
    }
}
