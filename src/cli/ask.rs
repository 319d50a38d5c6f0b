//! `lineside ask`: put a request to the running appliance and print its answer.

use std::io::{IsTerminal, Write};

use serde::Deserialize;
use serde_json::{Value, json};

use super::reach::{ReachError, Target};
use crate::console::{client, pages};

/// Arguments of `lineside ask`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The prompt, or the task's input.
    pub text: String,
    /// A task of the model package.
    #[arg(long)]
    pub task: Option<String>,
    /// The request's id; one is made where none is given.
    #[arg(long)]
    pub id: Option<String>,
    /// public, internal or restricted.
    #[arg(long)]
    pub classification: Option<String>,
    /// How long to wait for the answer.
    #[arg(long, value_name = "MS")]
    pub deadline_ms: Option<u64>,
    /// Which appliance.
    #[command(flatten)]
    pub target: Target,
}

/// What is read of a reply to print it for people.
#[derive(Debug, Deserialize)]
struct Reply {
    status: String,
    id: Option<String>,
    text: Option<String>,
    confidence: Option<f64>,
    source: Option<String>,
    route: Route,
    error: Option<Fault>,
}

#[derive(Debug, Deserialize)]
struct Route {
    rule: String,
}

#[derive(Debug, Deserialize)]
struct Fault {
    code: String,
    message: String,
}

/// The exit code of a refused request (`EX_UNAVAILABLE`): a script can tell it from an answer.
const EXIT_REFUSED: u8 = 69;

/// Runs the subcommand and returns the exit code.
pub async fn command(args: &Args) -> Result<u8, ReachError> {
    let socket = args.target.socket()?;
    let mut request = args.request();
    if !args.target.json && std::io::stdout().is_terminal() {
        request["stream"] = json!(true); // somebody watches
    }
    let line = json!({ "cmd": "ask", "request": request });
    let mut words = String::new();
    let data = client::command_aloud(&socket, &line, |part| {
        if let Some(text) = client::words_of(part) {
            let mut out = std::io::stdout().lock();
            let _ = write!(out, "{}", shown(&text)).and_then(|()| out.flush()); // see below
            words.push_str(&text);
        }
    })
    .await?;
    let reply: Reply = client::read(&data)?;
    let mut out = std::io::stdout().lock();
    // A reader that hung up is no fault of the appliance.
    let _ = if args.target.json {
        writeln!(out, "{data}")
    } else if !words.is_empty() && reply.text.as_ref() == Some(&words) {
        writeln!(out, "{}", reply.source())
    } else {
        writeln!(out, "{}", reply.told())
    };
    Ok(if reply.status == "refused" {
        EXIT_REFUSED
    } else {
        0
    })
}

impl Args {
    fn request(&self) -> Value {
        let mut request = json!({});
        match &self.task {
            Some(task) => {
                request["task"] = json!(task);
                request["input"] = json!(self.text);
            }
            None => request["prompt"] = json!(self.text),
        }
        if let Some(id) = &self.id {
            request["id"] = json!(id);
        }
        if let Some(classification) = &self.classification {
            request["classification"] = json!(classification);
        }
        if let Some(deadline_ms) = self.deadline_ms {
            request["deadline_ms"] = json!(deadline_ms);
        }
        request
    }
}

/// A text that leaves the terminal alone.
fn shown(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(pages::clean).collect();
    lines.join("\n")
}

impl Reply {
    /// Who has answered, below the text.
    fn source(&self) -> String {
        format!(
            "\n\n  {}: answered by {} (rule {}, confidence {:.2})",
            self.id.as_deref().unwrap_or("-"),
            self.source.as_deref().unwrap_or("?"),
            self.route.rule,
            self.confidence.unwrap_or_default(),
        )
    }

    fn told(&self) -> String {
        let id = self.id.as_deref().unwrap_or("-");
        match (&self.text, &self.error) {
            (Some(text), _) => format!("{text}{}", self.source()),
            (None, Some(fault)) => format!(
                "refused: {} ({})\n\n  {id}: rule {}; `lineside trace {id}` shows what happened",
                fault.message, fault.code, self.route.rule
            ),
            (None, None) => format!("{id}: {}", self.status),
        }
    }
}
