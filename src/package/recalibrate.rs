//! A package with other curves, or other points of risk: a new manifest takes the place of the old
//! one in one step.
//!
//! The manifest is written beside the folder and read back before it is renamed into it, so
//! nobody ever sees half of one, and one that would not open never gets there. What stands in it
//! otherwise stays; its comments do not. The number counts up, because a package that says
//! something else is another one; only who makes a package that nobody has yet may keep it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::faults::Faults;
use super::manifest::{Curve, MAX_SEQ, Manifest, Risk};
use super::{MANIFEST, Package, sheet, write};

/// Why the package is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RecalibrateError {
    /// It is not the one that was looked at, or it cannot be opened afterwards.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// Its manifest is another one than was looked at.
    #[error("{} was changed meanwhile: it stays as it is", .0.display())]
    Changed(PathBuf),
    /// Its number cannot count up.
    #[error("number {MAX_SEQ} is the last one")]
    LastNumber,
    /// The disk.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// What was found of a package.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// Each takes the place of the one for the same task and quantization; the others stay.
    pub curves: Vec<Curve>,
    /// All that are promised from now on.
    pub risks: Vec<Risk>,
}

/// The number of the package that comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// The next one: somebody may have this one.
    Next,
    /// The same one: nobody has it yet.
    Same,
}

/// Puts what was found into the package.
pub fn recalibrate(
    package: &Package,
    found: Findings,
    number: Number,
) -> Result<Package, RecalibrateError> {
    let folder = fs::canonicalize(package.folder()).map_err(at(package.folder()))?;
    let file = folder.join(MANIFEST);
    if Package::open(&folder)?.manifest() != package.manifest() {
        return Err(RecalibrateError::Changed(file));
    }
    let mut manifest: Manifest = package.manifest().clone();
    manifest.seq += match number {
        Number::Next => 1,
        Number::Same => 0,
    };
    if manifest.seq > MAX_SEQ {
        return Err(RecalibrateError::LastNumber);
    }
    manifest.risks = found.risks;
    for curve in found.curves {
        let same = |it: &&mut Curve| it.task == curve.task && it.quantization == curve.quantization;
        match manifest.curves.iter_mut().find(same) {
            Some(place) => *place = curve,
            None => manifest.curves.push(curve),
        }
    }
    let text = write::manifest(&manifest);
    sheet::manifest(&text, &file)?;
    replace(&folder, &file, &text)?;
    Ok(Package::open(package.folder())?)
}

/// Writes beside the folder, because what lies in it must be listed.
fn replace(folder: &Path, file: &Path, text: &str) -> Result<(), RecalibrateError> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let fresh = folder.with_file_name(format!(".{name}.manifest-{}", std::process::id()));
    let written = File::create(&fresh).and_then(|mut fresh| {
        fresh.write_all(text.as_bytes())?;
        fresh.sync_all()
    });
    let moved = written.and_then(|()| fs::rename(&fresh, file));
    if let Err(error) = moved {
        let _ = fs::remove_file(&fresh); // it may not be there
        return Err(at(&fresh)(error));
    }
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(at(folder))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RecalibrateError {
    let path = path.to_owned();
    |error| RecalibrateError::Io { path, error }
}
