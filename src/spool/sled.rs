//! tmp
use super::*;
use std::path::PathBuf;
/// s
#[derive(Debug, Clone)]
pub struct SledSettings {
    /// d
    pub dir: PathBuf,
    /// d
    pub ballast_bytes: u64,
    /// d
    pub headroom_bytes: u64,
}
/// o
#[derive(Debug)]
pub struct Opened {
    /// a
    pub set_aside: Option<PathBuf>,
}
/// d
#[derive(Debug)]
pub struct SledDisk {
    db: ::sled::Db,
    file: std::fs::File,
    dir: PathBuf,
}
impl SledDisk {
    /// o
    pub fn open(s: SledSettings) -> Result<(Self, Opened), DiskError> {
        let db = ::sled::Config::new()
            .path(&s.dir)
            .flush_every_ms(None)
            .cache_capacity(4 << 20)
            .open()
            .map_err(io)?;
        let file = std::fs::File::open(s.dir.join("db")).map_err(io)?;
        Ok((
            Self {
                db,
                file,
                dir: s.dir,
            },
            Opened { set_aside: None },
        ))
    }
}
fn io(e: impl std::fmt::Display) -> DiskError {
    DiskError::Io(e.to_string())
}
fn key(tree: Tree, seq: u64) -> [u8; 9] {
    let mut k = [0; 9];
    k[0] = tree.tag();
    k[1..].copy_from_slice(&seq.to_be_bytes());
    k
}
impl Disk for SledDisk {
    fn write(&mut self, batch: Vec<Write>) -> Result<(), DiskError> {
        let mut b = ::sled::Batch::default();
        for w in batch {
            match w.value {
                Some(v) => b.insert(&key(w.tree, w.seq), v),
                None => b.remove(&key(w.tree, w.seq)),
            }
        }
        self.db.apply_batch(b).map_err(io)
    }
    fn sync(&mut self) -> Result<(), DiskError> {
        self.db.flush().map_err(io)?;
        rustix::fs::fdatasync(&self.file).map_err(io)
    }
    fn get(&self, tree: Tree, seq: u64) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.db.get(key(tree, seq)).map_err(io)?.map(|v| v.to_vec()))
    }
    fn scan(
        &self,
        tree: Tree,
        from: u64,
        visit: &mut dyn FnMut(u64, &[u8]) -> Scan,
    ) -> Result<(), DiskError> {
        for kv in self.db.range(key(tree, from)..=key(tree, u64::MAX)) {
            let (k, v) = kv.map_err(io)?;
            let mut s = [0; 8];
            s.copy_from_slice(&k[1..]);
            if visit(u64::from_be_bytes(s), &v) == Scan::Stop {
                break;
            }
        }
        Ok(())
    }
    fn reopen(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
    fn free_bytes(&self) -> u64 {
        rustix::fs::statvfs(&self.dir).map_or(u64::MAX, |s| s.f_bavail * s.f_frsize)
    }
}
