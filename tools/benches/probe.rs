//! What the disk alone takes for the least durable write, in the same place at the same time.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A file that is written to and forced to the disk, a block at a time.
pub struct Probe {
    dir: PathBuf,
    file: fs::File,
    spans: Vec<Duration>,
}

impl Probe {
    const BYTES: usize = 1 << 20;
    const BLOCK: usize = 4096;

    /// One in a directory that goes with it.
    pub fn at(dir: PathBuf) -> Self {
        fs::create_dir_all(&dir).unwrap();
        let file = fs::File::create(dir.join("probe")).unwrap();
        file.write_all_at(&vec![0; Self::BYTES], 0).unwrap();
        file.sync_all().unwrap();
        let spans = Vec::new();
        Self { dir, file, spans }
    }

    pub fn sync(&mut self) {
        let at = self.spans.len() * Self::BLOCK % Self::BYTES;
        let begun = Instant::now();
        self.file
            .write_all_at(&[1; Self::BLOCK], at as u64)
            .unwrap();
        self.file.sync_data().unwrap();
        self.spans.push(begun.elapsed());
    }

    pub fn median_us(mut self) -> f64 {
        let _ = fs::remove_dir_all(&self.dir);
        self.spans.sort();
        self.spans[self.spans.len() / 2].as_secs_f64() * 1e6
    }
}
