//! The desk: the folder beside a repository where changes lie until they are published. No server
//! shows it.
//!
//! ```text
//!  REPO.desk/anchor.json          the first root, which a repository that was swapped must still follow
//!            settings.json        how long each role's word is good
//!            lock                 one person at a time
//!            staged/metadata/…    documents, unsigned or part-signed
//!            staged/targets/…     what they speak of
//!            staged/objects/…
//!
//!   stage ─► advance ─► sign, merge ─► advance ─► … ─► publish
//!               │                         ▲
//!               └─ snapshot, once the roles below it are signed; timestamp, once the snapshot is
//! ```
//!
//! Invariants: a document that is staged has the version after the one that is published; when it
//! changes, its signatures go. Snapshot and timestamp are made only of documents that are signed
//! by all who must, because they carry the digests of the files, signatures included.

mod advance;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::disk;
use super::fault::{Done, FleetError, missing, refused, usage};
use super::papers::{Papers, State, TARGETS};
use super::post::Post;
use super::settings::Settings;
use crate::clock::Wall;
use crate::ota::tuf::Limits;
use crate::ota::tuf::draft::{Circle, Draft};
use crate::ota::tuf::metadata::{Role, Root, Targets};
use crate::package::Digest;

/// The first root, as it was made.
const ANCHOR: &str = "anchor.json";
/// Held by whoever sits there.
const LOCK: &str = "lock";
/// What is staged.
const STAGED: &str = "staged";
/// How long somebody else may be at the desk before this gives up: a refresh takes a second.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// What is to be made anew although nothing below it changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The snapshot, and with it the timestamp.
    pub snapshot: bool,
    /// The timestamp.
    pub timestamp: bool,
}

/// Signatures that a staged document lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Which document.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// How many there are.
    pub signed: u64,
    /// How many it takes.
    pub threshold: u64,
    /// The ids of those who may still sign.
    pub by: Vec<String>,
}

/// Whether what was staged before is on the desk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pile {
    /// It is.
    Taken,
    /// It stays where it is: this is about something else.
    Aside,
}

/// A repository, and what is to become of it.
pub struct Desk {
    repository: PathBuf,
    folder: PathBuf,
    now: Wall,
    pile: Pile,
    /// What holds for it.
    pub settings: Settings,
    /// What is published; nothing before the first time.
    current: Papers,
    anchor: Option<Vec<u8>>,
    staged: Papers,
    /// Files of targets that are not yet in the folder, by their places in the repository.
    files: BTreeMap<String, Vec<u8>>,
    _lock: Option<File>,
}

/// Where the desk of a repository is, if nobody says otherwise.
pub fn desk_of(repository: &Path) -> PathBuf {
    // `press/` and `press` have one desk.
    let mut name = repository.components().as_path().as_os_str().to_owned();
    name.push(".desk");
    name.into()
}

impl Desk {
    /// Sits down before a repository that is there.
    pub fn open(repository: &Path, folder: Option<&Path>, now: Wall, pile: Pile) -> Done<Self> {
        let repository = fs::canonicalize(repository).map_err(FleetError::at(repository))?;
        let folder = folder.map_or_else(|| desk_of(&repository), Path::to_owned);
        let lock = lock(&folder)?;
        let anchor = folder.join(ANCHOR);
        let anchor = if anchor.exists() {
            Some(disk::bytes(&anchor, Limits::default().root_bytes)?)
        } else {
            None
        };
        let mut desk = Self {
            settings: Settings::read(&folder)?,
            current: Papers::default(),
            anchor: anchor.clone(),
            staged: Papers::default(),
            files: BTreeMap::new(),
            _lock: lock,
            repository,
            folder,
            now,
            pile,
        };
        if pile == Pile::Taken {
            desk.staged = desk.read_staged()?;
        }
        // A repository whose first publishing broke off has files, and no timestamp.
        let begun = desk.staged.0.get(Post::Root.name());
        let is_first =
            begun.is_some_and(|root| root.content::<Root>().is_ok_and(|it| it.version == 1));
        let has_timestamp = (desk.repository.join(super::papers::METADATA))
            .join(super::papers::timestamp_file())
            .exists();
        if has_timestamp || !is_first {
            let state = State::read(&desk.repository, anchor)?;
            desk.current = state.papers;
            desk.anchor = Some(state.anchor);
            desk.drop_published();
        }
        Ok(desk)
    }

    /// Sits down before a repository that is to be made.
    pub fn begin(
        repository: &Path,
        folder: Option<&Path>,
        now: Wall,
        settings: Settings,
        keep: bool,
    ) -> Done<Self> {
        let repository = &std::path::absolute(repository).map_err(FleetError::at(repository))?;
        if repository.file_name().is_none() {
            return usage(format!(
                "{}: names no folder of its own",
                repository.display()
            ));
        }
        let folder = folder.map_or_else(|| desk_of(repository), Path::to_owned);
        for path in [repository.as_path(), &folder] {
            let is_empty = fs::read_dir(path).map_or(!path.exists(), |mut it| it.next().is_none());
            if !is_empty {
                return refused(format!("{}: is there already", path.display()));
            }
        }
        let mut lock_file = None;
        if keep {
            fs::create_dir_all(repository).map_err(FleetError::at(repository))?;
            fs::create_dir_all(&folder).map_err(FleetError::at(&folder))?;
            lock_file = lock(&folder)?;
            settings.write(&folder)?;
        }
        Ok(Self {
            repository: repository.to_owned(),
            folder,
            now,
            pile: Pile::Taken,
            settings,
            current: Papers::default(),
            anchor: None,
            staged: Papers::default(),
            files: BTreeMap::new(),
            _lock: lock_file,
        })
    }

    /// The repository's folder.
    pub fn repository(&self) -> &Path {
        &self.repository
    }

    /// Its own folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The time that holds for all of it.
    pub fn now(&self) -> Wall {
        self.now
    }

    /// What is published.
    pub fn current(&self) -> &Papers {
        &self.current
    }

    /// What is staged.
    pub fn staged(&self) -> &Papers {
        &self.staged
    }

    /// The root that trust begins with: the staged one, before the first publishing.
    pub fn anchor(&self) -> Option<Vec<u8>> {
        let first = || Some(self.staged.0.get(Post::Root.name())?.to_bytes());
        self.anchor.clone().or_else(first)
    }

    /// What would be published: what is staged, and what is published of the rest.
    pub fn latest(&self) -> Papers {
        let mut papers = self.current.clone();
        papers.0.extend(self.staged.0.clone());
        papers
    }

    /// A targets role as it would be published, to be changed.
    pub fn role(&self, post: Post) -> Done<Targets> {
        let latest = self.latest();
        if latest.0.contains_key(post.name()) {
            latest.targets(post.name())
        } else {
            refused(format!(
                "this repository has no role {post}: it was not made by `init` here"
            ))
        }
    }

    /// Stages a root. Version and expiry are set here.
    pub fn stage_root(&mut self, mut root: Root) -> Done<()> {
        root.version = self.next_version(Post::Root)?;
        root.expires = self.settings.expiry(Post::Root, self.now);
        self.stage(Post::Root, &root)
    }

    /// Stages a targets role. Version and expiry are set here.
    pub fn stage_role(&mut self, post: Post, mut targets: Targets) -> Done<()> {
        targets.version = self.next_version(post)?;
        targets.expires = self.settings.expiry(post, self.now);
        self.stage(post, &targets)
    }

    /// A file that a staged role speaks of. Returns its bytes' digest.
    pub fn stage_file(&mut self, path: &str, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.files.insert(target_place(path, digest), bytes);
        digest
    }

    /// The bytes of a target, staged or published.
    pub fn file(&self, path: &str, sha256: Digest, limit_bytes: u64) -> Done<Vec<u8>> {
        let place = target_place(path, sha256);
        if let Some(bytes) = self.files.get(&place) {
            return Ok(bytes.clone());
        }
        let staged = self.staged_folder().join(&place);
        let at = if staged.exists() {
            staged
        } else {
            self.repository.join(&place)
        };
        let bytes = disk::bytes(&at, limit_bytes)?;
        if Digest::of(&bytes) == sha256 {
            Ok(bytes)
        } else {
            refused(format!(
                "{}: its bytes are not those signed for",
                at.display()
            ))
        }
    }

    /// Where staged objects lie.
    pub fn staged_folder(&self) -> PathBuf {
        self.folder.join(STAGED)
    }

    fn stage<T: Role>(&mut self, post: Post, content: &T) -> Done<()> {
        let draft = draft(content)?;
        let same = self.staged.0.get(post.name());
        if same.is_none_or(|it| it.payload() != draft.payload()) {
            self.staged.0.insert(post.name().to_owned(), draft);
        }
        Ok(())
    }

    fn next_version(&self, post: Post) -> Done<u64> {
        let current = if self.current.0.contains_key(post.name()) {
            self.current.head(post.name())?.0
        } else {
            0
        };
        Ok(self.settings.next_version(post, current))
    }

    /// All circles that must have signed a staged document. A root is vouched for by those before
    /// it, too.
    pub fn circles(&self, role: &str) -> Done<Vec<Circle>> {
        let mut circles = vec![self.latest().circle(role)?];
        if role == Post::Root.name() && self.current.0.contains_key(role) {
            let before = self.current.circle(role)?;
            if before != circles[0] {
                circles.push(before);
            }
        }
        Ok(circles)
    }

    /// Who may sign a staged document: those who must, and those who must today. Signed by both,
    /// it holds before and after a change of keys.
    pub fn may_sign(&self, role: &str) -> Done<Circle> {
        let mut all = self.latest().circle(role)?;
        if let Ok(before) = self.current.circle(role) {
            for id in before.keyids {
                if !all.keyids.contains(&id) {
                    all.keyids.push(id);
                }
            }
            all.keys.extend(before.keys);
        }
        Ok(all)
    }

    /// A staged document, to be signed.
    pub fn staged_mut(&mut self, role: &str) -> Option<&mut Draft> {
        self.staged.0.get_mut(role)
    }

    /// The roles that are staged, in the order in which they are signed.
    pub fn staged_roles(&self) -> Vec<String> {
        let posts = Post::ALL.into_iter().map(Post::name);
        let posts = posts.filter(|role| self.staged.0.contains_key(*role));
        posts.map(str::to_owned).collect()
    }

    /// What is not signed by all who must.
    pub fn lacks(&self) -> Done<Vec<Lack>> {
        let mut lacks = Vec::new();
        for role in self.staged_roles() {
            let draft = &self.staged.0[&role];
            for circle in self.circles(&role)? {
                let signed = draft.signed_by(&circle);
                if (signed.len() as u64) < circle.threshold {
                    let open = circle.keyids.iter().filter(|id| !signed.contains(id));
                    lacks.push(Lack {
                        role: role.clone(),
                        version: self.staged.head(&role)?.0,
                        signed: signed.len() as u64,
                        threshold: circle.threshold,
                        by: open.cloned().collect(),
                    });
                }
            }
        }
        Ok(lacks)
    }

    /// Documents that were staged before others were published; they can no longer follow.
    pub fn stale(&self) -> Done<Vec<String>> {
        let mut stale = Vec::new();
        for role in self.staged_roles() {
            if self.current.0.contains_key(&role)
                && self.staged.head(&role)?.0 <= self.current.head(&role)?.0
            {
                stale.push(role);
            }
        }
        Ok(stale)
    }

    /// What a publishing that broke off had already put in its place; and snapshot and timestamp
    /// that others have overtaken, for they are made anew.
    fn drop_published(&mut self) {
        let (current, version) = (self.current.clone(), |papers: &Papers, role: &str| {
            papers.head(role).map_or(0, |(version, _)| version)
        });
        let staged = self.staged.clone();
        self.staged.0.retain(|role, draft| {
            let published = current.0.get(role);
            let same = published.is_some_and(|it| it.payload() == draft.payload());
            let is_made = matches!(Post::of(role), Some(Post::Snapshot | Post::Timestamp));
            let overtaken = version(&staged, role) <= version(&current, role);
            !(same || (is_made && overtaken))
        });
    }

    fn read_staged(&self) -> Done<Papers> {
        let folder = self.staged_folder().join(super::papers::METADATA);
        let mut papers = Papers::default();
        for post in Post::ALL {
            let path = folder.join(format!("{post}.json"));
            if path.exists() {
                let bytes = disk::bytes(&path, Limits::default().targets_bytes)?;
                let draft = Draft::parse(&bytes)
                    .map_err(|why| FleetError::Refused(format!("{}: {why}", path.display())))?;
                papers.0.insert(post.name().to_owned(), draft);
            }
        }
        Ok(papers)
    }

    /// Writes what is staged to the desk.
    pub fn save(&mut self) -> Done<()> {
        if self.pile == Pile::Aside {
            return Ok(());
        }
        let folder = self.staged_folder();
        for (place, bytes) in &self.files {
            disk::write(&folder.join(place), bytes)?;
        }
        self.files.clear();
        for post in Post::ALL {
            let path = folder
                .join(super::papers::METADATA)
                .join(format!("{post}.json"));
            match self.staged.0.get(post.name()) {
                Some(draft) => disk::write(&path, &draft.to_bytes())?,
                None if path.exists() => fs::remove_file(&path).map_err(FleetError::at(&path))?,
                None => {}
            }
        }
        Ok(())
    }

    /// Writes the settings to the desk.
    pub fn save_settings(&self) -> Done<()> {
        self.settings.write(&self.folder)
    }

    /// Clears the desk. What is published stays.
    pub fn clear(&mut self) -> Done<()> {
        self.staged = Papers::default();
        self.files.clear();
        let folder = self.staged_folder();
        if self.pile == Pile::Aside || !folder.exists() {
            return Ok(());
        }
        fs::remove_dir_all(&folder).map_err(FleetError::at(&folder))
    }

    /// Looks again, at what has been published since.
    pub(super) fn reopened(self) -> Done<Self> {
        let (repository, folder) = (self.repository.clone(), self.folder.clone());
        let (now, pile) = (self.now, self.pile);
        drop(self); // it holds the lock
        Self::open(&repository, Some(&folder), now, pile)
    }

    /// Takes the folders away that were made for a repository which did not come about. What is not
    /// empty stays.
    pub(super) fn give_up(&self) {
        for file in [super::settings::SETTINGS, LOCK] {
            let _ = fs::remove_file(self.folder.join(file)); // it may not be there
        }
        let _ = fs::remove_dir(&self.folder);
        let _ = fs::remove_dir(&self.repository);
    }

    /// Remembers the first root.
    pub(super) fn keep_anchor(&mut self) -> Done<()> {
        let Some(anchor) = self.anchor() else {
            return missing("no root to begin with");
        };
        disk::write(&self.folder.join(ANCHOR), &anchor)?;
        self.anchor = Some(anchor);
        Ok(())
    }
}

/// Where a target lies in a repository.
pub(super) fn target_place(path: &str, sha256: Digest) -> String {
    match path.rsplit_once('/') {
        Some((folder, name)) => format!("{TARGETS}/{folder}/{sha256}.{name}"),
        None => format!("{TARGETS}/{sha256}.{path}"),
    }
}

fn draft<T: Role>(content: &T) -> Done<Draft> {
    Draft::of(content).map_err(|error| FleetError::Refused(error.to_string()))
}

/// One person at a time. A repository without a desk is only looked at.
fn lock(folder: &Path) -> Done<Option<File>> {
    if !folder.exists() {
        return Ok(None);
    }
    let path = folder.join(LOCK);
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(FleetError::at(&path))?;
    let mut waited = Duration::ZERO;
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if waited >= LOCK_PATIENCE {
            return missing(format!(
                "{}: somebody else is at this desk",
                folder.display()
            ));
        }
        std::thread::sleep(LOCK_PAUSE);
        waited += LOCK_PAUSE;
    }
    Ok(Some(file))
}

#[cfg(test)]
mod tests;
