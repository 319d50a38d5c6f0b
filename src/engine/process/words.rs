//! What a process says on standard error, and how it ended, in words.

use std::process::ExitStatus;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::ChildStderr;

use super::READ_BYTES;

/// Lines of one process that reach the log, and bytes of each.
const MAX_LINES: u32 = 32;
const MAX_LINE_BYTES: usize = 240;

/// Whether somebody else ended it, most often a kernel without memory.
pub(super) fn is_sigkill(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal() == Some(rustix::process::Signal::KILL.as_raw())
}

/// How a process ended.
pub(super) fn told(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    const SIGSYS: i32 = rustix::process::Signal::SYS.as_raw();
    match (status.code(), status.signal()) {
        (None, Some(SIGSYS)) => "its cage ended it: it made a system call that it may not make, \
             which the kernel's log names"
            .into(),
        (Some(code), _) => format!("it ended with code {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended".into(),
    }
}

/// Puts what a process prints into the log, as far as it may stand there.
pub(super) async fn tell(stderr: ChildStderr, pid: Option<u32>) {
    let mut reader = BufReader::new(stderr);
    let (mut line, mut lines, mut untold) = (Vec::new(), 0, 0_u64);
    loop {
        line.clear();
        // A line without an end must not fill memory: what is beyond the limit is the next line.
        let mut limited = (&mut reader).take(READ_BYTES as u64);
        match limited.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        match tellable(&line) {
            Some(text) if lines < MAX_LINES => {
                lines += 1;
                tracing::warn!(pid, error = text, "an engine process says");
            }
            Some(_) | None => untold += 1,
        }
    }
    if untold > 0 {
        tracing::debug!(
            pid,
            count = untold,
            "lines of an engine process were left out"
        );
    }
}

/// A line that tells where something failed, cut; none for any other, which may quote what the
/// process was given.
fn tellable(line: &[u8]) -> Option<&str> {
    let mut end = line.len().min(MAX_LINE_BYTES);
    let text = loop {
        match std::str::from_utf8(&line[..end]) {
            Ok(text) => break text.trim_end(),
            Err(error) => end = error.valid_up_to(),
        }
    };
    let known = text.contains(": GGML_ASSERT(")
        || text.contains("CUDA error")
        || text.starts_with("ggml_abort")
        // Rust and C++ without memory.
        || text.starts_with("memory allocation of ")
        || text.starts_with("terminate called after throwing an instance of ")
        // The place of a panic; its message stands in the next line.
        || (text.starts_with("thread '") && text.contains(" panicked at "))
        || text.starts_with("lineside engine: ");
    known.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_tell_a_place_are_told() {
        let assertion = b"/src/ggml.c:3211: GGML_ASSERT(a->ne[2] == b->ne[0]) failed\n";
        assert!(tellable(assertion).is_some());
        assert!(tellable(b"memory allocation of 4096 bytes failed\n").is_some());
        let panic = b"thread 'engine' (77) panicked at src/engine/worker.rs:9:5:\n";
        assert!(tellable(panic).is_some());
        assert_eq!(tellable(b"spindle 4 at press 7 is loud\n"), None);
        assert_eq!(tellable(b"\xff\xfe\n"), None);
        assert_eq!(tellable(b""), None);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let line = format!("lineside engine: {}", "ä".repeat(1000));
        let told = tellable(line.as_bytes()).unwrap();
        assert!(told.len() <= MAX_LINE_BYTES && told.len() > MAX_LINE_BYTES - 2);
    }

    #[test]
    fn an_end_by_the_cage_is_called_so() {
        use std::os::unix::process::ExitStatusExt as _;
        let sigsys = rustix::process::Signal::SYS.as_raw();
        assert!(told(ExitStatus::from_raw(sigsys)).contains("its cage ended it"));
        assert_eq!(told(ExitStatus::from_raw(6)), "it was ended by signal 6");
        assert_eq!(told(ExitStatus::from_raw(69 << 8)), "it ended with code 69");
    }
}
