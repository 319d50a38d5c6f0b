//! The thin binary of the operator's tool: arguments, then everything.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use lineside::clock::Clock;
use lineside::fleet::args::{Args, Command};
use lineside::fleet::exam::Engine;
use lineside::fleet::{EXIT_USAGE, run};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print(); // nobody is left to tell
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    if matches!(args.command, Command::Engine) {
        return lineside::engine::worker::main(); // its threads are for the model
    }
    match run(
        args.command,
        Clock::start().now().wall,
        &mut Engine::default(),
    ) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "lineside-fleet: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
