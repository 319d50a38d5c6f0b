//! Small file systems of our own, where the machine lets us mount them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system; unmounted at the end.
#[derive(Debug)]
pub(crate) struct Mount {
    at: PathBuf,
    /// The loop device below it, if there is one.
    device: Option<String>,
}

/// Runs a command; its output, or what it complained of.
fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ))
    }
}

impl Mount {
    /// A file system in memory that is full after `bytes`.
    pub(crate) fn tmpfs(at: &Path, bytes: u64) -> Result<Self, String> {
        std::fs::create_dir_all(at).map_err(|error| error.to_string())?;
        let size = format!("size={bytes}");
        let at_arg = at.as_os_str();
        run(
            "mount",
            &[
                "-t".as_ref(),
                "tmpfs".as_ref(),
                "-o".as_ref(),
                size.as_ref(),
                "tmpfs".as_ref(),
                at_arg,
            ],
        )?;
        Ok(Self {
            at: at.to_owned(),
            device: None,
        })
    }

    /// Mounts the ext4 file system in `image`. The loop device reads and writes the image
    /// directly where it can: then the image holds what reached the "medium", and nothing waits
    /// in a cache between the two.
    pub(crate) fn ext4(image: &Path, at: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(at).map_err(|error| error.to_string())?;
        let image = image.as_os_str();
        let direct = [
            "--find".as_ref(),
            "--show".as_ref(),
            "--direct-io=on".as_ref(),
            image,
        ];
        let buffered = ["--find".as_ref(), "--show".as_ref(), image];
        let device = run("losetup", &direct).or_else(|_| run("losetup", &buffered))?;
        match run(
            "mount",
            &[
                "-t".as_ref(),
                "ext4".as_ref(),
                OsStr::new(&device),
                at.as_os_str(),
            ],
        ) {
            Ok(_) => Ok(Self {
                at: at.to_owned(),
                device: Some(device),
            }),
            Err(error) => {
                let _ = run("losetup", &["-d", &device]);
                Err(error)
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.at
    }

    /// What the loop device has written so far.
    pub(crate) fn writes(&self) -> std::io::Result<Writes> {
        let device = self.device.as_deref().unwrap_or_default();
        let name = device.trim_start_matches("/dev/");
        let stat = std::fs::read_to_string(format!("/sys/block/{name}/stat"))?;
        let fields: Vec<u64> = stat
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect();
        Ok(Writes {
            sectors: fields[6],
            under_way: fields[8],
        })
    }
}

/// The figures of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Writes {
    pub(crate) sectors: u64,
    pub(crate) under_way: u64,
}

impl Drop for Mount {
    fn drop(&mut self) {
        if run("umount", &[&self.at]).is_err() {
            let _ = run("umount", &["-l".as_ref(), self.at.as_os_str()]);
        }
        if let Some(device) = &self.device {
            let _ = run("losetup", &["-d", device]);
        }
    }
}

/// Makes an ext4 file system in a file.
pub(crate) fn ext4_image(image: &Path, bytes: u64) -> Result<(), String> {
    let file = std::fs::File::create(image).map_err(|error| error.to_string())?;
    file.set_len(bytes).map_err(|error| error.to_string())?;
    run(
        "mkfs.ext4",
        &["-q".as_ref(), "-F".as_ref(), image.as_os_str()],
    )
    .map(|_| ())
}

/// Says on the terminal, past the test harness's capture, that a test did not run.
pub(crate) fn skip(test: &str, why: &str) {
    use std::io::Write;
    let line = format!("\nSKIPPED {test}: {why}\n");
    let terminal = std::fs::OpenOptions::new().write(true).open("/dev/stderr");
    match terminal {
        Ok(mut terminal) => drop(terminal.write_all(line.as_bytes())),
        Err(_) => eprint!("{line}"),
    }
}
