//! A release: what whoever publishes a package lays out for devices to fetch.
//!
//! ```text
//!  package folder ─► manifest_of ─► NAME-SEQ.json ─► signed as a TUF target
//!                 └► lay_out ─► ROOT/objects/sha256/ab/HASH
//! ```
//!
//! The other side of [`update`](super::update::update): every file is hashed once, chunk by chunk,
//! and laid where a [source](super::source) is asked for it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::manifest::{self, Facts, Manifest, Variant};
use super::object::{Cutter, Object};
use super::store::object_path;
use super::update::Target;
use crate::package::{self, Digest, FilePath, Package};

/// Bytes that are hashed at a time.
const PIECE_BYTES: usize = 1 << 17;

/// Makes the manifest of a package: hashes every file.
pub fn manifest_of(package: &Package, chunk_bytes: u64) -> io::Result<Manifest> {
    let folder = package.folder();
    let file = |path: &FilePath| {
        Ok::<_, io::Error>(manifest::File {
            path: path.clone(),
            object: cut(&folder.join(path.as_str()), chunk_bytes)?,
        })
    };
    let mut variants = Vec::new();
    for (variant, header) in package.variants() {
        variants.push(Variant {
            quantization: variant.quantization.clone(),
            file: file(&variant.file.path)?,
            facts: Facts::of(header),
        });
    }
    let own = package.manifest();
    let adapter = own.adapter.iter().map(|adapter| &adapter.file.path);
    let files = adapter.chain(own.files.iter().map(|file| &file.path));
    Ok(Manifest {
        name: own.name.clone(),
        seq: own.seq,
        sheet: cut(&folder.join(package::MANIFEST), chunk_bytes)?,
        variants,
        files: files.map(file).collect::<io::Result<_>>()?,
    })
}

/// A file as an object.
pub fn cut(path: &Path, chunk_bytes: u64) -> io::Result<Object> {
    let mut cutter = Cutter::new(chunk_bytes);
    let mut file = File::open(path)?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => cutter.take(&piece[..read]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let object = cutter.finish();
    object.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Lays the objects of a package out below a folder. What lies there already stays: it has the
/// same digest. The manifest is not among them: it is a target, and whoever signs lays it out.
pub fn lay_out(package: &Package, manifest: &Manifest, root: &Path) -> io::Result<()> {
    let folder = package.folder();
    let models = manifest.variants.iter().map(|variant| &variant.file);
    let files = models.chain(&manifest.files);
    let files = files.map(|file| (folder.join(file.path.as_str()), &file.object));
    let sheet = (folder.join(package::MANIFEST), &manifest.sheet);
    for (from, object) in files.chain([sheet]) {
        let to: PathBuf = root.join(object_path(object.sha256()));
        if to.exists() {
            continue;
        }
        let above = to.parent().unwrap_or(root);
        fs::create_dir_all(above)?;
        // Under another name first: a server may be asked while this is copied.
        let beside = to.with_extension("new");
        fs::copy(&from, &beside)?;
        File::open(&beside)?.sync_all()?;
        fs::rename(&beside, &to)?;
        File::open(above)?.sync_all()?;
    }
    Ok(())
}

/// The target that a manifest is, for whoever signs it.
pub fn target_of(manifest: &Manifest) -> (Target, String) {
    let text = manifest.to_json();
    let target = Target {
        path: manifest.target_name(),
        length: text.len() as u64,
        sha256: Digest::of(text.as_bytes()).0,
        custom: None,
    };
    (target, text)
}
