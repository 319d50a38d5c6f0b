//! How the dispatcher is asked, how long it may take, and who is silent where it does not answer.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{CommandError, Parts};
use crate::dispatch::shell::Inquirer;
use crate::dispatch::{Answer, Inquiry};

/// How long the dispatcher may take, with the store behind it: with a [`GLANCE`] less than the second
/// that a person is promised. A commit on a slow card can take longer; then the person is told so.
pub(super) const PATIENCE: Duration = Duration::from_millis(600);
/// The same where its state is only one part of the answer, or says who is silent: a dispatcher that
/// is alive turns far more often.
pub(super) const GLANCE: Duration = Duration::from_millis(300);
/// Words of an answer on their way to whoever asked: more than a slow line leaves behind in a second.
const WORDS: usize = 64;
/// How long `ask` waits: the appliance refuses at the request's own deadline, long before this.
const ASK_PATIENCE: Duration = Duration::from_hours(24);

/// Asks, and passes the words of the answer on as they come.
pub(super) async fn inquire_aloud(
    inquiry: Inquiry,
    inquiries: &mpsc::Sender<Inquirer>,
    parts: &Parts,
) -> Result<Answer, CommandError> {
    let (words, mut heard) = mpsc::channel(WORDS);
    let mut asking = std::pin::pin!(inquire(inquiry, inquiries, Some(words)));
    loop {
        tokio::select! {
            biased;
            Some(text) = heard.recv() => {
                let part = serde_json::json!({"part": {"text": text}});
                let _ = parts.try_send(format!("{part}\n").into_bytes()); // see Parts
            }
            answer = &mut asking => return answer,
        }
    }
}

pub(super) async fn inquire(
    inquiry: Inquiry,
    inquiries: &mpsc::Sender<Inquirer>,
    words: Option<mpsc::Sender<String>>,
) -> Result<Answer, CommandError> {
    let (patience, of_the_store) = match inquiry {
        Inquiry::Ask(_) => (ASK_PATIENCE, false),
        Inquiry::Trace(_)
        | Inquiry::Learned(_)
        | Inquiry::Review(_)
        | Inquiry::ReviewElsewhere(_)
        | Inquiry::Latest(_) => (PATIENCE, true),
        Inquiry::Status | Inquiry::Maintenance(_) => (PATIENCE, false),
    };
    match within(patience, inquiry, inquiries, words).await {
        Err(Silence::Long) if of_the_store && turns(inquiries).await => Err(CommandError::NoStore),
        answer => answer.map_err(|_| CommandError::NoAnswer),
    }
}

/// Why there is no answer.
pub(super) enum Silence {
    /// It takes too long.
    Long,
    /// Nobody is there to give one.
    Gone,
}

pub(super) async fn within(
    patience: Duration,
    inquiry: Inquiry,
    inquiries: &mpsc::Sender<Inquirer>,
    words: Option<mpsc::Sender<String>>,
) -> Result<Answer, Silence> {
    let (answer, waiting) = oneshot::channel();
    let inquirer = Inquirer {
        inquiry,
        answer,
        words,
    };
    // A request may take its time; that it is taken may not.
    match timeout(PATIENCE.min(patience), inquiries.send(inquirer)).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => return Err(Silence::Gone),
        Err(_) => return Err(Silence::Long),
    }
    match timeout(patience, waiting).await {
        Ok(answer) => answer.map_err(|_| Silence::Gone),
        Err(_) => Err(Silence::Long),
    }
}

/// Whether the dispatcher is alive.
async fn turns(inquiries: &mpsc::Sender<Inquirer>) -> bool {
    let status = within(GLANCE, Inquiry::Status, inquiries, None);
    timeout(GLANCE, status).await.is_ok_and(|it| it.is_ok())
}
