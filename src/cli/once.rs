//! `lineside do`: one command as the console takes it, for a shell or a script.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::reach::{EXIT_USAGE, ReachError, Target, refusal};
use crate::console::{client, pages, words};

/// Arguments of `lineside do`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// The command, as on the console: 'trace press7-1'.
    #[arg(
        required = true,
        value_name = "COMMAND",
        allow_hyphen_values = true,
        trailing_var_arg = true
    )]
    pub line: Vec<String>,
    /// Your name, for verdicts. Without: the name of your login.
    #[arg(long = "as", value_name = "NAME")]
    pub reviewer: Option<String>,
    /// Show states in colour.
    #[arg(long)]
    pub color: bool,
    /// A subcommand of its own asks: its JSON is the answer alone, as that of every subcommand.
    #[arg(skip)]
    pub bare: bool,
    /// Which appliance.
    #[command(flatten)]
    pub target: Target,
}

/// The exit code when the appliance says no.
const EXIT_REFUSED: u8 = 1;
/// Between two looks at the log of somebody who watches it.
const LOOK: Duration = Duration::from_secs(1);
/// Columns that every screen has.
const COLUMNS: usize = 79;

/// Runs the subcommand and returns the exit code.
pub async fn command(args: &Args) -> Result<u8, ReachError> {
    let line = args.line.join(" ");
    let call = match words::understand(&line) {
        Ok(Some(call)) => call,
        Ok(None) => return Err(ReachError::Usage("say what to do; help lists it".into())),
        Err(slip) => {
            let told = refusal(slip.code, &slip.message);
            tell(args, "", &Value::Null, &told);
            return Ok(EXIT_USAGE);
        }
    };
    let mut json = call.json;
    let rules = ["take", "release", "approve", "correct", "reject"];
    let action = json["action"].as_str().unwrap_or_default();
    if call.command == "review" && rules.contains(&action) && json["reviewer"].is_null() {
        let name = args.reviewer.clone().unwrap_or_else(super::reach::login);
        json["reviewer"] = name.into();
    }
    let socket = args.target.socket()?;
    if call.command == "logs" && json["follow"] == true {
        return follow(args, &socket, json).await;
    }
    let aloud = call.command == "ask" && !args.target.json && std::io::stdout().is_terminal();
    if aloud && json["request"].is_object() {
        json["request"]["stream"] = true.into();
    }
    let (told, words) = put(&socket, &json).await?;
    if words.is_empty() {
        tell(args, call.command, &json, &told);
    } else {
        tell_below(args, call.command, &json, &told, &words);
    }
    Ok(if told["ok"] == true { 0 } else { EXIT_REFUSED })
}

/// Puts a command, and shows the words of its answer as they come. Gives both.
async fn put(socket: &Path, json: &Value) -> Result<(Value, String), ReachError> {
    let mut words = String::new();
    let show = |part: &[u8]| {
        if let Some(text) = client::words_of(part) {
            let lines: Vec<_> = text.split('\n').map(pages::clean).collect();
            let mut out = std::io::stdout().lock();
            // A reader that hung up is no fault of the appliance.
            let _ = write!(out, "{}", lines.join("\n")).and_then(|()| out.flush());
            words.push_str(&text);
        }
    };
    let answer = client::exchange_aloud(socket, json.to_string().as_bytes(), show).await?;
    let told = serde_json::from_slice(&answer)
        .map_err(|error| client::ClientError::Broken(error.to_string()))?;
    Ok((told, words))
}

/// What stands below words that were shown already.
fn tell_below(args: &Args, command: &str, call: &Value, told: &Value, words: &str) {
    if told["data"]["text"].as_str() != Some(words) {
        let _ = writeln!(std::io::stdout()); // the same
        tell(args, command, call, told);
        return;
    }
    let _ = write!(std::io::stdout(), "\n{}", pages::below_words(&told["data"])); // the same
}

/// Tells new lines of the log until somebody ends it, or the appliance is gone.
async fn follow(args: &Args, socket: &Path, mut json: Value) -> Result<u8, ReachError> {
    if let Some(json) = json.as_object_mut() {
        json.remove("follow");
    }
    loop {
        let (told, _) = put(socket, &json).await?;
        let lines = told["data"]["lines"].as_array();
        if lines.is_none_or(|lines| !lines.is_empty()) {
            tell(args, "logs", &json, &told);
        }
        if told["ok"] != true {
            return Ok(EXIT_REFUSED);
        }
        json["since"] = told["data"]["newest"].clone();
        tokio::time::sleep(LOOK).await;
    }
}

/// Prints an answer: for a person on the stream where it belongs, for a program always on the same.
fn tell(args: &Args, command: &str, call: &Value, told: &Value) {
    let text = if args.target.json {
        let answer = if args.bare { told.get("data") } else { None };
        format!("{}\n", answer.unwrap_or(told))
    } else {
        let page = match told["error"]["code"].as_str() {
            None => pages::page(command, call, &told["data"]),
            Some(code) => {
                pages::refusal(code, told["error"]["message"].as_str().unwrap_or_default())
            }
        };
        let lines = pages::fold(&page, COLUMNS);
        let lines = lines.into_iter();
        let painted = |line: String| {
            if args.color {
                pages::paint(&line).into_owned()
            } else {
                line
            }
        };
        lines.map(|line| painted(line) + "\n").collect()
    };
    // A reader that hung up is no fault of the appliance.
    let _ = if args.target.json || told["ok"] == true {
        std::io::stdout().lock().write_all(text.as_bytes())
    } else {
        std::io::stderr().lock().write_all(text.as_bytes())
    };
}
