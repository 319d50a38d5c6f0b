//! Who signs: keys that come, go or are replaced, and how many signatures it takes; and words that
//! are given anew.

use super::desk::Desk;
use super::fault::{Done, FleetError, refused, usage};
use super::init::hold_threshold;
use super::key::KeyFile;
use super::post::Post;
use crate::ota::tuf::Key;

/// A change of who signs for a post.
#[derive(Clone, Debug, Default)]
pub struct Rotation {
    /// Keys that come.
    pub add: Vec<KeyFile>,
    /// Beginnings of the ids of keys that go.
    pub remove: Vec<String>,
    /// Another number of signatures.
    pub threshold: Option<u64>,
}

/// Puts the change on the desk: in the root for the four roles that it appoints, in the top targets
/// role for the others. What those have signed is signed anew where it would no longer hold.
pub fn rotate(desk: &mut Desk, post: Post, rotation: &Rotation) -> Done<()> {
    if rotation.add.is_empty() && rotation.remove.is_empty() && rotation.threshold.is_none() {
        return usage("nothing changes: give --add, --remove, --replace or --new-threshold");
    }
    let circle = desk.latest().circle(post.name())?;
    let mut keys: Vec<(String, Key)> = circle
        .keyids
        .iter()
        .filter_map(|id| Some((id.clone(), circle.keys.get(id)?.clone())))
        .collect();
    for beginning in &rotation.remove {
        let found: Vec<usize> = (0..keys.len())
            .filter(|index| keys[*index].0.starts_with(beginning.as_str()))
            .collect();
        match found.as_slice() {
            [one] => drop(keys.remove(*one)),
            [] => return refused(format!("{post}: none of its keys begins with {beginning}")),
            _ => {
                return usage(format!(
                    "{post}: several of its keys begin with {beginning}"
                ));
            }
        }
    }
    for file in &rotation.add {
        if keys.iter().any(|(id, _)| *id == file.id) {
            return refused(format!(
                "{post}: {} is one of its keys already",
                file.path.display()
            ));
        }
        keys.push((file.id.clone(), file.key.clone()));
    }
    let threshold = rotation.threshold.unwrap_or(circle.threshold);
    hold_threshold(post, threshold, keys.len())?;
    if Post::DELEGATED.contains(&post) {
        let mut top = desk.role(Post::Targets)?;
        let list = top.delegations.as_ref();
        let own = list.and_then(|list| list.roles.iter().find(|role| role.name == post.name()));
        let own = own.cloned();
        let mut own =
            own.ok_or_else(|| FleetError::Refused(format!("nobody delegates to {post}")))?;
        own.keyids = keys.iter().map(|(id, _)| id.clone()).collect();
        own.threshold = threshold;
        top.delegate_to_keys(own, keys);
        desk.stage_role(Post::Targets, top)?;
    } else {
        let mut root = desk.latest().root()?;
        root.entrust_keys(post.kind(), threshold, keys);
        desk.stage_root(root)?;
    }
    // Snapshot and timestamp follow by themselves.
    let latest = desk.latest();
    for post in [Post::Targets].into_iter().chain(Post::DELEGATED) {
        let Some(draft) = latest.0.get(post.name()) else {
            continue;
        };
        let staged = desk.staged().0.contains_key(post.name());
        if !staged && !draft.is_signed(&latest.circle(post.name())?) {
            renew(desk, post)?;
        }
    }
    Ok(())
}

/// Has a role say again what it says, for its full term.
pub fn renew(desk: &mut Desk, post: Post) -> Done<()> {
    match post {
        Post::Root => desk.stage_root(desk.latest().root()?),
        Post::Targets | Post::Offline | Post::Rollout | Post::Packages => {
            let role = desk.role(post)?;
            desk.stage_role(post, role)
        }
        Post::Snapshot | Post::Timestamp => usage(format!("{post}: `refresh` renews it")),
    }
}
