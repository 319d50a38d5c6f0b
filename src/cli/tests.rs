//! What every subcommand of the command line has in common.

use clap::{Command as Line, CommandFactory as _};

use super::Arguments;

/// Subcommands without `--json`, and why.
const WITHOUT: [(&str, &str); 3] = [
    ("run", "it serves, and its log has fields"),
    (
        "pin",
        "it prints the line of a file, in the form of that file",
    ),
    ("engine", "it speaks to the service alone"),
];

/// Every command that can be given, with the words that lead to it.
fn leaves(line: &Line, above: &str, found: &mut Vec<(String, Line)>) {
    for command in line.get_subcommands().filter(|it| it.get_name() != "help") {
        let name = format!("{above} {}", command.get_name()).trim().to_owned();
        if command.get_subcommands().any(|it| it.get_name() != "help") {
            leaves(command, &name, found);
        }
        if !command.is_subcommand_required_set() {
            found.push((name, command.clone()));
        }
    }
}

fn all() -> Vec<(String, Line)> {
    let mut line = Arguments::command();
    line.build();
    let mut found = Vec::new();
    leaves(&line, "", &mut found);
    found
}

fn has(command: &Line, option: &str) -> bool {
    command
        .get_arguments()
        .any(|it| it.get_long() == Some(option))
}

#[test]
fn every_subcommand_that_prints_facts_prints_them_as_json_too() {
    let all = all();
    for name in [
        "status",
        "models check",
        "models make",
        "ota check",
        "review list",
        "plan",
    ] {
        assert!(all.iter().any(|(it, _)| it == name), "{name} is not found");
    }
    for (name, command) in &all {
        let excused = WITHOUT.iter().any(|(it, _)| it == name);
        assert_eq!(has(command, "json"), !excused, "{name}");
    }
    for (name, _) in WITHOUT {
        assert!(all.iter().any(|(it, _)| it == name), "{name} is gone");
    }
}

#[test]
fn no_subcommand_colours_anything_unless_it_is_asked_to() {
    for name in ["status", "do", "console"] {
        let all = all();
        let (_, command) = all.iter().find(|(it, _)| it == name).unwrap();
        let colour = command
            .get_arguments()
            .find(|it| it.get_long() == Some("color"));
        assert!(
            colour
                .unwrap()
                .get_default_values()
                .iter()
                .all(|it| it == "false"),
            "{name}"
        );
    }
}
