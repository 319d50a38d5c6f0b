//! Which temperatures may be believed, and how hot a sensor counts that may not.
//!
//! [`Health`] turns raw [`Readings`] into one [`Heat`]: the sensor that is nearest to its limit,
//! and the distance. What it cannot believe it replaces by something hotter.
//!
//! ```text
//!    (new)                     hear: plausible                      plausible, often enough in a row;
//!      │ hear: plausible   ┌──────────────────────────────────────── a stuck one: moved
//!      ▼                   ▼                                      │
//!   Silent ──────────► Trusted ──► Lost: missing, unreadable, stuck, absurd, stale
//!    not plausible yet     │                 ▲  counts as its last temperature, and hotter
//!                          └─────────────────┘  with each second
//!                            hear, lose
//! ```
//!
//! **Which sensors count.** Those that the site lists, else all but those of parts that the
//! appliance's work does not heat ([`watch`]). The one with the smallest distance to its limit
//! governs.
//!
//! **The limit of a sensor** is the site's, or its own where that is lower: the passive trip
//! point, the chip's alarm, the hot and the critical point less a distance.
//!
//! **A lost sensor** counts as its last temperature and a growth per second, up to its limit, so
//! that an appliance without any sensor comes to rest in the safe state. Where trusted sensors
//! sit on the same spot, it counts as no hotter than the hottest of them, plus what it used to
//! be hotter than they, plus a distance. A sensor on the board may be bounded by those in the
//! processor, for they are the hotter ones; never the other way round.
//!
//! **A silent sensor**, which never told anything, is left out: boards describe sensors of parts
//! that they do not have. So is one that never moved since the start, once that is found out,
//! and one of a graphics card that is switched off. In a processor, though, one of them must be
//! trusted, else the silent ones count.
//!
//! **The unit.** The kernel documents thousandths of a degree; some drivers write tenths or whole
//! degrees ([`scale`]).
//!
//! Invariants: a distrusted sensor never counts as cooler than what its neighbours allow; with
//! every sensor lost the distance shrinks to nothing; no sensor at all is something else than
//! sensors that are lost. No change of a sensor goes untold, but a restless sensor is told of
//! only so often.
//!
//! How it fails: towards heat.

mod scale;
mod sensor;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sensor::{Sensor, Surroundings};
pub use watch::Part;
use watch::Watch;

use super::sysfs::{CpuTime, Limits, MAX_THERMOMETERS, Readings, Unread};
use crate::clock::Mono;

/// Readings that are older than this tell nothing of now. They come each second.
const STALE_AFTER: Duration = Duration::from_secs(5);
/// Time constant of the load: what is shorter hardly warms anything.
const LOAD_MEMORY: Duration = Duration::from_secs(30);
/// A lost sensor may be so much hotter than the hottest of its neighbours.
const NEIGHBOUR_CELSIUS: f64 = 5.0;

/// What the site says.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// No sensor that counts may be hotter.
    pub limit_celsius: f64,
    /// The sensors that count, by name; a `*` at the end stands for anything. Empty: all but
    /// those of parts that the appliance does not heat.
    pub sensors: Vec<String>,
}

/// How near the appliance is to a limit.
#[derive(Clone, Debug, PartialEq)]
pub enum Heat {
    /// There is no sensor, and never was: a virtual machine. Nothing follows from it.
    Unmeasured,
    /// By at least one sensor that is trusted. The nearest to its limit need not be that one.
    Measured(Spot),
    /// There are sensors, and none is trusted.
    Lost(Spot),
}

impl Heat {
    /// The sensor nearest to its limit.
    pub fn spot(&self) -> Option<&Spot> {
        match self {
            Self::Unmeasured => None,
            Self::Measured(spot) | Self::Lost(spot) => Some(spot),
        }
    }
}

/// One sensor, as it counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Spot {
    /// The sensor's name.
    pub sensor: Arc<str>,
    /// What it measures.
    pub part: Part,
    /// How hot it counts: measured, or presumed if it is not trusted.
    pub celsius: f64,
    /// How hot it may be.
    pub limit_celsius: f64,
    /// Whether it is believed.
    pub standing: Standing,
    /// Whether it takes part in the decision. A sensor of a part that the board does not have
    /// does not.
    pub counts: bool,
}

impl Spot {
    /// The distance to the limit; negative beyond it.
    pub fn margin_celsius(&self) -> f64 {
        self.limit_celsius - self.celsius
    }
}

/// Whether a sensor is believed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    /// It is.
    Trusted,
    /// It was.
    Lost(Fault),
    /// It never told anything.
    Silent(Fault),
}

/// Why a sensor is not believed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It is not there.
    Missing,
    /// It cannot be read.
    Unreadable(Unread),
    /// It stays at one value, to the last digit, while everything around it moves.
    Stuck,
    /// Below what anything here can be.
    TooCold(f64),
    /// Above what anything here survives.
    TooHot(f64),
    /// Near freezing while its neighbours are warm.
    ColdAmongWarm(f64),
    /// Changed faster than anything can.
    Jumped {
        /// The last temperature that was believed.
        from: f64,
        /// What it says now.
        to: f64,
    },
    /// Nobody has read it for long.
    Stale,
}

impl Fault {
    /// The same kind of fault, whatever its figures.
    fn is_like(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is gone"),
            Self::Unreadable(why) => write!(f, "it cannot be read: {why}"),
            Self::Stuck => f.write_str("it does not move while load and neighbours do"),
            Self::TooCold(celsius) => write!(f, "it says {celsius:.1} °C, colder than can be"),
            Self::TooHot(celsius) => write!(f, "it says {celsius:.1} °C, hotter than can be"),
            Self::ColdAmongWarm(celsius) => {
                write!(f, "it says {celsius:.1} °C among warm neighbours")
            }
            Self::Jumped { from, to } => {
                write!(f, "it jumped from {from:.1} to {to:.1} °C")
            }
            Self::Stale => f.write_str("nobody has read it for long"),
        }
    }
}

impl Standing {
    fn is_like(self, other: Self) -> bool {
        match (self, other) {
            (Self::Trusted, Self::Trusted) => true,
            (Self::Lost(a), Self::Lost(b)) | (Self::Silent(a), Self::Silent(b)) => a.is_like(b),
            (Self::Trusted | Self::Lost(_) | Self::Silent(_), _) => false,
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trusted => f.write_str("trusted"),
            Self::Lost(why) => write!(f, "lost: {why}"),
            Self::Silent(why) => write!(f, "silent so far: {why}"),
        }
    }
}

/// A change of a sensor's standing, for the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The sensor's name.
    pub sensor: Arc<str>,
    /// What it is now.
    pub standing: Standing,
    /// How hot it counts.
    pub celsius: f64,
}

/// What follows from readings.
#[derive(Clone, Debug, PartialEq)]
pub struct Effects {
    /// How near the appliance is to a limit.
    pub heat: Heat,
    /// What is new about the sensors.
    pub changes: Vec<Change>,
}

/// Judges the sensors.
#[derive(Debug)]
pub struct Health {
    limit_celsius: f64,
    watch: Watch,
    sensors: BTreeMap<Arc<str>, Sensor>,
    /// When the last readings were taken that were looked at.
    taken: Option<Mono>,
    load: Load,
}

impl Health {
    /// Knows no sensor yet.
    pub fn new(rules: Rules) -> Self {
        Self {
            limit_celsius: rules.limit_celsius,
            watch: Watch::new(rules.sensors),
            sensors: BTreeMap::new(),
            taken: None,
            load: Load::default(),
        }
    }

    /// The latest readings, be they new or the same again because no newer came.
    pub fn on_readings(&mut self, readings: &Readings, now: Mono) -> Effects {
        if now.since(readings.taken) > STALE_AFTER {
            for sensor in self.sensors.values_mut() {
                sensor.lose(Fault::Stale, now);
            }
        } else if self.taken != Some(readings.taken) {
            self.taken = Some(readings.taken);
            self.load.on_readings(readings);
            self.hear(readings, now);
        }
        let spots = self.spots(now);
        let changes = self.changes(&spots, now);
        let heat = heat(spots);
        Effects { heat, changes }
    }

    fn hear(&mut self, readings: &Readings, now: Mono) {
        let warmth = self.watch.warmth(&readings.thermometers);
        let mut unheard: Vec<_> = self.sensors.keys().cloned().collect();
        for thermometer in &readings.thermometers {
            let name = &thermometer.name;
            let Some(part) = self.watch.part(name) else {
                continue;
            };
            if !self.sensors.contains_key(name) && !self.has_room() {
                continue;
            }
            let surroundings = Surroundings {
                warmth,
                load: self.load.smooth,
                others_moved: self.others_moved(name),
            };
            let sensor = self
                .sensors
                .entry(Arc::clone(name))
                .or_insert_with(|| Sensor::new(part, now));
            sensor.limit(&thermometer.limits, self.limit_celsius);
            match thermometer.raw {
                Ok(raw) => sensor.hear(raw, &surroundings, now),
                Err(Unread::Missing) => sensor.lose(Fault::Missing, now),
                Err(why) => sensor.lose(Fault::Unreadable(why), now),
            }
            unheard.retain(|known| known != name);
        }
        for name in unheard {
            if let Some(sensor) = self.sensors.get_mut(&name) {
                sensor.lose(Fault::Missing, now);
            }
        }
        self.expect_listed(now);
        self.compare(now);
    }

    /// A sensor that the site lists is missing until it shows.
    fn expect_listed(&mut self, now: Mono) {
        for listed in self.watch.listed() {
            let mut names = self.sensors.keys();
            let is_there = names.any(|name| *name != listed && watch::matches(&listed, name));
            if is_there {
                self.sensors.remove(&listed);
            } else if !self.sensors.contains_key(&listed) {
                let mut sensor = Sensor::new(Part::Processor, now);
                sensor.limit(&Limits::default(), self.limit_celsius);
                sensor.lose(Fault::Missing, now);
                self.sensors.insert(listed, sensor);
            }
        }
    }

    /// Room for one more: a sensor that is gone for long makes way.
    fn has_room(&mut self) -> bool {
        if self.sensors.len() < MAX_THERMOMETERS {
            return true;
        }
        let gone = self
            .sensors
            .iter()
            .filter_map(|(name, sensor)| Some((sensor.gone_since()?, Arc::clone(name))));
        let longest = gone.min();
        longest.is_some_and(|(_, name)| self.sensors.remove(&name).is_some())
    }

    /// When another trusted sensor last moved, and since when; none if there is no other.
    fn others_moved(&self, name: &str) -> Option<Mono> {
        let others = self
            .sensors
            .iter()
            .filter(|(other, sensor)| &***other != name && sensor.measured().is_some());
        others.map(|(_, sensor)| sensor.moved_since()).max()
    }

    /// Each trusted sensor learns how much hotter than its neighbours it is.
    fn compare(&mut self, now: Mono) {
        let trusted: Vec<_> = self.trusted();
        for (name, sensor) in &mut self.sensors {
            if let Some(own) = sensor.measured() {
                let others = trusted.iter().filter(|(other, _, _)| other != name);
                if let Some(hottest) = hottest(others, sensor.part()) {
                    sensor.learn_lead(own - hottest, now);
                }
            }
        }
    }

    fn trusted(&self) -> Vec<(Arc<str>, Part, f64)> {
        let measured = |(name, sensor): (&Arc<str>, &Sensor)| {
            Some((Arc::clone(name), sensor.part(), sensor.measured()?))
        };
        self.sensors.iter().filter_map(measured).collect()
    }

    /// Every sensor, as it counts now, by name.
    pub fn spots(&self, now: Mono) -> Vec<Spot> {
        let trusted = self.trusted();
        let spot = |(name, sensor): (&Arc<str>, &Sensor)| {
            let neighbours = hottest(trusted.iter(), sensor.part());
            let bound = neighbours.map(|hottest| hottest + sensor.lead() + NEIGHBOUR_CELSIUS);
            let counts = match (sensor.tells(), sensor.part()) {
                (true, _) => true,
                (false, Part::Processor) => neighbours.is_none(),
                (false, Part::Card | Part::Board) => trusted.is_empty(),
            };
            Spot {
                sensor: Arc::clone(name),
                part: sensor.part(),
                celsius: sensor.celsius(bound, now),
                limit_celsius: sensor.limit_celsius(),
                standing: sensor.standing(),
                counts,
            }
        };
        self.sensors.iter().map(spot).collect()
    }

    fn changes(&mut self, spots: &[Spot], now: Mono) -> Vec<Change> {
        let mut changes = Vec::new();
        for spot in spots {
            let sensor = self.sensors.get_mut(&spot.sensor);
            if sensor.is_some_and(|sensor| sensor.tell(now)) {
                changes.push(Change {
                    sensor: Arc::clone(&spot.sensor),
                    standing: spot.standing,
                    celsius: spot.celsius,
                });
            }
        }
        changes
    }
}

/// The hottest trusted sensor that bounds one of this part.
fn hottest<'s>(
    trusted: impl Iterator<Item = &'s (Arc<str>, Part, f64)>,
    part: Part,
) -> Option<f64> {
    trusted
        .filter(|(_, other, _)| part.is_bounded_by(*other))
        .map(|(_, _, celsius)| *celsius)
        .max_by(f64::total_cmp)
}

fn heat(spots: Vec<Spot>) -> Heat {
    let is_measured = spots
        .iter()
        .any(|spot| matches!(spot.standing, Standing::Trusted));
    let nearest = spots
        .into_iter()
        .filter(|spot| spot.counts)
        .min_by(|a, b| a.margin_celsius().total_cmp(&b.margin_celsius()));
    match nearest {
        None => Heat::Unmeasured,
        Some(spot) if is_measured => Heat::Measured(spot),
        Some(spot) => Heat::Lost(spot),
    }
}

/// How much the machine works, smoothed.
#[derive(Debug, Default)]
struct Load {
    smooth: Option<f64>,
    before: Option<(CpuTime, Mono)>,
}

impl Load {
    fn on_readings(&mut self, readings: &Readings) {
        let before = self.before;
        self.before = readings.cpu.map(|cpu| (cpu, readings.taken));
        let (Some(cpu), Some((earlier, at))) = (readings.cpu, before) else {
            return;
        };
        let processors = cpu.load_since(&earlier).unwrap_or(0.0);
        let load = processors.max(readings.gpu_load().unwrap_or(0.0));
        let span = readings.taken.since(at).as_secs_f64();
        let fresh = 1.0 - (-span / LOAD_MEMORY.as_secs_f64()).exp();
        self.smooth = Some(match self.smooth {
            Some(smooth) => smooth + fresh * (load - smooth),
            None => load,
        });
    }
}
