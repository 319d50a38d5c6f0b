//! The task around the dispatcher.
