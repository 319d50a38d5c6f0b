use super::pipeline::{QUEUE_RECORDS, RECORD_BYTES, Record};
use super::*;
use crate::clock::Wall;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// Standard error for the eyes of a test.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Runs `work` with a log at `levels` into `sink`.
fn logged(levels: &str, sink: Box<dyn Sink>, work: impl FnOnce(&LogGuard)) {
    let (shipper, pipeline) = start(Clock::start(), sink).unwrap();
    let guard = LogGuard {
        pipeline,
        tail: LogTail::default(),
    };
    let subscriber = subscriber(levels.parse().unwrap(), shipper);
    tracing::subscriber::with_default(subscriber, || work(&guard));
}

/// What `work` leaves on standard error under the journal's stream.
fn lines(levels: &str, work: impl FnOnce()) -> String {
    let paper = Paper::default();
    logged(
        levels,
        Box::new(Lines::new(paper.clone(), Stamp::Priority)),
        |guard| {
            work();
            assert_eq!(guard.flush(Duration::from_mins(1)), Flushed::Everything);
        },
    );
    paper.text()
}

#[test]
fn a_line_carries_priority_target_message_and_fields() {
    let text = lines("debug", || {
        tracing::info!(request_id = "press7-1", count = 3, "accepted");
        tracing::error!(error = %io::Error::other("no disk"), "lost");
        tracing::debug!(rule = ?Some(1), "judged");
    });
    let target = "lineside::service::log::tests";
    assert_eq!(
        text,
        format!(
            "<6>{target}: accepted request_id=press7-1 count=3\n\
             <3>{target}: lost error=\"no disk\"\n\
             <7>{target}: judged rule=Some(1)\n"
        )
    );
}

#[test]
fn a_field_that_is_not_on_the_list_never_reaches_the_line() {
    let text = lines("info", || {
        tracing::info!(prompt = "the secret recipe", client = "press7", "asked");
    });
    assert!(text.ends_with(": asked client=press7\n"), "{text}");
}

#[test]
fn a_long_value_is_cut_and_a_line_stays_one_line() {
    let text = lines("info", || {
        let reason = "ä\n".repeat(RECORD_BYTES);
        tracing::info!(reason, "refused");
        tracing::info!("two\nlines");
    });
    assert_eq!(text.lines().count(), 2);
    assert!(text.len() < 3 * RECORD_BYTES, "{}", text.len());
    assert!(text.contains("…\"\n"));
    assert!(text.ends_with("two\\nlines\n"));
}

#[test]
fn vendors_are_quiet_unless_named_and_never_chatty() {
    let speak = || {
        tracing::info!(target: "rumqttc::state", "info");
        tracing::warn!(target: "rumqttc::state", "warn");
        tracing::debug!(target: "rumqttc::state", "debug");
        tracing::error!(target: "rumqttd::router", "a client hung up");
        tracing::debug!(target: "lineside::intake", "debug");
    };
    assert_eq!(lines("info", speak), "<4>rumqttc::state: warn\n");
    assert_eq!(
        lines("debug", speak),
        "<4>rumqttc::state: warn\n<7>lineside::intake: debug\n"
    );
    assert_eq!(lines("rumqttc=error", speak), "");
    assert_eq!(
        lines("warn, rumqttc=trace", speak),
        "<6>rumqttc::state: info\n<4>rumqttc::state: warn\n"
    );
}

#[test]
fn a_level_that_cannot_be_read_is_named() {
    for wrong in ["", "loud", "info,", "=info", "lineside=3", "lineside="] {
        assert!(wrong.parse::<Levels>().is_err(), "{wrong}");
    }
    let fault = "info, sled=loud".parse::<Levels>().unwrap_err();
    assert_eq!(fault.directive, "sled=loud");
    assert!(fault.to_string().contains("`sled=loud` is no log level"));
}

/// A journal that stands still: a datagram socket that nobody reads, written to by a blocking
/// send, as the real one is.
struct Standstill {
    socket: UnixDatagram,
    reports: Arc<Mutex<Vec<u64>>>,
}

impl Sink for Standstill {
    fn write(&mut self, _: &Record) {
        self.socket.send(b"MESSAGE=stuck\n").unwrap();
    }

    fn report_dropped(&mut self, count: u64, _: Wall) {
        self.reports.lock().unwrap().push(count);
    }
}

#[test]
fn a_journal_at_a_standstill_costs_counted_lines_and_blocks_nobody() {
    let (unread, socket) = UnixDatagram::pair().unwrap();
    socket.set_nonblocking(true).unwrap();
    while socket.send(b"MESSAGE=before\n").is_ok() {}
    socket.set_nonblocking(false).unwrap();
    let reports = Arc::new(Mutex::new(Vec::new()));
    let sink = Standstill {
        socket,
        reports: Arc::clone(&reports),
    };
    logged("info", Box::new(sink), |guard| {
        // Were one of these to block, the test would stand still with the journal.
        while guard.dropped() < 5000 {
            tracing::info!("accepted");
        }
        assert_eq!(guard.flush(Duration::from_millis(20)), Flushed::TimeOver);
        assert!(reports.lock().unwrap().is_empty());

        // The journal reads again.
        std::thread::spawn(move || while unread.recv(&mut [0; 64]).is_ok() {});
        assert_eq!(guard.flush(Duration::from_mins(1)), Flushed::Everything);
        assert_eq!(reports.lock().unwrap().iter().sum::<u64>(), guard.dropped());
    });
}

#[test]
fn auto_takes_the_journal_only_when_it_is_there_and_started_us() {
    let host = |journal_listens, manager_listens, stderr| Host {
        journal_listens,
        manager_listens,
        stderr,
    };
    let auto = |host| choose(Destination::Auto, host);
    assert_eq!(auto(host(true, false, Stderr::Journal)), Channel::Journal);
    assert_eq!(auto(host(true, true, Stderr::Other)), Channel::Journal);
    assert_eq!(auto(host(true, false, Stderr::Other)), Channel::Stderr);
    assert_eq!(auto(host(true, true, Stderr::Terminal)), Channel::Stderr);
    assert_eq!(auto(host(false, true, Stderr::Journal)), Channel::Stderr);
    let alone = host(false, false, Stderr::Other);
    assert_eq!(choose(Destination::Journald, alone), Channel::Journal);
    let at_home = host(true, true, Stderr::Journal);
    assert_eq!(choose(Destination::Stderr, at_home), Channel::Stderr);
}

/// What only a whole process shows: the global log, the panic hook, crates that use the `log`
/// interface. The test runs itself as a child, which finds the marker.
#[test]
fn a_process_logs_its_panics_without_their_content() {
    if std::env::var_os("LINESIDE_TEST_PANIC").is_some() {
        let settings = LogSettings {
            levels: "info".parse().unwrap(),
            to: Destination::Auto,
            appliance: "line-3".to_owned(),
        };
        let guard = install(settings.clone(), Clock::start()).unwrap();
        assert!(matches!(
            install(settings, Clock::start()),
            Err(LogError::Installed)
        ));
        let literal = std::thread::Builder::new().name("engine".to_owned());
        let _ = literal.spawn(|| panic!("out of slots")).unwrap().join();
        let recipe = "the secret recipe".to_owned();
        let _ = std::thread::spawn(move || panic!("{recipe}")).join();
        drop(guard);
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("service::log::tests::a_process_logs_its_panics_without_their_content")
        .env("LINESIDE_TEST_PANIC", "1")
        .env_remove("JOURNAL_STREAM")
        .env_remove("NOTIFY_SOCKET")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains(" ERROR lineside::service::log: a thread panicked panic=\"out of slots\" location=src/service/log/tests.rs:"), "{text}");
    assert!(text.contains("thread=engine\n"), "{text}");
    assert!(text.contains("panic=\"(formatted, withheld)\""), "{text}");
    assert!(!text.contains("recipe"), "{text}");
}

mod journald;
