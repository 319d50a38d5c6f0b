//! The pages of the manual and the completions are those of the command line as it is.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tools/manual.rs"]
#[allow(dead_code, unreachable_pub)]
mod manual;

use std::fs;

use clap::CommandFactory as _;
use lineside::cli::Arguments;

/// Every option of a command, as it is typed.
fn options(command: &clap::Command) -> Vec<String> {
    let options = command.get_arguments().filter_map(clap::Arg::get_long);
    options.map(|it| format!("--{it}")).collect()
}

#[test]
fn every_subcommand_has_its_page_with_every_option_and_can_be_completed() {
    let folder = std::env::temp_dir().join(format!("lineside-manual-{}", std::process::id()));
    manual::write(&folder).unwrap();
    let read = |path: &str| fs::read_to_string(folder.join(path)).unwrap();
    // In roff a hyphen that can be copied is escaped.
    let page = |name: &str| read(&format!("man/man1/{name}.1")).replace("\\-", "-");
    let shells = [
        "bash-completion/completions/lineside",
        "zsh/site-functions/_lineside",
        "fish/vendor_completions.d/lineside.fish",
    ];
    let shells = shells.map(read);
    let mut lineside = Arguments::command();
    lineside.build();
    assert!(page("lineside").contains("MQTT"));
    for command in lineside.get_subcommands().filter(|it| !it.is_hide_set()) {
        let name = command.get_name();
        assert!(page("lineside").contains(name), "{name}");
        if name == "help" {
            continue;
        }
        let page = page(&format!("lineside-{name}"));
        for option in options(command) {
            assert!(page.contains(&option), "{name} {option}");
            assert!(shells[0].contains(&option), "{name} {option}");
        }
        for shell in &shells {
            assert!(shell.contains(name), "{name}");
        }
    }
    assert!(page("lineside-models-check").contains("--json"));
    let engine = folder.join("man/man1/lineside-engine.1");
    assert!(!engine.exists(), "nobody types it");
    fs::remove_dir_all(&folder).unwrap();
}
