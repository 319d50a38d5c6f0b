//! A few words that outlive a restart: a small file of text, replaced as a whole.
//!
//! Written beside, forced out, renamed, and the folder forced out: either the new words or the old
//! ones are there afterwards, whatever happens.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// Bytes of a note: a number, or a few names.
const MAX_BYTES: u64 = 64 << 10;

/// What it says; none where there is none.
pub(super) fn read(path: &Path) -> io::Result<Option<String>> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => file.take(MAX_BYTES).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(text))
}

/// Replaces what it says.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let folder = path.parent().filter(|it| *it != Path::new(""));
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_and_a_damaged_note_is_told_from_none() {
        let folder = std::env::temp_dir().join(format!("lineside-note-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("note");
        assert_eq!(read(&path).unwrap(), None);
        for text in ["first", ""] {
            replace(&path, text).unwrap();
            assert_eq!(read(&path).unwrap().as_deref(), Some(text));
        }
        fs::write(&path, b"\xFF").unwrap();
        assert!(read(&path).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
