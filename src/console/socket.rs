//! The control socket: who may open the file may give commands.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::commands;
use crate::dispatch::shell::Inquirer;
use crate::ota::desk::Desk;

/// Commands under way at a time: people and a script or two.
const MAX_CONNECTIONS: usize = 16;
/// A connection that never gave a command is closed after this: places are few.
const FIRST_SILENCE: Duration = Duration::from_secs(10);
/// One that did, after this.
const MAX_SILENCE: Duration = Duration::from_mins(5);
/// A client that does not read its answer for this long is left.
const MAX_STALL: Duration = Duration::from_secs(10);
/// Owner and group: the group of the service is who may command it.
const MODE: u32 = 0o660;

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process answers there.
    #[error("another lineside is running: {path} answers")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The system said no.
    #[error("cannot listen on {path}: {error}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A socket that listens; the file goes when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    max_line_bytes: usize,
}

impl ControlSocket {
    /// Listens at `path`. A file that an earlier process left behind is replaced; one that
    /// answers is not.
    pub async fn open(path: &Path, max_line_bytes: usize) -> Result<Self, SocketError> {
        let fault = |error| SocketError::Io {
            path: path.into(),
            error,
        };
        let left_behind = match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => true,
            Ok(_) => return Err(fault(io::ErrorKind::AlreadyExists.into())),
            Err(_) => false,
        };
        if left_behind {
            if UnixStream::connect(path).await.is_ok() {
                return Err(SocketError::InUse { path: path.into() });
            }
            std::fs::remove_file(path).map_err(fault)?;
        }
        let listener = UnixListener::bind(path).map_err(fault)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE)).map_err(fault)?;
        Ok(Self {
            listener,
            path: path.into(),
            max_line_bytes,
        })
    }

    /// Serves until it is dropped.
    pub async fn serve(self, inquiries: mpsc::Sender<Inquirer>, desk: Desk) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (inquiries, desk) = (inquiries.clone(), desk.clone());
                    let max = self.max_line_bytes;
                    tokio::spawn(async move {
                        talk(stream, inquiries, desk, max).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket did not accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One connection: a line, its answer, the next line.
async fn talk(
    stream: UnixStream,
    inquiries: mpsc::Sender<Inquirer>,
    desk: Desk,
    max_line_bytes: usize,
) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut patience = FIRST_SILENCE;
    loop {
        let mut line = Vec::new();
        let limit = max_line_bytes as u64 + 1;
        let mut bounded = (&mut read).take(limit);
        let got = timeout(patience, bounded.read_until(b'\n', &mut line)).await;
        patience = MAX_SILENCE;
        match got {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) | Err(_) => return,
        }
        if line.len() > max_line_bytes {
            let told: &[u8] =
                b"{\"ok\":false,\"error\":{\"code\":\"too_long\",\"message\":\"the line is too long\"}}\n";
            let _ = timeout(MAX_STALL, write.write_all(told)).await;
            return;
        }
        let carried_out = commands::carry_out(&line, &inquiries, &desk);
        // A client that hangs up while its command runs is not waited for.
        let answer = tokio::select! {
            answer = carried_out => answer,
            () = hung_up(&mut read) => return,
        };
        match timeout(MAX_STALL, write.write_all(&answer)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// Returns when the other side has closed; never for one that only sends ahead.
async fn hung_up(read: &mut BufReader<tokio::net::unix::OwnedReadHalf>) {
    match read.fill_buf().await {
        Ok([]) | Err(_) => {}
        Ok([..]) => std::future::pending().await,
    }
}
