//! JSON as it stands: members in their order, and none twice.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// Any JSON.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// What an object has under this name.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Object(members) = self else {
            return None;
        };
        let member = members.iter().find(|(name, _)| name == key);
        member.map(|(_, value)| value)
    }

    /// The text that this is.
    pub(super) fn text(&self) -> Option<&str> {
        if let Self::String(text) = self {
            return Some(text);
        }
        None
    }

    /// The items of the list that this is.
    pub(super) fn list(&self) -> Option<&[Self]> {
        if let Self::Array(items) = self {
            return Some(items);
        }
        None
    }

    /// What a pointer, split at its slashes, leads to.
    pub(super) fn at<'a>(&self, steps: impl Iterator<Item = &'a str>) -> Option<&Self> {
        let mut here = self;
        for step in steps {
            let step = step.replace("~1", "/").replace("~0", "~");
            here = match here {
                Self::Array(items) => items.get(step.parse::<usize>().ok()?)?,
                Self::Object(_) => here.get(&step)?,
                Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) => return None,
            };
        }
        Some(here)
    }

    /// As text without spaces.
    pub(super) fn write(&self, text: &mut String) {
        match self {
            Self::Null => text.push_str("null"),
            Self::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => text.push_str(&number.to_string()),
            Self::String(string) => text.push_str(&quoted(string)),
            Self::Array(items) => {
                text.push('[');
                for (place, item) in items.iter().enumerate() {
                    text.push_str(if place == 0 { "" } else { "," });
                    item.write(text);
                }
                text.push(']');
            }
            Self::Object(members) => {
                text.push('{');
                for (place, (key, value)) in members.iter().enumerate() {
                    text.push_str(if place == 0 { "" } else { "," });
                    text.push_str(&quoted(key));
                    text.push(':');
                    value.write(text);
                }
                text.push('}');
            }
        }
    }

    /// Whether two mean the same: 1 and 1.0 do, and members in another order.
    pub(super) fn means(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a == b || a.as_f64() == b.as_f64(),
            (Self::Array(a), Self::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.means(b))
            }
            (Self::Object(a), Self::Object(b)) => {
                let same = |(key, value): &(String, Self)| {
                    other.get(key).is_some_and(|other| value.means(other))
                };
                a.len() == b.len() && a.iter().all(same)
            }
            (a, b) => a == b,
        }
    }
}

/// A text as JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        let number = Number::from_f64(value);
        number
            .map(Json::Number)
            .ok_or_else(|| E::custom("a number without bounds"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = all.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        let mut names = std::collections::HashSet::new();
        while let Some((key, value)) = all.next_entry::<String, Json>()? {
            if !names.insert(key.clone()) {
                return Err(A::Error::custom(format!(
                    "`{key}` stands twice in one object"
                )));
            }
            members.push((key, value));
        }
        Ok(Json::Object(members))
    }
}
