//! A device, as far as it reads repositories: its client, its floors, its store.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lineside::clock::{Clock, Mono, Now, Wall};
use lineside::ota::disk::Folder;
use lineside::ota::fetch::{Pulse, Terms};
use lineside::ota::floor::Book;
use lineside::ota::rollout::Rollout;
use lineside::ota::source;
use lineside::ota::store::Store;
use lineside::ota::tuf::{Client, FetchError, Limits, Transport, TufError};
use lineside::ota::update::{Means, Staged, Target, UpdateError, update};

/// The metadata of a repository in a folder.
struct Metadata(PathBuf);

impl Transport for Metadata {
    fn open(&mut self, file: &str) -> Result<Box<dyn Read + '_>, FetchError> {
        match File::open(self.0.join("metadata").join(file)) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FetchError::NotThere),
            Err(error) => Err(error.into()),
        }
    }
}

/// Time that does not wait.
struct Hurry(Instant);

impl Pulse for Hurry {
    fn now(&self) -> Now {
        Now {
            mono: Mono(self.0.elapsed()),
            wall: Wall(0),
        }
    }

    fn wait(&mut self, _: Duration) {}

    fn wanted(&self) -> bool {
        true
    }
}

pub(crate) struct Device {
    state: PathBuf,
    client: Client<Folder>,
}

impl Device {
    /// One that was given this root.
    pub(crate) fn new(state: &Path, root: &Path) -> Self {
        let disk = Folder::new(state);
        let book = Book::open(disk.clone()).unwrap();
        let anchor = fs::read(root).unwrap();
        let client = Client::open(disk, book, &anchor, Limits::default()).unwrap();
        Self {
            state: state.to_owned(),
            client,
        }
    }

    /// Looks for news, as of now.
    pub(crate) fn refresh(&mut self, repository: &Path) -> Result<(), TufError> {
        self.refresh_at(repository, Clock::start().now().wall)
    }

    pub(crate) fn refresh_at(&mut self, repository: &Path, now: Wall) -> Result<(), TufError> {
        let mut metadata = Metadata(repository.to_owned());
        self.client.refresh(now, &mut metadata).map(drop)
    }

    /// Versions of the root and of the timestamp that it has accepted.
    pub(crate) fn versions(&self) -> (u64, u64) {
        let floors = self.client.book().floors();
        (floors.root, floors.timestamp)
    }

    fn find(&mut self, repository: &Path, path: &str) -> Option<Target> {
        let mut metadata = Metadata(repository.to_owned());
        let found = self.client.find(path, &mut metadata).unwrap()?;
        Some(Target {
            sha256: found.sha256().unwrap(),
            path: found.path,
            length: found.length,
            custom: found.custom,
        })
    }

    /// What its ring is to run.
    pub(crate) fn ring(&mut self, repository: &Path, ring: &str) -> Option<Rollout> {
        let target = self.find(repository, &Rollout::target_of(ring))?;
        let path = target.paths().into_iter();
        let path = path
            .map(|path| repository.join(path))
            .find(|it| it.exists());
        let bytes = fs::read(path.unwrap()).unwrap();
        assert_eq!(bytes.len() as u64, target.length);
        Some(Rollout::parse(&bytes).unwrap())
    }

    /// Brings the ring's package here from the repository's folder.
    pub(crate) fn update(
        &mut self,
        repository: &Path,
        ring: &Rollout,
    ) -> Result<(Staged, Option<serde_json::Value>), UpdateError> {
        let target = self.find(repository, &ring.package_target()).unwrap();
        let mut store = Store::open(&self.state.join("models"), 0).unwrap();
        let folder = source::Folder::new(repository.to_owned());
        let mut sources: Vec<Box<dyn source::Source>> = vec![Box::new(folder)];
        let staged = update(
            &target,
            &mut |_| Ok(()),
            Means {
                store: &mut store,
                sources: &mut sources,
                pulse: &mut Hurry(Instant::now()),
                terms: Terms {
                    max_bytes_per_s: None,
                    min_bytes_per_s: 1,
                    hours: None,
                },
                keep: &[],
            },
            &mut |_| {},
        )?;
        Ok((staged, target.custom))
    }
}
