//! The power goes at any moment: what was acknowledged is there afterwards.
//!
//! A child process commits records through the real thread and store on an ext4 file system in
//! an image, and prints the number of each record that was acknowledged. At a random moment the
//! parent stops the child and copies the *image*. The copy is what a medium holds when the power
//! goes: what the file system still keeps in its page cache is in the mounted system's memory,
//! not in the image. The loop device opens the image directly where the machine allows it, so
//! there is no second cache in between; where it does not, that cache counts as the medium,
//! because the copy is read through it.
//!
//! What this cannot show: a medium that acknowledges a flush and does not keep it, and writes
//! that a medium had taken but not yet flushed and then drops in any order. Here every write that
//! left the page cache is kept, in whole blocks.
//!
//! `LINESIDE_POWER_CUTS` sets the number of cuts; `LINESIDE_POWER_CUT_SEED` repeats a run. The
//! test that the test can fail, `without_fdatasync…`, runs on demand (`--ignored`): it needs
//! luck of the opposite kind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::time::Duration;

use lineside::clock::Clock;
use lineside::spool::shell::{self, Command, Event, Token};
use lineside::spool::sled::{SledDisk, SledSettings};
use lineside::spool::{Caps, Disk, DiskError, Op, PerTree, Room, Scan, Spool, Tree, Write, record};
use rustix::process::{Pid, Signal, kill_process};
use support::TempDir;
use support::mount::{Mount, ext4_image, skip};

const CHILD: &str = "LINESIDE_POWER_CUT_CHILD";
const IMAGE_BYTES: u64 = 192 << 20;
/// Cuts before the store is started anew, so that a growing one fits into the image.
const CUTS_PER_STORE: u32 = 6;
const IN_FLIGHT: u64 = 48;

/// Who stands between the spool and the medium.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    Real,
    /// sled's own flush alone, which is what the real store must not rely on.
    WithoutFdatasync,
}

/// What the child does to the store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    /// Records only come: the file grows, and with it what the file system must remember of it.
    Growing,
    /// Each record goes when some hundred more have come: the store frees its segments and
    /// writes over them all the time.
    Turning,
}

impl Load {
    /// Records alive at once.
    fn alive(self) -> u64 {
        match self {
            Self::Growing => u64::MAX,
            Self::Turning => 400,
        }
    }
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let test = "a_power_cut_loses_nothing_that_was_acknowledged";
    let cuts = std::env::var("LINESIDE_POWER_CUTS").map_or(12, |cuts| cuts.parse().unwrap());
    match cut_power(cuts, Sync::Real, &[Load::Turning, Load::Growing]) {
        Ok(outcome) => {
            eprintln!("{outcome:?}");
            assert!(outcome.acknowledged > 0, "nothing was at stake");
            assert_eq!((outcome.lost, outcome.set_aside), (0, 0), "{outcome:?}");
        }
        Err(why) => skip(test, &why),
    }
}

#[test]
#[ignore = "shows that the test above can fail; run on demand"]
fn without_fdatasync_power_cuts_lose_what_was_acknowledged() {
    let test = "without_fdatasync_power_cuts_lose_what_was_acknowledged";
    match cut_power(12, Sync::WithoutFdatasync, &[Load::Growing]) {
        Ok(outcome) => {
            eprintln!("{outcome:?}");
            assert!(outcome.lost > 0 || outcome.set_aside > 0, "{outcome:?}");
        }
        Err(why) => skip(test, &why),
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_acknowledged() {
    let place = TempDir::new("killed");
    let store = place.path().join("spool");
    let mut random = fastrand::Rng::new();
    let mut said = Said::default();
    for kill in 0..8 {
        let mut writer = Writer::start(&store, Sync::Real, Load::Turning, said.highest + 1);
        writer.run_for(Duration::from_millis(random.u64(20..150)));
        writer.child.kill().unwrap();
        writer.child.wait().unwrap();
        writer.take(&mut said, Load::Turning);
        let (lost, set_aside) = missing(&store, &said);
        assert_eq!((lost, set_aside), (0, false), "kill {kill}");
    }
    assert!(said.highest > 0, "nothing was at stake");
}

#[derive(Debug, Default)]
struct Outcome {
    cuts: u32,
    acknowledged: u64,
    lost: u64,
    set_aside: u32,
}

fn cut_power(cuts: u32, sync: Sync, loads: &[Load]) -> Result<Outcome, String> {
    let place = TempDir::new("power");
    let (image, copy) = (place.path().join("image"), place.path().join("copy"));
    ext4_image(&image, IMAGE_BYTES)?;
    let disk = Mount::ext4(&image, &place.path().join("disk"))?;
    let store = disk.path().join("spool");
    let seed = std::env::var("LINESIDE_POWER_CUT_SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("LINESIDE_POWER_CUT_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut outcome = Outcome::default();
    for load in loads.iter().cycle() {
        let mut said = Said::default();
        let mut writer = Writer::start(&store, sync, *load, 1);
        for _ in 0..CUTS_PER_STORE {
            writer.run_for(Duration::from_millis(random.u64(5..400)));
            let pid = Pid::from_child(&writer.child);
            kill_process(pid, Signal::STOP).map_err(|error| error.to_string())?;
            wait_until_stopped(&writer.child);
            writer.take(&mut said, *load);
            copy_at_rest(&disk, &image, &copy).map_err(|error| error.to_string())?;
            kill_process(pid, Signal::CONT).map_err(|error| error.to_string())?;

            let after = Mount::ext4(&copy, &place.path().join("after"))?;
            let (lost, set_aside) = missing(&after.path().join("spool"), &said);
            drop(after);
            outcome.cuts += 1;
            outcome.lost += lost;
            outcome.set_aside += u32::from(set_aside);
            if outcome.cuts == cuts {
                outcome.acknowledged += said.highest;
                return Ok(outcome);
            }
        }
        outcome.acknowledged += said.highest;
        drop(writer);
        fs::remove_dir_all(&store).map_err(|error| error.to_string())?;
    }
    Ok(outcome)
}

/// Copies the image while nothing writes to it: the kernel's own writing goes on although the
/// child stands still, and a copy of two different moments is no power cut.
fn copy_at_rest(disk: &Mount, image: &Path, copy: &Path) -> std::io::Result<()> {
    loop {
        let before = disk.writes()?;
        fs::copy(image, copy)?;
        if before.under_way == 0 && disk.writes()? == before {
            return Ok(());
        }
    }
}

/// A stop signal takes effect a moment after it was sent.
fn wait_until_stopped(child: &Child) {
    let stat = format!("/proc/{}/stat", child.id());
    for _ in 0..1000 {
        let state = fs::read_to_string(&stat).unwrap_or_default();
        if state
            .rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('T'))
        {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the child does not stop");
}

/// How many acknowledged records are not there as they were written, and whether the whole store
/// had to be set aside.
fn missing(store: &Path, said: &Said) -> (u64, bool) {
    let opened = SledDisk::open(settings(store)).unwrap();
    let set_aside = opened.set_aside.is_some();
    let spool = Spool::open(opened.disk, caps()).unwrap();
    let mut found = BTreeMap::new();
    spool
        .each(Tree::Inbox, &mut |seq, bytes| {
            drop(found.insert(seq, bytes.to_vec()));
        })
        .unwrap();
    for (seq, bytes) in &found {
        assert!(*bytes == body(*seq), "record {seq} is not what was written");
        assert!(*seq > said.removed, "record {seq} was removed and is back");
    }
    let expected = said.alive_from.max(1)..=said.highest;
    let lost: Vec<u64> = expected.filter(|seq| !found.contains_key(seq)).collect();
    if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
        eprintln!("{} of {said:?} are lost, {first} to {last}", lost.len());
    }
    (lost.len() as u64, set_aside)
}

/// What the child has printed.
#[derive(Debug, Default)]
struct Said {
    /// Every number up to here was acknowledged: commands are answered in order.
    highest: u64,
    /// Every number up to here was removed, and that was acknowledged.
    removed: u64,
    /// Every number from here on was never asked to be removed.
    alive_from: u64,
}

/// The child, and the lines it has printed so far.
struct Writer {
    child: Child,
    lines: Receiver<u64>,
}

impl Writer {
    fn start(store: &Path, sync: Sync, load: Load, first: u64) -> Self {
        let mode = if sync == Sync::Real {
            "real"
        } else {
            "flush-only"
        };
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "the_child_that_writes",
                "--nocapture",
                "--include-ignored",
            ])
            .env(
                CHILD,
                format!("{mode} {} {first} {}", load.alive(), store.display()),
            )
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (line, lines) = channel();
        std::thread::spawn(move || {
            // Anything else on the child's output belongs to the test harness.
            for text in stdout.lines().map_while(Result::ok) {
                if let Some(number) = text.strip_prefix("acknowledged ") {
                    let _ = line.send(number.parse().unwrap());
                }
            }
        });
        // Only a child that has begun can be cut.
        let writer = Self { child, lines };
        writer.lines.recv_timeout(Duration::from_secs(30)).unwrap();
        writer
    }

    fn run_for(&mut self, span: Duration) {
        std::thread::sleep(span);
        assert_eq!(
            self.child.try_wait().unwrap(),
            None,
            "the child ended by itself"
        );
    }

    /// Reads what was printed before now.
    fn take(&mut self, said: &mut Said, load: Load) {
        // The child is stopped or dead; what it wrote into the pipe needs a moment to get here.
        while let Ok(number) = self.lines.recv_timeout(Duration::from_millis(50)) {
            said.highest = said.highest.max(number);
        }
        said.removed = said.highest.saturating_sub(load.alive());
        // More were sent without our knowing, and may be on the disk with their removals. The
        // child sends the next one between two of its lines.
        let sent = said.highest + IN_FLIGHT + 1;
        said.alive_from = (sent + 1).saturating_sub(load.alive());
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test: the process that the tests above start.
#[test]
#[ignore = "a part of the other tests"]
fn the_child_that_writes() {
    let Ok(order) = std::env::var(CHILD) else {
        return;
    };
    let mut words = order.splitn(4, ' ');
    let real = words.next() == Some("real");
    let alive = words.next().unwrap().parse().unwrap();
    let first = words.next().unwrap().parse().unwrap();
    let store = PathBuf::from(words.next().unwrap());
    let disk = SledDisk::open(settings(&store)).unwrap().disk;
    if real {
        write_for_ever(disk, alive, first);
    } else {
        write_for_ever(FlushOnly(disk), alive, first);
    }
}

fn write_for_ever<D: Disk + Send + 'static>(disk: D, alive: u64, first: u64) {
    let (commands, inbox) = sync_channel(1024);
    let (outbox, events) = channel();
    let spool = Spool::open(disk, caps()).unwrap();
    shell::spawn(
        spool,
        inbox,
        move |event| drop(outbox.send(event)),
        Clock::start(),
        || (),
    )
    .unwrap();
    let mut stdout = std::io::stdout();
    for seq in first.. {
        let mut ops = vec![Op::Append {
            tree: Tree::Inbox,
            seq,
            record: record::seal(&body(seq)),
            room: Room::IfFree,
            leased_until: None,
        }];
        if seq > alive {
            ops.push(Op::Ack {
                tree: Tree::Inbox,
                seq: seq - alive,
            });
        }
        commands
            .send(Command::Commit {
                token: Token(seq),
                ops,
            })
            .unwrap();
        if seq >= first + IN_FLIGHT {
            let Event::Committed { token, .. } = events.recv().unwrap() else {
                panic!("not committed");
            };
            writeln!(stdout, "acknowledged {}", token.0).unwrap();
        }
    }
}

/// A store that believes sled's flush.
struct FlushOnly(SledDisk);

impl Disk for FlushOnly {
    fn write(&mut self, batch: Vec<Write>) -> Result<(), DiskError> {
        self.0.write(batch)
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        self.0.flush()
    }

    fn get(&self, tree: Tree, seq: u64) -> Result<Option<Vec<u8>>, DiskError> {
        self.0.get(tree, seq)
    }

    fn scan(
        &self,
        tree: Tree,
        from: u64,
        visit: &mut dyn FnMut(u64, &[u8]) -> Scan,
    ) -> Result<(), DiskError> {
        self.0.scan(tree, from, visit)
    }

    fn reopen(&mut self) -> Result<(), DiskError> {
        self.0.reopen()
    }

    fn free_bytes(&self) -> u64 {
        self.0.free_bytes()
    }
}

fn settings(store: &Path) -> SledSettings {
    SledSettings {
        dir: store.to_owned(),
        ballast_bytes: 1 << 20,
    }
}

fn caps() -> Caps {
    let mut bytes = PerTree::default();
    for tree in Tree::ALL {
        bytes.set(tree, 1 << 30);
    }
    Caps {
        bytes,
        headroom_bytes: 0,
    }
}

/// What record `seq` holds: most are short, some long enough to be cut into pieces.
fn body(seq: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seq);
    let len = match random.u8(..) {
        0..4 => random.usize(20_000..120_000),
        4..60 => random.usize(1_000..4_000),
        60.. => random.usize(10..600),
    };
    (0..len).map(|_| random.u8(..)).collect()
}
