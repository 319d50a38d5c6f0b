//! What people read: the JSON of an answer as plain text.
//!
//! Purpose: one page for each command, made from nothing but the answer that a program would get,
//! so both are told the same. Plain words, lines that fit the screen, and no colours but for
//! those who ask ([`paint`]).
//!
//! Invariant: texts of devices come from anywhere; what would move the cursor or colour the screen
//! is shown as a mark ([`clean`]).

mod answers;
mod board;
mod colour;
mod heat;
mod layout;
mod models;
pub mod packages;
mod people;
#[cfg(test)]
mod tests;

pub use colour::paint;
pub use layout::{clean, fold, moment, span};

use serde_json::Value;

use layout::Sheet;

/// The page for the data of a command's answer.
pub fn page(command: &str, call: &Value, data: &Value) -> String {
    match command {
        "help" => answers::help(data),
        "status" => answers::status(data),
        "queues" => answers::queues(data),
        "thermals" => board::thermals(data),
        "memory" => board::memory(data),
        "bundle" => board::bundle(data),
        "requests" => answers::requests(data),
        "trace" => answers::trace(data),
        "ask" => answers::reply(data),
        "explain" => answers::explain(data),
        "review" => people::review(data),
        "learned" => people::learned(data),
        "models" => models::told(data),
        "ota" => packages::told(data),
        "broker" => answers::broker(data),
        "uplink" => answers::uplink(data),
        "config" => data["toml"].as_str().map_or_else(String::new, plain),
        "check" => answers::check(data),
        "logs" => answers::logs(data),
        "maintenance" => answers::maintenance(data),
        "restart" => "It finishes what it is at and starts again.\n".into(),
        "factory-reset" => answers::factory_reset(call, data),
        _ => layout::anything(data),
    }
}

/// What stands below an answer whose words were shown as they came.
pub fn below_words(data: &Value) -> String {
    answers::reply_source(data)
}

/// The page for a refusal: what, and what to do about it.
pub fn refusal(code: &str, message: &str) -> String {
    let mut sheet = Sheet::default();
    sheet.row("error", format!("{} ({code})", clean(message)));
    if let Some(todo) = todo(code) {
        sheet.row("do", todo);
    }
    sheet.text()
}

/// What a person can do about a code.
fn todo(code: &str) -> Option<&'static str> {
    Some(match code {
        "no_answer" => {
            "the service is busy, ending, or stuck; try again, then `logs`, then `restart`"
        }
        "no_store" => {
            "try again; `queues` and `check` tell of the disk; then `restart`: what was taken is kept"
        }
        "unreachable" => "start it: `systemctl start lineside`, or `lineside run`",
        "held" => "ask that person to release it, or wait until the time is over",
        "unknown_item" => "`review` lists what waits",
        "settled" => "nothing: somebody was faster",
        "too_long" => "make it shorter",
        "not_confirmed" => "type the serial number, or the name, as `factory-reset` shows it",
        "no_stick" => "mount one below /media, or say where: `bundle --to /media/stick`",
        "nothing_to_take_back" => "`models` lists what is here; `models pin NAME-SEQ` chooses one",
        "not_there" => "`models` lists what is here",
        "taken_back" => "publish it under a new number, if it is well; `models` says why it went",
        "no_ota" => {
            "set them in the configuration and put the first root metadata there; then `restart`"
        }
        "busy" => "`ota` tells how far it is; `ota cancel` ends it",
        "no_log" => "look into the journal: `journalctl -u lineside`",
        _ => return None,
    })
}

/// Lines as they are, harmless.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        out.push_str(&clean(line));
        out.push('\n');
    }
    out
}
