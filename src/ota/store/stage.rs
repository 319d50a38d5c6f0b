//! From objects to a folder that can be served.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::object::Object;
use super::ground::Ground;
use super::{Store, StoreError};
use crate::package::{Digest, Faults, FilePath, MANIFEST, Package, is_package_name};

/// The signed manifest, beside the package's folder.
pub(super) const SIGNED: &str = "manifest.json";
/// The folder that is served.
const SERVED: &str = "package";

/// A package by its name and number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageId {
    /// The name.
    pub name: String,
    /// The number.
    pub seq: u64,
}

impl PackageId {
    /// `NAME-SEQ`; none where it is another text.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, seq) = text.rsplit_once('-')?;
        let plain = seq.bytes().all(|byte| byte.is_ascii_digit()) && !seq.starts_with('0');
        let seq = seq.parse().ok().filter(|_| plain)?;
        is_package_name(name).then(|| Self {
            name: name.to_owned(),
            seq,
        })
    }
}

impl fmt::Display for PackageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.name, self.seq)
    }
}

/// What a package's folder is made of; all objects are in the store.
#[derive(Debug)]
pub struct Parcel<'a> {
    /// What it becomes.
    pub id: PackageId,
    /// The signed manifest.
    pub signed: &'a Object,
    /// The folder's own manifest, which lists no more than lies there.
    pub sheet: &'a str,
    /// Every file.
    pub files: Vec<(&'a FilePath, &'a Object)>,
}

/// Why there is no such package.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder is no package that could be served.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// Another package has this name and number.
    #[error("{0} is here already with other content: a number is given once")]
    Taken(PackageId),
}

/// Where a package lies in the store of a folder, for those who read it while somebody else holds
/// the store.
pub fn folder_in(root: &Path, id: &PackageId) -> PathBuf {
    root_in(root, id).join(SERVED)
}

fn root_in(root: &Path, id: &PackageId) -> PathBuf {
    let folder = root.join("packages").join(&id.name);
    folder.join(id.seq.to_string())
}

/// The digest of the signed manifest of a package that is here.
pub fn signed_in(root: &Path, id: &PackageId) -> Result<Digest, StoreError> {
    let path = root_in(root, id).join(SIGNED);
    super::digest(&path).map_err(StoreError::at(&path))
}

/// Every package that is in the store of a folder.
pub fn packages_in(root: &Path) -> Result<Vec<PackageId>, StoreError> {
    let mut found = Vec::new();
    let packages = root.join("packages");
    for name in names_in(&packages).map_err(StoreError::at(&packages))? {
        let folder = packages.join(&name);
        if !is_package_name(&name) || !folder.is_dir() {
            continue;
        }
        let numbers = names_in(&folder).map_err(StoreError::at(&folder))?;
        let numbers = numbers.iter().filter_map(|it| it.parse().ok());
        found.extend(numbers.map(|seq| PackageId {
            name: name.clone(),
            seq,
        }));
    }
    found.sort();
    Ok(found)
}

impl<G: Ground> Store<G> {
    fn package_root(&self, id: &PackageId) -> PathBuf {
        root_in(&self.root, id)
    }

    /// Where a package lies that was staged.
    pub fn package_folder(&self, id: &PackageId) -> PathBuf {
        self.package_root(id).join(SERVED)
    }

    /// Every package that is here.
    pub fn packages(&self) -> Result<Vec<PackageId>, StoreError> {
        packages_in(&self.root)
    }

    /// A package that is here, whole and of the content that was signed by this digest.
    pub fn here(&self, id: &PackageId, signed: &[u8; 32]) -> Option<Package> {
        let place = self.package_root(id);
        let found = super::digest(&place.join(SIGNED)).ok()?;
        let package = || self.open_package(&place.join(SERVED)).ok();
        (found.0 == *signed).then(package).flatten()
    }

    /// Makes a package's folder, opens it like any other, and only then gives it its name. One
    /// that is here, of the same content and sound, is taken as it is.
    pub fn stage(&mut self, parcel: &Parcel<'_>) -> Result<Package, StageError> {
        let place = self.package_root(&parcel.id);
        if place.symlink_metadata().is_ok() {
            let signed = place.join(SIGNED);
            let same = super::digest(&signed).is_ok_and(|it| it == parcel.signed.sha256());
            match self.open_package(&place.join(SERVED)) {
                Ok(package) if same => return Ok(package),
                Ok(_) => return Err(StageError::Taken(parcel.id.clone())),
                // What cannot be opened serves nobody, whatever it was.
                Err(_) => {
                    let gone = self.hand.remove_folder(&place);
                    gone.map_err(StoreError::at(&place))?;
                }
            }
        }
        let above = place.parent().unwrap_or(&self.root).to_owned();
        let making = above.join(format!(".{}.making", parcel.id.seq));
        let gone = self.hand.remove_folder(&making);
        gone.map_err(StoreError::at(&making))?;
        let made = self.fill(&making, parcel);
        let opened = made.and_then(|()| Ok(self.open_package(&making.join(SERVED))?));
        if let Err(error) = opened {
            // Best effort: what is left is cleared away before the next attempt.
            let _ = self.hand.remove_folder(&making);
            return Err(error);
        }
        let named = self.hand.rename(&making, &place);
        named.map_err(StoreError::at(&place))?;
        let synced = self.hand.sync_folder(&above);
        synced.map_err(StoreError::at(&above))?;
        Ok(self.open_package(&place.join(SERVED))?)
    }

    fn fill(&mut self, making: &Path, parcel: &Parcel<'_>) -> Result<(), StageError> {
        let served = making.join(SERVED);
        self.hand.folder(&served).map_err(StoreError::at(&served))?;
        let mut folders = vec![making.to_owned(), served.clone()];
        let signed = (making.join(SIGNED), parcel.signed);
        let files = parcel.files.iter();
        let files = files.map(|(path, object)| {
            let name = format!("{}{}", path.as_str(), self.ending(object));
            (served.join(name), *object)
        });
        let files: Vec<_> = files.collect();
        for (to, object) in files.into_iter().chain([signed]) {
            let folder = to.parent().unwrap_or(&served);
            self.hand.folder(folder).map_err(StoreError::at(folder))?;
            if !folders.iter().any(|known| known == folder) {
                folders.push(folder.to_owned());
            }
            let linked = self.hand.link(&self.object_file(object), &to);
            linked.map_err(StoreError::at(&to))?;
        }
        let sheet = served.join(MANIFEST);
        let written = self.hand.whole(&sheet, parcel.sheet.as_bytes());
        written.map_err(StoreError::at(&sheet))?;
        for folder in folders {
            let synced = self.hand.sync_folder(&folder);
            synced.map_err(StoreError::at(&folder))?;
        }
        Ok(())
    }

    /// Makes `current` lead to a package. It is derived: whoever decides keeps it elsewhere.
    pub fn point(&mut self, id: &PackageId) -> Result<(), StoreError> {
        let link = self.root.join("current");
        let to = PathBuf::from("packages").join(&id.name);
        let to = to.join(id.seq.to_string()).join(SERVED);
        self.hand.point(&link, &to).map_err(StoreError::at(&link))
    }
}

/// The names in a folder; what is no text is none of ours.
pub(super) fn names_in(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}
