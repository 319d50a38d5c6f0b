//! What the self-check says of machines that are made up.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::config::{self, Console, Entry, Flow, Parity, Surroundings};

/// A folder that is gone after the test.
pub(in crate::cli) struct Folder(pub(in crate::cli) PathBuf);

impl Folder {
    pub(in crate::cli) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lineside-selfcheck-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) {
        let file = self.0.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    /// Default settings with this folder as the state directory.
    pub(in crate::cli) fn settings(&self) -> Settings {
        let around = Surroundings {
            config: None,
            env: [("STATE_DIRECTORY".to_owned(), self.0.clone().into())].into(),
            host_name: "line-3".into(),
            etc: self.0.join("etc"),
            packages: Vec::new(),
        };
        config::load(&around).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_state_directory_is_really_written_to_and_left_as_it_was() {
    let folder = Folder::new();
    let mut settings = folder.settings();
    assert_eq!(state_dir(&settings).state, State::Ok);
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);

    settings.state_dir = folder.0.join("not/yet/there");
    let item = state_dir(&settings);
    assert_eq!(item.state, State::Ok);
    assert!(
        item.what.ends_with("will be made at the first start"),
        "{item:?}"
    );
    assert!(!settings.state_dir.exists());

    // No folder can be made below a file, whoever asks.
    folder.write("file", "");
    settings.state_dir = folder.0.join("file");
    assert_eq!(state_dir(&settings).state, State::Fail);
    // Nor can one be written to that only shows the kernel's state.
    settings.state_dir = PathBuf::from("/proc/self");
    assert_eq!(state_dir(&settings).state, State::Fail);
}

#[test]
fn a_file_system_that_forgets_is_warned_of_and_an_unknown_one_not_judged() {
    for (magic, state, kind) in [
        (0xef53, State::Ok, "ext4"),
        (0x0102_1994, State::Warn, "tmpfs"),
        (0x794c_7630, State::Warn, "overlay"),
        (0x6969, State::Warn, "network"),
        (0x1234, State::Skip, "0x1234"),
    ] {
        let item = classify(magic);
        assert_eq!(item.state, state, "{item:?}");
        assert!(item.what.contains(kind), "{item:?}");
        assert_eq!(item.todo.is_empty(), state != State::Warn, "{item:?}");
    }
}

#[test]
fn the_room_on_the_disk_is_held_against_all_that_the_spool_may_come_to() {
    let limits = Folder::new().settings().spool;
    let need = limits.disk_bytes() + limits.headroom_bytes;
    assert_eq!(judge_room(need, 0, &limits).state, State::Ok);
    assert_eq!(judge_room(need - 1, 0, &limits).state, State::Warn);
    // What the store holds already counts as found.
    assert_eq!(judge_room(need - 1, 1, &limits).state, State::Ok);
    assert_eq!(
        judge_room(limits.headroom_bytes, need, &limits).state,
        State::Fail
    );
}

#[test]
fn the_advised_spool_fits_the_room_that_there_is() {
    let mut limits = Folder::new().settings().spool;
    let free = 512 << 20;
    let item = judge_room(free, 0, &limits);
    let advice = item.todo.split("spool.max_bytes to ").nth(1).unwrap();
    let advised = advice.split(' ').next().unwrap().parse::<u64>().unwrap();
    limits.inbox_bytes = advised;
    limits.outbox_bytes = 0;
    limits.cloud_bytes = 0;
    limits.review_bytes = 0;
    limits.outcomes_bytes = 0;
    limits.trail_bytes = 0;
    limits.aside_bytes = 0;
    assert_eq!(judge_room(free, 0, &limits).state, State::Ok);
}

#[test]
fn what_the_store_holds_is_counted_one_level_deep() {
    let folder = Folder::new();
    folder.write("spool/db", "12345");
    folder.write("spool/blobs/1", "123");
    assert_eq!(bytes_below(&folder.0.join("spool")), 8);
    assert_eq!(bytes_below(&folder.0.join("missing")), 0);
}

#[test]
fn zones_and_monitors_are_listed_in_order_with_what_they_read() {
    let folder = Folder::new();
    folder.write("class/thermal/thermal_zone10/type", "gpu-thermal\n");
    folder.write("class/thermal/thermal_zone10/temp", "51250\n");
    folder.write("class/thermal/thermal_zone2/type", "cpu-thermal\n");
    folder.write("class/thermal/thermal_zone2/temp", "45000\n");
    folder.write("class/thermal/cooling_device0/type", "fan\n");
    folder.write("class/hwmon/hwmon0/name", "nvme\n");
    folder.write("class/hwmon/hwmon0/temp1_input", "-3500\n");
    folder.write("class/hwmon/hwmon0/temp1_label", "Composite\n");
    folder.write("class/hwmon/hwmon0/temp2_input", "broken\n");
    folder.write("class/hwmon/hwmon0/temp2_max", "90000\n");
    let item = thermal(&folder.0);
    assert_eq!(item.state, State::Ok);
    assert_eq!(
        item.what,
        "cpu-thermal 45.0 °C, gpu-thermal 51.2 °C, nvme/Composite -3.5 °C, nvme/temp2 reads nothing"
    );
}

#[test]
fn a_machine_without_a_temperature_is_warned_of() {
    let folder = Folder::new();
    assert_eq!(thermal(&folder.0).state, State::Warn);
    folder.write("class/thermal/thermal_zone0/temp", "");
    assert_eq!(thermal(&folder.0).state, State::Warn);
}

#[test]
fn memory_is_read_from_the_proc_root() {
    let folder = Folder::new();
    assert_eq!(memory(&folder.0).state, State::Skip);
    folder.write(
        "meminfo",
        "MemTotal:        8388608 kB\nMemFree: 1 kB\nMemAvailable:    2097152 kB\n",
    );
    assert_eq!(memory(&folder.0).what, "2048 MiB available of 8192 MiB");
}

#[test]
fn only_a_clock_that_someone_vouches_for_counts_as_set() {
    let folder = Folder::new();
    let now = Wall(1_800_000_000_000);
    assert_eq!(clock(&folder.0, Wall(0)).state, State::Warn);
    assert_eq!(clock(&folder.0, now).state, State::Skip);
    folder.write("chrony/chronyd.pid", "");
    assert_eq!(clock(&folder.0, now).state, State::Skip);
    folder.write("systemd/timesync/synchronized", "");
    assert_eq!(clock(&folder.0, now).state, State::Ok);
}

#[test]
fn a_serial_port_must_be_a_device() {
    let folder = Folder::new();
    folder.write("file", "");
    let mut settings = folder.settings();
    assert_eq!(serial(&settings).state, State::Skip);
    for (device, state) in [
        (folder.0.join("missing"), State::Fail),
        (folder.0.join("file"), State::Fail),
        (PathBuf::from("/dev/null"), State::Ok),
    ] {
        settings.console = Some(Console {
            device,
            baud: 115_200,
            parity: Parity::None,
            flow_control: Flow::None,
            entry: Entry::Open,
            idle_timeout: Duration::from_mins(10),
        });
        assert_eq!(serial(&settings).state, state);
    }
    if let Some(console) = &mut settings.console {
        console.entry = Entry::Shut;
    }
    let item = serial(&settings);
    assert_eq!(item.state, State::Warn);
    assert!(item.todo.contains("lineside pin"), "{item:?}");
}

#[test]
fn a_missing_model_package_is_a_warning_and_a_broken_one_fails() {
    let folder = Folder::new();
    let mut settings = folder.settings();
    assert_eq!(model_package(&settings).state, State::Skip);
    settings.model_package = Some(folder.0.join("missing"));
    assert_eq!(model_package(&settings).state, State::Warn);
    settings.model_package = Some(folder.0.clone());
    let item = model_package(&settings);
    assert_eq!(item.state, State::Fail);
    assert!(item.what.contains("this is no model package"), "{item:?}");
    assert!(!item.what.contains('\n'), "{item:?}");
}

#[test]
fn a_socket_path_that_the_kernel_cannot_hold_fails() {
    let mut settings = Folder::new().settings();
    settings.control_socket = PathBuf::from(format!("/{}", "x".repeat(106)));
    assert_eq!(control_socket(&settings).state, State::Ok);
    // The standard library agrees on the limit.
    assert!(std::os::unix::net::SocketAddr::from_pathname(&settings.control_socket).is_ok());
    settings.control_socket = PathBuf::from(format!("/{}", "x".repeat(107)));
    assert_eq!(control_socket(&settings).state, State::Fail);
    assert!(std::os::unix::net::SocketAddr::from_pathname(&settings.control_socket).is_err());
}
