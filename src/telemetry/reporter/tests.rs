use super::*;
use crate::broker::Session;
use crate::clock::Wall;
use crate::spool::PerTree;
use crate::spool::record::unseal;

/// How the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disk {
    Sound,
    Full,
    Failing,
}

/// A reporter before a disk and a broker, in virtual time.
struct World {
    reporter: Reporter,
    records: BTreeMap<u64, Vec<u8>>,
    disk: Disk,
    online: bool,
    /// What the broker got, in order: the topic's number, and the batch.
    got: Vec<(usize, Batch)>,
    now: Now,
    count: i64,
}

const LIVE: usize = 0;
const REPLAY: usize = 1;

fn plan(cap_bytes: u64) -> Plan {
    Plan {
        appliance: "line-3".into(),
        topics: ["live".into(), "replay".into()],
        samples: 6,
        cap_bytes,
        pause: Duration::from_millis(250),
    }
}

impl World {
    fn new(cap_bytes: u64) -> Self {
        Self {
            reporter: Reporter::new(plan(cap_bytes), &[]),
            records: BTreeMap::new(),
            disk: Disk::Sound,
            online: false,
            got: Vec::new(),
            now: Now {
                mono: Mono::default(),
                wall: Wall(1_795_000_000_000),
            },
            count: 0,
        }
    }

    fn connect(&mut self, online: bool) {
        self.online = online;
        let event = if online {
            Event::Up(Session::Fresh)
        } else {
            Event::Down { why: "cut".into() }
        };
        self.reporter.on_broker(&event, self.now);
        self.settle();
    }

    fn pass(&mut self, span: Duration) {
        self.now.mono = self.now.mono.after(span);
        self.now.wall = self.now.wall.after(span);
        self.reporter.on_timeout(self.now);
        self.settle();
    }

    /// A sample every ten seconds.
    fn sample(&mut self) {
        self.pass(Duration::from_secs(10));
        self.count += 1;
        let figures = [
            ("count", self.count),
            ("celsius", 61_000 + self.count % 7 * 100),
        ];
        let figures = figures.map(|(name, value)| (name.to_owned(), value));
        let sample = Sample {
            at: self.now.wall,
            serving: None,
            figures: figures.into(),
        };
        self.reporter.on_sample(sample, self.now);
        self.settle();
    }

    /// Carries out what is to be done, until nothing is.
    fn settle(&mut self) {
        loop {
            let effects = self.reporter.take_effects();
            if effects.spool.is_empty() && effects.broker.is_empty() {
                break;
            }
            for command in effects.spool {
                let event = self.store(command);
                self.reporter.on_spool(event, self.now);
            }
            for command in effects.broker {
                self.publish(command);
            }
            self.reporter.audit().unwrap();
        }
    }

    fn store(&mut self, command: spool::Command) -> spool::Event {
        match command {
            spool::Command::Commit { token, .. } if self.disk == Disk::Failing => {
                spool::Event::Failed { token }
            }
            spool::Command::Commit { token, ops } => {
                let appends = ops.iter().any(|op| op.bytes() > 0);
                if appends && self.disk == Disk::Full {
                    let tree = Tree::Telemetry;
                    return spool::Event::Refused { token, tree };
                }
                for op in ops {
                    match op {
                        Op::Append { seq, record, .. } => drop(self.records.insert(seq, record)),
                        Op::Ack { seq, .. } => drop(self.records.remove(&seq)),
                        Op::Extend { .. } | Op::Release { .. } => panic!("{op:?}"),
                    }
                }
                let live = PerTree::default();
                spool::Event::Committed { token, live }
            }
            spool::Command::Look { token, from, .. } => {
                let record = self
                    .records
                    .get(&from)
                    .filter(|_| self.disk != Disk::Failing);
                let body = record.and_then(|it| unseal(it).ok());
                let records = body.map(|body| (from, body.to_vec())).into_iter().collect();
                spool::Event::Records { token, records }
            }
            spool::Command::Lease { .. } => panic!("nothing is leased"),
        }
    }

    fn publish(&mut self, command: Command) {
        let Command::Publish(parcel) = command else {
            panic!("{command:?}");
        };
        if !self.online {
            return; // the connection keeps it until it is back
        }
        let topic = ["live", "replay"].iter().position(|it| *it == parcel.topic);
        let historical = ("historical".to_owned(), (topic == Some(REPLAY)).to_string());
        assert!(parcel.user_properties.contains(&historical));
        self.got
            .push((topic.unwrap(), Batch::unpack(&parcel.payload).unwrap()));
        self.reporter
            .on_broker(&Event::Delivered(parcel.id), self.now);
    }

    fn drain(&mut self) {
        while self.reporter.backlog().0 > 0 {
            let due = self.reporter.deadline().expect("it has something to send");
            self.pass(due.since(self.now.mono).max(Duration::from_millis(1)));
        }
    }

    fn counts(&self) -> Vec<i64> {
        let samples = self.got.iter().flat_map(|(_, batch)| batch.samples());
        samples.map(|it| it.figures["count"]).collect()
    }
}

#[test]
fn figures_go_to_the_broker_in_batches_with_the_times_at_which_they_were_taken() {
    let mut world = World::new(1 << 20);
    world.connect(true);
    for _ in 0..12 {
        world.sample();
    }
    world.drain();
    assert_eq!(
        world.got.iter().map(|it| it.0).collect::<Vec<_>>(),
        [LIVE, LIVE]
    );
    assert_eq!(world.counts(), (1..=12).collect::<Vec<_>>());
    let at: Vec<_> = world.got[0].1.samples().iter().map(|it| it.at.0).collect();
    let wanted: Vec<_> = (1..=6).map(|no| 1_795_000_000_000 + no * 10_000).collect();
    assert_eq!(at, wanted);
    assert_eq!(world.reporter.tally().sent, 12);
}

#[test]
fn an_outage_of_weeks_stays_within_the_cap_and_drains_in_order() {
    let cap = 200_000;
    let mut world = World::new(cap);
    world.connect(true);
    for _ in 0..60 {
        world.sample();
    }
    world.connect(false);
    let weeks = 3 * 7 * 24 * 360;
    for _ in 0..weeks {
        world.sample();
        assert!(world.reporter.backlog().1 <= cap);
    }
    let before = world.got.len();
    let (batches, _) = world.reporter.backlog();
    assert!(batches > 500, "{batches}");
    let begun = world.now.mono;
    world.connect(true);
    world.drain();
    // No faster than four in a second, and in the order in which they were taken.
    let took = world.now.mono.since(begun);
    assert!(
        took >= Duration::from_millis(250 * (batches as u64 - 1)),
        "{took:?}"
    );
    let replays = world.got[before..]
        .iter()
        .filter(|it| it.0 == REPLAY)
        .count();
    assert!(replays >= batches - 3, "{replays} of {batches}");
    let counts = world.counts();
    assert!(counts.is_sorted() && counts.windows(2).all(|two| two[0] < two[1]));
    let tally = world.reporter.tally().clone();
    assert_eq!(
        tally.sent,
        counts.len() as u64,
        "what is counted as sent has arrived"
    );
    assert_eq!(tally.dropped.keys().collect::<Vec<_>>(), [&"no room"]);
    assert_eq!(tally.taken, tally.sent + tally.dropped["no room"]);
    assert_eq!(counts.last(), Some(&world.count), "the newest are kept");
    for _ in 0..6 {
        world.sample();
    }
    world.drain();
    assert_eq!(
        world.got.last().unwrap().0,
        LIVE,
        "afterwards they are fresh again"
    );
}

#[test]
fn a_disk_that_fails_costs_what_memory_cannot_hold_and_nothing_twice() {
    let mut world = World::new(1 << 20);
    world.connect(true);
    world.disk = Disk::Failing;
    for _ in 0..6 * (MAX_HELD + 9) {
        world.sample();
    }
    world.disk = Disk::Sound;
    let live = PerTree::default();
    world
        .reporter
        .on_spool(spool::Event::Restored { live }, world.now);
    world.settle();
    world.drain();
    let tally = world.reporter.tally();
    let dropped = tally.dropped["the disk fails"];
    assert_eq!(dropped, 9 * 6, "{tally:?}");
    let counts = world.counts();
    assert_eq!(counts.len() as u64, tally.sent);
    assert!(counts.windows(2).all(|two| two[0] < two[1]), "none twice");
}

#[test]
fn a_full_disk_is_a_reason_of_its_own() {
    let mut world = World::new(1 << 20);
    world.disk = Disk::Full;
    for _ in 0..6 {
        world.sample();
    }
    assert_eq!(world.reporter.tally().dropped["no room on the disk"], 6);
    assert!(world.reporter.is_quiet());
}

#[test]
fn what_an_earlier_life_left_is_sent_first_and_marked_as_replay() {
    let mut first = World::new(1 << 20);
    for _ in 0..18 {
        first.sample();
    }
    let left: Vec<_> = first
        .records
        .iter()
        .filter_map(|(seq, record)| Left::of(*seq, unseal(record).ok()?))
        .collect();
    assert_eq!(left.len(), 3);
    let mut second = World::new(1 << 20);
    second.records = first.records;
    second.count = 18;
    second.reporter = Reporter::new(plan(1 << 20), &left);
    second.connect(true);
    for _ in 0..6 {
        second.sample();
    }
    second.drain();
    assert_eq!(second.counts(), (1..=24).collect::<Vec<_>>());
    let seqs: Vec<_> = second.got.iter().map(|it| (it.0, it.1.seq)).collect();
    assert_eq!(seqs, [(REPLAY, 1), (REPLAY, 2), (REPLAY, 3), (LIVE, 4)]);
}

#[test]
fn the_newest_batch_stays_so_that_numbers_never_go_back() {
    let mut world = World::new(1 << 20);
    for _ in 0..6 * 40 {
        world.sample();
    }
    world.connect(true);
    world.drain();
    assert_eq!(world.got.len(), 40);
    assert!(
        world.records.contains_key(&40),
        "{:?}",
        world.records.keys()
    );
    assert!(world.records.len() <= REMOVE_AT + 1, "the others are gone");
}

#[test]
fn at_the_end_what_was_gathered_is_kept_however_little() {
    let mut world = World::new(1 << 20);
    world.sample();
    world.sample();
    world.reporter.on_close(world.now);
    world.settle();
    assert_eq!(world.records.len(), 1);
    assert!(world.reporter.is_quiet());
}
