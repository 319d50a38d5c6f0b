//! The reader on trees that look like boards, and on nonsense.

mod boards;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::text::Hierarchy;
use super::*;

/// A file system of the kernel's, as far as a test needs it.
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("lineside-sysfs-{}-{number}", process::id()));
        fs::create_dir_all(&root).unwrap();
        Self { root }
    }

    fn bytes(&self, path: &str, content: &[u8]) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Files below a folder, each with one line.
    fn files(&self, folder: &str, files: &[(&str, &str)]) -> &Self {
        for (file, content) in files {
            self.bytes(
                &format!("{folder}/{file}"),
                format!("{content}\n").as_bytes(),
            );
        }
        self
    }

    fn zone(&self, number: u32, kind: &str, temp: &str, trips: &[(&str, &str)]) -> &Self {
        let folder = format!("sys/class/thermal/thermal_zone{number}");
        self.files(&folder, &[("type", kind), ("temp", temp)]);
        for (trip, (kind, temp)) in trips.iter().enumerate() {
            let names = [
                format!("trip_point_{trip}_type"),
                format!("trip_point_{trip}_temp"),
            ];
            self.files(&folder, &[(&names[0], kind), (&names[1], temp)]);
        }
        self
    }

    fn hwmon(&self, number: u32, name: &str, files: &[(&str, &str)]) -> &Self {
        let folder = format!("sys/class/hwmon/hwmon{number}");
        self.files(&folder, &[("name", name)]).files(&folder, files)
    }

    fn policy(&self, number: u32, current: &str, allowed: &str, hardware: &str) -> &Self {
        self.files(
            &format!("sys/devices/system/cpu/cpufreq/policy{number}"),
            &[
                ("scaling_cur_freq", current),
                ("scaling_max_freq", allowed),
                ("cpuinfo_max_freq", hardware),
            ],
        )
    }

    fn cooling(&self, number: u32, kind: &str, state: &str, highest: &str) -> &Self {
        self.files(
            &format!("sys/class/thermal/cooling_device{number}"),
            &[("type", kind), ("cur_state", state), ("max_state", highest)],
        )
    }

    fn remove(&self, path: &str) {
        fs::remove_dir_all(self.root.join(path)).unwrap();
    }

    fn roots(&self) -> Roots {
        Roots::new(self.root.join("sys"), self.root.join("proc"))
    }

    fn reader(&self) -> Reader {
        Reader::new(self.roots())
    }

    fn read(&self) -> Readings {
        self.reader().read(Mono::default(), &[])
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn at(seconds: u64) -> Mono {
    Mono(Duration::from_secs(seconds))
}

fn raws(readings: &Readings) -> Vec<(&str, Result<i64, Unread>)> {
    let thermometers = readings.thermometers.iter();
    thermometers
        .map(|thermometer| (&*thermometer.name, thermometer.raw))
        .collect()
}

#[test]
fn a_machine_that_tells_nothing_is_no_error() {
    let empty = Tree::new();
    let readings = empty.reader().read(at(7), &[1]);
    let nothing = Readings {
        taken: at(7),
        ..Readings::default()
    };
    assert_eq!(readings, nothing);
    assert_eq!(readings.clock_cap(), None);
    assert_eq!(readings.power_milliwatts(), None);
}

#[test]
fn this_machine_can_be_read() {
    let own = process::id();
    let mut reader = Reader::new(Roots::new("/sys", "/proc"));
    let readings = reader.read(at(1), &[own, u32::MAX]);
    assert!(readings.memory.total_bytes.unwrap() > 0);
    assert!(readings.cpu.unwrap().total_ticks > 0);
    let [me] = &readings.processes[..] else {
        panic!("one of the two is there");
    };
    assert!(me.resident.all_bytes.unwrap() > 0);
}

#[test]
fn a_sensor_says_why_it_tells_nothing() {
    let tree = Tree::new();
    tree.zone(0, "cpu-thermal", "-4500", &[])
        .zone(1, "gpu-thermal", "warm", &[])
        .zone(2, "soc-thermal", "", &[])
        .hwmon(0, "lm75", &[("temp1_input", "30000"), ("temp1_fault", "1")])
        .hwmon(
            1,
            "tmp102",
            &[("temp1_input", "31000"), ("temp1_fault", "0")],
        );
    let folder = tree.root.join("sys/class/thermal/thermal_zone3");
    fs::create_dir_all(folder.join("temp")).unwrap();
    symlink("loop", tree.root.join("sys/class/thermal/thermal_zone4")).unwrap();
    let readings = tree.read();
    let expected = [
        ("cpu-thermal", Ok(-4500)),
        ("gpu-thermal", Err(Unread::Garbled)),
        ("soc-thermal", Err(Unread::Garbled)),
        ("thermal_zone3", Err(Unread::Other(21))), // EISDIR
        ("thermal_zone4", Err(Unread::Missing)),
        ("lm75 temp1", Err(Unread::Faulty)),
        ("tmp102 temp1", Ok(31_000)),
    ];
    assert_eq!(raws(&readings), expected);
}

#[test]
fn a_pipe_in_place_of_a_file_holds_nobody_up() {
    let tree = Tree::new();
    tree.zone(0, "cpu-thermal", "45000", &[]);
    let temp = tree.root.join("sys/class/thermal/thermal_zone0/temp");
    fs::remove_file(&temp).unwrap();
    let made = process::Command::new("mkfifo").arg(&temp).status().unwrap();
    assert!(made.success());
    assert_eq!(raws(&tree.read()), [("cpu-thermal", Err(Unread::Garbled))]);
}

#[test]
fn sensors_of_one_name_are_numbered() {
    let tree = Tree::new();
    tree.zone(0, "acpitz", "27800", &[])
        .zone(10, "acpitz", "29800", &[])
        .zone(2, "acpitz", "28800", &[]);
    let expected = [
        ("acpitz", Ok(27_800)),
        ("acpitz #2", Ok(28_800)),
        ("acpitz #3", Ok(29_800)),
    ];
    assert_eq!(raws(&tree.read()), expected);
}

#[test]
fn what_goes_is_missed_and_then_looked_for() {
    let tree = Tree::new();
    tree.zone(0, "cpu-thermal", "45000", &[])
        .zone(1, "gpu-thermal", "46000", &[]);
    let mut reader = tree.reader();
    assert_eq!(reader.read(at(0), &[]).thermometers.len(), 2);
    tree.remove("sys/class/thermal/thermal_zone1");
    let missed = [
        ("cpu-thermal", Ok(45_000)),
        ("gpu-thermal", Err(Unread::Missing)),
    ];
    assert_eq!(raws(&reader.read(at(1), &[])), missed);
    assert_eq!(
        raws(&reader.read(at(2), &[])),
        missed,
        "not searched each second"
    );
    tree.zone(7, "gpu-thermal", "47000", &[]);
    let found = [("cpu-thermal", Ok(45_000)), ("gpu-thermal", Ok(47_000))];
    assert_eq!(
        raws(&reader.read(at(6), &[])),
        found,
        "under another number"
    );
    tree.zone(8, "usb-stick", "30000", &[]);
    assert_eq!(reader.read(at(64), &[]).thermometers.len(), 2);
    assert_eq!(reader.read(at(66), &[]).thermometers.len(), 3, "plugged in");
}

#[test]
fn a_sensor_that_is_always_missing_does_not_make_each_reading_a_search() {
    let tree = Tree::new();
    tree.files(
        "sys/class/thermal/thermal_zone0",
        &[("type", "cv0-thermal")],
    );
    let mut reader = tree.reader();
    for second in 0..60 {
        reader.read(at(second), &[]);
        assert_eq!(reader.looked, Some(at(0)));
    }
}

#[test]
fn there_are_limits_to_everything() {
    let tree = Tree::new();
    for number in 0..70 {
        tree.zone(number, "cpu-thermal", "45000", &[]);
    }
    for number in 0..40 {
        tree.policy(number, "1000000", "1000000", "1000000");
        tree.cooling(number, "Processor", "0", "10");
        let rail = [
            ("in1_label", "VDD"),
            ("in1_input", "5000"),
            ("curr1_input", "1"),
        ];
        tree.hwmon(number, "ina3221", &rail);
    }
    for number in 0..6 {
        let gpu = format!("sys/class/devfreq/{number}.gpu");
        tree.files(&gpu, &[("cur_freq", "1000000")]);
    }
    let long = "x".repeat(200);
    for number in 1..70 {
        let names = [format!("temp{number}_input"), format!("temp{number}_label")];
        tree.hwmon(0, "ina3221", &[(&names[0], "1"), (&names[1], &long)]);
    }
    let pids: Vec<u32> = (1..12).collect();
    for pid in &pids {
        tree.files(
            &format!("proc/{pid}"),
            &[("stat", STAT), ("status", STATUS)],
        );
    }
    let readings = tree.reader().read(at(0), &pids);
    assert_eq!(readings.thermometers.len(), MAX_THERMOMETERS);
    assert_eq!(readings.clocks.len(), board::MAX_CLOCKS);
    assert_eq!(readings.cooling.len(), board::MAX_COOLING);
    assert_eq!(readings.rails.len(), board::MAX_RAILS);
    assert_eq!(readings.gpus.len(), board::MAX_GPUS);
    assert_eq!(readings.processes.len(), MAX_PROCESSES);
    let longest = readings
        .thermometers
        .iter()
        .map(|sensor| sensor.name.len())
        .max();
    assert!(longest.unwrap() < 100);
}

const STAT: &str =
    "42 (a (b) c) S 1 42 42 0 -1 4194304 100 0 0 0 730 41 0 0 20 0 1 0 4353 3133440 379";
const STATUS: &str = "Name:\ta\nVmRSS:\t   46000 kB\nRssAnon:\t   12000 kB\nThreads:\t1";
const MEMINFO: &str = "MemTotal:       16117760 kB\nMemFree:          300000 kB\n\
                       MemAvailable:    9000000 kB\nSwapFree:             64 kB";
const PRESSURE: &str = "some avg10=1.50 avg60=0.25 avg300=0.00 total=123456\n\
                        full avg10=0.50 avg60=0.00 avg300=0.00 total=6543";

#[test]
fn memory_time_and_pressure_come_from_procfs() {
    let tree = Tree::new();
    let stat = "cpu  100 5 50 1000 20 3 2 7 60 0\ncpu0 1 2 3 4 5 6 7 8 9 10";
    tree.files("proc", &[("meminfo", MEMINFO), ("stat", stat)])
        .files(
            "proc/pressure",
            &[("memory", PRESSURE), ("cpu", "some avg10=nan")],
        )
        .files("proc/42", &[("stat", STAT), ("status", STATUS)]);
    let readings = tree.reader().read(at(0), &[41, 42]);
    assert_eq!(readings.memory.total_bytes, Some(16_117_760 << 10));
    assert_eq!(readings.memory.available_bytes, Some(9_000_000 << 10));
    assert_eq!(readings.memory.swap_free_bytes, Some(64 << 10));
    let cpu = readings.cpu.unwrap();
    assert_eq!((cpu.busy_ticks, cpu.total_ticks), (160, 1187));
    let earlier = CpuTime {
        busy_ticks: 60,
        total_ticks: 987,
    };
    assert_eq!(cpu.load_since(&earlier), Some(0.5));
    assert_eq!(earlier.load_since(&cpu), None);
    let pressure = readings.memory_pressure.unwrap();
    assert_eq!(
        (pressure.some.avg10, pressure.some.total_us),
        (1.5, 123_456)
    );
    assert_eq!(pressure.full.map(|full| full.total_us), Some(6543));
    assert_eq!(readings.cpu_pressure, None);
    let [process] = &readings.processes[..] else {
        panic!("one of the two is there");
    };
    assert_eq!(process.pid, 42);
    assert_eq!(process.resident.all_bytes, Some(46_000 << 10));
    assert_eq!(process.resident.anonymous_bytes, Some(12_000 << 10));
    assert_eq!(
        (process.spent.cpu_ticks, process.spent.started_ticks),
        (771, 4353)
    );
}

/// A unit in a slice, with the hierarchy mounted where told.
fn with_cgroup(own: &str, mountinfo: &str, mount: &str) -> Tree {
    let tree = Tree::new();
    tree.files("proc/self", &[("cgroup", own), ("mountinfo", mountinfo)]);
    let slice = format!("{mount}/system.slice");
    let unit = format!("{slice}/lineside.service");
    tree.files(mount, &[("cgroup.controllers", "memory")])
        .files(
            &slice,
            &[
                ("memory.max", "1000000"),
                ("memory.high", "max"),
                ("memory.current", "950000"),
            ],
        )
        .files(
            &unit,
            &[
                ("memory.max", "4000000"),
                ("memory.high", "700000"),
                ("memory.current", "400000"),
                (
                    "memory.events",
                    "low 0\nhigh 3\nmax 2\noom 1\noom_kill 1\noom_group_kill 0",
                ),
                ("memory.pressure", PRESSURE),
            ],
        );
    tree
}

const UNIFIED: &str = "25 1 0:22 / /proc rw - proc proc rw\n\
                       31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw";
const HYBRID: &str = "30 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                      38 30 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
const OWN: &str = "0::/system.slice/lineside.service";

#[test]
fn the_tightest_limit_of_the_cgroups_above_counts() {
    let many = format!("4:memory:/elsewhere\n{OWN}");
    let cases = [
        with_cgroup(OWN, UNIFIED, "sys/fs/cgroup"),
        with_cgroup(&many, HYBRID, "sys/fs/cgroup/unified"),
        with_cgroup(OWN, "nothing", "sys/fs/cgroup"),
    ];
    for tree in cases {
        let cgroup = tree.read().cgroup.unwrap();
        assert_eq!(cgroup.max_bytes, Some(1_000_000));
        assert_eq!(cgroup.high_bytes, Some(700_000));
        assert_eq!(cgroup.current_bytes, Some(400_000));
        assert_eq!(cgroup.headroom_bytes, Some(50_000), "others fill the slice");
        let events = cgroup.events.unwrap();
        assert_eq!((events.high, events.max), (3, 2));
        assert_eq!((events.oom, events.oom_kill), (1, 1));
        assert!(cgroup.memory_pressure.is_some());
        assert_eq!(cgroup.cpu_pressure, None);
    }
}

/// Where the unit is divided, the service sees what the whole unit has, its engines included.
#[test]
fn a_divided_unit_counts_as_one() {
    let tree = with_cgroup(&format!("{OWN}/service"), UNIFIED, "sys/fs/cgroup");
    let unit = "sys/fs/cgroup/system.slice/lineside.service";
    let little = [("memory.max", "max"), ("memory.current", "30000")];
    tree.files(&format!("{unit}/service"), &little)
        .files(&format!("{unit}/engine"), &[("memory.max", "500000")]);
    let cgroup = tree.read().cgroup.unwrap();
    assert_eq!(cgroup.current_bytes, Some(400_000));
    assert_eq!(cgroup.events.unwrap().oom_kill, 1);
}

#[test]
fn a_memory_controller_of_version_1_has_its_limit_too() {
    let tree = Tree::new();
    let own = "0::/\n5:cpu,cpuacct:/\n4:memory:/docker/ab";
    let mountinfo = "33 31 0:30 /docker/ab /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n\
                     35 31 0:32 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
                     41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
    tree.files("proc/self", &[("cgroup", own), ("mountinfo", mountinfo)])
        .files("sys/fs/cgroup/unified", &[("cgroup.controllers", "")])
        .files(
            "sys/fs/cgroup/memory",
            &[
                ("memory.limit_in_bytes", "3000000"),
                ("memory.usage_in_bytes", "1000000"),
            ],
        );
    let cgroup = tree.read().cgroup.unwrap();
    assert_eq!(cgroup.max_bytes, Some(3_000_000));
    assert_eq!(cgroup.current_bytes, Some(1_000_000));
    assert_eq!(cgroup.headroom_bytes, Some(2_000_000));
    let without = "9223372036854771712";
    tree.files(
        "sys/fs/cgroup/memory",
        &[("memory.limit_in_bytes", without)],
    );
    let cgroup = tree.read().cgroup.unwrap();
    assert_eq!((cgroup.max_bytes, cgroup.headroom_bytes), (None, None));
}

#[test]
fn a_container_sees_its_part_of_the_hierarchy() {
    let mountinfo = "31 24 0:27 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup rw";
    let own = "0::/docker/ab/system.slice/lineside.service";
    let tree = with_cgroup(own, mountinfo, "sys/fs/cgroup");
    assert_eq!(tree.read().cgroup.unwrap().max_bytes, Some(1_000_000));
}

#[test]
fn a_cgroup_root_that_is_told_is_used() {
    let tree = with_cgroup(OWN, UNIFIED, "other place");
    assert_eq!(tree.read().cgroup, None);
    let mut roots = tree.roots();
    roots.cgroup = Some(tree.root.join("other place"));
    let cgroup = Reader::new(roots).read(at(0), &[]).cgroup;
    assert_eq!(cgroup.unwrap().max_bytes, Some(1_000_000));
}

#[test]
fn a_cgroup_outside_of_what_is_seen_is_none() {
    let unified = |own: &str| text::own_cgroup(own.as_bytes(), Hierarchy::Unified);
    for own in ["0::/../../etc", "4:memory:/x", "0:/", ""] {
        assert_eq!(unified(own), None, "{own}");
    }
    assert_eq!(unified("0::/\n"), Some(PathBuf::new()));
    let mount = b"1 2 0:3 /a\\040b /sys/c\\134d rw - cgroup2 x rw\n";
    let mounted = text::cgroup_mount(mount, Hierarchy::Unified);
    let mounted = mounted.unwrap();
    assert_eq!(mounted.part, Path::new("a b"));
    assert_eq!(mounted.at, Path::new("/sys/c\\d"));
}

/// Every file that the reader opens in a tree of everything.
fn everything() -> Tree {
    let tree = with_cgroup(OWN, UNIFIED, "sys/fs/cgroup");
    boards::orin(&tree);
    boards::xavier_rails(&tree);
    tree.files("proc", &[("meminfo", MEMINFO), ("stat", "cpu 1 2 3 4")])
        .files("proc/pressure", &[("memory", PRESSURE), ("cpu", PRESSURE)])
        .files("proc/42", &[("stat", STAT), ("status", STATUS)]);
    tree
}

fn all_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all_files(&path, into);
        } else {
            into.push(path);
        }
    }
    into.sort();
}

fn nonsense() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        proptest::collection::vec(any::<u8>(), 4000..9000),
        any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        "[0-9a-z .:/=\n\\\\()-]{0,80}".prop_map(String::into_bytes),
        Just(b"99999999999999999999999999999\n".to_vec()),
        Just(b"0::/\ncpu \nMemTotal: 1 kB\nMemTotal: 99999999999999999999 kB\n".to_vec()),
    ]
}

/// What the bounds are, whatever is read.
fn within_bounds(readings: &Readings) -> Result<(), TestCaseError> {
    prop_assert!(readings.thermometers.len() <= MAX_THERMOMETERS);
    for thermometer in &readings.thermometers {
        prop_assert!(thermometer.name.chars().count() <= 2 * text::MAX_NAME_CHARS + 8);
        prop_assert!(!thermometer.name.contains(char::is_control));
    }
    let shares = [readings.gpu_load(), readings.clock_cap()];
    for share in shares.into_iter().flatten() {
        prop_assert!((0.0..=1.0).contains(&share));
    }
    if let Some(pressure) = readings.memory_pressure {
        prop_assert!((0.0..=100.0).contains(&pressure.some.avg10));
    }
    let _ = readings.power_milliwatts();
    Ok(())
}

#[test]
fn whatever_files_hold_the_reader_stays_within_its_bounds() {
    let tree = everything();
    let mut files = Vec::new();
    all_files(&tree.root, &mut files);
    let files: Vec<_> = files
        .into_iter()
        .map(|path| (fs::read(&path).unwrap(), path))
        .collect();
    let contents = proptest::collection::vec((0..files.len(), nonsense()), 1..40);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(64));
    let outcome = runner.run(&contents, |contents| {
        let mut reader = tree.reader();
        let sane = reader.read(at(0), &[42]);
        prop_assert_eq!(sane.thermometers.len(), 6);
        prop_assert!(sane.cgroup.is_some() && !sane.processes.is_empty());
        for (which, content) in &contents {
            fs::write(&files[*which].1, content).unwrap();
        }
        // Those known already, and looked at anew.
        let readings = [1, 100].map(|second| reader.read(at(second), &[42]));
        for (which, _) in &contents {
            let (content, path) = &files[*which];
            fs::write(path, content).unwrap();
        }
        readings.iter().try_for_each(within_bounds)
    });
    outcome.unwrap();
}
