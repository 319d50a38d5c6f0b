//! The file that keeps the budgets' marks over a restart.
//!
//! A small JSON document, replaced as a whole: written beside, forced out, renamed, and the folder
//! forced out. How often is bounded by the [`ledger`](super::ledger): a mark moves in steps.
//!
//! How it fails: a file that cannot be read counts as none and is left for whoever looks into it
//! until it is replaced; the caller says so in the log. A file that cannot be written leaves the
//! last one in force, and the budgets in memory go on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Marks;

/// The version of the format.
const VERSION: u32 = 1;
/// Bytes of the file: some hundred for each upstream.
const MAX_BYTES: u64 = 64 << 10;

#[derive(Serialize, Deserialize)]
struct Wire {
    version: u32,
    upstreams: BTreeMap<String, Marks>,
}

/// The marks, by the upstreams' names. A file that is not there has none.
pub fn load(path: &Path) -> io::Result<BTreeMap<String, Marks>> {
    let mut text = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MAX_BYTES).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let wire: Wire = serde_json::from_slice(&text)?;
    if wire.version != VERSION {
        let why = format!("version {} instead of {VERSION}", wire.version);
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(wire.upstreams)
}

/// Replaces the marks. Either these or the last ones are there afterwards, whatever happens.
pub fn store(path: &Path, marks: &BTreeMap<String, Marks>) -> io::Result<()> {
    let wire = Wire {
        version: VERSION,
        upstreams: marks.clone(),
    };
    let text = serde_json::to_vec(&wire)?;
    let folder = path.parent().filter(|it| *it != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_and_a_damaged_file_is_told_from_none() {
        let folder = std::env::temp_dir().join(format!("lineside-keep-{}", std::process::id()));
        let path = folder.join("uplink").join("used.json");
        assert!(load(&path).unwrap().is_empty());
        let marks = BTreeMap::from([("plant".to_owned(), Marks::default())]);
        store(&path, &marks).unwrap();
        assert_eq!(load(&path).unwrap(), marks);
        fs::write(&path, "{\"version\":1,\"upstr").unwrap();
        assert!(load(&path).is_err());
        fs::write(&path, "{\"version\":9,\"upstreams\":{}}").unwrap();
        assert!(load(&path).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
