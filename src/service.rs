//! The service manager and the journal.
