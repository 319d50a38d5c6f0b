//! The power goes while the whole service is at work: what it had taken over from the broker is
//! known to the service that starts on what the medium held.
//!
//! The state stands on an ext4 file system in an image. At a random moment the service is
//! stopped and the image is copied: the copy holds what reached the medium, and lacks what the
//! file system still kept in memory. The next service runs on the copy, with the same broker.
//! A request that the broker no longer holds must be on the copy, and a reply that a device
//! already has must be the one that the copy knows, or its next copy would differ.
//!
//! `LINESIDE_POWER_CUTS` sets the number of cuts; `LINESIDE_SEED` repeats a run.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

#[path = "support/appliance.rs"]
#[allow(dead_code, unreachable_pub)]
mod appliance;
#[path = "support/device.rs"]
#[allow(dead_code, unreachable_pub)]
mod device;
#[path = "support/load.rs"]
#[allow(dead_code, unreachable_pub)]
mod load;
#[path = "support/mosquitto.rs"]
#[allow(dead_code, unreachable_pub)]
mod mosquitto;
#[path = "support/mount.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
mod mount;

use std::fs;
use std::path::Path;
use std::time::Duration;

use appliance::{Appliance, fresh_dir};
use load::{Load, NO_LIMITS};
use mosquitto::{Mosquitto, Setup};
use mount::{Mount, ext4_image, skip};
use rustix::process::{Pid, Signal};
use serde_json::json;

const IMAGE_BYTES: u64 = 96 << 20;
const CUTS: u64 = 6;
const DEVICES: usize = 6;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_power_cut_takes_what_the_service_had_acknowledged() {
    let cuts = from_env("LINESIDE_POWER_CUTS").unwrap_or(CUTS);
    let seed = from_env("LINESIDE_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("LINESIDE_SEED={seed} LINESIDE_POWER_CUTS={cuts}");
    let place = fresh_dir();
    let first = place.join("image-0");
    let mounted =
        ext4_image(&first, IMAGE_BYTES).and_then(|()| Mount::ext4(&first, &place.join("disk-0")));
    match mounted {
        Ok(disk) => cut_power(&place, disk, cuts, fastrand::Rng::with_seed(seed)).await,
        Err(why) => skip("no_power_cut_takes_what_the_service_had_acknowledged", &why),
    }
    let _ = fs::remove_dir_all(&place);
}

async fn cut_power(place: &Path, first: Mount, cuts: u64, mut dice: fastrand::Rng) {
    let broker = Mosquitto::start(&Setup::default());
    let mut disk = first;
    let mut appliance = on(&disk, broker.port);
    appliance.start();
    let load = Load::start(broker.port, DEVICES, Duration::from_millis(10)).await;
    for cut in 1..=cuts {
        tokio::time::sleep(Duration::from_millis(dice.u64(100..=1200))).await;
        appliance.signal(Signal::STOP);
        wait_until_stopped(appliance.pid());
        let (image, copy) = (
            place.join(format!("image-{}", cut - 1)),
            place.join(format!("image-{cut}")),
        );
        copy_at_rest(&disk, &image, &copy);
        appliance.kill();
        drop(appliance);
        drop(disk);
        fs::remove_file(&image).unwrap();
        disk = Mount::ext4(&copy, &place.join(format!("disk-{cut}"))).unwrap();
        appliance = on(&disk, broker.port);
        appliance.start();
        let log = appliance.log();
        assert!(
            !log.contains("set aside") && !log.contains("moved aside"),
            "{log}"
        );
    }
    let ledger = load.finish().await;
    ledger.assert_whole();
    println!(
        "{cuts} cuts, {} requests, {} replies",
        ledger.asked.len(),
        ledger.copies()
    );
    assert!(ledger.asked.len() as u64 > cuts, "nothing was at stake");
    for id in &ledger.asked {
        let trace = appliance
            .command(&json!({ "cmd": "trace", "id": id }))
            .unwrap();
        assert_eq!(trace.as_array().unwrap().len(), 1, "{id}: {trace}");
    }
    assert!(appliance.stop().success());
}

fn on(disk: &Mount, port: u16) -> Appliance {
    let dir = fresh_dir();
    let link = dir.join("state");
    std::os::unix::fs::symlink(disk.path(), &link).unwrap();
    Appliance::with_state(dir, &link, port, NO_LIMITS)
}

/// The kernel's own writing goes on although the service stands still, and a copy of two
/// different moments is no power cut.
fn copy_at_rest(disk: &Mount, image: &Path, copy: &Path) {
    loop {
        let before = disk.writes().unwrap();
        fs::copy(image, copy).unwrap();
        if before.under_way == 0 && disk.writes().unwrap() == before {
            return;
        }
    }
}

/// A stop signal takes effect a moment after it was sent.
fn wait_until_stopped(pid: Pid) {
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    for _ in 0..5000 {
        let state = fs::read_to_string(&stat).unwrap_or_default();
        let state = state.rsplit(") ").next().unwrap_or_default().to_owned();
        if state.starts_with('T') {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the service does not stop");
}
