//! The other end of the control socket, for the subcommands.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Why a command got no data.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at the socket.
    #[error("no running appliance at {path}: {error}")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It takes the line and says nothing: the whole process is stopped or stuck.
    #[error(
        "the appliance at {path} says nothing: it is stuck or stopped; `systemctl restart lineside`"
    )]
    Silent {
        /// The socket.
        path: PathBuf,
    },
    /// The connection broke, or what came was not an answer.
    #[error("the appliance hung up or did not speak the protocol: {0}")]
    Broken(String),
    /// The appliance said no.
    #[error("{message} ({code})")]
    Refused {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
}

#[derive(Deserialize)]
struct Told {
    data: Option<Box<RawValue>>,
    error: Option<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    code: String,
    message: String,
}

impl ClientError {
    /// The word for programs.
    pub fn code(&self) -> &str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Silent { .. } | Self::Broken(_) => "no_answer",
            Self::Refused { code, .. } => code,
        }
    }
}

/// Sends one line and gives the line that answers it.
pub async fn exchange(socket: &Path, line: &[u8]) -> Result<Vec<u8>, ClientError> {
    exchange_aloud(socket, line, |_| {}).await
}

/// What every part of an answer begins with.
const PART: &[u8] = b"{\"part\":";

/// The words in a part of an answer.
pub fn words_of(part: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Part {
        part: Words,
    }
    #[derive(Deserialize)]
    struct Words {
        text: String,
    }
    let part: Part = serde_json::from_slice(part).ok()?;
    Some(part.part.text)
}

/// How long the whole process may say nothing where a command is answered within a second: long enough
/// for a machine that does something else, too.
const SILENCE: Duration = Duration::from_secs(10);
/// Commands that take as long as a request, a model or a disk does.
const LONG: [&[u8]; 7] = [
    b"\"ask\"",
    b"\"models\"",
    b"\"check\"",
    b"\"explain\"",
    b"\"bundle\"",
    b"\"restart\"",
    b"\"factory-reset\"",
];

/// Whether a line is answered within a second by an appliance that lives.
fn is_quick(line: &[u8]) -> bool {
    let names = |long: &&[u8]| line.windows(long.len()).any(|it| it == *long);
    !LONG.iter().any(names)
}

/// Sends one line, passes on the parts of its answer, and gives the line that answers it.
pub async fn exchange_aloud(
    socket: &Path,
    line: &[u8],
    on_part: impl FnMut(&[u8]),
) -> Result<Vec<u8>, ClientError> {
    let exchanging = exchange_at_leisure(socket, line, on_part);
    if !is_quick(line) {
        return exchanging.await;
    }
    let silent = |_| ClientError::Silent {
        path: socket.into(),
    };
    timeout(SILENCE, exchanging).await.map_err(silent)?
}

async fn exchange_at_leisure(
    socket: &Path,
    line: &[u8],
    mut on_part: impl FnMut(&[u8]),
) -> Result<Vec<u8>, ClientError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| ClientError::Unreachable {
            path: socket.into(),
            error,
        })?;
    let (read, mut write) = stream.into_split();
    let bytes = [line, b"\n"].concat();
    write
        .write_all(&bytes)
        .await
        .map_err(|error| broken(&error))?;
    let mut answer = Vec::new();
    let mut read = BufReader::new(read);
    loop {
        answer.clear();
        let got = read.read_until(b'\n', &mut answer).await;
        got.map_err(|error| broken(&error))?;
        if !answer.starts_with(PART) {
            break;
        }
        on_part(&answer);
    }
    if answer.is_empty() {
        return Err(ClientError::Broken(HUNG_UP.into()));
    }
    Ok(answer)
}

/// What an appliance does to a stranger, before he has said a word or after.
const HUNG_UP: &str = "it hung up; who may give commands is in its group";

fn broken(error: &io::Error) -> ClientError {
    let hung_up = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    if hung_up.contains(&error.kind()) {
        return ClientError::Broken(HUNG_UP.into());
    }
    ClientError::Broken(error.to_string())
}

/// Sends one command line (a JSON object) and gives the data of the answer as JSON.
pub async fn command(
    socket: &Path,
    line: &serde_json::Value,
) -> Result<Box<RawValue>, ClientError> {
    command_aloud(socket, line, |_| {}).await
}

/// The same, with the parts of the answer as they come.
pub async fn command_aloud(
    socket: &Path,
    line: &serde_json::Value,
    on_part: impl FnMut(&[u8]),
) -> Result<Box<RawValue>, ClientError> {
    let answer = exchange_aloud(socket, line.to_string().as_bytes(), on_part).await?;
    let told: Told =
        serde_json::from_slice(&answer).map_err(|error| ClientError::Broken(error.to_string()))?;
    match (told.data, told.error) {
        (Some(data), _) => Ok(data),
        (None, Some(fault)) => Err(ClientError::Refused {
            code: fault.code,
            message: fault.message,
        }),
        (None, None) => Err(ClientError::Broken("an empty answer".into())),
    }
}

/// The data, read as what it should be.
pub fn read<T: DeserializeOwned>(data: &RawValue) -> Result<T, ClientError> {
    serde_json::from_str(data.get()).map_err(|error| ClientError::Broken(error.to_string()))
}
