//! The file that keeps what was learnt over a restart.
//!
//! Replaced as a whole: written beside, forced out, renamed, and the folder forced out. So either
//! what was learnt last is there, or what was before, whatever happens. People judge a few answers
//! a minute at most, so each verdict is written at once.
//!
//! How it fails: a file that cannot be read is left for whoever looks into it until it is replaced;
//! the caller says so in the log. One that cannot be written leaves the last one in force, and what
//! is in memory goes on.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Bytes of the file: for as many tasks as a package may have, all verdicts that are held and all
/// changes on record, twice over.
const MAX_BYTES: u64 = 4 << 20;

/// Where it lies below the state's folder.
pub fn path_in(state_dir: &Path) -> PathBuf {
    state_dir.join("confidence").join("learnt")
}

/// Its bytes; none where there is no file.
pub fn load(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Replaces it.
pub fn store(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|it| *it != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}
