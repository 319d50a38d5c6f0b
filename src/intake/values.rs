//! An input that is an object: values by name, for the variables of a task.
//!
//! Which names and types a task knows stands in its package; here it is only a flat object within
//! limits, kept in one form, so that the same values are the same content whatever their order.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::{Serialize, Serializer};

/// Values of an input: as many as a task can have variables.
pub const MAX_VALUES: usize = 32;

/// What a request brings as its input.
#[derive(Debug)]
pub(super) enum Input {
    Text(String),
    Values(Values),
}

/// Values by name, in the order of their names.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Values(BTreeMap<String, Scalar>);

/// A value that holds no others.
#[derive(Debug)]
enum Scalar {
    Text(String),
    Number(serde_json::Number),
    Boolean(bool),
}

impl Values {
    /// The values as JSON: without spaces, each name once, in order.
    pub(super) fn canonical(&self) -> String {
        serde_json::to_string(self).expect("texts, numbers and truth values are JSON")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Input;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or an object of values, as the input")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Input, E> {
                Ok(Input::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Input, A::Error> {
                let mut values = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let value = map.next_value::<Option<Scalar>>()?;
                    if values.len() == MAX_VALUES {
                        let what = format!("the input has more than {MAX_VALUES} values");
                        return Err(A::Error::custom(what));
                    }
                    if values.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name stands twice in the input"));
                    }
                }
                // What is null is not given.
                let given = |(name, value): (_, Option<_>)| Some((name, value?));
                Ok(Input::Values(Values(
                    values.into_iter().filter_map(given).collect(),
                )))
            }
        }
        from.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false as a value of the input")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }

            fn visit_bool<E: Error>(self, yes: bool) -> Result<Scalar, E> {
                Ok(Scalar::Boolean(yes))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar::Number(number.into()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar::Number(number.into()))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Scalar, E> {
                let number = serde_json::Number::from_f64(number);
                let number = number.ok_or_else(|| E::custom("a number that is none"))?;
                Ok(Scalar::Number(number))
            }
        }
        from.deserialize_any(Reader)
    }
}

impl Serialize for Scalar {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => to.serialize_str(text),
            Self::Number(number) => number.serialize(to),
            Self::Boolean(yes) => to.serialize_bool(*yes),
        }
    }
}
