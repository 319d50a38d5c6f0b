//! Snapshot and timestamp: made of what is staged, as soon as that is signed.

use super::{Desk, News};
use crate::fleet::fault::{Done, FleetError, refused};
use crate::fleet::post::Post;
use crate::ota::tuf::draft::Draft;
use crate::ota::tuf::metadata::{Kind, MetaFile, Snapshot, Timestamp};
use crate::ota::tuf::write::describe;

impl Desk {
    /// Makes snapshot and timestamp of what is staged, as far as that is signed.
    pub fn advance(&mut self, news: News) -> Done<()> {
        let lacks = self.lacks()?;
        let is_open = |post: Post| lacks.iter().any(|lack| lack.role == post.name());
        let below = |post: &Post| post.kind() == Kind::Targets;
        let (snapshot, timestamp) = (Post::Snapshot.name(), Post::Timestamp.name());
        let changed = Post::ALL
            .into_iter()
            .filter(below)
            .any(|post| self.staged.0.contains_key(post.name()));
        let renewed = news.timestamp || self.is_outdated(Post::Timestamp)?;
        let due = changed
            || news.snapshot
            || self.is_outdated(Post::Snapshot)?
            || (renewed && self.is_overtaken_by_a_stick()?);
        if !due {
            self.staged.0.remove(snapshot);
        } else if Post::ALL.into_iter().filter(below).any(is_open) {
            // Their files are not what they will be.
            self.staged.0.remove(snapshot);
            self.staged.0.remove(timestamp);
            return Ok(());
        } else {
            self.stage_snapshot()?;
        }
        let staged = self.staged.0.get(snapshot);
        if due {
            let draft = staged.expect("it was staged just now");
            if !draft.is_signed(&self.latest().circle(snapshot)?) {
                self.staged.0.remove(timestamp);
                return Ok(());
            }
        }
        if due || renewed {
            self.stage_timestamp()
        } else {
            self.staged.0.remove(timestamp);
            Ok(())
        }
    }

    /// Whether a stick went out with a newer snapshot than is published. A device that saw it takes
    /// no timestamp that names an older one.
    fn is_overtaken_by_a_stick(&self) -> Done<bool> {
        if !self.current.0.contains_key(Post::Snapshot.name()) {
            return Ok(false);
        }
        let current = self.current.head(Post::Snapshot.name())?.0;
        Ok(self.settings.next_version(Post::Snapshot, current) > current + 1)
    }

    /// Whether what is published is not signed by those who must sign from now on.
    fn is_outdated(&self, post: Post) -> Done<bool> {
        let Some(draft) = self.current.0.get(post.name()) else {
            return Ok(true);
        };
        Ok(!draft.is_signed(&self.latest().circle(post.name())?))
    }

    fn stage_snapshot(&mut self) -> Done<()> {
        let version = self.next_version(Post::Snapshot)?;
        let expires = self.settings.expiry(Post::Snapshot, self.now);
        let mut snapshot = Snapshot::new(version, expires);
        let before = if self.current.0.contains_key(Post::Snapshot.name()) {
            Some(self.current.snapshot()?)
        } else {
            None
        };
        for role in self.latest().targets_roles() {
            let staged = self.staged.0.get(role);
            let described = match (staged, &before) {
                (Some(draft), _) => {
                    let version = self.staged.head(role)?.0;
                    describe(version, &draft.to_bytes())
                }
                (None, Some(before)) => (before.role(role).cloned())
                    .ok_or_else(|| FleetError::Refused(format!("{role}: not in the snapshot")))?,
                (None, None) => return refused(format!("{role}: neither staged nor published")),
            };
            snapshot.list(role, described);
        }
        let same = |it: &Draft| {
            it.content::<Snapshot>()
                .is_ok_and(|it| it.version == version && it.meta == snapshot.meta)
        };
        if !self.staged.0.get(Post::Snapshot.name()).is_some_and(same) {
            self.stage(Post::Snapshot, &snapshot)?;
        }
        Ok(())
    }

    fn stage_timestamp(&mut self) -> Done<()> {
        let version = self.next_version(Post::Timestamp)?;
        let expires = self.settings.expiry(Post::Timestamp, self.now);
        let described: MetaFile = match self.staged.0.get(Post::Snapshot.name()) {
            Some(draft) => describe(self.staged.snapshot()?.version, &draft.to_bytes()),
            None => self.current.timestamp()?.snapshot().clone(),
        };
        let timestamp = Timestamp::new(version, expires, described);
        let same = |it: &Draft| {
            it.content::<Timestamp>()
                .is_ok_and(|it| it.version == version && it.meta == timestamp.meta)
        };
        if !self.staged.0.get(Post::Timestamp.name()).is_some_and(same) {
            self.stage(Post::Timestamp, &timestamp)?;
        }
        Ok(())
    }
}
