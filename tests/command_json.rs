//! What a subcommand prints with `--json` is one JSON object or array, on standard output, whatever
//! came of it: a program that reads it never meets a sentence.

#![allow(clippy::unwrap_used, missing_docs)]

use std::process::{Command, Stdio};

use clap::CommandFactory as _;
use lineside::cli::Arguments;
use serde_json::Value;

/// Runs it where no appliance is; gives the exit code and the one thing that it printed.
fn told(args: &[&str]) -> (i32, Value) {
    let home = std::env::temp_dir().join(format!("lineside-json-{}", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_lineside"))
        .args(args)
        .env_clear()
        .env("HOME", &home)
        .env("USER", "anna")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let also = String::from_utf8_lossy(&output.stderr);
    let json = serde_json::from_str(&said);
    let json = json.unwrap_or_else(|error| panic!("{args:?}: {error}: {said:?} {also:?}"));
    assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    assert_eq!(also, "", "{args:?}");
    (output.status.code().unwrap(), json)
}

/// What every subcommand says that needs the running appliance.
const REACHING: [&[&str]; 20] = [
    &["status"],
    &["ask", "spindle hot"],
    &["trace", "p-1"],
    &["review", "list"],
    &["review", "show", "9f02ab"],
    &["review", "approve", "9f02ab"],
    &["review", "export"],
    &["do", "status"],
    &["do", "logs", "--follow"],
    &["models", "list"],
    &["models", "show"],
    &["models", "verify"],
    &["models", "pin", "triage-3"],
    &["models", "unpin"],
    &["models", "rollback"],
    &["ota", "status"],
    &["ota", "check"],
    &["ota", "cancel"],
    &["calibrate", "--learned"],
    &["check", "--commit-ready", "--with-broker"],
];

#[test]
fn an_appliance_that_is_not_there_is_told_in_json() {
    for args in REACHING {
        // Behind the words of a command they would be words of it.
        let options = ["--json", "--socket", "/nowhere/control.sock"];
        let args = [&args[..1], &options, &args[1..]].concat();
        let (code, json) = told(&args);
        assert_eq!(code, 69, "{args:?}");
        if args[0] == "check" {
            assert_eq!(json["commit_ready"], false, "{json}");
            continue;
        }
        assert_eq!(json["ok"], false, "{args:?}");
        assert_eq!(json["error"]["code"], "unreachable", "{args:?}");
        let message = json["error"]["message"].as_str().unwrap();
        assert!(message.contains("/nowhere/control.sock"), "{message}");
    }
}

#[test]
fn what_needs_no_appliance_says_what_is_wrong_in_json() {
    for (args, exit, code) in [
        (&["explain", "/nowhere.json"][..], 69, "no_file"),
        (&["explain", "-"], 64, "invalid"),
        (&["plan", "/nowhere.gguf"], 64, "usage"),
        (&["calibrate"], 64, "usage"),
        (&["status", "--loud"], 64, "usage"),
        (&["tarce", "p-1"], 64, "usage"),
        (&["do", "tarce p-1"], 64, "unknown_command"),
    ] {
        let args = [&args[..1], &["--json"], &args[1..]].concat();
        let (got, json) = told(&args);
        assert_eq!(json["error"]["code"], code, "{args:?} {json}");
        assert_eq!((got, &json["ok"]), (exit, &Value::Bool(false)), "{args:?}");
    }
    for args in [
        &["check", "--json", "--config", "/nowhere.toml"][..],
        &["plan", "--json", "--config", "/nowhere.toml"],
        &["models", "check", "/nowhere", "--json"],
        &["explain", "-", "--json", "--config", "/nowhere.toml"],
    ] {
        let (code, json) = told(args);
        assert_eq!((code, &json["ok"]), (78, &Value::Bool(false)), "{args:?}");
        assert!(!json["faults"][0]["wanted"].is_null(), "{json}");
    }
}

#[test]
fn a_hook_that_has_no_home_and_comes_before_the_service_is_told_that_it_is_not_up() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineside"));
    let hook = command
        .args(["check", "--commit-ready", "--json"])
        .env_clear();
    let output = hook.stdin(Stdio::null()).output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["error"], Value::Null, "{json}");
    let is_ready = json["commit_ready"].as_bool().unwrap(); // one may run on this machine
    assert_eq!(output.status.code(), Some(if is_ready { 0 } else { 69 }));
}

#[test]
fn every_subcommand_that_prints_anything_has_the_option() {
    let mut lineside = Arguments::command();
    lineside.build();
    // One serves, one prints a file's only line, one explains the others.
    let without = ["run", "pin", "help"];
    for command in lineside.get_subcommands().filter(|it| !it.is_hide_set()) {
        let has = command
            .get_arguments()
            .any(|it| it.get_long() == Some("json"));
        let name = command.get_name();
        assert_eq!(has, !without.contains(&name), "{name}");
    }
}
