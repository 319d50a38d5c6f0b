//! What an engine's process finds in its environment: nothing of the service's.

use std::path::Path;

use crate::governor::memory::HUGE_PAGES_FROM_BYTES;

/// The whole environment of an engine. Threads that wait for each other spin a little before they
/// sleep: without a limit a crowded machine comes to a halt, without spinning each pass costs
/// twenty times as much. A backtrace of an abort would be made by a debugger that is not there.
pub const ENVIRONMENT: [(&str, &str); 2] = [("GOMP_SPINCOUNT", "1000"), ("GGML_NO_BACKTRACE", "1")];
/// And that of an engine with a large model. Weights that are read lie in memory of their own, which
/// the kernel puts into huge pages only where it is asked to; without, a model of a hundred megabytes
/// writes a fifth slower. A small one gains nothing, and would take some megabytes more.
const HUGE_PAGES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");

/// What an engine for this model is started with.
pub fn environment(
    model: Option<&Path>,
) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
    let bytes = model.and_then(|path| Some(std::fs::metadata(path).ok()?.len()));
    let is_large = bytes.is_some_and(|bytes| bytes >= HUGE_PAGES_FROM_BYTES);
    ENVIRONMENT
        .into_iter()
        .chain(is_large.then_some(HUGE_PAGES))
}
