//! The thread that owns the spool, on the simulated disk.

use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use lineside::clock::Clock;
use lineside::spool::shell::{self, Command, Event, Token};
use lineside::spool::{DiskError, Op, Spool, Tree};

use super::support::sim_disk::SimDisk;
use super::{append, at, caps};

/// Far longer than anything here takes: a hang fails the test instead of blocking it.
const PATIENCE: Duration = Duration::from_secs(30);

struct Rig {
    disk: SimDisk,
    commands: SyncSender<Command>,
    events: Receiver<Event>,
    beats: Receiver<()>,
    thread: JoinHandle<Result<(), DiskError>>,
}

impl Rig {
    /// Starts the thread with `waiting` already in its channel.
    fn start(waiting: Vec<Command>) -> Self {
        let disk = SimDisk::default();
        let spool = Spool::open(disk.clone(), caps(1 << 20)).unwrap();
        let (commands, inbox) = sync_channel(1000);
        for command in waiting {
            commands.send(command).unwrap();
        }
        let (outbox, events) = channel();
        let (beat, beats) = channel();
        let sink = move |event| drop(outbox.send(event));
        let thread = shell::spawn(spool, inbox, sink, Clock::start(), move || {
            beat.send(()).unwrap_or_default();
        })
        .unwrap();
        Self {
            disk,
            commands,
            events,
            beats,
            thread,
        }
    }

    fn send(&self, command: Command) {
        self.commands.send(command).unwrap();
    }

    fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).unwrap()
    }
}

fn commit(token: u64, ops: Vec<Op>) -> Command {
    Command::Commit {
        token: Token(token),
        ops,
    }
}

fn intake(token: u64) -> Command {
    commit(token, vec![append(Tree::Inbox, token, b"press 7")])
}

fn lease(token: u64) -> Command {
    Command::Lease {
        token: Token(token),
        tree: Tree::Inbox,
        until: at(1 << 40),
        max: 100,
    }
}

#[test]
fn transactions_that_wait_share_one_sync_and_are_answered_in_order() {
    let rig = Rig::start((1..=100).map(intake).collect());
    for token in 1..=100 {
        assert!(matches!(rig.next(), Event::Committed { token: Token(t), .. } if t == token));
    }
    assert_eq!(rig.disk.state().syncs, 1);
}

#[test]
fn a_read_sees_what_was_sent_before_it_and_not_what_came_after() {
    let rig = Rig::start(vec![intake(1), lease(2), intake(3)]);
    assert!(matches!(
        rig.next(),
        Event::Committed {
            token: Token(1),
            ..
        }
    ));
    let records = vec![(1, b"press 7".to_vec())];
    assert_eq!(
        rig.next(),
        Event::Records {
            token: Token(2),
            records: records.clone()
        }
    );
    assert!(matches!(
        rig.next(),
        Event::Committed {
            token: Token(3),
            ..
        }
    ));
    rig.send(Command::Look {
        token: Token(4),
        tree: Tree::Inbox,
        from: 0,
        to: 2,
        max: 9,
    });
    assert_eq!(
        rig.next(),
        Event::Records {
            token: Token(4),
            records
        }
    );
}

#[test]
fn a_full_tree_is_refused_by_name() {
    let rig = Rig::start(vec![commit(
        1,
        vec![append(Tree::Cloud, 1, &vec![0; 2 << 20])],
    )]);
    assert_eq!(
        rig.next(),
        Event::Refused {
            token: Token(1),
            tree: Tree::Cloud
        }
    );
}

#[test]
fn while_the_store_fails_everything_is_answered_and_afterwards_it_is_restored() {
    let rig = Rig::start(Vec::new());
    {
        let mut state = rig.disk.state();
        state.failing_syncs = 1;
        state.failing_reopens = 2;
    }
    rig.send(intake(1));
    assert_eq!(rig.next(), Event::Failed { token: Token(1) });
    rig.send(intake(2));
    rig.send(lease(3));
    assert_eq!(rig.next(), Event::Failed { token: Token(2) });
    assert_eq!(
        rig.next(),
        Event::Records {
            token: Token(3),
            records: Vec::new()
        }
    );
    assert!(matches!(rig.next(), Event::Restored { .. }));
    rig.send(intake(1));
    assert!(matches!(
        rig.next(),
        Event::Committed {
            token: Token(1),
            ..
        }
    ));
}

#[test]
fn a_read_that_fails_is_answered_with_nothing_and_starts_the_repair() {
    let rig = Rig::start(Vec::new());
    rig.disk.state().failing_reads = 1;
    rig.send(lease(1));
    assert_eq!(
        rig.next(),
        Event::Records {
            token: Token(1),
            records: Vec::new()
        }
    );
    assert!(matches!(rig.next(), Event::Restored { .. }));
}

#[test]
fn a_store_beyond_repair_ends_the_thread_with_the_reason() {
    let rig = Rig::start(Vec::new());
    let broken = DiskError::Broken("segment 7".to_owned());
    {
        let mut state = rig.disk.state();
        state.error = broken.clone();
        state.failing_syncs = 1;
        state.failing_reopens = 1;
    }
    rig.send(intake(1));
    assert_eq!(rig.next(), Event::Failed { token: Token(1) });
    assert_eq!(rig.thread.join().unwrap(), Err(broken));
}

#[test]
fn when_every_sender_is_gone_the_last_commands_are_done_before_the_thread_ends() {
    let Rig {
        disk,
        commands,
        thread,
        events,
        ..
    } = Rig::start((1..=50).map(intake).collect());
    drop(commands);
    assert_eq!(thread.join().unwrap(), Ok(()));
    assert_eq!(events.iter().count(), 50);
    assert_eq!(disk.state().durable.len(), 50);
}

#[test]
fn an_idle_spool_beats() {
    let rig = Rig::start(Vec::new());
    rig.beats.recv_timeout(PATIENCE).unwrap();
}
