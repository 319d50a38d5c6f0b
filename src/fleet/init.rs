//! A new repository: who signs what, and nothing to fetch yet.

use std::collections::BTreeMap;

use super::desk::{Desk, News};
use super::fault::{Done, FleetError, usage};
use super::key::KeyFile;
use super::post::Post;
use crate::ota::tuf::Key;
use crate::ota::tuf::metadata::{Delegation, Root, Targets};
use crate::ota::tuf::write::Then;

/// Who signs for each post, and how many of them it takes.
#[derive(Clone, Debug, Default)]
pub struct Appointments {
    /// The keys, by post.
    pub keys: BTreeMap<Post, Vec<(String, Key)>>,
    /// How many signatures; one where nothing is said.
    pub thresholds: BTreeMap<Post, u64>,
}

impl Appointments {
    /// Adds a key to a post.
    pub fn appoint(&mut self, post: Post, file: &KeyFile) -> Done<()> {
        let keys = self.keys.entry(post).or_default();
        if keys.iter().any(|(id, _)| *id == file.id) {
            return usage(format!(
                "{post}: {} stands there twice",
                file.path.display()
            ));
        }
        keys.push((file.id.clone(), file.key.clone()));
        Ok(())
    }

    fn of(&self, post: Post) -> (u64, Vec<(String, Key)>) {
        let threshold = self.thresholds.get(&post).copied().unwrap_or(1);
        (threshold, self.keys.get(&post).cloned().unwrap_or_default())
    }

    /// Whether everybody is there.
    pub fn check(&self) -> Done<()> {
        let none: Vec<_> = Post::ALL
            .into_iter()
            .filter(|post| self.of(*post).1.is_empty())
            .map(Post::name)
            .collect();
        if !none.is_empty() {
            return usage(format!(
                "nobody signs for {}: say --keys {}=FILE",
                none.join(", "),
                none.join(",")
            ));
        }
        for post in Post::ALL {
            let (threshold, keys) = self.of(post);
            hold_threshold(post, threshold, keys.len())?;
        }
        Ok(())
    }
}

/// Whether so many keys can give so many signatures.
pub(super) fn hold_threshold(post: Post, threshold: u64, keys: usize) -> Done<()> {
    if threshold == 0 || threshold > keys as u64 {
        return usage(format!(
            "{post}: {threshold} of {keys} keys cannot be: 1 to {keys} can"
        ));
    }
    Ok(())
}

/// Puts the first documents on the desk.
pub fn init(desk: &mut Desk, appointments: &Appointments) -> Done<()> {
    appointments.check()?;
    let expires = |post| desk.settings.expiry(post, desk.now());
    let mut root = Root::new(1, expires(Post::Root));
    for post in [Post::Root, Post::Targets, Post::Snapshot, Post::Timestamp] {
        let (threshold, keys) = appointments.of(post);
        root.entrust_keys(post.kind(), threshold, keys);
    }
    let mut top = Targets::new(1, expires(Post::Targets));
    for post in Post::DELEGATED {
        let (threshold, keys) = appointments.of(post);
        let mut role =
            Delegation::of_paths(post.name(), post.patterns(), threshold, &[], Then::Stop);
        role.keyids = keys.iter().map(|(id, _)| id.clone()).collect();
        top.delegate_to_keys(role, keys);
    }
    desk.stage_root(root)?;
    desk.stage_role(Post::Targets, top)?;
    for post in Post::DELEGATED {
        let empty = Targets::new(1, desk.settings.expiry(post, desk.now()));
        desk.stage_role(post, empty)?;
    }
    desk.advance(News::default())
}

/// A post by its name, as people give it.
pub fn post(name: &str) -> Done<Post> {
    Post::of(name.trim()).ok_or_else(|| {
        let all = Post::ALL.map(Post::name).join(", ");
        FleetError::Usage(format!("{name}: no role; there are {all}"))
    })
}
