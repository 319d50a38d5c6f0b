//! A pty whose path stays the same when it is unplugged: the link leads to the next one.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, tcgetattr};

use super::appliance::{PATIENCE, fresh_dir};

const LOOK: Duration = Duration::from_millis(5);

/// The cable and the laptop at its end.
pub struct Pty {
    link: PathBuf,
    master: Option<File>,
    seen: String,
}

fn master() -> (File, PathBuf) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    fcntl_setfl(&master, OFlags::NONBLOCK).unwrap();
    (
        File::from(master),
        PathBuf::from(name.into_string().unwrap()),
    )
}

impl Pty {
    pub fn open() -> Self {
        let link = fresh_dir().join("tty");
        let (master, path) = master();
        symlink(path, &link).unwrap();
        Self {
            link,
            master: Some(master),
            seen: String::new(),
        }
    }

    /// What stands in the configuration.
    pub fn path(&self) -> &Path {
        &self.link
    }

    /// Pulls the cable and puts in another.
    pub fn replug(&mut self) {
        self.master = None;
        let (master, path) = master();
        let next = self.link.with_extension("next");
        symlink(path, &next).unwrap();
        std::fs::rename(next, &self.link).unwrap();
        self.master = Some(master);
        self.seen.clear();
    }

    pub fn type_(&mut self, bytes: &[u8]) {
        let begun = Instant::now();
        let mut rest = bytes;
        while !rest.is_empty() {
            assert!(
                begun.elapsed() < PATIENCE,
                "it takes no keys; seen: {}",
                self.seen
            );
            let mut master = self.master.as_ref().unwrap();
            match master.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.look();
                    sleep(LOOK);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Types as far as the line takes it.
    pub fn try_type(&mut self, bytes: &[u8]) {
        let _ = self.master.as_ref().unwrap().write(bytes);
    }

    fn look(&mut self) {
        let mut buffer = [0; 4096];
        let mut master = self.master.as_ref().unwrap();
        while let Ok(count @ 1..) = master.read(&mut buffer) {
            self.seen += &String::from_utf8_lossy(&buffer[..count]);
        }
    }

    /// How the port is set, as the service opened it.
    pub fn settings(&self) -> Termios {
        tcgetattr(self.master.as_ref().unwrap()).unwrap()
    }

    /// Reads until these words, and gives all up to them.
    pub fn until(&mut self, words: &str) -> String {
        self.until_any(&[words])
    }

    pub fn until_any(&mut self, words: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            self.look();
            let ends = words
                .iter()
                .filter_map(|it| Some(self.seen.find(it)? + it.len()));
            if let Some(end) = ends.min() {
                let rest = self.seen.split_off(end);
                return std::mem::replace(&mut self.seen, rest);
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "no {words:?} in {:?}",
                self.seen
            );
            sleep(LOOK);
        }
    }

    /// One line of a machine's session.
    pub fn line(&mut self) -> String {
        loop {
            let line = self.until("\n");
            if line.starts_with('{') {
                return line;
            }
        }
    }

    /// Logs in, after whatever wait wrong PINs cost, and whenever the service comes to this cable.
    pub fn patiently_logged_in(&mut self, pin: &str) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            self.type_(b"\x15\r");
            sleep(Duration::from_millis(300));
            self.look();
            self.seen.clear();
            self.type_(format!("{pin}\r").as_bytes());
            let tried = Instant::now();
            while tried.elapsed() < Duration::from_secs(2) {
                self.look();
                if self.seen.ends_with("line-3> ") {
                    self.seen.clear();
                    return;
                }
                sleep(LOOK);
            }
        }
        panic!("nobody gets in; seen: {:?}", self.seen);
    }
}
