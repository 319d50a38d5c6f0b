//! Which sensors count, and what they measure, by their names.
//!
//! There is no list of all sensors in the world, but a short one of those that do not matter: an
//! unknown name counts. The words are those of drivers in the kernel and of the device trees of
//! common boards.

use std::sync::Arc;

use super::super::sysfs::Thermometer;

/// What a sensor measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Processor, memory controller, graphics on one chip.
    Processor,
    /// A graphics card: hot on its own.
    Card,
    /// Anything else: the board, memory, the enclosure.
    Board,
}

impl Part {
    /// Whether a sensor of this part is no hotter than those of the other, give or take.
    pub(super) fn is_bounded_by(self, other: Self) -> bool {
        self == other || (self, other) == (Self::Board, Self::Processor)
    }
}

/// Heated by something else than the appliance's work, or no measurement at all: batteries,
/// drives, radios and network chips; a power chip that tells a constant (`PMIC-Die`), an
/// estimate for the fan, and Intel's policy device that always tells 20 °C.
const IGNORED: [&str; 24] = [
    "bat",
    "battery",
    "bms",
    "charger",
    "bq",
    "sbs",
    "usb",
    "ucsi",
    "nvme",
    "drivetemp",
    "sata",
    "emmc",
    "iwlwifi",
    "wifi",
    "wlan",
    "ath10k",
    "ath11k",
    "ath12k",
    "phy",
    "sfp",
    "r8169",
    "pmic",
    "fan",
    "int3400",
];
/// In the processor. `tj` is the hottest junction, `cv` and `ao` are parts of Jetson chips.
const PROCESSOR: [&str; 22] = [
    "cpu",
    "cpuss",
    "soc",
    "gpu",
    "npu",
    "core",
    "bigcore",
    "littlecore",
    "package",
    "pkg",
    "coretemp",
    "k10temp",
    "zenpower",
    "tctl",
    "tdie",
    "tccd",
    "tcpu",
    "tj",
    "cv",
    "ao",
    "pll",
    "ddr",
];
/// On a graphics card.
const CARD: [&str; 4] = ["amdgpu", "radeon", "nouveau", "xe"];

#[derive(Debug)]
pub(super) struct Watch {
    listed: Vec<Arc<str>>,
}

impl Watch {
    pub(super) fn new(listed: Vec<String>) -> Self {
        Self {
            listed: listed.into_iter().map(Into::into).collect(),
        }
    }

    /// The names that the site lists.
    pub(super) fn listed(&self) -> Vec<Arc<str>> {
        self.listed.clone()
    }

    /// What a sensor measures; none if it does not count.
    pub(super) fn part(&self, name: &str) -> Option<Part> {
        let part = part_of(name);
        if self.listed.is_empty() {
            return part;
        }
        let listed = self.listed.iter().any(|pattern| matches(pattern, name));
        // Who lists a sensor wants it, whatever it measures.
        listed.then_some(part.unwrap_or(Part::Board))
    }

    /// How warm it is here, in degrees: the middle one (of two, the cooler) of the sensors in the processor, else of
    /// all, as far as their numbers can only be thousandths and are well above freezing.
    pub(super) fn warmth(&self, thermometers: &[Thermometer]) -> Option<f64> {
        let of = |wanted: Option<Part>| {
            let mut raws: Vec<i64> = thermometers
                .iter()
                .filter(|thermometer| {
                    let part = self.part(&thermometer.name);
                    part.is_some() && (wanted.is_none() || part == wanted)
                })
                .filter_map(|thermometer| thermometer.raw.ok())
                .filter(|raw| super::scale::is_surely_warm(*raw))
                .collect();
            raws.sort_unstable();
            raws.get(raws.len().saturating_sub(1) / 2).copied()
        };
        of(Some(Part::Processor))
            .or_else(|| of(None))
            .map(super::scale::thousandths)
    }
}

/// Whether a name is meant by a name in a list, in which a `*` at the end stands for anything.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

fn part_of(name: &str) -> Option<Part> {
    let lower = name.to_ascii_lowercase();
    let has = |known: &[&str]| words(&lower).any(|word| known.contains(&word));
    if has(&IGNORED) {
        None
    } else if has(&CARD) {
        Some(Part::Card)
    } else if has(&PROCESSOR) {
        Some(Part::Processor)
    } else {
        Some(Part::Board)
    }
}

/// The words of a name, without the numbers at their ends, and as they stand.
fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(|c: char| !c.is_ascii_alphanumeric())
        .flat_map(|word| [word, word.trim_end_matches(|c: char| c.is_ascii_digit())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensors_of_common_boards_are_told_apart() {
        let parts = |names: &[&str]| -> Vec<_> { names.iter().map(|name| part_of(name)).collect() };
        let inside = [
            "cpu-thermal",
            "gpu-thermal",
            "cv0-thermal",
            "soc2-thermal",
            "tj-thermal",
            "soc_thermal",
            "bigcore0-thermal",
            "x86_pkg_temp",
            "coretemp Package id 0",
            "coretemp Core 3",
            "k10temp Tctl",
            "CPU-therm",
            "AO-therm",
            "PLL-therm",
            "TCPU",
        ];
        assert_eq!(parts(&inside), [Some(Part::Processor); 15]);
        let board = [
            "Tboard_tegra",
            "Tdiode_tegra",
            "acpitz",
            "lm75 temp1",
            "imx91-thermal",
            "skin",
        ];
        assert_eq!(parts(&board), [Some(Part::Board); 6]);
        let ignored = [
            "nvme Composite",
            "BAT0",
            "iwlwifi_1",
            "PMIC-Die",
            "thermal-fan-est",
            "INT3400 Thermal",
            "drivetemp temp1",
            "ath10k_hwmon temp1",
            "mt7921_phy0 temp1",
        ];
        assert_eq!(parts(&ignored), [None; 9]);
        assert_eq!(part_of("amdgpu edge"), Some(Part::Card));
    }

    #[test]
    fn a_list_of_the_site_counts_alone_and_for_everything() {
        let watch = Watch::new(vec!["nvme *".into(), "cpu-thermal".into()]);
        assert_eq!(watch.part("nvme Composite"), Some(Part::Board));
        assert_eq!(watch.part("cpu-thermal"), Some(Part::Processor));
        assert_eq!(watch.part("cpu-thermal #2"), None);
        assert_eq!(watch.part("gpu-thermal"), None);
    }
}
