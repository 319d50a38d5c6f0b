//! `lineside console`: the session of the serial port, on this terminal.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::{AsyncWrite, AsyncWriteExt, DuplexStream, duplex, join};
use tokio::runtime::Handle;

use super::reach::{ReachError, Target};
use crate::clock::Clock;
use crate::console::client;
use crate::console::commands::Parts;
use crate::console::login::Door;
use crate::console::screen::{self, Left, Way};
use crate::console::session::{Manner, Session};

/// Arguments of `lineside console`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Your name, for verdicts. Without: the name of your login.
    #[arg(long = "as", value_name = "NAME")]
    pub reviewer: Option<String>,
    /// Show states in colour.
    #[arg(long)]
    pub color: bool,
    /// Which appliance.
    #[command(flatten)]
    pub target: Target,
}

/// Rows and columns where the terminal does not say.
const ROWS: usize = 24;
const COLUMNS: usize = 80;
/// Fewer columns are no screen, but a size that nobody set.
const MIN_COLUMNS: usize = 20;
/// Keys on their way to the session.
const KEYS_BYTES: usize = 4096;
/// What ends a script that does not say `exit`.
const END: &[u8] = b"\x04";

/// The way over the control socket.
#[derive(Clone, Debug)]
struct Remote(PathBuf);

impl Way for Remote {
    async fn carry_out(&self, line: Vec<u8>, parts: Parts) -> Vec<u8> {
        let pass_on = |part: &[u8]| {
            let _ = parts.try_send(part.to_vec()); // without room it is in the answer all the same
        };
        match client::exchange_aloud(&self.0, &line, pass_on).await {
            Ok(answer) => answer,
            Err(error) => {
                let error = serde_json::json!({"code": error.code(), "message": error.to_string()});
                let told = serde_json::json!({"ok": false, "error": error});
                told.to_string().into_bytes()
            }
        }
    }
}

/// Runs the subcommand and returns the exit code.
pub async fn command(args: &Args) -> Result<u8, ReachError> {
    let socket = args.target.socket()?;
    let (rows, columns) = size();
    let mut session = Session::new(Manner {
        appliance: appliance(&socket).await,
        reviewer: args.reviewer.clone().unwrap_or_else(super::reach::login),
        door: Door::Open,
        idle: None,
        rows,
        columns,
    });
    if args.color {
        session = session.coloured();
    }
    let raw = Raw::enter();
    let terminal = join(keys(), Shown);
    let clock = Clock::start();
    let left = screen::serve(
        terminal,
        &mut session,
        Remote(socket),
        None,
        clock,
        "console",
    )
    .await;
    drop(raw);
    match left {
        Left::Over | Left::Gone => Ok(0),
        Left::Failed(error) => Err(ReachError::Usage(format!("the terminal: {error}"))),
    }
}

/// The appliance's name, if it answers.
async fn appliance(socket: &std::path::Path) -> String {
    let line = serde_json::json!({"cmd": "status"});
    let data = client::command(socket, &line).await.ok();
    let data: Option<serde_json::Value> = data.and_then(|data| client::read(&data).ok());
    let name = data.and_then(|data| data["appliance"].as_str().map(str::to_owned));
    name.unwrap_or_else(|| "lineside".into())
}

/// What is typed. A thread waits for it, which ends with the process; after the end of a script the
/// stream stays open, so that what it asked is answered before the session ends.
fn keys() -> DuplexStream {
    let (mut feed, keys) = duplex(KEYS_BYTES);
    let runtime = Handle::current();
    std::thread::spawn(move || {
        let mut buffer = [0; KEYS_BYTES];
        while let Ok(count @ 1..) = io::stdin().read(&mut buffer) {
            if runtime.block_on(feed.write_all(&buffer[..count])).is_err() {
                return; // the session is over
            }
        }
        let _ = runtime.block_on(feed.write_all(END)); // the same
        loop {
            std::thread::park();
        }
    });
    keys
}

fn size() -> (usize, usize) {
    let size = tcgetwinsize(std::io::stdout()).ok();
    let rows = size.map_or(0, |it| usize::from(it.ws_row));
    let columns = size.map_or(0, |it| usize::from(it.ws_col));
    let rows = if rows > 2 { rows } else { ROWS };
    let columns = if columns >= MIN_COLUMNS {
        columns
    } else {
        COLUMNS
    };
    (rows, columns)
}

/// Standard output, written at once: this process has nobody else to keep waiting, and what was
/// written is out when it ends.
struct Shown;

impl AsyncWrite for Shown {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut out = io::stdout().lock();
        Poll::Ready(
            out.write_all(bytes)
                .and_then(|()| out.flush())
                .map(|()| bytes.len()),
        )
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(io::stdout().flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

/// A terminal that hands over each key; as it was again when this is dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> Self {
        let input = std::io::stdin();
        if !input.is_terminal() {
            return Self(None);
        }
        let before = tcgetattr(input.as_fd()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            let _ = tcsetattr(input.as_fd(), OptionalActions::Now, &raw); // it works cooked, too
        }
        Self(before)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Nobody is left to tell where it cannot be set back.
            let _ = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Drain, before);
        }
    }
}
