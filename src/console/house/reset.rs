//! A factory reset: what it costs, the deliberate word that it asks for, and the forgetting.
//!
//! It writes a mark and restarts; the next start forgets, before the store is opened, and removes
//! the mark last. So a power cut in between ends in a reset, never in half of one.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Fault, House};
use crate::dispatch::StatusReport;

/// The mark of a factory reset, in the state directory.
const MARK: &str = "factory-reset";
/// What a factory reset leaves: models, and what they are trusted by, whose sequence number never goes
/// back; who this board is, for without its certificate it could not reach its broker; and what belongs to
/// the file system, where the directory is a partition of its own.
const KEPT: [&str; 6] = ["models", "trust", "ota", "identity", "lost+found", MARK];
/// Where boards with a device tree tell their serial number, below sysfs.
const SERIAL_NUMBER: &str = "firmware/devicetree/base/serial-number";
/// Characters of a serial number at most; what is longer is none.
const MAX_SERIAL_NUMBER: usize = 64;

impl House {
    /// Tells what a factory reset costs, or does it for whoever gives the board's serial number;
    /// where the board tells none, the appliance's name.
    pub(in crate::console) fn reset(
        &self,
        confirm: Option<&str>,
        status: Option<&StatusReport>,
    ) -> Result<Value, Fault> {
        let number = serial_number(&self.facts.roots.sysfs);
        let (wanted, kind) = match &number {
            Some(number) => (number, "serial_number"),
            None => (&self.facts.name, "name"),
        };
        let Some(confirm) = confirm else {
            let lost = status.map(|it| {
                serde_json::json!({
                    "open": it.open, "outbox": it.outbox, "pending": it.pending,
                    "outcomes": it.outcomes,
                })
            });
            return Ok(serde_json::json!({"confirm": wanted, "confirm_is": kind, "lost": lost}));
        };
        if confirm != wanted {
            return Err(Fault::NotConfirmed);
        }
        let ender = self.ender()?;
        mark(&self.facts.state_dir)
            .map_err(|error| Fault::Unavailable(format!("the mark cannot be written: {error}")))?;
        ender.restart();
        Ok(serde_json::json!({"resetting": true}))
    }
}

/// The board's serial number, where it tells one that can be typed.
fn serial_number(sysfs: &Path) -> Option<String> {
    let text = std::fs::read_to_string(sysfs.join(SERIAL_NUMBER)).ok()?;
    let number = text.trim_end_matches('\0').trim();
    let typeable = number.chars().all(|c| c.is_ascii_graphic());
    (typeable && (1..=MAX_SERIAL_NUMBER).contains(&number.len())).then(|| number.to_owned())
}

/// Writes the mark, so that it outlives a power cut.
fn mark(state_dir: &Path) -> io::Result<()> {
    File::create(state_dir.join(MARK))?.sync_all()?;
    File::open(state_dir)?.sync_all()
}

/// Forgets, where the mark of a factory reset says so, and tells what had to stay: what another user laid
/// there, and what cannot be removed. To be called before anything in the state directory is opened but
/// the control socket, which is the lock.
pub fn reset_if_marked(state_dir: &Path) -> io::Result<Option<Vec<PathBuf>>> {
    let own = match std::fs::metadata(state_dir.join(MARK)) {
        Ok(mark) => mark.uid(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut left = Vec::new();
    for entry in std::fs::read_dir(state_dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let kept = KEPT.iter().any(|name| entry.file_name() == *name);
        if kept || kind.is_socket() {
            continue;
        }
        if entry.metadata()?.uid() == own {
            forget(&entry.path(), kind.is_dir(), &mut left);
        } else {
            left.push(entry.path());
        }
    }
    File::open(state_dir)?.sync_all()?;
    std::fs::remove_file(state_dir.join(MARK))?;
    File::open(state_dir)?.sync_all()?;
    Ok(Some(left))
}

/// Removes all that can be removed of this, and notes the rest: another user's folder in one of
/// ours, a disk that is mounted there. It must not keep the appliance from starting, now and ever
/// after.
fn forget(path: &Path, is_folder: bool, left: &mut Vec<PathBuf>) {
    let before = left.len();
    let entries = is_folder.then(|| std::fs::read_dir(path).ok()).flatten();
    for entry in entries.into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        forget(&entry.path(), is_folder, left);
    }
    let gone = if is_folder {
        std::fs::remove_dir(path)
    } else {
        std::fs::remove_file(path)
    };
    // Of a folder that stays because of what is in it, that was said.
    if gone.is_err() && left.len() == before {
        left.push(path.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use super::*;
    use crate::console::house::{Ender, Ending, Facts};
    use crate::service::Stopper;

    /// The number of the user whom nothing belongs to.
    const NOBODY: u32 = 65534;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("lineside-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("spool/db")).unwrap();
        std::fs::create_dir_all(folder.join("models/objects")).unwrap();
        std::fs::write(folder.join("learnt"), "x").unwrap();
        folder
    }

    #[test]
    fn a_reset_forgets_what_was_taken_in_and_leaves_the_models() {
        let folder = folder("reset");
        assert!(reset_if_marked(&folder).unwrap().is_none());
        assert!(folder.join("spool").exists(), "nobody asked for it");
        std::fs::create_dir(folder.join("identity")).unwrap();
        mark(&folder).unwrap();
        assert_eq!(reset_if_marked(&folder).unwrap(), Some(Vec::new()));
        assert!(!folder.join("spool").exists() && !folder.join("learnt").exists());
        assert!(folder.join("models/objects").exists());
        assert!(folder.join("identity").exists(), "it is the same board");
        assert!(
            reset_if_marked(&folder).unwrap().is_none(),
            "it is done once"
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_another_user_laid_there_does_not_stop_a_reset() {
        let folder = folder("reset-foreign");
        std::fs::create_dir_all(folder.join("lost+found")).unwrap();
        std::fs::create_dir_all(folder.join("notes/old")).unwrap();
        mark(&folder).unwrap();
        if std::os::unix::fs::chown(folder.join("notes"), Some(65534), None).is_err() {
            std::fs::remove_dir_all(&folder).unwrap();
            return; // only the super-user can give things away
        }
        let left = reset_if_marked(&folder).unwrap();
        assert_eq!(left, Some(vec![folder.join("notes")]));
        assert!(!folder.join("spool").exists() && folder.join("lost+found").exists());
        assert!(
            reset_if_marked(&folder).unwrap().is_none(),
            "it is done once"
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_cannot_be_removed_further_down_does_not_stop_a_reset_either() {
        let folder = folder("reset-deep");
        let deep = folder.join("spool/db/theirs");
        std::fs::create_dir(&deep).unwrap();
        std::fs::write(deep.join("note"), "x").unwrap();
        std::fs::write(folder.join("spool/ours"), "x").unwrap();
        std::fs::set_permissions(&deep, Permissions::from_mode(0o555)).unwrap();
        mark(&folder).unwrap();
        // The super-user could remove it all.
        let left = std::thread::scope(|scope| {
            let reset = scope.spawn(|| {
                if rustix::process::geteuid().is_root() {
                    give_away(&folder);
                    let nobody = rustix::process::Uid::from_raw(NOBODY);
                    rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
                }
                reset_if_marked(&folder).unwrap()
            });
            reset.join().unwrap()
        });
        assert_eq!(left, Some(vec![deep.join("note")]));
        assert!(deep.exists() && !folder.join("spool/ours").exists());
        assert!(!folder.join("learnt").exists());
        assert!(
            reset_if_marked(&folder).unwrap().is_none(),
            "it is done once"
        );
        std::fs::set_permissions(&deep, Permissions::from_mode(0o755)).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// A folder and all in it.
    fn give_away(folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                give_away(&entry.path());
            } else {
                std::os::unix::fs::lchown(entry.path(), Some(NOBODY), None).unwrap();
            }
        }
        std::os::unix::fs::lchown(folder, Some(NOBODY), None).unwrap();
    }

    #[test]
    fn only_the_appliances_own_name_resets_it_and_leaves_a_mark() {
        let folder = folder("confirm");
        let (stopper, stop) = Stopper::new();
        let ender = Ender::new(stopper);
        let house = House {
            facts: Arc::new(Facts {
                name: "line-3".into(),
                state_dir: folder.clone(),
                ..Facts::default()
            }),
            ender: Some(ender.clone()),
            ..House::default()
        };
        let status = StatusReport {
            open: 7,
            ..StatusReport::default()
        };
        let told = house.reset(None, Some(&status)).unwrap();
        assert_eq!(
            (&told["confirm"], &told["lost"]["open"]),
            (&"line-3".into(), &7.into())
        );
        assert_eq!(house.reset(Some("line-4"), None), Err(Fault::NotConfirmed));
        assert!(!stop.is_requested() && !folder.join(MARK).exists());
        house.reset(Some("line-3"), None).unwrap();
        assert!(stop.is_requested() && folder.join(MARK).exists());
        assert_eq!(ender.wish(), Ending::Restart);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_board_with_a_serial_number_asks_for_that() {
        let folder = folder("serial-number");
        let sysfs = folder.join("sys");
        std::fs::create_dir_all(sysfs.join("firmware/devicetree/base")).unwrap();
        std::fs::write(sysfs.join(SERIAL_NUMBER), "1421922084573\0").unwrap();
        let house = House {
            facts: Arc::new(Facts {
                name: "line-3".into(),
                roots: crate::config::Roots {
                    sysfs,
                    procfs: folder.join("proc"),
                },
                ..Facts::default()
            }),
            ..House::default()
        };
        let told = house.reset(None, None).unwrap();
        assert_eq!(told["confirm"], "1421922084573");
        assert_eq!(told["confirm_is"], "serial_number");
        assert_eq!(
            house.reset(Some("line-3"), None),
            Err(Fault::NotConfirmed),
            "the name is not asked for"
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
