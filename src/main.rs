//! The thin binary: arguments, settings, logging, build, ready, wait, drain.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command as Process, ExitCode};
use std::time::Duration;

use clap::Parser;
use lineside::appliance::{self, Ending, Host};
use lineside::cli::{self, Arguments, Command};
use lineside::clock::Clock;
use lineside::config::{self, Settings, Surroundings};
use lineside::service::{LogError, LogGuard, LogSettings, Signals, Stopper};

/// `EX_SOFTWARE`: the appliance ended for a reason of its own.
const EXIT_INTERNAL: u8 = 70;
/// How long the last log lines may take.
const LOG_FLUSH: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if !error.use_stderr() => {
            let _ = error.print(); // help, or the version; nobody is left to tell
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            if std::env::args_os().any(|it| it == "--json") {
                cli::refuse(true, cli::USAGE, &error.to_string());
            } else {
                let _ = error.print(); // the same
            }
            return ExitCode::from(cli::EXIT_USAGE);
        }
    };
    if matches!(arguments.command, Command::Engine) {
        return lineside::engine::worker::main(); // its threads are for the model
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2) // the dispatcher and the line; the heavy work has processes of its own
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start: {error}"), EXIT_INTERNAL),
    };
    let code = runtime.block_on(carry_out(arguments.command));
    runtime.shutdown_background(); // a reader of a dead device must not hold the exit
    code
}

async fn carry_out(command: Command) -> ExitCode {
    let told = Told {
        as_json: command.json(),
    };
    match command {
        // Boxed: with all settings inside it is too large for a stack.
        Command::Run { config } => Box::pin(serve(config)).await,
        Command::Check(args) if args.commit_ready => {
            told.reached(cli::check::ready::command(&args).await)
        }
        Command::Check(args) => told.done(cli::check::command(&args, appliance::probe).await),
        Command::Status(args) => told.reached(cli::status::command(&args).await),
        Command::Ask(args) => told.reached(cli::ask::command(&args).await),
        Command::Trace(args) => told.reached(cli::trace::command(&args).await),
        Command::Review(args) => told.reached(cli::review::command(&args).await),
        Command::Ota(args) => told.reached(cli::ota::command(&args).await),
        Command::Explain(args) => told.done(cli::explain::command(&args)),
        Command::Console(args) => told.reached(cli::console::command(&args).await),
        Command::Do(args) => told.reached(cli::once::command(&args).await),
        Command::Pin(args) => ExitCode::from(cli::pin::command(&args)),
        Command::Provision(args) => match cli::provision::command(&args) {
            Ok(code) => ExitCode::from(code),
            Err(error) => told.failed(&error.to_string(), error.exit_code()),
        },
        Command::Models(args) => match args.asked() {
            Some(asked) => told.reached(cli::once::command(&asked).await),
            None => told.done(cli::models::command(&args)),
        },
        Command::Plan(args) => told.done(cli::plan::command(&args)),
        Command::Calibrate(args) if args.learned => {
            told.reached(cli::learned::command(&args).await)
        }
        Command::Calibrate(args) => told.done(cli::calibrate::command(&args)),
        Command::Engine => lineside::engine::worker::main(),
    }
}

/// How a subcommand's end is told: to a person, or to a program.
#[derive(Clone, Copy)]
struct Told {
    as_json: bool,
}

impl Told {
    /// The end of one that needs the running appliance.
    fn reached(self, result: Result<u8, cli::ReachError>) -> ExitCode {
        let error = match result {
            Ok(code) => return ExitCode::from(code),
            Err(error) => error,
        };
        if self.as_json {
            cli::refuse(true, error.code(), &error.message());
        } else {
            cli::refuse(false, error.code(), &error.to_string());
        }
        ExitCode::from(error.exit_code())
    }

    /// The end of one that does not.
    fn done(self, result: Result<u8, impl std::fmt::Display>) -> ExitCode {
        match result {
            Ok(code) => ExitCode::from(code),
            Err(error) => self.failed(&error.to_string(), EXIT_INTERNAL),
        }
    }

    fn failed(self, message: &str, code: u8) -> ExitCode {
        cli::refuse(self.as_json, cli::FAILED, message);
        ExitCode::from(code)
    }
}

async fn serve(config: Option<PathBuf>) -> ExitCode {
    let clock = Clock::start();
    let settings = match config::load(&Surroundings::of_process(config.as_deref())) {
        Ok(settings) => settings,
        Err(faults) => return complain(&faults.to_string(), config::EXIT_CODE),
    };
    let log = match start_log(&settings, clock) {
        Ok(log) => log,
        Err(error) => return complain(&format!("cannot log: {error}"), EXIT_INTERNAL),
    };
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return complain(&format!("cannot take signals: {error}"), EXIT_INTERNAL),
    };
    let (stopper, stop) = Stopper::new();
    let host = Host {
        stopper: stopper.clone(),
        stop,
        log: Some(log.tail()),
    };
    let mut ending = Ending::Stop;
    let serving = appliance::run(settings, clock, host);
    let code = tokio::select! {
        result = serving => match result {
            Ok(wish) => {
                ending = wish;
                ExitCode::SUCCESS
            }
            Err(error) => {
                tracing::error!(error = %format!("{error:#}"), "the appliance ends");
                ExitCode::from(appliance::exit_code(&error))
            }
        },
        hard = signals.drive(stopper) => ExitCode::from(hard.exit_code),
    };
    log.flush(LOG_FLUSH);
    match ending {
        Ending::Stop => code,
        Ending::Restart => again(),
    }
}

/// The same program in the same process, from its beginning. Returns only if that fails.
fn again() -> ExitCode {
    let program = std::env::current_exe();
    let error = match program {
        Ok(program) => Process::new(program)
            .args(std::env::args_os().skip(1))
            .exec(),
        Err(error) => error,
    };
    complain(&format!("cannot start again: {error}"), EXIT_INTERNAL)
}

fn start_log(settings: &Settings, clock: Clock) -> Result<LogGuard, LogError> {
    let log = LogSettings {
        levels: settings.log.levels.clone(),
        to: settings.log.to,
        appliance: settings.name.as_str().to_owned(),
    };
    lineside::service::install(log, clock)
}

fn complain(message: &str, code: u8) -> ExitCode {
    cli::refuse(false, cli::FAILED, message);
    ExitCode::from(code)
}
