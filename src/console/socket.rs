//! The control socket: who is in the service's group may give commands.
//!
//! The file's mode says so, and the kernel holds to it. The peer's credentials are looked at all the
//! same: they also hold between the making of the file and the setting of its mode, and where
//! somebody has loosened it since.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::commands::{self, Counter, Done};
use super::table::Nature;

/// Commands under way at a time: people and a script or two.
const MAX_CONNECTIONS: usize = 16;
/// A connection that never gave a command is closed after this: places are few.
const FIRST_SILENCE: Duration = Duration::from_secs(10);
/// One that did, after this.
const MAX_SILENCE: Duration = Duration::from_mins(5);
/// A client that does not read its answer for this long is left.
const MAX_STALL: Duration = Duration::from_secs(10);
/// Parts of an answer on their way to a client.
const MAX_PARTS: usize = 64;
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
    /// Of the socket's file: who is in it may give commands.
    group: u32,
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
        let group = std::fs::metadata(path).map_err(fault)?.gid();
        Ok(Self {
            listener,
            path: path.into(),
            max_line_bytes,
            group,
        })
    }

    /// Serves until it is dropped.
    pub async fn serve(self, counter: Counter) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (counter, max) = (counter.clone(), self.max_line_bytes);
                    let group = self.group;
                    tokio::spawn(async move {
                        talk(stream, counter, group, max).await;
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
async fn talk(stream: UnixStream, counter: Counter, group: u32, max_line_bytes: usize) {
    let Some(uid) = admitted(&stream, group) else {
        return;
    };
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
        let (parts, mut heard) = mpsc::channel(MAX_PARTS);
        let mut carried_out = std::pin::pin!(commands::carry_out(&line, &counter, Some(&parts)));
        let done = loop {
            tokio::select! {
                biased;
                Some(part) = heard.recv() => {
                    if !matches!(timeout(MAX_STALL, write.write_all(&part)).await, Ok(Ok(()))) {
                        return;
                    }
                }
                done = &mut carried_out => break done,
                // A client that hangs up while its command runs is not waited for.
                () = hung_up(&mut read) => return,
            }
        };
        record(&done, uid);
        match timeout(MAX_STALL, write.write_all(&done.line)).await {
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

/// The audit: what changes something is told, what only looks is told to those who want to know.
fn record(done: &Done, uid: u32) {
    let (command, outcome) = (done.command, done.outcome);
    match done.nature {
        Nature::Changes => tracing::info!(source = "socket", command, outcome, uid, "command"),
        Nature::Looks | Nature::Session => {
            tracing::debug!(source = "socket", command, outcome, uid, "command");
        }
    }
}

/// The user at the other end, if he may give commands.
fn admitted(stream: &UnixStream, group: u32) -> Option<u32> {
    let peer = stream.peer_cred().ok()?;
    let own = rustix::process::geteuid().as_raw();
    let groups = || {
        let file = format!("/proc/{}/status", peer.pid()?);
        Some(further_groups(&std::fs::read_to_string(file).ok()?))
    };
    let member = peer.gid() == group;
    let may = member || [0, own].contains(&peer.uid()) || {
        groups().is_some_and(|groups| groups.contains(&group))
    };
    if !may {
        tracing::warn!(
            uid = peer.uid(),
            "the control socket turned a stranger away"
        );
    }
    may.then_some(peer.uid())
}

/// The groups that a process has besides its first.
fn further_groups(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    let words = line.unwrap_or_default().split_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_further_groups_of_a_process_are_read() {
        let status = "Name:\tx\nGid:\t1 1 1 1\nGroups:\t4 27 1000 \nVmPeak: 3\n";
        assert_eq!(further_groups(status), [4, 27, 1000]);
        assert_eq!(further_groups("Groups:\t\n"), [0; 0]);
    }
}
