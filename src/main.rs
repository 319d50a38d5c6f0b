//! The thin binary: arguments, settings, logging, build, ready, wait, drain.

use std::io::Write as _;
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
        Err(error) => {
            let _ = error.print(); // nobody is left to tell
            return ExitCode::from(if error.use_stderr() {
                cli::EXIT_USAGE
            } else {
                0
            });
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
    match command {
        // Boxed: with all settings inside it is too large for a stack.
        Command::Run { config } => Box::pin(serve(config)).await,
        Command::Check(args) if args.commit_ready => {
            finish(cli::check::ready::command(&args).await)
        }
        Command::Check(args) => match cli::check::command(&args, appliance::probe).await {
            Ok(code) => ExitCode::from(code),
            Err(error) => complain(&error.to_string(), EXIT_INTERNAL),
        },
        Command::Status(args) => finish(cli::status::command(&args).await),
        Command::Ask(args) => finish(cli::ask::command(&args).await),
        Command::Trace(args) => finish(cli::trace::command(&args).await),
        Command::Review(args) => finish(cli::review::command(&args).await),
        Command::Ota(args) => finish(cli::ota::command(&args).await),
        Command::Explain(args) => match cli::explain::command(&args) {
            Ok(code) => ExitCode::from(code),
            Err(error) => complain(&error.to_string(), EXIT_INTERNAL),
        },
        Command::Console(args) => finish(cli::console::command(&args).await),
        Command::Do(args) => finish(cli::once::command(&args).await),
        Command::Pin(args) => ExitCode::from(cli::pin::command(&args)),
        Command::Provision(args) => match cli::provision::command(&args) {
            Ok(code) => ExitCode::from(code),
            Err(error) => complain(&error.to_string(), error.exit_code()),
        },
        Command::Models(args) => match args.asked() {
            Some(asked) => finish(cli::once::command(&asked).await),
            None => match cli::models::command(&args) {
                Ok(code) => ExitCode::from(code),
                Err(error) => complain(&error.to_string(), EXIT_INTERNAL),
            },
        },
        Command::Plan(args) => match cli::plan::command(&args) {
            Ok(code) => ExitCode::from(code),
            Err(error) => complain(&error.to_string(), EXIT_INTERNAL),
        },
        Command::Calibrate(args) if args.learned => finish(cli::learned::command(&args).await),
        Command::Calibrate(args) => match cli::calibrate::command(&args) {
            Ok(code) => ExitCode::from(code),
            Err(error) => complain(&error.to_string(), EXIT_INTERNAL),
        },
        Command::Engine => lineside::engine::worker::main(),
    }
}

fn finish(result: Result<u8, cli::ReachError>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => complain(&error.to_string(), error.exit_code()),
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
    let _ = writeln!(std::io::stderr(), "lineside: {}", message.trim_end());
    ExitCode::from(code)
}
