//! The keeper: looks what is meant for this device, and brings it here.
//!
//! ```text
//!            ┌── the next source, until one convinces ──┐
//!  check ─► refresh ─► rollout/RING.json ─► turn? ─► NAME-SEQ.json ─► floor ─► here? ─► update ─► Found
//!                           │                 │           │             │        └──────────────►
//!                           └ none: Nothing   └ Waiting   └ NotThere    └ Behind
//! ```
//!
//! Purpose: [`Keeper::check`] joins [`tuf`], [`rollout`](super::rollout) and
//! [`update`]. It blocks and is meant for a thread of its own; [`Wish::Package`] is
//! for an operator who names a package, whatever the ring says.
//!
//! Owns the trust, the floors and the store while it lives.
//!
//! Invariants:
//!
//! - The order of the sources is the site's. One that lies, is stale or is away costs nothing but
//!   the time until the next is asked; metadata of two sources is never mixed in one look.
//! - A package's number is on the floor before anybody hears that the package is here.
//! - A package that will never do is not fetched again, as long as the process lives.
//!
//! How it fails: [`KeepError`]. What was here before is here still.

mod metadata;

use std::io;
use std::path::{Path, PathBuf};

use metadata::Metadata;

use super::disk::{Disk, Folder};
use super::fetch::{Pulse, Terms, Trouble};
use super::floor::{Book, FloorError, Journal};
use super::rollout::{MAX_ROLLOUT_BYTES, Rollout, RolloutError, Turn};
use super::source::Source;
use super::store::{self, Ground, Keep, PackageId, Store, StoreError};
use super::tuf::{self, Client, Limits, TufError};
use super::update::{self, LeftOut, Means, State, UpdateError, VariantHeader};
use crate::config::AtRest;
use crate::package::{Digest, Package};

/// Bytes of the first root: what the client reads of one at most.
const MAX_ANCHOR_BYTES: u64 = 512 << 10;
/// The ring of a device that names none.
pub const LAST_RING: &str = "stable";

/// What is known of the device.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its name, which decides its place in a ring.
    pub device: String,
    /// Its ring.
    pub ring: String,
    /// How packages may be fetched.
    pub terms: Terms,
    /// Bytes of packages beyond which old ones go.
    pub keep_bytes: u64,
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// What the ring is to run.
    Ring,
    /// A package that an operator named.
    Package(PackageId),
}

/// A package that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Which.
    pub id: PackageId,
    /// Digest of its signed manifest.
    pub digest: Digest,
    /// The variant that was taken.
    pub quantization: String,
    /// Better ones that were not, and why; known only of one that was brought just now.
    pub left_out: Vec<LeftOut>,
    /// Where its folder is.
    pub folder: PathBuf,
    /// It was brought just now.
    pub is_new: bool,
}

/// What a check ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The repository is to be believed, and has nothing for this ring.
    Nothing,
    /// Not now.
    Waiting(PackageId, Turn),
    /// It is here.
    Ready(Ready),
    /// It was here, and was taken back for this reason; it is not brought again.
    TakenBack(PackageId, String),
}

/// Why there is nothing new here.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The root that the site was given.
    #[error("{}: {error}", path.display())]
    Anchor {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
    /// A repository does not convince.
    #[error(transparent)]
    Tuf(#[from] TufError),
    /// The rollout of the ring.
    #[error("the rollout of ring {ring}: {error}")]
    Rollout {
        /// The ring.
        ring: String,
        /// What is wrong.
        error: RolloutError,
    },
    /// The rollout that is signed for this ring is that of another.
    #[error("the rollout of ring {ring} is one of ring {found}")]
    OtherRing {
        /// The ring.
        ring: String,
        /// What it says.
        found: String,
    },
    /// A file that is signed does not come.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
    /// Nobody vouches for the package.
    #[error("package {0}: the repository does not vouch for it")]
    NotThere(PackageId),
    /// The package.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// It was tried before, and will never do.
    #[error("{0} (found out before; it is not fetched again)")]
    Refused(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The floors.
    #[error(transparent)]
    Floor(#[from] FloorError),
    /// No source is left.
    #[error("{}", lines(.0))]
    Sources(Vec<(String, Box<KeepError>)>),
}

fn lines(troubles: &[(String, Box<KeepError>)]) -> String {
    if troubles.is_empty() {
        return "no source of packages is set".into();
    }
    let said = troubles
        .iter()
        .map(|(source, error)| format!("{source}: {error}"));
    said.collect::<Vec<_>>().join("; ")
}

impl KeepError {
    /// The word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Anchor { .. } => "anchor",
            Self::Tuf(TufError::Expired { .. }) => "expired",
            Self::Tuf(TufError::Rollback { .. }) | Self::Floor(FloorError::Behind { .. }) => {
                "rollback"
            }
            Self::Tuf(TufError::Fetch { .. }) | Self::File { .. } => "unreachable",
            Self::Tuf(_) | Self::Rollout { .. } | Self::OtherRing { .. } => "untrusted",
            Self::NotThere(_) => "not_there",
            Self::Update(UpdateError::NothingFits { .. }) => "nothing_fits",
            Self::Update(UpdateError::Stop(stop)) => match stop {
                super::fetch::Stop::Store(error) if error.is_full() => "disk_full",
                super::fetch::Stop::Store(_) => "store",
                super::fetch::Stop::Sources { .. } => "unreachable",
                super::fetch::Stop::Shut(_) => "outside_hours",
                super::fetch::Stop::Unwanted => "stopped",
            },
            Self::Update(_) | Self::Refused(_) => "package",
            Self::Store(error) if error.is_full() => "disk_full",
            Self::Store(_) | Self::Floor(_) => "store",
            // The last that was asked is the last resort, and the others have failed too.
            Self::Sources(all) => all.last().map_or("unreachable", |(_, error)| error.code()),
        }
    }
}

/// What a look at one source gave.
enum Offer {
    Nothing,
    Waiting(PackageId, Turn),
    Here(PackageId, update::Target),
}

/// What a check needs from outside.
pub struct Around<'a, P> {
    /// Where packages come from, in their order.
    pub sources: &'a mut [Box<dyn Source>],
    /// Time, and whether it is wanted.
    pub pulse: &'a mut P,
    /// Packages that stay, whatever room they take; asked when something is to go.
    pub held: &'a dyn Fn() -> Vec<PackageId>,
    /// Why a package, by the digest of its manifest, is not tried again; none where it may be.
    pub taken_back: &'a dyn Fn(Digest) -> Option<String>,
    /// Whether a variant fits this device.
    pub fits: &'a mut dyn FnMut(&VariantHeader) -> Result<(), String>,
    /// Hears how far it is.
    pub tell: &'a mut dyn FnMut(Progress<'_>),
}

/// How far a check is.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// This source's metadata is being looked at.
    Asking(&'a str),
    /// It is believed.
    Believed(tuf::Refreshed),
    /// A package is on its way.
    Bringing(&'a PackageId, State),
    /// Something went wrong with a source, and did not stop it.
    Trouble(&'a Trouble),
}

/// Trust, floors and store of a device.
#[derive(Debug)]
pub struct Keeper<D = Folder, G = store::Disk> {
    site: Site,
    client: Client<D>,
    store: Store<G>,
    /// The target that will never do, and why.
    refused: Option<([u8; 32], String)>,
}

/// Where the store lies below a state directory.
pub const STORE: &str = "models";

impl Keeper {
    /// Opens what is below the state directory; begins where there is nothing.
    pub fn open(
        site: Site,
        state_dir: &Path,
        journal: &Journal<Folder>,
        anchor: &Path,
        headroom_bytes: u64,
    ) -> Result<Self, KeepError> {
        let store = Store::open(&state_dir.join(STORE), headroom_bytes)?;
        let disk = Folder::new(state_dir);
        Self::on(site, disk, journal.book(), store, anchor)
    }
}

impl<D: Disk + Clone, G: Ground> Keeper<D, G> {
    /// The same, on other ground.
    pub fn on(
        site: Site,
        disk: D,
        book: Book<D>,
        store: Store<G>,
        anchor: &Path,
    ) -> Result<Self, KeepError> {
        let root = read(anchor).map_err(|error| KeepError::Anchor {
            path: anchor.to_owned(),
            error,
        })?;
        let client = Client::open(disk, book, &root, Limits::default())?;
        Ok(Self {
            site,
            client,
            store,
            refused: None,
        })
    }

    /// The same, with models that lie so from now on.
    #[must_use]
    pub fn lying(self, at_rest: AtRest) -> Self {
        Self {
            store: self.store.lying(at_rest),
            ..self
        }
    }

    /// The version of the root that is trusted, and when it expires.
    pub fn root(&self) -> (u64, tuf::Expiry) {
        (self.client.root().version, self.client.root_expires())
    }

    /// Every package that is here.
    pub fn packages(&self) -> Result<Vec<PackageId>, StoreError> {
        self.store.packages()
    }

    /// The link to what is committed follows.
    pub fn point(&mut self, id: &PackageId) -> Result<(), StoreError> {
        self.store.point(id)
    }

    /// Where a package's folder is.
    pub fn folder(&self, id: &PackageId) -> PathBuf {
        self.store.package_folder(id)
    }

    /// Looks what is wished for, and brings it here.
    pub fn check<P: Pulse>(
        &mut self,
        wish: &Wish,
        around: Around<'_, P>,
    ) -> Result<Found, KeepError> {
        let Around {
            sources,
            pulse,
            held,
            taken_back,
            fits,
            tell,
        } = around;
        let (id, target) = match self.ask(wish, sources, pulse, tell)? {
            Offer::Nothing => return Ok(Found::Nothing),
            Offer::Waiting(id, turn) => return Ok(Found::Waiting(id, turn)),
            Offer::Here(id, target) => (id, target),
        };
        let floor = self.client.book().floors().package(&id.name);
        if id.seq < floor {
            return Err(KeepError::Floor(FloorError::Behind {
                name: id.name,
                offered: id.seq,
                floor,
            }));
        }
        if let Some(why) = taken_back(Digest(target.sha256)) {
            return Ok(Found::TakenBack(id, why));
        }
        if let Some(package) = self.store.here(&id, &target.sha256) {
            self.client.book_mut().raise_package(&id.name, id.seq)?;
            return Ok(Found::Ready(ready(id, Digest(target.sha256), &package)));
        }
        if let Some((sha256, why)) = &self.refused
            && *sha256 == target.sha256
        {
            return Err(KeepError::Refused(why.clone()));
        }
        let mut keep = vec![id.clone()];
        keep.extend(held());
        let means = Means {
            store: &mut self.store,
            sources,
            pulse,
            terms: self.site.terms,
            keep: &keep,
        };
        let mut hear = |state| tell(Progress::Bringing(&id, state));
        let staged = match update::update(&target, fits, means, &mut hear) {
            Ok(staged) => staged,
            Err(error) => {
                if error.is_final() {
                    self.refused = Some((target.sha256, error.to_string()));
                }
                return Err(error.into());
            }
        };
        for trouble in &staged.troubles {
            tell(Progress::Trouble(trouble));
        }
        self.client.book_mut().raise_package(&id.name, id.seq)?;
        // What is held may have changed while it came.
        keep.truncate(1);
        keep.extend(held());
        let collected = self.store.collect(&Keep {
            packages: keep,
            objects: Vec::new(),
            limit_bytes: self.site.keep_bytes,
        });
        drop(collected); // what could not be removed is removed by the next
        Ok(Found::Ready(Ready {
            quantization: staged.quantization,
            left_out: staged.left_out,
            is_new: true,
            ..ready(id, Digest(target.sha256), &staged.package)
        }))
    }

    /// Asks one source after the other until one convinces.
    fn ask<P: Pulse>(
        &mut self,
        wish: &Wish,
        sources: &mut [Box<dyn Source>],
        pulse: &mut P,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Offer, KeepError> {
        let mut troubles = Vec::new();
        for source in sources {
            let name = source.name().to_owned();
            tell(Progress::Asking(&name));
            match self.look(wish, source.as_mut(), pulse, tell) {
                Ok(offer) => return Ok(offer),
                Err(error) => troubles.push((name, Box::new(error))),
            }
            if !pulse.wanted() {
                return Err(UpdateError::Stop(super::fetch::Stop::Unwanted).into());
            }
        }
        Err(KeepError::Sources(troubles))
    }

    /// What one source has.
    fn look<P: Pulse>(
        &mut self,
        wish: &Wish,
        source: &mut dyn Source,
        pulse: &mut P,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Offer, KeepError> {
        let clock = pulse.now().wall;
        let mut metadata = Metadata::new(source, pulse, self.site.terms.min_bytes_per_s);
        let refreshed = self.client.refresh(clock, &mut metadata)?;
        tell(Progress::Believed(refreshed));
        let id = match wish {
            Wish::Package(id) => id.clone(),
            Wish::Ring => {
                let path = Rollout::target_of(&self.site.ring);
                let Some(target) = self.client.find(&path, &mut metadata)? else {
                    return Ok(Offer::Nothing);
                };
                let bytes = metadata.target(&target, MAX_ROLLOUT_BYTES)?;
                let ring = self.site.ring.clone();
                let rollout = match Rollout::parse(&bytes) {
                    Ok(rollout) if rollout.ring == ring => rollout,
                    Ok(other) => {
                        let found = other.ring;
                        return Err(KeepError::OtherRing { ring, found });
                    }
                    Err(error) => return Err(KeepError::Rollout { ring, error }),
                };
                let id = PackageId {
                    name: rollout.package.clone(),
                    seq: rollout.seq,
                };
                let time = self.client.book().floors().time(clock);
                match rollout.turn(&self.site.device, time) {
                    Turn::Now => id,
                    turn @ (Turn::Later | Turn::Halted) => return Ok(Offer::Waiting(id, turn)),
                }
            }
        };
        let path = format!("{id}.json");
        let target = self.client.find(&path, &mut metadata)?;
        let target = target.ok_or_else(|| KeepError::NotThere(id.clone()))?;
        let Some(sha256) = target.sha256() else {
            return Err(TufError::NoKnownHash { path }.into());
        };
        Ok(Offer::Here(
            id,
            update::Target {
                path,
                length: target.length,
                sha256,
                custom: target.custom,
            },
        ))
    }
}

/// A package that was here already.
fn ready(id: PackageId, digest: Digest, package: &Package) -> Ready {
    let taken = package.manifest().variants.first();
    Ready {
        id,
        digest,
        quantization: taken.map_or_else(String::new, |it| it.quantization.clone()),
        left_out: Vec::new(),
        folder: package.folder().to_owned(),
        is_new: false,
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = crate::package::open_plain(path)?;
    file.take(MAX_ANCHOR_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
