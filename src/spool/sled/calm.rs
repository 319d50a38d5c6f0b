//! Calls into sled that may panic, made to return.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// Why a call into sled gave nothing.
#[derive(Debug)]
pub(super) enum Fault {
    /// sled said so.
    Sled(::sled::Error),
    /// sled panicked; its words.
    Panic(String),
}

thread_local! {
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `call`; a panic inside becomes [`Fault::Panic`] and is not printed as a crash, because
/// it is not one. What the call was working on must not be used again without a reopen: callers
/// treat every fault so.
pub(super) fn caught<T>(call: impl FnOnce() -> ::sled::Result<T>) -> Result<T, Fault> {
    quiet_hook();
    let before = CAUGHT.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(call));
    CAUGHT.set(before);
    match result {
        Ok(result) => result.map_err(Fault::Sled),
        Err(payload) => Err(Fault::Panic(words(payload.as_ref()))),
    }
}

/// Puts a hook in front of the present one that lets caught panics pass in silence.
fn quiet_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CAUGHT.get() {
                before(info);
            }
        }));
    });
}

fn words(payload: &(dyn std::any::Any + Send)) -> String {
    let words = payload
        .downcast_ref::<&str>()
        .map(|words| (*words).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned());
    words.unwrap_or_else(|| "a panic without words".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_panic_comes_back_as_a_fault_with_its_words() {
        let fault = caught::<()>(|| panic!("segment {}", 7)).unwrap_err();
        assert!(matches!(fault, Fault::Panic(words) if words == "segment 7"));
    }
}
