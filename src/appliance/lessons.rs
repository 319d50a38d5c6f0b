//! What was learnt of reviewers, between the dispatcher and its file.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::clock::Wall;
use crate::config::Settings;
use crate::package::Manifest;
use crate::router::confidence::learning::{Learning, keep};

/// How long the last write may take at the end.
const GOODBYE: Duration = Duration::from_secs(2);

/// The task that keeps it.
pub(super) struct Lessons {
    task: JoinHandle<()>,
}

/// What was learnt so far about the variant that is served, as far as it still applies.
pub(super) fn resumed(settings: &Settings, manifest: Option<&Manifest>, now: Wall) -> Learning {
    let Some((manifest, variant)) = manifest.and_then(|it| Some((it, it.variants.first()?))) else {
        return Learning::default();
    };
    let mut learning = Learning::of(manifest, variant);
    let path = keep::path_in(&settings.state_dir);
    let bytes = match keep::load(&path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return learning,
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "what was learnt cannot be read");
            return learning;
        }
    };
    match learning.resume(&bytes, now) {
        Ok(0) => {}
        Ok(count) => tracing::warn!(
            count,
            "what was learnt of some tasks is about another package: they begin anew"
        ),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "what was learnt cannot be used");
        }
    }
    learning
}

/// Keeps whatever is learnt last.
pub(super) fn keep(settings: &Settings) -> (watch::Sender<Vec<u8>>, Lessons) {
    let path = keep::path_in(&settings.state_dir);
    let (learnt, mut last) = watch::channel(Vec::new());
    let task = tokio::spawn(async move {
        while last.changed().await.is_ok() {
            let bytes = last.borrow_and_update().clone();
            write(path.clone(), bytes).await;
        }
    });
    (learnt, Lessons { task })
}

async fn write(path: PathBuf, bytes: Vec<u8>) {
    let shown = path.display().to_string();
    let written = tokio::task::spawn_blocking(move || keep::store(&path, &bytes)).await;
    if let Ok(Err(error)) = written {
        tracing::error!(path = shown, %error, "what was learnt cannot be kept");
    }
}

impl Lessons {
    /// Waits for the last write. The dispatcher's end is what ends it.
    pub(super) async fn close(self) {
        if timeout(GOODBYE, self.task).await.is_err() {
            tracing::warn!("what was learnt was not kept in time");
        }
    }
}
