//! A disk in memory whose power is cut at the n-th durable step.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use crate::ota::disk::Disk;

type Files = BTreeMap<String, Vec<u8>>;

/// Clones are handles on the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimDisk(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    /// What survives whatever happens.
    durable: Files,
    /// What was done since, in order. A power cut keeps the beginning of it.
    since: Vec<Change>,
    /// Durable steps so far.
    steps: usize,
    /// The step at which the power goes.
    cut_at: Option<usize>,
    is_dark: bool,
    /// Files that give an error when they are read.
    unreadable: Vec<String>,
}

#[derive(Clone, Debug)]
enum Change {
    Put(String, Vec<u8>),
    Rename(String, String),
    Remove(String),
}

impl Change {
    fn apply(&self, files: &mut Files) {
        match self {
            Self::Put(path, bytes) => {
                files.insert(path.clone(), bytes.clone());
            }
            Self::Rename(from, to) => {
                if let Some(bytes) = files.remove(from) {
                    files.insert(to.clone(), bytes);
                }
            }
            Self::Remove(path) => {
                files.remove(path);
            }
        }
    }

    fn folder(&self) -> &str {
        let (Self::Put(path, _) | Self::Rename(_, path) | Self::Remove(path)) = self;
        folder_of(path)
    }
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// How much of what was not forced out a power cut keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kept {
    Nothing,
    Half,
    Everything,
}

impl Kept {
    pub(crate) const ALL: [Self; 3] = [Self::Nothing, Self::Half, Self::Everything];
}

impl State {
    fn files(&self) -> Files {
        let mut files = self.durable.clone();
        for change in &self.since {
            change.apply(&mut files);
        }
        files
    }

    /// Counts a step. The one in which the power goes may still have happened.
    fn step(&mut self, change: Option<Change>, torn: Option<Change>) -> io::Result<()> {
        if self.is_dark {
            return Err(io::Error::other("no power"));
        }
        if self.cut_at == Some(self.steps) {
            self.is_dark = true;
            self.since.extend(torn);
            return Err(io::Error::other("the power went"));
        }
        self.steps += 1;
        self.since.extend(change);
        Ok(())
    }
}

impl SimDisk {
    fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    pub(crate) fn steps(&self) -> usize {
        self.state().steps
    }

    /// The power goes in the n-th step from now.
    pub(crate) fn cut_after(&self, steps: usize) {
        let mut state = self.state();
        state.cut_at = Some(state.steps + steps);
    }

    /// Power again, with what is left.
    pub(crate) fn restart(&self, kept: Kept) {
        let mut state = self.state();
        let all = state.since.len();
        let keep = match kept {
            Kept::Nothing => 0,
            Kept::Half => all.div_ceil(2),
            Kept::Everything => all,
        };
        state.since.truncate(keep);
        state.durable = state.files();
        state.since.clear();
        state.cut_at = None;
        state.is_dark = false;
    }

    /// What a reader sees.
    pub(crate) fn files(&self) -> Files {
        self.state().files()
    }

    /// Puts a file there, whatever was there.
    pub(crate) fn plant(&self, path: &str, bytes: &[u8]) {
        let mut state = self.state();
        state.durable = state.files();
        state.since.clear();
        state.durable.insert(path.to_owned(), bytes.to_vec());
    }

    /// Takes a file away.
    pub(crate) fn lose(&self, path: &str) {
        let mut state = self.state();
        state.durable = state.files();
        state.since.clear();
        assert!(state.durable.remove(path).is_some(), "{path} is not there");
    }

    /// Reading the file gives an error from now on.
    pub(crate) fn make_unreadable(&self, path: &str) {
        self.state().unreadable.push(path.to_owned());
    }
}

impl Disk for SimDisk {
    fn read(&mut self, path: &str, limit_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        if self.state().unreadable.iter().any(|bad| bad == path) {
            return Err(io::Error::other("bad sector"));
        }
        let bytes = self.files().remove(path);
        Ok(bytes.filter(|bytes| bytes.len() as u64 <= limit_bytes))
    }

    fn list(&mut self, folder: &str) -> io::Result<Vec<String>> {
        let files = self.files();
        let inside = files.keys().filter(|path| folder_of(path) == folder);
        let name = |path: &String| path.rsplit('/').next().unwrap_or(path).to_owned();
        Ok(inside.map(name).collect())
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let whole = Change::Put(path.to_owned(), bytes.to_vec());
        let half = Change::Put(path.to_owned(), bytes[..bytes.len() / 2].to_vec());
        self.state().step(Some(whole), Some(half))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let change = Change::Rename(from.to_owned(), to.to_owned());
        self.state().step(Some(change.clone()), Some(change))
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        let change = Change::Remove(path.to_owned());
        self.state().step(Some(change.clone()), Some(change))
    }

    fn sync_folder(&mut self, folder: &str) -> io::Result<()> {
        let mut state = self.state();
        state.step(None, None)?;
        let since = std::mem::take(&mut state.since);
        for change in since {
            if change.folder() == folder {
                change.apply(&mut state.durable);
            } else {
                state.since.push(change);
            }
        }
        Ok(())
    }
}
