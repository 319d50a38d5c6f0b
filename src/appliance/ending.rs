//! The end of the appliance: its parts, in the order in which they go.

use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tokio::task;
use tokio::time::timeout;

use super::GOODBYE;
use super::cloud::Uplink;
use super::heat::Governing;
use super::inference::Inference;
use super::lessons::Lessons;
use super::line::Line;
use super::packages::Keeping;
use super::surfaces::Surfaces;
use crate::broker;
use crate::spool::DiskError;

/// Everything that ends after the dispatcher.
pub(super) struct Parts {
    pub(super) governing: Governing,
    pub(super) keeping: Option<Keeping>,
    pub(super) inference: Inference,
    pub(super) uplink: Uplink,
    pub(super) lessons: Lessons,
    pub(super) surfaces: Surfaces,
    pub(super) line: Line,
    pub(super) broker_commands: mpsc::Sender<broker::Command>,
    pub(super) store: JoinHandle<Result<(), DiskError>>,
    pub(super) serving: task::JoinHandle<()>,
    pub(super) watching: task::JoinHandle<()>,
}

impl Parts {
    /// Ends them.
    pub(super) async fn close(self) {
        self.governing.close();
        if let Some(keeping) = self.keeping {
            keeping.close();
        }
        self.inference.close().await;
        self.uplink.close().await;
        self.lessons.close().await;
        self.surfaces.close().await;
        self.line.close(&self.broker_commands, GOODBYE).await;
        drop(self.broker_commands);
        close_store(self.store).await;
        self.serving.abort();
        self.watching.abort();
        // The socket's file must be gone before a new start looks for it.
        let _ = self.serving.await;
    }
}

/// The dispatcher's end has closed the store's channel; its thread makes the last commit.
async fn close_store(thread: JoinHandle<Result<(), DiskError>>) {
    let joined = task::spawn_blocking(move || thread.join());
    match timeout(GOODBYE, joined).await {
        Ok(Ok(Ok(Ok(())))) => tracing::info!("stopped"),
        Ok(Ok(Ok(Err(error)))) => tracing::error!(%error, "the store ended with a fault"),
        Ok(Ok(Err(_)) | Err(_)) => tracing::error!("the store's thread did not end well"),
        Err(_) => tracing::error!("the store did not close in time"),
    }
}
