//! What goes, so that the disk does not fill up.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::super::manifest::{MAX_MANIFEST_BYTES, Manifest};
use super::super::object::Object;
use super::ground::Ground;
use super::stage::{SIGNED, names_in};
use super::{PackageId, Store, StoreError, seal};
use crate::config::Form;
use crate::safe::ENDING;

/// What stays, whatever it takes.
#[derive(Clone, Debug, Default)]
pub struct Keep {
    /// Packages: the committed one, the one before it, and one that is on its way.
    pub packages: Vec<PackageId>,
    /// Objects that are being fetched or wait to be staged.
    pub objects: Vec<Object>,
    /// Bytes that all packages together may have. Those that are kept may exceed it.
    pub limit_bytes: u64,
}

/// What went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Packages, oldest first.
    pub packages: Vec<PackageId>,
    /// Objects of no package, and downloads that nobody goes on with.
    pub files: usize,
    /// Bytes on the disk that this gave back.
    pub bytes: u64,
    /// Bytes that the packages have which stay.
    pub kept_bytes: u64,
}

/// A package and what it would give back.
struct Weighed {
    id: PackageId,
    made: SystemTime,
    /// Files by their number on the disk, and their bytes: packages share them.
    files: BTreeSet<(u64, u64)>,
}

impl<G: Ground> Store<G> {
    /// Removes packages above the limit, oldest first, and every object and beginning of one that
    /// nobody refers to.
    pub fn collect(&mut self, keep: &Keep) -> Result<Collected, StoreError> {
        let before = self.bytes()?;
        let mut collected = Collected::default();
        let mut there = Vec::new();
        for id in self.packages()? {
            there.push(self.weigh(id)?);
        }
        there.sort_by(|a, b| (a.made, &a.id).cmp(&(b.made, &b.id)));
        loop {
            let held: BTreeSet<_> = there.iter().flat_map(|it| it.files.iter()).collect();
            collected.kept_bytes = held.iter().map(|(_, bytes)| *bytes).sum();
            let free = |it: &Weighed| !keep.packages.contains(&it.id);
            let over = collected.kept_bytes > keep.limit_bytes;
            let Some(oldest) = there.iter().position(free).filter(|_| over) else {
                break;
            };
            let gone = there.remove(oldest);
            self.drop_package(&gone.id)?;
            collected.packages.push(gone.id);
        }
        let wanted = self.wanted(&there, keep)?;
        let mut loose = self.loose()?;
        // The object before its root: a root alone is nothing, an object alone has to be read anew.
        loose.sort_by_key(|path| path.extension() == Some(OsStr::new("root")));
        for path in loose {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !wanted.contains(&*name) {
                self.hand.remove(&path).map_err(StoreError::at(&path))?;
                collected.files += 1;
            }
        }
        collected.bytes = before.saturating_sub(self.bytes()?);
        Ok(collected)
    }

    /// Removes a package. Its folder loses its name first, so that nobody opens half of it.
    fn drop_package(&mut self, id: &PackageId) -> Result<(), StoreError> {
        let place = self.root.join("packages").join(&id.name);
        let (from, to) = (
            place.join(id.seq.to_string()),
            place.join(format!(".{}.making", id.seq)),
        );
        let hand = &mut self.hand;
        hand.remove_folder(&to)
            .and_then(|()| hand.rename(&from, &to))
            .and_then(|()| hand.sync_folder(&place))
            .and_then(|()| hand.remove_folder(&to))
            .map_err(StoreError::at(&from))
    }

    fn weigh(&self, id: PackageId) -> Result<Weighed, StoreError> {
        let folder = self.root.join("packages").join(&id.name);
        let folder = folder.join(id.seq.to_string());
        let mut files = BTreeSet::new();
        walk(&folder, &mut |_, about| {
            files.insert((about.ino(), about.len()));
        })
        .map_err(StoreError::at(&folder))?;
        let made = fs::metadata(folder.join(SIGNED)).and_then(|about| about.modified());
        let made = made.unwrap_or(SystemTime::UNIX_EPOCH); // without it, it is the first to go
        Ok(Weighed { id, made, files })
    }

    /// Names of files that stay.
    fn wanted(&self, there: &[Weighed], keep: &Keep) -> Result<BTreeSet<String>, StoreError> {
        let (mut wanted, mut unsealed) = (BTreeSet::new(), Vec::new());
        for object in &keep.objects {
            for ending in ["", ENDING] {
                let name = format!("{}.{}{ending}.part", object.sha256(), object.root());
                wanted.insert(name);
            }
        }
        let mut want = |object: &Object| {
            let hash = object.sha256();
            for ending in ["", ENDING] {
                wanted.insert(format!("{hash}{ending}.root"));
                wanted.insert(format!("{hash}{ending}"));
            }
        };
        keep.objects.iter().for_each(&mut want);
        for Weighed { id, .. } in there {
            let folder = self.root.join("packages").join(&id.name);
            let path = folder.join(id.seq.to_string()).join(SIGNED);
            let mut bytes = Vec::new();
            let read = fs::File::open(&path)
                .and_then(|file| file.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes));
            match read {
                Ok(_) => {}
                // A package without its manifest serves from its own links.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(StoreError::at(&path)(e)),
            }
            if let Ok(manifest) = Manifest::parse(&bytes) {
                want(&manifest.sheet);
                let models = manifest.variants.iter().map(|it| &it.file);
                models
                    .chain(&manifest.files)
                    .for_each(|it| want(&it.object));
                if self.sealing.form() == Form::Encrypted {
                    let models = seal::secret_objects(&manifest);
                    unsealed.extend(models.map(|it| it.sha256().to_string()));
                }
            }
        }
        // What lies plain goes where it is to lie sealed; a package that has it keeps its own link.
        for hash in unsealed {
            wanted.remove(&format!("{hash}.root"));
            wanted.remove(&hash);
        }
        Ok(wanted)
    }

    /// Every object, every beginning of one, and every folder of a package that was left half made.
    fn loose(&mut self) -> Result<Vec<PathBuf>, StoreError> {
        let mut found = Vec::new();
        for folder in ["objects", "incoming"] {
            let folder = self.root.join(folder);
            let walked = walk(&folder, &mut |path, _| found.push(path.to_owned()));
            walked.map_err(StoreError::at(&folder))?;
        }
        let packages = self.root.join("packages");
        for name in names_in(&packages).map_err(StoreError::at(&packages))? {
            let folder = packages.join(name);
            for entry in names_in(&folder).map_err(StoreError::at(&folder))? {
                if entry.starts_with('.') {
                    let leavings = folder.join(entry);
                    let gone = self.hand.remove_folder(&leavings);
                    gone.map_err(StoreError::at(&leavings))?;
                }
            }
        }
        Ok(found)
    }

    /// Bytes of the store; a file with several names counts once.
    pub fn bytes(&self) -> Result<u64, StoreError> {
        let mut files = BTreeSet::new();
        let walked = walk(&self.root, &mut |_, about| {
            files.insert((about.ino(), about.len()));
        });
        walked.map_err(StoreError::at(&self.root))?;
        Ok(files.iter().map(|(_, bytes)| *bytes).sum())
    }
}

/// Sees every plain file below a folder. No link is followed.
fn walk(folder: &Path, see: &mut impl FnMut(&Path, &fs::Metadata)) -> io::Result<()> {
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let about = entry.metadata()?;
            if about.is_dir() {
                open.push(entry.path());
            } else if about.is_file() {
                see(&entry.path(), &about);
            }
        }
    }
    Ok(())
}
