//! Batches of samples: what stands on the disk and goes to the broker.
//!
//! ```text
//!  record body:  samples (u16, little endian) │ zstd of JSON
//!  JSON:         {"v":1,"appliance":"line-3","seq":7,"at_ms":[1795000000000,10000,…],
//!                 "serving":{"package":"factory-triage 2","variant":"Q8_0","board":"…","ring":"pilot"},
//!                 "figures":{"tokens.completion":[9120,17,0,…],"broker.connected":[1],…}}
//! ```
//!
//! A list holds its first value and then differences; zeros at its end are left out, so a figure
//! that did not change is one number. All figures are whole numbers: their names say of what
//! (`_us`, `_millicelsius`, `_permille`, `_bytes`). All samples of a batch have the same figures,
//! and were taken under the same package: `serving` says which, where there was one.
//!
//! `seq` counts batches of an appliance and never goes back, so who gets one twice can tell.

use std::collections::BTreeMap;
use std::io::Read;

use serde::{Deserialize, Serialize};

use crate::clock::Wall;
use crate::engine::Standing;

/// The version of this format.
pub const VERSION: u32 = 1;
/// Samples of one batch at most: what a `u16` counts is more than anybody wants in one message.
pub const MAX_SAMPLES: usize = 3600;
/// zstd's usual level: higher ones gain a twentieth and cost ten times the time.
const LEVEL: i32 = 3;
/// Bytes of JSON that are unpacked at most: far more than any batch of ours has.
const MAX_JSON_BYTES: u64 = 64 * 1024 * 1024;

/// Figures, by name.
pub type Figures = BTreeMap<String, i64>;

/// One look at all figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was taken.
    pub at: Wall,
    /// What served then.
    pub serving: Option<Serving>,
    /// What was seen then.
    pub figures: Figures,
}

/// The package that answers: what makes two devices of a fleet differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serving {
    /// Its name and number.
    pub package: String,
    /// The variant that was taken for this board.
    pub variant: String,
    /// What kind of board this is.
    pub board: String,
    /// The ring of roll-outs that the device belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<String>,
}

impl Serving {
    /// A package that came to serve like this.
    pub fn of(package: &str, standing: &Standing) -> Self {
        Self {
            package: package.into(),
            variant: standing.variant.clone(),
            board: standing.board.clone(),
            ring: standing.ring.clone(),
        }
    }
}

/// The JSON of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// [`VERSION`].
    pub v: u32,
    /// Whose figures.
    pub appliance: String,
    /// Which batch.
    pub seq: u64,
    /// When each sample was taken: milliseconds since 1970, then differences.
    pub at_ms: Vec<i64>,
    /// What served meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<Serving>,
    /// Each figure: its first value, then differences.
    pub figures: BTreeMap<String, Vec<i64>>,
}

/// Why bytes are no batch.
#[derive(Debug, thiserror::Error)]
pub enum Garble {
    /// Not what zstd makes.
    #[error("not zstd: {0}")]
    Zstd(#[from] std::io::Error),
    /// Not the JSON of a batch.
    #[error("not a batch: {0}")]
    Json(#[from] serde_json::Error),
}

/// Gathers samples until a batch is full.
#[derive(Debug)]
pub struct Gatherer {
    full: usize,
    samples: Vec<Sample>,
}

impl Gatherer {
    /// Batches of so many samples.
    pub fn new(full: usize) -> Self {
        Self {
            full: full.clamp(1, MAX_SAMPLES),
            samples: Vec::new(),
        }
    }

    /// One more; the samples of a batch that is full with it, or of the one before, whose figures
    /// were others or whose package was another.
    pub fn add(&mut self, sample: Sample) -> Vec<Vec<Sample>> {
        let mut done = Vec::new();
        let differs = |it: &Sample| {
            !it.figures.keys().eq(sample.figures.keys()) || it.serving != sample.serving
        };
        if self.samples.last().is_some_and(differs) {
            done.push(std::mem::take(&mut self.samples));
        }
        self.samples.push(sample);
        if self.samples.len() >= self.full {
            done.push(std::mem::take(&mut self.samples));
        }
        done
    }

    /// What was gathered so far.
    pub fn rest(&mut self) -> Vec<Sample> {
        std::mem::take(&mut self.samples)
    }
}

impl Batch {
    /// A batch of samples that have the same figures and were taken under the same package.
    pub fn of(appliance: &str, seq: u64, samples: &[Sample]) -> Self {
        let at = samples
            .iter()
            .map(|it| i64::try_from(it.at.0).unwrap_or(i64::MAX));
        let names = samples.first().map(|it| it.figures.keys());
        let figures = names.into_iter().flatten().map(|name| {
            let values = samples.iter().map(|it| it.figures.get(name).copied());
            (
                name.clone(),
                differences(values.map(Option::unwrap_or_default)),
            )
        });
        Self {
            v: VERSION,
            appliance: appliance.into(),
            seq,
            at_ms: differences(at),
            serving: samples.first().and_then(|it| it.serving.clone()),
            figures: figures.collect(),
        }
    }

    /// The samples again.
    pub fn samples(&self) -> Vec<Sample> {
        // The list of times is as long as there are samples, unless two have the same time.
        let longest = self
            .figures
            .values()
            .map(Vec::len)
            .chain([self.at_ms.len()])
            .max();
        let count = longest.unwrap_or_default();
        let mut at = values(&self.at_ms);
        let mut columns: Vec<_> = self
            .figures
            .iter()
            .map(|(name, list)| (name, values(list)))
            .collect();
        let sample = |_| Sample {
            at: Wall(u64::try_from(at.next().unwrap_or_default()).unwrap_or_default()),
            serving: self.serving.clone(),
            figures: columns
                .iter_mut()
                .map(|(name, column)| ((*name).clone(), column.next().unwrap_or_default()))
                .collect(),
        };
        (0..count).map(sample).collect()
    }

    /// As it goes to the broker.
    pub fn pack(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("names and numbers always serialize");
        zstd::encode_all(json.as_slice(), LEVEL).expect("memory takes whatever is written")
    }

    /// Reads what [`Batch::pack`] wrote.
    pub fn unpack(bytes: &[u8]) -> Result<Self, Garble> {
        let mut json = Vec::new();
        zstd::Decoder::new(bytes)?
            .take(MAX_JSON_BYTES)
            .read_to_end(&mut json)?;
        Ok(serde_json::from_slice(&json)?)
    }
}

/// The body of a batch's record.
pub fn body(samples: usize, packed: &[u8]) -> Vec<u8> {
    let samples = u16::try_from(samples).unwrap_or(u16::MAX);
    [&samples.to_le_bytes(), packed].concat()
}

/// How many samples a record's body has, and what goes to the broker.
pub fn read_body(body: &[u8]) -> Option<(u64, &[u8])> {
    let (samples, packed) = body.split_first_chunk::<2>()?;
    Some((u16::from_le_bytes(*samples).into(), packed))
}

fn differences(values: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut before = 0;
    let list = values.map(|value| {
        let difference = value.wrapping_sub(before);
        before = value;
        difference
    });
    let mut list: Vec<_> = list.collect();
    while list.len() > 1 && list.last() == Some(&0) {
        list.pop();
    }
    list
}

fn values(list: &[i64]) -> impl Iterator<Item = i64> {
    let differences = list.iter().copied().chain(std::iter::repeat(0));
    differences.scan(0_i64, |value, difference| {
        *value = value.wrapping_add(difference);
        Some(*value)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(at: u64, figures: &[(&str, i64)]) -> Sample {
        let figures = figures
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value));
        Sample {
            at: Wall(at),
            serving: None,
            figures: figures.collect(),
        }
    }

    #[test]
    fn a_figure_that_does_not_change_is_one_number() {
        let samples = [
            sample(1000, &[("a", 7), ("b", 1)]),
            sample(2000, &[("a", 7), ("b", 5)]),
            sample(3000, &[("a", 7), ("b", 2)]),
        ];
        let batch = Batch::of("line-3", 9, &samples);
        assert_eq!(batch.at_ms, [1000, 1000, 1000]);
        assert_eq!(batch.figures["a"], [7]);
        assert_eq!(batch.figures["b"], [1, 4, -3]);
        let read = Batch::unpack(&batch.pack()).unwrap();
        assert_eq!((read.samples(), read.seq), (samples.to_vec(), 9));
    }

    #[test]
    fn a_sample_with_other_figures_begins_a_batch() {
        let mut gatherer = Gatherer::new(3);
        assert!(gatherer.add(sample(1, &[("a", 1)])).is_empty());
        assert!(gatherer.add(sample(2, &[("a", 2)])).is_empty());
        let done = gatherer.add(sample(3, &[("a", 3), ("b", 1)]));
        assert_eq!(done.iter().map(Vec::len).collect::<Vec<_>>(), [2]);
        gatherer.add(sample(4, &[("a", 3), ("b", 1)]));
        let done = gatherer.add(sample(5, &[("a", 3), ("b", 1)]));
        assert_eq!(done.iter().map(Vec::len).collect::<Vec<_>>(), [3]);
        assert!(gatherer.rest().is_empty());
    }

    #[test]
    fn a_batch_says_what_served_and_another_package_begins_another() {
        let standing = Standing {
            variant: "Q8_0".into(),
            board: "a board".into(),
            ring: Some("pilot".into()),
            gate: Some((9, 10)),
        };
        let under = |at, package| Sample {
            serving: Some(Serving::of(package, &standing)),
            ..sample(at, &[("a", 1)])
        };
        let mut gatherer = Gatherer::new(3);
        gatherer.add(under(1, "p 1"));
        let done = gatherer.add(under(2, "p 2"));
        assert_eq!(done, [vec![under(1, "p 1")]]);
        let batch = Batch::of("line-3", 9, &gatherer.rest());
        let read = Batch::unpack(&batch.pack()).unwrap();
        assert_eq!(read.samples(), [under(2, "p 2")]);
        let json = serde_json::to_value(&read.serving).unwrap();
        let wanted = serde_json::json!({
            "package": "p 2", "variant": "Q8_0", "board": "a board", "ring": "pilot",
        });
        assert_eq!(json, wanted);
    }

    proptest! {
        #[test]
        fn whatever_is_gathered_is_read_again(
            start in 0..4_000_000_000_000_u64,
            rows in prop::collection::vec(prop::collection::vec(any::<i64>(), 3), 1..40),
        ) {
            let names = ["a", "b", "c"];
            let samples: Vec<_> = rows
                .iter()
                .zip(1..)
                .map(|(row, no)| {
                    let figures: Vec<_> = names.into_iter().zip(row.iter().copied()).collect();
                    sample(start + no * 10, &figures)
                })
                .collect();
            let batch = Batch::of("x", 1, &samples);
            prop_assert_eq!(Batch::unpack(&batch.pack()).unwrap().samples(), samples.clone());
            let body = body(samples.len(), &batch.pack());
            prop_assert_eq!(read_body(&body).unwrap().0, samples.len() as u64);
        }

        #[test]
        fn rubbish_is_no_batch_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Batch::unpack(&bytes).is_err());
            let _ = read_body(&bytes);
        }
    }
}
