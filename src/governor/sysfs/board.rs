//! Clocks, cooling, supply lines and graphics processors.
//!
//! Supply lines on Jetson come in two layouts, both by the board's INA3221 meters. Newer kernels
//! have a chip with `in1_label`, `in1_input` and `curr1_input`; those before 5.10 have an
//! `iio:device0` with `rail_name_0`, `in_voltage0_input`, `in_current0_input`, `in_power0_input`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Clock, Cooling, Gpu, Rail, Readings, file, text};

/// Groups of cores that are looked at. Boards have three; where each core has a clock of its own,
/// all are capped alike.
pub(super) const MAX_CLOCKS: usize = 16;
/// Cooling devices that are looked at.
pub(super) const MAX_COOLING: usize = 32;
/// Chips that are asked whether they are meters.
const MAX_CHIPS: usize = 64;
/// Supply lines in all.
pub(super) const MAX_RAILS: usize = 32;
/// Graphics processors.
pub(super) const MAX_GPUS: usize = 4;
/// Channels of one meter.
const CHANNELS: std::ops::RangeInclusive<u32> = 1..=4;
/// What device trees call the graphics processors of Jetson, i.MX and others, after the address.
const GPU_NAMES: [&str; 6] = ["gpu", "ga10b", "gv11b", "gp10b", "gm20b", "mali"];

#[derive(Debug, Default)]
pub(super) struct Plan {
    clocks: Vec<(Clock, PathBuf)>,
    cooling: Vec<(Cooling, PathBuf)>,
    rails: Vec<RailFiles>,
    gpus: Vec<GpuFiles>,
}

#[derive(Debug)]
struct RailFiles {
    name: Arc<str>,
    millivolts: PathBuf,
    milliamperes: PathBuf,
    power: Option<Power>,
}

#[derive(Debug)]
enum Power {
    Milliwatts(PathBuf),
    Microwatts(PathBuf),
}

#[derive(Debug)]
struct GpuFiles {
    name: Arc<str>,
    load: Option<PathBuf>,
    clock: Option<PathBuf>,
    hardware_hz: Option<u64>,
}

impl Plan {
    pub(super) fn look(sysfs: &Path) -> Self {
        let mut rails = metered(&sysfs.join("class/hwmon"));
        rails.extend(metered_before(&sysfs.join("bus/i2c/drivers/ina3221x")));
        rails.truncate(MAX_RAILS);
        Self {
            clocks: clocks(&sysfs.join("devices/system/cpu/cpufreq")),
            cooling: cooling(&sysfs.join("class/thermal")),
            rails,
            gpus: gpus(sysfs),
        }
    }

    pub(super) fn read(&self, into: &mut Readings) {
        into.clocks = self.clocks.iter().map(clock).collect();
        into.cooling = self.cooling.iter().map(cooling_state).collect();
        into.rails = self.rails.iter().map(RailFiles::read).collect();
        into.gpus = self.gpus.iter().map(GpuFiles::read).collect();
    }
}

fn clocks(folder: &Path) -> Vec<(Clock, PathBuf)> {
    file::numbered(folder, "policy", MAX_CLOCKS)
        .into_iter()
        .map(|(policy, folder)| {
            let clock = Clock {
                policy,
                hardware_khz: file::count(&folder.join("cpuinfo_max_freq")),
                ..Clock::default()
            };
            (clock, folder)
        })
        .collect()
}

fn clock((known, folder): &(Clock, PathBuf)) -> Clock {
    Clock {
        current_khz: file::count(&folder.join("scaling_cur_freq")),
        allowed_khz: file::count(&folder.join("scaling_max_freq")),
        ..known.clone()
    }
}

fn cooling(folder: &Path) -> Vec<(Cooling, PathBuf)> {
    file::numbered(folder, "cooling_device", MAX_COOLING)
        .into_iter()
        .filter_map(|(_, folder)| {
            let cooling = Cooling {
                name: file::name(&folder.join("type"))?.into(),
                state: None,
                highest: file::count(&folder.join("max_state")),
            };
            Some((cooling, folder.join("cur_state")))
        })
        .collect()
}

fn cooling_state((known, state): &(Cooling, PathBuf)) -> Cooling {
    Cooling {
        state: file::count(state),
        ..known.clone()
    }
}

/// The meters among the chips: those of the INA family that tell a current.
fn metered(folder: &Path) -> Vec<RailFiles> {
    let chips = file::numbered(folder, "hwmon", MAX_CHIPS).into_iter();
    chips
        .filter_map(|(_, chip)| {
            let name = file::name(&chip.join("name"))?;
            name.starts_with("ina").then_some((name, chip))
        })
        .flat_map(|(name, chip)| {
            CHANNELS.filter_map(move |channel| rail_of_chip(&chip, &name, channel))
        })
        .collect()
}

fn rail_of_chip(chip: &Path, name: &str, channel: u32) -> Option<RailFiles> {
    let of = |what: &str, which: &str| chip.join(format!("{what}{channel}_{which}"));
    let (millivolts, milliamperes) = (of("in", "input"), of("curr", "input"));
    if !(millivolts.exists() && milliamperes.exists()) {
        return None;
    }
    let label = file::name(&of("in", "label"));
    // Not connected, or a sum of what is counted already.
    if label
        .as_ref()
        .is_some_and(|label| label == "NC" || label.starts_with("sum "))
    {
        return None;
    }
    // The fourth channel of an INA3221 is the sum of the others.
    if name == "ina3221" && channel > 3 {
        return None;
    }
    let power = of("power", "input");
    Some(RailFiles {
        name: label.unwrap_or_else(|| format!("{name} {channel}")).into(),
        millivolts,
        milliamperes,
        power: power.exists().then_some(Power::Microwatts(power)),
    })
}

/// The layout of older kernels.
fn metered_before(driver: &Path) -> Vec<RailFiles> {
    let mut rails = Vec::new();
    for device in file::names(driver) {
        let device = driver.join(device);
        for iio in file::names(&device) {
            if !iio.starts_with("iio:device") {
                continue;
            }
            let folder = device.join(iio);
            rails.extend((0..=*CHANNELS.end()).filter_map(|channel| {
                let name = file::name(&folder.join(format!("rail_name_{channel}")))?;
                let of = |what: &str| folder.join(format!("in_{what}{channel}_input"));
                Some(RailFiles {
                    name: name.into(),
                    millivolts: of("voltage"),
                    milliamperes: of("current"),
                    power: Some(Power::Milliwatts(of("power"))),
                })
            }));
        }
    }
    rails.retain(|rail| &*rail.name != "NC");
    rails
}

impl RailFiles {
    fn read(&self) -> Rail {
        let millivolts = file::count(&self.millivolts);
        let milliamperes = file::count(&self.milliamperes);
        let metered = match &self.power {
            Some(Power::Milliwatts(path)) => file::count(path),
            Some(Power::Microwatts(path)) => file::count(path).map(|power| power / 1000),
            None => None,
        };
        let product = || Some(millivolts?.saturating_mul(milliamperes?) / 1000);
        Rail {
            name: Arc::clone(&self.name),
            millivolts,
            milliamperes,
            milliwatts: metered.or_else(product),
        }
    }
}

fn is_gpu(name: &str) -> bool {
    let kind = name.rsplit('.').next().unwrap_or(name);
    GPU_NAMES.contains(&kind) || name.starts_with("gpu")
}

/// By their clocks first, then those that only tell their load.
fn gpus(sysfs: &Path) -> Vec<GpuFiles> {
    let mut found: Vec<GpuFiles> = Vec::new();
    let clocks = sysfs.join("class/devfreq");
    for name in file::names(&clocks).into_iter().filter(|name| is_gpu(name)) {
        let clock = clocks.join(&name);
        found.push(GpuFiles {
            load: load_file(&[clock.join("device"), clock.clone()]),
            hardware_hz: file::table(&clock.join("available_frequencies"), text::highest).flatten(),
            clock: Some(clock),
            name: name.into(),
        });
    }
    for folder in ["devices", "devices/platform", "devices/platform/bus@0"] {
        let folder = sysfs.join(folder);
        for name in file::names(&folder).into_iter().filter(|name| is_gpu(name)) {
            let known = found.iter().any(|gpu| *gpu.name == name);
            if let (false, Some(load)) = (known, load_file(&[folder.join(&name)])) {
                found.push(GpuFiles {
                    name: name.into(),
                    load: Some(load),
                    clock: None,
                    hardware_hz: None,
                });
            }
        }
    }
    found.truncate(MAX_GPUS);
    found
}

fn load_file(folders: &[PathBuf]) -> Option<PathBuf> {
    let mut files = folders.iter().map(|folder| folder.join("load"));
    files.find(|file| file.exists())
}

impl GpuFiles {
    fn read(&self) -> Gpu {
        let clock = |what: &str| file::count(&self.clock.as_ref()?.join(what));
        let load = self.load.as_deref();
        Gpu {
            name: Arc::clone(&self.name),
            load: load.and_then(|load| file::table(load, text::gpu_load).flatten()),
            current_hz: clock("cur_freq"),
            allowed_hz: clock("max_freq"),
            hardware_hz: self.hardware_hz,
        }
    }
}
