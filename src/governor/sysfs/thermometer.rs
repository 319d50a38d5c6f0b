//! Thermal zones and the temperatures of chips.
//!
//! Both have names that outlive a renumbering: a zone's type, a chip's name with the input's
//! label; a second one of the same name is numbered. A zone that the kernel shows a second time
//! as a chip is taken once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::{self, Unread};

/// Thermal zones that are looked at; the largest boards have about thirty.
const MAX_ZONES: usize = 64;
/// Trip points of a zone that are looked at.
const MAX_TRIPS: usize = 16;
/// Chips that are looked at.
const MAX_CHIPS: usize = 64;
/// Thermometers in all.
pub const MAX_THERMOMETERS: usize = 128;

/// One place where a temperature is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thermometer {
    /// What it is called: a zone's type, or a chip's name and the input's label.
    pub name: Arc<str>,
    /// What the kernel wrote, by its documentation thousandths of a degree.
    pub raw: Result<i64, Unread>,
    /// The temperatures from which on something happens.
    pub limits: Limits,
}

/// Temperatures from which on something happens, as the kernel wrote them. Of several of a kind
/// the lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The kernel slows the machine down (a zone's `passive` trip point).
    pub passive: Option<i64>,
    /// The kernel warns (a zone's `hot` trip point).
    pub hot: Option<i64>,
    /// The kernel switches the machine off (a zone's `critical` trip point, a chip's `crit`).
    pub critical: Option<i64>,
    /// The chip raises an alarm (a chip's `max`).
    pub max: Option<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    inputs: Vec<Input>,
}

#[derive(Debug)]
struct Input {
    name: Arc<str>,
    value: PathBuf,
    /// Where the chip says that the sensor is at fault.
    fault: Option<PathBuf>,
    limits: Limits,
}

impl Plan {
    pub(super) fn look(sysfs: &Path) -> Self {
        let mut inputs = zones(&sysfs.join("class/thermal"));
        let shown_twice: BTreeSet<String> = inputs.iter().map(|zone| as_chip(&zone.name)).collect();
        for (_, chip) in file::numbered(&sysfs.join("class/hwmon"), "hwmon", MAX_CHIPS) {
            let name = file::name(&chip.join("name"));
            if !name.as_ref().is_some_and(|name| shown_twice.contains(name)) {
                inputs.extend(of_chip(&chip, name.as_deref().unwrap_or("chip")));
            }
        }
        inputs.truncate(MAX_THERMOMETERS);
        tell_apart(&mut inputs);
        Self { inputs }
    }

    pub(super) fn read(&self) -> Vec<Thermometer> {
        self.inputs.iter().map(Input::read).collect()
    }
}

impl Input {
    fn read(&self) -> Thermometer {
        let at_fault = self
            .fault
            .as_deref()
            .is_some_and(|fault| file::number(fault).is_ok_and(|fault| fault != 0));
        let raw = if at_fault {
            Err(Unread::Faulty)
        } else {
            file::number(&self.value)
        };
        Thermometer {
            name: Arc::clone(&self.name),
            raw,
            limits: self.limits,
        }
    }
}

fn zones(folder: &Path) -> Vec<Input> {
    file::numbered(folder, "thermal_zone", MAX_ZONES)
        .into_iter()
        .map(|(number, zone)| Input {
            name: file::name(&zone.join("type"))
                .unwrap_or_else(|| format!("thermal_zone{number}"))
                .into(),
            value: zone.join("temp"),
            fault: None,
            limits: trips(&zone),
        })
        .collect()
}

fn trips(zone: &Path) -> Limits {
    let mut limits = Limits::default();
    for trip in 0..MAX_TRIPS {
        let Some(kind) = file::name(&zone.join(format!("trip_point_{trip}_type"))) else {
            break;
        };
        let slot = match kind.as_str() {
            "passive" => &mut limits.passive,
            "hot" => &mut limits.hot,
            "critical" => &mut limits.critical,
            _ => continue, // active: a fan starts, which is no limit
        };
        if let Ok(raw) = file::number(&zone.join(format!("trip_point_{trip}_temp"))) {
            *slot = Some(slot.map_or(raw, |lowest| lowest.min(raw)));
        }
    }
    limits
}

/// The name under which the kernel shows a zone again as a chip.
fn as_chip(zone: &str) -> String {
    zone.replace('-', "_")
}

fn of_chip(chip: &Path, name: &str) -> Vec<Input> {
    let files = file::names(chip);
    let mut channels: Vec<u32> = files
        .iter()
        .filter_map(|file| {
            let channel = file.strip_prefix("temp")?.strip_suffix("_input")?;
            channel.parse().ok()
        })
        .collect();
    channels.sort_unstable();
    channels.truncate(MAX_THERMOMETERS);
    let input = |channel: u32| {
        let of = |what: &str| chip.join(format!("temp{channel}_{what}"));
        let label = file::name(&of("label")).unwrap_or_else(|| format!("temp{channel}"));
        let has_fault = files.binary_search(&format!("temp{channel}_fault")).is_ok();
        Input {
            name: format!("{name} {label}").into(),
            value: of("input"),
            fault: has_fault.then(|| of("fault")),
            limits: Limits {
                critical: file::number(&of("crit")).ok(),
                max: file::number(&of("max")).ok(),
                ..Limits::default()
            },
        }
    };
    channels.into_iter().map(input).collect()
}

/// Numbers those that have the name of one before.
fn tell_apart(inputs: &mut [Input]) {
    let mut taken = BTreeSet::new();
    for input in inputs {
        let mut number = 1;
        let mut name = Arc::clone(&input.name);
        while !taken.insert(Arc::clone(&name)) {
            number += 1;
            name = format!("{} #{number}", input.name).into();
        }
        input.name = name;
    }
}
