//! A moment in metadata: `2030-01-31T12:00:00Z`, in exactly this form.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::{DAY_MS, Wall};

const SECOND_MS: u64 = 1000;
/// The last moment that four digits of a year can say: the end of 9999.
const LAST_MS: u64 = 253_402_300_799_000;

/// When metadata ceases to be good. The moment itself is too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry(Wall);

impl Expiry {
    /// That moment, to the second before it.
    pub fn at(moment: Wall) -> Self {
        Self(Wall(moment.0.min(LAST_MS) / SECOND_MS * SECOND_MS))
    }

    /// The moment.
    pub fn moment(self) -> Wall {
        self.0
    }

    /// Whether it has passed.
    pub fn has_passed(self, now: Wall) -> bool {
        now >= self.0
    }

    /// A moment in the form of metadata; none if it is no such text.
    pub fn parse(text: &str) -> Option<Self> {
        let form = b"dddd-dd-ddTdd:dd:ddZ";
        let bytes = text.as_bytes();
        let fits = bytes.len() == form.len()
            && bytes.iter().zip(form).all(|(byte, form)| match form {
                b'd' => byte.is_ascii_digit(),
                sign => byte == sign,
            });
        if !fits {
            return None;
        }
        let number = |from: usize, to: usize| text[from..to].parse::<u64>().ok();
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if year < 1970 || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let day_start = day_start(year, month, day)?;
        let seconds = hour * 3600 + minute * 60 + second;
        Some(Self(Wall(day_start.0 + seconds * SECOND_MS)))
    }
}

/// The first moment of a day; none if the calendar has no such day. The inverse of [`Wall::date`],
/// counted in the same eras.
fn day_start(year: u64, month: u64, day: u64) -> Option<Wall> {
    if !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let (march_year, march_month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, year_of_era) = (march_year / 400, march_year % 400);
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    let start = Wall(days * DAY_MS);
    (start.date() == (year, month, day)).then_some(start)
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.0.date();
        let seconds = self.0.0 % DAY_MS / SECOND_MS;
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

impl Serialize for Expiry {
    fn serialize<S: Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
        writer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Expiry {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let text = String::deserialize(reader)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format_args!(
                "`expires` is `{text}`, not a moment like 2030-01-31T12:00:00Z"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_as_it_is_written() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2000-02-29T23:59:59Z",
            "2025-12-31T00:00:01Z",
            "2100-03-01T12:34:56Z",
            "9999-12-31T23:59:59Z",
        ] {
            assert_eq!(Expiry::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Expiry::parse("2000-02-28T23:59:59Z").unwrap().moment(),
            Wall(951_782_399_000)
        );
        assert_eq!(
            Expiry::at(Wall(u64::MAX)).to_string(),
            "9999-12-31T23:59:59Z"
        );
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "2030-01-31",
            "2030-01-31T12:00:00",
            "2030-01-31T12:00:00+00:00",
            "2030-01-31T12:00:00.0Z",
            "2030-1-31T12:00:00Z",
            "2030-02-29T12:00:00Z",
            "2100-02-29T12:00:00Z",
            "2030-00-10T12:00:00Z",
            "2030-13-10T12:00:00Z",
            "2030-01-00T12:00:00Z",
            "2030-01-32T12:00:00Z",
            "2030-01-31T24:00:00Z",
            "2030-01-31T23:60:00Z",
            "2030-01-31T23:59:60Z",
            "1969-12-31T23:59:59Z",
            "+203-01-31T12:00:00Z",
            "2030-01-31t12:00:00z",
            "２030-01-31T12:00:00Z",
        ] {
            assert_eq!(Expiry::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_moment_itself_is_too_late() {
        let expiry = Expiry::parse("2030-01-31T12:00:00Z").unwrap();
        assert!(!expiry.has_passed(Wall(expiry.moment().0 - 1)));
        assert!(expiry.has_passed(expiry.moment()));
    }
}
