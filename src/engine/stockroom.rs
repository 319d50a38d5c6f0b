//! The stockroom: the states of shared beginnings on the disk, for a warm start.
//!
//! Purpose: an engine that starts has read none of its instructions. What an earlier one had
//! computed of them lies here, one file for each, and is given to it while it loads its model.
//!
//! ```text
//!  supervise ── fetch, put, keep ──► thread ── files: .part, synced, renamed
//!            ◄──── kept, written ───   │
//!                                      └── pieces, a few at a time ──► the process that starts
//! ```
//!
//! Owns the folder; one thread does all that waits for the disk. What is kept is the state of a
//! package's instruction, never of a request: the engine tells no other ([`super::floor`]).
//!
//! Invariants:
//!
//! - A file's name is a digest of everything that its state depends on ([`keys`]), and its header
//!   repeats that with a digest of the content. The last piece of a state is not given before that
//!   digest is right, and without its last piece a state never reaches native code.
//! - A file is whole under its name, or it has another name.
//! - All files together are within [`MAX_BYTES`], and leave [`FREE_BYTES`] to the rest.
//!
//! How it fails: never for anybody else. A file that is torn, foreign, too old or of another model
//! is removed, and said in one line; what cannot be written is not kept, and the beginning is
//! computed as ever. The digest finds damage and mix-ups, not malice: who may write here may also
//! replace the program.

mod folder;

use std::io;
use std::path::PathBuf;

use tokio::sync::{mpsc, oneshot};

use self::folder::Folder;
use super::memo::Key;
use super::native::RUNTIME;
use super::protocol::{Load, MAX_STATE_BYTES, Piece, ToEngine};

/// Bytes of all files: two of the largest states, or the seven of a package of a hundred million
/// weights. An engine that loads holds so much in its inbox, so it is also bounded by that.
pub const MAX_BYTES: u64 = 2 * MAX_STATE_BYTES;
/// Bytes of the disk that are left to those who need them: requests come first.
pub const FREE_BYTES: u64 = 256 << 20;
/// Orders that wait for the disk. Beyond that they are not carried out, which harms nobody.
const ORDERS: usize = 64;

/// The stockroom's counter: what is wanted of it is handed in here.
#[derive(Debug)]
pub struct Stockroom {
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
enum Order {
    Fetch {
        keys: Vec<Key>,
        to: mpsc::Sender<ToEngine>,
        kept: oneshot::Sender<Vec<Key>>,
    },
    Put {
        key: Key,
        piece: Piece,
        written: oneshot::Sender<bool>,
    },
    Keep(Vec<Key>),
}

impl Stockroom {
    /// Opens the folder, which is made if there is none, and starts the thread.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        let mut folder = Folder::open(folder, MAX_BYTES, FREE_BYTES)?;
        let (orders, mut waiting) = mpsc::channel(ORDERS);
        std::thread::Builder::new()
            .name("stockroom".into())
            .spawn(move || {
                while let Some(order) = waiting.blocking_recv() {
                    carry_out(&mut folder, order);
                }
            })?;
        Ok(Self { orders })
    }

    /// Gives a process what is there, in the order of its instructions. Tells which keys are.
    pub(super) fn fetch(
        &self,
        keys: Vec<Key>,
        to: mpsc::Sender<ToEngine>,
    ) -> oneshot::Receiver<Vec<Key>> {
        let (kept, told) = oneshot::channel();
        self.order(Order::Fetch { keys, to, kept });
        told
    }

    /// Writes a piece of a state. Tells whether it was taken.
    pub(super) fn put(&self, key: Key, piece: Piece) -> oneshot::Receiver<bool> {
        let (written, told) = oneshot::channel();
        self.order(Order::Put {
            key,
            piece,
            written,
        });
        told
    }

    /// Lets go of everything but these.
    pub(super) fn keep(&self, keys: Vec<Key>) {
        self.order(Order::Keep(keys));
    }

    /// Who waits for an order that is not taken hears that its answer will not come.
    fn order(&self, order: Order) {
        let _ = self.orders.try_send(order);
    }
}

/// What is known is told although nobody may be there to hear it any more.
fn carry_out(folder: &mut Folder, order: Order) {
    match order {
        Order::Fetch { keys, to, kept } => {
            let _ = kept.send(fetch(folder, &keys, &to));
        }
        Order::Put {
            key,
            piece,
            written,
        } => {
            let result = folder.put(key, &piece);
            if let Err(error) = &result {
                tracing::warn!(error = %error, "a computed beginning is not kept for the next start");
            }
            let _ = written.send(result.is_ok());
        }
        Order::Keep(keys) => folder.keep(&keys),
    }
}

fn fetch(folder: &mut Folder, keys: &[Key], to: &mpsc::Sender<ToEngine>) -> Vec<Key> {
    let mut found: Vec<Key> = Vec::new();
    for (instruction, key) in (0_u16..).zip(keys) {
        if found.contains(key) {
            continue; // two tasks begin alike: once is enough
        }
        let mut give = |piece| to.blocking_send(ToEngine::RestorePrefix(piece)).is_ok();
        match folder.read(*key, instruction, &mut give) {
            Ok(true) => found.push(*key),
            Ok(false) => {}
            Err(error) => {
                // What it was given of this one, the process may forget.
                give(Piece::void(instruction));
                folder.remove(*key, &error);
            }
        }
    }
    found
}

/// Of each instruction of a load, what the state of its beginning depends on, digested;
/// `weights` tells those of the model and of what was added to it.
pub(super) fn keys(weights: &str, load: &Load) -> Vec<Key> {
    let Ok(options) = postcard::to_stdvec(&load.options) else {
        return Vec::new();
    };
    let devices = [
        u8::from(cfg!(feature = "cuda")),
        u8::from(cfg!(feature = "vulkan")),
    ];
    let common = Key::of(&[
        &[folder::VERSION],
        env!("CARGO_PKG_VERSION").as_bytes(),
        RUNTIME.as_bytes(),
        std::env::consts::ARCH.as_bytes(),
        &devices,
        weights.as_bytes(),
        // All of them: one that is forgotten costs an answer, one too many a second of computing.
        &options,
    ]);
    let heads = load.instructions.iter().map(|it| it.head.as_bytes());
    heads.map(|head| Key::of(&[common.bytes(), head])).collect()
}

#[cfg(test)]
mod tests;
