//! The disk below the spool, in sled.
