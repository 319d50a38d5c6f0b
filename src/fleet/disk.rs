//! Reading with limits, and putting files in their place so that a server never shows half of one.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use super::fault::{Done, FleetError};
use crate::ota::disk::BESIDE;

/// A whole file; more than so many bytes are refused.
pub(super) fn bytes(path: &Path, limit_bytes: u64) -> Done<Vec<u8>> {
    let at = FleetError::at;
    let file = File::open(path).map_err(at(path))?;
    let mut bytes = Vec::new();
    file.take(limit_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(at(path))?;
    if bytes.len() as u64 > limit_bytes {
        let what = format!("{}: more than {limit_bytes} bytes", path.display());
        return Err(FleetError::Refused(what));
    }
    Ok(bytes)
}

/// A whole file as text.
pub(super) fn text(path: &Path, limit_bytes: u64) -> Done<String> {
    let bytes = bytes(path, limit_bytes)?;
    String::from_utf8(bytes)
        .map_err(|_| FleetError::Refused(format!("{}: is no text", path.display())))
}

/// Puts a copy of a file somewhere, durable and in one step. A link does where the file system is
/// the same.
pub(super) fn place(from: &Path, to: &Path) -> Done<()> {
    let above = above(to);
    fs::create_dir_all(above).map_err(FleetError::at(above))?;
    let beside = beside(to);
    let _ = fs::remove_file(&beside); // what a crash may have left
    fs::hard_link(from, &beside)
        .or_else(|_| fs::copy(from, &beside).map(drop))
        .map_err(FleetError::at(from))?;
    settle(&beside, to).map_err(FleetError::at(to))
}

/// Writes a file, durable and in one step.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Done<()> {
    let above = above(path);
    fs::create_dir_all(above).map_err(FleetError::at(above))?;
    let beside = beside(path);
    let written = fs::write(&beside, bytes).and_then(|()| settle(&beside, path));
    written.map_err(FleetError::at(path))
}

/// The folder of a file; of a bare name, the one where we are.
fn above(path: &Path) -> &Path {
    let above = path.parent().filter(|it| !it.as_os_str().is_empty());
    above.unwrap_or(Path::new("."))
}

fn beside(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(BESIDE);
    name.into()
}

fn settle(beside: &Path, to: &Path) -> io::Result<()> {
    File::open(beside)?.sync_all()?;
    fs::rename(beside, to)?;
    File::open(above(to))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_lies_where_we_are() {
        assert_eq!(above(Path::new("a")), Path::new("."));
        assert_eq!(above(Path::new("a/b")), Path::new("a"));
        assert_eq!(above(Path::new("/a")), Path::new("/"));
    }
}
