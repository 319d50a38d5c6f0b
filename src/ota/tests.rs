//! What the tests of trust share: a disk whose power can be cut, and a repository that signs.

pub(crate) mod disk;
pub(crate) mod repository;
