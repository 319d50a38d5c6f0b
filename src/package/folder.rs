//! The folder of a package on the disk: what lies there, and whether it is what was listed.
//!
//! Invariants: no link is followed, nothing outside the folder is opened, nothing is read beyond
//! its limit, and nothing is written.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::faults::Faults;
use super::manifest::{Digest, Listed, MAX_FILES, MAX_PATH_PARTS, MAX_VARIANTS};
use super::sheet::{FIGURES, UNLISTED};

/// Entries of a folder that are looked at: twice what a manifest can list.
pub const MAX_ENTRIES: usize = 2 * (MAX_FILES + MAX_VARIANTS + 1);
/// Bytes that are hashed at a time.
const PIECE_BYTES: usize = 1 << 18;
/// What the README's pictures end in.
const PICTURES: [&str; 5] = ["svg", "png", "jpg", "jpeg", "webp"];

/// Walks the folder. Returns the size of every plain file; what is neither plain file nor folder
/// is a fault.
pub(super) fn contents(folder: &Path, faults: &mut Faults) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut open = vec![(folder.to_owned(), String::new(), 1)];
    let mut entries = 0;
    while let Some((at, above, depth)) = open.pop() {
        let list = match fs::read_dir(&at) {
            Ok(list) => list,
            Err(e) => {
                let wanted = format!("a folder that can be read ({e})");
                faults.of_file(&at, "this folder cannot be used", &wanted);
                continue;
            }
        };
        for entry in list {
            entries += 1;
            if entries > MAX_ENTRIES {
                let wanted = format!("at most {MAX_ENTRIES} files and folders");
                faults.of_file(folder, "too much lies here", &wanted);
                return found;
            }
            let Ok(entry) = entry else { continue };
            let name = entry.file_name();
            let name = format!("{above}{}", name.to_string_lossy());
            // Of the entry itself: a link is not followed.
            match entry.metadata() {
                Ok(about) if about.is_dir() && depth < MAX_PATH_PARTS => {
                    open.push((entry.path(), format!("{name}/"), depth + 1));
                }
                Ok(about) if about.is_file() => {
                    found.insert(name, about.len());
                }
                Ok(about) => {
                    let what = if about.is_symlink() {
                        "a link"
                    } else if about.is_dir() {
                        "a folder too deep below the package's"
                    } else {
                        "neither a file nor a folder"
                    };
                    let wanted = "plain files only: a package is what lies in its folder";
                    faults.of_file(&entry.path(), what, wanted);
                }
                Err(e) => {
                    let wanted = format!("a file that can be looked at ({e})");
                    faults.of_file(&entry.path(), "this file cannot be used", &wanted);
                }
            }
        }
    }
    found
}

/// Holds what lies there against what is listed, sizes included.
pub(super) fn compare(
    folder: &Path,
    found: &BTreeMap<String, u64>,
    listed: &[&Listed],
    faults: &mut Faults,
) {
    for file in listed {
        let at = folder.join(file.path.as_str());
        match found.get(file.path.as_str()) {
            None => faults.of_file(&at, "(not there)", "the file that the manifest lists"),
            Some(bytes) if *bytes != file.bytes => {
                let wanted = format!("{} bytes, as the manifest says", file.bytes);
                faults.of_file(&at, format!("{bytes} bytes"), &wanted);
            }
            Some(_) => {}
        }
    }
    for name in found.keys() {
        let known = listed.iter().any(|file| file.path.as_str() == name);
        if !known && !is_free(name) {
            let wanted = "a [[file]] that lists it, or to be gone: all of a package is hashed";
            faults.of_file(&folder.join(name), "(not listed)", wanted);
        }
    }
}

/// Whether a file need not be listed: it is for people.
fn is_free(name: &str) -> bool {
    let picture = || {
        let below = name.strip_prefix(FIGURES)?.strip_prefix('/')?;
        let (_, ending) = below.rsplit_once('.')?;
        Some(!below.contains('/') && PICTURES.contains(&ending))
    };
    UNLISTED.contains(&name) || picture() == Some(true)
}

/// Opens a file, and nothing that a link leads to.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // NONBLOCK: a pipe that took the file's place must not hold the reader for ever.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.cast_signed())
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no plain file"))
    }
}

/// A small file's text; the error says what would be right.
pub(super) fn text(path: &Path, max_bytes: u64) -> Result<String, String> {
    let file = open(path).map_err(|e| format!("a file that can be read ({e})"))?;
    let mut bytes = Vec::new();
    file.take(max_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("a file that can be read ({e})"))?;
    if bytes.len() as u64 > max_bytes {
        return Err(format!("a file of at most {max_bytes} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "a file in UTF-8".into())
}

/// Size and digest of a file, piece by piece; tells how many bytes more were read.
pub(super) fn digest_aloud(
    path: &Path,
    on_bytes: &mut dyn FnMut(u64),
) -> io::Result<(u64, Digest)> {
    digest_of(open(path)?, on_bytes)
}

fn digest_of(mut file: impl Read, on_bytes: &mut dyn FnMut(u64)) -> io::Result<(u64, Digest)> {
    let mut context = Context::new(&SHA256);
    // It may be the plain text of what lies sealed.
    let mut piece = Zeroizing::new(vec![0; PIECE_BYTES]);
    let mut bytes = 0;
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => {
                context.update(&piece[..count]);
                bytes += count as u64;
                on_bytes(count as u64);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok((bytes, Digest::finished(&context.finish())))
}

/// Hashes every listed file; the faults say which are not what the manifest says. `open` gives a
/// file's bytes, and how many there are.
pub(super) fn verify<R: Read>(
    folder: &Path,
    listed: &[&Listed],
    open: impl Fn(&Listed) -> io::Result<(R, u64)>,
    faults: &mut Faults,
    on_bytes: &mut dyn FnMut(u64),
) {
    for file in listed {
        let at: PathBuf = folder.join(file.path.as_str());
        match open(file).and_then(|(bytes, _)| digest_of(bytes, on_bytes)) {
            Err(e) => {
                let wanted = format!("a file that can be read ({e})");
                faults.of_file(&at, "this file cannot be used", &wanted);
            }
            Ok((bytes, _)) if bytes != file.bytes => {
                let wanted = format!("{} bytes, as the manifest says", file.bytes);
                faults.of_file(&at, format!("{bytes} bytes"), &wanted);
            }
            Ok((_, sha256)) if sha256 != file.sha256 => {
                let wanted = format!("{}, as the manifest says", file.sha256);
                faults.of_file(&at, format!("its SHA-256 is {sha256}"), &wanted);
            }
            Ok(_) => {}
        }
    }
}
