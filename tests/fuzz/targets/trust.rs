//! Whatever a repository sends and whatever lies on the disk, a client ends with a fault that can be
//! printed, or with a root that is the one it was given: nobody here has a key.
#![no_main]

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};

use libfuzzer_sys::fuzz_target;
use lineside::clock::Wall;
use lineside::ota::disk::Disk;
use lineside::ota::floor::Book;
use lineside::ota::tuf::draft::Draft;
use lineside::ota::tuf::{Client, FetchError, Limits, Transport, canonical};

/// A valid root of key pairs that nobody has any more.
const ANCHOR: &[u8] = include_bytes!("../seeds/trust/root");
/// Between the files.
const BORDER: &[u8] = b"\n----\n";

#[derive(Clone, Default)]
struct Memory(BTreeMap<String, Vec<u8>>);

impl Disk for Memory {
    fn read(&mut self, path: &str, limit_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let bytes = self.0.get(path).cloned();
        Ok(bytes.filter(|bytes| bytes.len() as u64 <= limit_bytes))
    }

    fn list(&mut self, _: &str) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.insert(path.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let bytes = self.0.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.0.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.0.remove(path);
        Ok(())
    }

    fn sync_folder(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

struct Shelf<'a>(BTreeMap<&'a str, &'a [u8]>);

impl Transport for Shelf<'_> {
    fn open(&mut self, file: &str) -> Result<Box<dyn Read + '_>, FetchError> {
        let bytes = self.0.get(file).ok_or(FetchError::NotThere)?;
        Ok(Box::new(Cursor::new(bytes)))
    }
}

fn parts(data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(BORDER.len()).position(|part| part == BORDER) {
        parts.push(&rest[..at]);
        rest = &rest[at + BORDER.len()..];
    }
    parts.push(rest);
    parts
}

fuzz_target!(|data: &[u8]| {
    let parts = parts(data);
    let part = |n: usize| parts.get(n).copied().unwrap_or_default();
    // Whatever is carried to be signed is written again as it was read.
    for bytes in [part(0), part(1)] {
        if let Ok(draft) = Draft::parse(bytes) {
            assert_eq!(Draft::parse(&draft.to_bytes()).as_ref(), Ok(&draft));
        }
    }
    let mut disk = Memory::default();
    disk.0.insert("ota/journal.a".to_owned(), part(2).to_vec());
    disk.0.insert("trust/timestamp.json".to_owned(), part(3).to_vec());
    // The file as a first root, too.
    if let Ok(book) = Book::open(Memory::default())
        && let Err(error) = Client::open(Memory::default(), book, part(0), Limits::default())
    {
        assert!(!error.to_string().is_empty());
    }
    let Ok(book) = Book::open(disk.clone()) else {
        return;
    };
    let mut client = Client::open(disk, book, ANCHOR, Limits::default()).expect("a valid root");
    let version = client.root().version;
    let files = [("2.root.json", part(0)), ("timestamp.json", part(1))];
    let error = client
        .refresh(Wall(0), &mut Shelf(files.into()))
        .expect_err("nobody signed this");
    assert!(!error.to_string().is_empty());
    assert_eq!(client.root().version, version);
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(part(1))
        && let Ok(bytes) = canonical(&value)
    {
        // Control signs stand in it as they are, which JSON does not allow; else it reads the same.
        if let Ok(again) = serde_json::from_slice::<serde_json::Value>(&bytes) {
            assert_eq!(again, value);
        }
    }
});
