//! `lineside review`: answer what waits for a person.

mod page;

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};

use super::reach::{ReachError, Target};
use crate::console::client::{self, ClientError};
use crate::review::label_studio::{self, MAX_FILE_BYTES};
use crate::review::{MAX_TEXT_BYTES, Row, Sheet, Verdict};

/// Arguments of `lineside review`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "An ID is what the list shows; its first digits are enough where they are clear.\n\
                  Who has taken an item has it alone for ten minutes; taking it again keeps it longer."
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
    /// Your name, for the lease and the others. Without: the name of your login.
    #[arg(long = "as", value_name = "NAME", global = true)]
    pub reviewer: Option<String>,
    /// Which appliance.
    #[command(flatten)]
    pub target: Target,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// Show what waits, the most urgent first
    List {
        /// So many at most. Without: all.
        #[arg(long, value_name = "N")]
        max: Option<usize>,
    },
    /// Show one item: what was asked, what the model would answer, and why you are asked
    Show {
        /// Which.
        id: String,
    },
    /// Take an item, so that nobody else works on it, and show it
    Take {
        /// Which.
        id: String,
    },
    /// Give an item back that you took
    Release {
        /// Which.
        id: String,
    },
    /// The draft is right: the device gets it as the answer
    Approve {
        /// Which.
        id: String,
    },
    /// The device gets your answer instead of the draft
    Correct {
        /// Which.
        id: String,
        /// The answer. Without: what comes on standard input.
        #[arg(long)]
        text: Option<String>,
    },
    /// There is no answer: the device is told so, with your reason
    Reject {
        /// Which.
        id: String,
        /// Why; the device's people will read it.
        #[arg(long)]
        reason: String,
    },
    /// Write what waits as a file for Label Studio (restricted items stay here)
    Export {
        /// What to write.
        #[arg(long, value_enum, default_value_t = Format::LabelStudio)]
        format: Format,
    },
    /// Carry out the verdicts in a JSON export of Label Studio; doing it twice does no harm
    Import {
        /// The file, or - for standard input.
        file: PathBuf,
    },
}

/// What an export is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tasks to import into a project.
    LabelStudio,
    /// The labelling interface of that project.
    LabelStudioConfig,
}

/// The exit code when the appliance says no, or not everything of a file was carried out.
const EXIT_REFUSED: u8 = 1;

#[derive(Debug, Deserialize)]
struct Listed {
    items: Vec<Row>,
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Done {
    id: String,
    done: String,
}

/// Runs the subcommand and returns the exit code.
pub async fn command(args: &Args) -> Result<u8, ReachError> {
    let result = match &args.action {
        Action::List { max } => args.list(*max).await,
        Action::Show { id } => args.sheet("show", id).await,
        Action::Take { id } => args.sheet("take", id).await,
        Action::Release { id } => args.done(json!({ "action": "release", "id": id })).await,
        Action::Approve { id } => args.done(ruling(id, &Verdict::Approve)).await,
        Action::Correct { id, text } => {
            let text = match text {
                Some(text) => text.clone(),
                None => typed()?,
            };
            args.done(ruling(id, &Verdict::Correct(text))).await
        }
        Action::Reject { id, reason } => {
            let verdict = Verdict::Reject(reason.clone());
            args.done(ruling(id, &verdict)).await
        }
        Action::Export { format } => args.export(*format).await,
        Action::Import { file } => args.import(file).await,
    };
    match result {
        Err(ReachError::Client(ClientError::Refused { code, message })) => {
            if args.target.json {
                super::refuse(true, &code, &message);
            } else {
                complain(&format!("{message} ({code})"));
            }
            Ok(EXIT_REFUSED)
        }
        result => result,
    }
}

impl Args {
    /// Whose verdicts these are.
    fn reviewer(&self) -> Result<String, ReachError> {
        let login = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
        let named = self.reviewer.clone().or_else(|| login().ok());
        named.ok_or_else(|| ReachError::Usage("say who you are: --as NAME".into()))
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        mut line: Value,
    ) -> Result<(Box<serde_json::value::RawValue>, T), ReachError> {
        line["cmd"] = json!("review");
        let data = client::command(&self.target.socket()?, &line).await?;
        let read = client::read(&data)?;
        Ok((data, read))
    }

    async fn list(&self, max: Option<usize>) -> Result<u8, ReachError> {
        let rows = self.rows(max.unwrap_or(usize::MAX)).await?;
        if self.target.json {
            print(&format!("{}\n", json!(rows)));
        } else {
            print(&page::list(&rows));
        }
        Ok(0)
    }

    /// All items of the list, page by page.
    async fn rows(&self, max: usize) -> Result<Vec<Row>, ReachError> {
        let mut rows: Vec<Row> = Vec::new();
        let mut after: Option<String> = None;
        while rows.len() < max {
            let mut line = json!({ "action": "list" });
            if let Some(after) = after {
                line["after"] = json!(after);
            }
            let (_, page): (_, Listed) = self.ask(line).await?;
            rows.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        rows.truncate(max);
        Ok(rows)
    }

    async fn sheet(&self, action: &str, id: &str) -> Result<u8, ReachError> {
        let mut line = json!({ "action": action, "id": id });
        if action == "take" {
            line["reviewer"] = json!(self.reviewer()?);
        }
        let (data, sheet): (_, Sheet) = self.ask(line).await?;
        if self.target.json {
            print(&format!("{data}\n"));
        } else {
            print(&page::sheet(&sheet));
        }
        Ok(0)
    }

    async fn done(&self, mut line: Value) -> Result<u8, ReachError> {
        line["reviewer"] = json!(self.reviewer()?);
        let (data, done): (_, Done) = self.ask(line).await?;
        if self.target.json {
            print(&format!("{data}\n"));
        } else {
            print(&format!("{}: {}\n", page::short(&done.id), done.done));
        }
        Ok(0)
    }

    async fn export(&self, format: Format) -> Result<u8, ReachError> {
        if format == Format::LabelStudioConfig {
            print(label_studio::CONFIG);
            return Ok(0);
        }
        let mut sheets = Vec::new();
        for row in self.rows(usize::MAX).await? {
            let line = json!({ "action": "show", "id": row.id });
            match self.ask::<Sheet>(line).await {
                Ok((_, sheet)) => sheets.push(sheet),
                // Somebody was faster.
                Err(ReachError::Client(ClientError::Refused { code, .. }))
                    if ["unknown_item", "settled"].contains(&code.as_str()) => {}
                Err(error) => return Err(error),
            }
        }
        let (text, left_out) = label_studio::export(&sheets);
        print(&format!("{text}\n"));
        if left_out > 0 {
            complain(&format!(
                "{left_out} restricted items are left out: answer them here"
            ));
        }
        Ok(0)
    }

    async fn import(&self, file: &Path) -> Result<u8, ReachError> {
        let text = read_file(file)?;
        let said = label_studio::import(&text)
            .map_err(|fault| ReachError::Usage(format!("{}: {fault}", file.display())))?;
        let reviewer = self.reviewer()?;
        let mut report = page::Report {
            open: said.open,
            ..page::Report::default()
        };
        for (place, unclear) in &said.unclear {
            report.fault(&format!("task {place}"), &unclear.to_string());
        }
        for (id, verdict) in &said.verdicts {
            let mut line = ruling(&id.to_string(), verdict);
            line["reviewer"] = json!(reviewer);
            match self.ask::<Done>(line).await {
                Ok(_) => report.carried_out += 1,
                Err(ReachError::Client(ClientError::Refused { code, .. })) if code == "settled" => {
                    report.settled += 1;
                }
                Err(ReachError::Client(ClientError::Refused { message, .. })) => {
                    report.fault(&page::short(&id.to_string()), &message);
                }
                Err(error) => return Err(error),
            }
        }
        if self.target.json {
            print(&format!("{}\n", json!(report)));
        } else {
            print(&report.told());
        }
        Ok(if report.faults.is_empty() {
            0
        } else {
            EXIT_REFUSED
        })
    }
}

/// The line of a verdict, without who gives it.
fn ruling(id: &str, verdict: &Verdict) -> Value {
    let mut line = json!({ "action": verdict.word(), "id": id });
    match verdict {
        Verdict::Approve => {}
        Verdict::Correct(text) => line["text"] = json!(text),
        Verdict::Reject(reason) => line["reason"] = json!(reason),
    }
    line
}

/// The answer as it is typed, or comes from another command.
fn typed() -> Result<String, ReachError> {
    let mut input = std::io::stdin().lock();
    if input.is_terminal() {
        complain("type the answer, and Ctrl-D behind it");
    }
    let mut text = String::new();
    let most = MAX_TEXT_BYTES as u64 + 2;
    let read = input.by_ref().take(most).read_to_string(&mut text);
    read.map_err(|error| ReachError::Usage(format!("standard input: {error}")))?;
    let end = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(end);
    Ok(text)
}

fn read_file(file: &Path) -> Result<Vec<u8>, ReachError> {
    let fault = |why: String| ReachError::Usage(format!("{}: {why}", file.display()));
    let mut text = Vec::new();
    let mut take = |input: &mut dyn Read| input.take(MAX_FILE_BYTES + 1).read_to_end(&mut text);
    let read = if file == Path::new("-") {
        take(&mut std::io::stdin().lock())
    } else {
        std::fs::File::open(file).and_then(|mut file| take(&mut file))
    };
    let bytes = read.map_err(|error| fault(error.to_string()))?;
    if bytes as u64 > MAX_FILE_BYTES {
        return Err(fault(format!("more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

fn print(text: &str) {
    // A reader that hung up is no fault of the appliance.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "lineside: {text}"); // nobody is left to tell
}
