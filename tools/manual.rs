//! Writes the pages of the manual and the completions of shells, out of the command line itself
//! (`tools/manual`). Not shipped in the program: an image takes what this writes.
//!
//! ```text
//! DIR/man/man1/lineside.1 lineside-run.1 …
//! DIR/bash-completion/completions/lineside
//! DIR/zsh/site-functions/_lineside
//! DIR/fish/vendor_completions.d/lineside.fish
//! ```
//!
//! The folders are those below `/usr/share`.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory as _};
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use lineside::cli::Arguments;

/// `EX_USAGE`.
const USAGE: u8 = 64;
/// `EX_CANTCREAT`.
const CANNOT_CREATE: u8 = 73;

fn main() -> ExitCode {
    let (said, code) = match std::env::args_os().nth(1) {
        None => ("usage: manual DIR".to_owned(), USAGE),
        Some(folder) => match write(Path::new(&folder)) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => (
                format!("{}: {error}", Path::new(&folder).display()),
                CANNOT_CREATE,
            ),
        },
    };
    let _ = writeln!(io::stderr(), "{said}"); // nobody is left to tell
    ExitCode::from(code)
}

/// Writes all of it below this folder.
pub fn write(folder: &Path) -> io::Result<()> {
    let mut lineside = Arguments::command();
    lineside.build();
    let pages = folder.join("man/man1");
    fs::create_dir_all(&pages)?;
    page(&lineside, &pages)?;
    for (shell, file) in [
        (Shell::Bash, "bash-completion/completions/lineside"),
        (Shell::Zsh, "zsh/site-functions/_lineside"),
        (Shell::Fish, "fish/vendor_completions.d/lineside.fish"),
    ] {
        let mut text = Vec::new();
        generate(shell, &mut Arguments::command(), "lineside", &mut text);
        let file = folder.join(file);
        fs::create_dir_all(file.parent().unwrap_or(folder))?;
        fs::write(file, text)?;
    }
    Ok(())
}

/// The page of a command, and those of the commands below it.
fn page(command: &Command, folder: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let mut text = Vec::new();
    let man = Man::new(command.clone());
    man.manual("lineside").render(&mut text)?;
    fs::write(folder.join(format!("{name}.1")), text)?;
    let below = command.get_subcommands();
    for command in below.filter(|it| !it.is_hide_set() && it.get_name() != "help") {
        page(command, folder)?;
    }
    Ok(())
}
