//! Lists of tables, such as `[[route]]`: each entry held against the keys that it may have.

use toml::Value;
use toml::de::{DeArray, DeTable, DeValue};

use super::fault::HIDDEN;
use super::file::{Entry, Key};
use super::keys::{Misfit, fit, shown_key, shown_raw};
use crate::fault::{Lines, NOT_SET, did_you_mean, nearest};

/// The entries of a list, each looked at by itself.
pub(super) fn list(
    items: &DeArray<'_>,
    entry: &Entry,
    lines: &Lines<'_>,
) -> Result<Value, Vec<Misfit>> {
    let (mut good, mut misfits) = (Vec::new(), Vec::new());
    for (index, item) in items.iter().enumerate() {
        let place = lines.place(item.span().start);
        let below = format!("[{}]", index + 1);
        let DeValue::Table(found) = item.get_ref() else {
            misfits.push(Misfit {
                below,
                value: shown_raw(item.get_ref()),
                wanted: entry.wanted.into(),
                place: Some(place),
            });
            continue;
        };
        for name in entry.needed {
            if !found.contains_key(*name) {
                misfits.push(Misfit {
                    below: format!("{below}.{name}"),
                    value: NOT_SET.into(),
                    wanted: entry.wanted.into(),
                    place: Some(place.clone()),
                });
            }
        }
        match table(found, entry.keys, lines) {
            Ok(table) => good.push(table),
            Err(found) => misfits.extend(found.into_iter().map(|misfit| Misfit {
                below: format!("{below}{}", misfit.below),
                place: misfit.place.or_else(|| Some(place.clone())),
                ..misfit
            })),
        }
    }
    if misfits.is_empty() {
        Ok(Value::Array(good))
    } else {
        Err(misfits)
    }
}

/// A table whose keys these are.
pub(super) fn table(
    found: &DeTable<'_>,
    keys: &[Key],
    lines: &Lines<'_>,
) -> Result<Value, Vec<Misfit>> {
    let (mut good, mut misfits) = (toml::Table::new(), Vec::new());
    for (name, value) in found {
        let place = lines.place(name.span().start);
        let name = name.get_ref();
        let Some(key) = keys.iter().find(|key| key.name == name) else {
            let known = keys.iter().map(|key| key.name);
            let meant = did_you_mean(nearest(name, known.clone()));
            let known = known.collect::<Vec<_>>().join(", ");
            misfits.push(Misfit {
                below: format!(".{}", shown_key(name)),
                value: HIDDEN.into(),
                wanted: format!("a key that this version knows here: {known}{meant}"),
                place: Some(place),
            });
            continue;
        };
        match fit(key.kind, value.get_ref(), lines) {
            Ok(value) => {
                good.insert(key.name.to_owned(), value);
            }
            Err(found) => misfits.extend(found.into_iter().map(|misfit| Misfit {
                below: format!(".{}{}", key.name, misfit.below),
                place: misfit.place.or_else(|| Some(place.clone())),
                ..misfit
            })),
        }
    }
    if misfits.is_empty() {
        Ok(Value::Table(good))
    } else {
        Err(misfits)
    }
}
