//! What stands in the kernel's files. Pure: bytes in, values out.
//!
//! Whatever the bytes are, a value or nothing comes out, and neither is larger than a constant
//! times the bytes. A file that is not as the kernel documents it tells nothing.

use std::path::{Component, Path, PathBuf};

/// Characters of a name: longer ones are cut, for they stand in logs and on small screens.
pub const MAX_NAME_CHARS: usize = 48;
/// The kernel's unit of time for programs. It is part of the interface, whatever the kernel's own
/// tick is, and the same on every architecture that runs this.
pub const TICKS_PER_S: u64 = 100;

/// The lines of a file, those that are no text left out.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
}

/// The first word of the file.
fn word(bytes: &[u8]) -> Option<&str> {
    lines(bytes).next()?.split_ascii_whitespace().next()
}

/// A number alone in its file.
pub fn number(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    trimmed(text).parse().ok()
}

/// Without blanks around, and without the zero byte that ends files of device trees.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\0')
}

/// A name alone in its file: one line, no control characters, not longer than fits a screen.
pub fn name(bytes: &[u8]) -> Option<String> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let name: String = trimmed(&line)
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(MAX_NAME_CHARS)
        .collect();
    (!name.is_empty()).then_some(name)
}

/// The machine's memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All that the kernel has.
    pub total_bytes: Option<u64>,
    /// What could be had without swapping.
    pub available_bytes: Option<u64>,
    /// Room to swap to.
    pub swap_free_bytes: Option<u64>,
}

/// `/proc/meminfo`.
pub fn memory(bytes: &[u8]) -> Memory {
    let mut memory = Memory::default();
    for line in lines(bytes) {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        match key {
            "MemTotal" => memory.total_bytes = kib(value),
            "MemAvailable" => memory.available_bytes = kib(value),
            "SwapFree" => memory.swap_free_bytes = kib(value),
            _ => {}
        }
    }
    memory
}

/// `   123 kB`, in bytes.
fn kib(value: &str) -> Option<u64> {
    let kib = value.trim().strip_suffix(" kB")?.trim().parse::<u64>();
    Some(kib.ok()?.saturating_mul(1024))
}

/// A process's memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// All of its pages that are in memory.
    pub all_bytes: Option<u64>,
    /// Those that belong to no file, which only swapping can take away.
    pub anonymous_bytes: Option<u64>,
}

/// `/proc/PID/status`.
pub fn resident(bytes: &[u8]) -> Resident {
    let mut resident = Resident::default();
    for line in lines(bytes) {
        if let Some(value) = line.strip_prefix("VmRSS:") {
            resident.all_bytes = kib(value);
        } else if let Some(value) = line.strip_prefix("RssAnon:") {
            resident.anonymous_bytes = kib(value);
        }
    }
    resident
}

/// What the machine's processors have done since it started, in [ticks](TICKS_PER_S), all of
/// them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// Work of any kind. What a hypervisor took away is none.
    pub busy_ticks: u64,
    /// Everything.
    pub total_ticks: u64,
}

impl CpuTime {
    /// The share of time that was spent working since `earlier`.
    pub fn load_since(&self, earlier: &Self) -> Option<f64> {
        let busy = self.busy_ticks.checked_sub(earlier.busy_ticks)?;
        let total = self.total_ticks.checked_sub(earlier.total_ticks)?;
        (total > 0).then(|| super::share(busy, total))
    }
}

/// The first line of `/proc/stat`.
pub fn cpu_time(bytes: &[u8]) -> Option<CpuTime> {
    let line = lines(bytes).next()?.strip_prefix("cpu ")?;
    // user nice system idle iowait irq softirq steal; what follows is counted in user already.
    let mut ticks = [0u64; 8];
    let mut words = line.split_ascii_whitespace();
    for (place, slot) in ticks.iter_mut().enumerate() {
        match words.next() {
            Some(word) => *slot = word.parse().ok()?,
            None if place >= 4 => break, // old kernels have fewer
            None => return None,
        }
    }
    let [user, nice, system, idle, iowait, irq, softirq, steal] = ticks;
    let sum = |parts: &[u64]| {
        parts
            .iter()
            .fold(0u64, |sum, part| sum.saturating_add(*part))
    };
    Some(CpuTime {
        busy_ticks: sum(&[user, nice, system, irq, softirq]),
        total_ticks: sum(&[user, nice, system, idle, iowait, irq, softirq, steal]),
    })
}

/// What a process has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Processor time, in [ticks](TICKS_PER_S).
    pub cpu_ticks: u64,
    /// When it started, in ticks since the machine did: tells two processes of one number apart.
    pub started_ticks: u64,
}

/// `/proc/PID/stat`.
pub fn spent(bytes: &[u8]) -> Option<Spent> {
    // The second field is the program's name in brackets, and may hold blanks and brackets.
    let end = bytes.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&bytes[end + 1..]).ok()?;
    // Fields are numbered from 1 in proc(5); here the third comes first.
    let mut fields = rest.split_ascii_whitespace();
    let user: u64 = fields.nth(14 - 3)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let started = fields.nth(22 - 16)?.parse().ok()?;
    Some(Spent {
        cpu_ticks: user.saturating_add(system),
        started_ticks: started,
    })
}

/// How much of the time work stood still for want of something.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last 5 minutes.
    pub avg300: f64,
    /// Microseconds since the start.
    pub total_us: u64,
}

/// Pressure stall information.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Somebody stood still.
    pub some: Stall,
    /// Everybody stood still.
    pub full: Option<Stall>,
}

/// `/proc/pressure/…` or a cgroup's `….pressure`.
pub fn pressure(bytes: &[u8]) -> Option<Pressure> {
    let stall = |kind: &str| lines(bytes).find_map(|line| stall(line.strip_prefix(kind)?));
    Some(Pressure {
        some: stall("some ")?,
        full: stall("full "),
    })
}

fn stall(line: &str) -> Option<Stall> {
    let value = |key: &str| {
        line.split_ascii_whitespace()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    };
    let percent = |key: &str| {
        let percent: f64 = value(key)?.parse().ok()?;
        (0.0..=100.0).contains(&percent).then_some(percent)
    };
    Some(Stall {
        avg10: percent("avg10")?,
        avg60: percent("avg60")?,
        avg300: percent("avg300")?,
        total_us: value("total")?.parse().ok()?,
    })
}

/// A cgroup's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `max`.
    None,
    /// So many bytes.
    Bytes(u64),
}

/// `memory.max` or `memory.high`.
pub fn bound(bytes: &[u8]) -> Option<Bound> {
    match word(bytes)? {
        "max" => Some(Bound::None),
        number => number.parse().ok().map(Bound::Bytes),
    }
}

/// How often a cgroup's memory was short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryEvents {
    /// Above `memory.high`: slowed down, and pages taken away.
    pub high: u64,
    /// At `memory.max`.
    pub max: u64,
    /// Nothing could be taken away.
    pub oom: u64,
    /// Processes that were killed for it.
    pub oom_kill: u64,
}

/// `memory.events`.
pub fn memory_events(bytes: &[u8]) -> MemoryEvents {
    let mut events = MemoryEvents::default();
    for line in lines(bytes) {
        let Some((key, value)) = line.split_once(' ') else {
            continue;
        };
        let value = value.trim().parse().unwrap_or(0);
        match key {
            "high" => events.high = value,
            "max" => events.max = value,
            "oom" => events.oom = value,
            "oom_kill" => events.oom_kill = value,
            _ => {}
        }
    }
    events
}

/// Which of the kernel's hierarchies of cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// Version 2, the only one.
    Unified,
    /// Version 1, that of the memory controller.
    Memory,
}

impl Hierarchy {
    /// Whether a list of controllers, as it stands in `/proc/self/cgroup`, is this one's.
    fn has(self, number: &str, controllers: &str) -> bool {
        match self {
            Self::Unified => number == "0" && controllers.is_empty(),
            Self::Memory => controllers
                .split(',')
                .any(|controller| controller == "memory"),
        }
    }

    /// Whether a mount of this kind and with these options is this one's.
    fn is_mounted(self, kind: &str, options: &str) -> bool {
        match self {
            Self::Unified => kind == "cgroup2",
            Self::Memory => kind == "cgroup" && options.split(',').any(|option| option == "memory"),
        }
    }
}

/// Where this process is in a hierarchy, by `/proc/self/cgroup`: a path without its leading
/// slash. None if it is outside of what it can see.
pub fn own_cgroup(bytes: &[u8], hierarchy: Hierarchy) -> Option<PathBuf> {
    let path = lines(bytes).find_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        hierarchy.has(number, controllers).then_some(path)
    })?;
    inside(Path::new(path.strip_prefix('/')?))
}

/// The path, if it leads nowhere but down.
fn inside(path: &Path) -> Option<PathBuf> {
    let down = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    down.then(|| path.to_owned())
}

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Which part of the hierarchy: a path without its leading slash.
    pub part: PathBuf,
    /// Where.
    pub at: PathBuf,
}

/// The first mount of a hierarchy in `/proc/self/mountinfo`.
pub fn cgroup_mount(bytes: &[u8], hierarchy: Hierarchy) -> Option<Mounted> {
    lines(bytes).find_map(|line| {
        let (mount, of_kind) = line.split_once(" - ")?;
        let mut of_kind = of_kind.split(' ');
        let kind = of_kind.next()?;
        if !hierarchy.is_mounted(kind, of_kind.next_back()?) {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let part = unescaped(fields.next()?);
        let at = unescaped(fields.next()?);
        Some(Mounted {
            part: inside(Path::new(part.strip_prefix('/')?))?,
            at: at.into(),
        })
    })
}

/// Blanks in paths are written as `\040`.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        if let Some(code) = code {
            bytes.push(code);
            bytes.extend_from_slice(&part.as_bytes()[3..]);
        } else {
            bytes.push(b'\\');
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How busy a graphics processor is, from 0 to 1: thousandths on Jetson (`437`), percent where
/// the clock is told too (`43@800000000Hz`).
pub fn gpu_load(bytes: &[u8]) -> Option<f64> {
    let word = word(bytes)?;
    let (digits, whole) = match word.split_once('@') {
        Some((percent, _)) => (percent, 100),
        None => (word, 1000),
    };
    Some(super::share(digits.parse().ok()?, whole))
}

/// The highest of the frequencies that a file lists.
pub fn highest(bytes: &[u8]) -> Option<u64> {
    lines(bytes)
        .flat_map(str::split_ascii_whitespace)
        .filter_map(|word| word.parse().ok())
        .max()
}
