//! The real journal, started by hand, stopped and continued.
//!
//! It runs only where that harms nobody: as root, on a machine without a journal of its own.
//! Elsewhere the test says so and passes.

use super::*;
use crate::service::log::sinks::JOURNAL_SOCKET;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use std::path::Path;
use std::process::{Child, Stdio};

const JOURNALD: &str = "/lib/systemd/systemd-journald";

/// A journal for as long as the test lasts.
struct RealJournal(Child);

impl RealJournal {
    fn start() -> Result<Self, &'static str> {
        if !Path::new(JOURNALD).exists() {
            return Err("systemd-journald is not installed");
        }
        if !geteuid().is_root() {
            return Err("it must be started as root");
        }
        if UnixDatagram::unbound()
            .unwrap()
            .connect(JOURNAL_SOCKET)
            .is_ok()
        {
            return Err("this machine has a journal of its own, which must not be stopped");
        }
        let child = Command::new(JOURNALD)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let journal = Self(child);
        for _ in 0..500 {
            if UnixDatagram::unbound()
                .unwrap()
                .connect(JOURNAL_SOCKET)
                .is_ok()
            {
                return Ok(journal);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("systemd-journald was started but does not listen");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Waits until an entry with this field is there.
    fn entry(appliance: &str, message: &str) -> String {
        for _ in 0..500 {
            let found = Command::new("journalctl")
                .args(["-o", "json", "-n", "1", "--no-pager"])
                .arg(format!("APPLIANCE={appliance}"))
                .arg(format!("MESSAGE={message}"))
                .output()
                .unwrap();
            let text = String::from_utf8(found.stdout).unwrap();
            if text.contains(message) {
                return text;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("no entry {message}");
    }
}

impl Drop for RealJournal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = std::fs::remove_file(JOURNAL_SOCKET);
    }
}

#[test]
fn the_real_journal_gets_every_field_and_blocks_nobody_while_it_is_stopped() {
    let journal = match RealJournal::start() {
        Ok(journal) => journal,
        Err(why) => {
            eprintln!("SKIPPED: not tried on the real journal: {why}");
            return;
        }
    };
    let appliance = format!("test-{}", std::process::id());
    let instead = Paper::default();
    let sink = Journal::new(
        appliance.clone(),
        Lines::new(instead.clone(), Stamp::Priority),
    );
    logged("info", Box::new(sink), |guard| {
        tracing::info!(
            request_id = "press7-1",
            rule = "default",
            ticket = 7,
            "answered"
        );
        let entry: serde_json::Value =
            serde_json::from_str(&RealJournal::entry(&appliance, "answered")).unwrap();
        for (name, value) in [
            ("PRIORITY", "6"),
            ("SYSLOG_IDENTIFIER", "lineside"),
            ("TARGET", "lineside::service::log::tests::journald"),
            ("CODE_FILE", file!()),
            ("REQUEST_ID", "press7-1"),
            ("RULE", "default"),
            ("TICKET", "7"),
        ] {
            assert_eq!(entry[name], value, "{name} in {entry}");
        }

        journal.signal(Signal::STOP);
        // Were one of these to block, the test would stand still with the journal.
        for _ in 0..QUEUE_RECORDS * 8 {
            tracing::info!("accepted");
        }
        while guard.dropped() == 0 {
            tracing::info!("accepted");
        }
        assert_eq!(guard.flush(Duration::from_millis(20)), Flushed::TimeOver);
        journal.signal(Signal::CONT);
        assert_eq!(guard.flush(Duration::from_mins(1)), Flushed::Everything);
        RealJournal::entry(&appliance, "log lines dropped");
        assert_eq!(instead.text(), "");

        drop(journal);
        tracing::warn!("alone");
        assert_eq!(guard.flush(Duration::from_mins(1)), Flushed::Everything);
        assert!(instead.text().ends_with(": alone\n"), "{}", instead.text());
    });
}
