//! Encrypted packages with the real service and the real model: they come over the air, serve the
//! same answers as plain ones, and no plain weight is ever on the disk or in a core dump.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

#[path = "support/appliance.rs"]
#[allow(dead_code, unreachable_pub)]
mod appliance;
#[path = "support/publisher.rs"]
#[allow(dead_code, unreachable_pub)]
mod publisher;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use appliance::{Appliance, PATIENCE, fresh_dir};
use lineside::clock::Clock;
use lineside::engine::exam::{self, Sitting};
use lineside::engine::order::Book;
use lineside::engine::process::{Launch, SUBCOMMAND};
use lineside::engine::protocol::Load;
use lineside::ota::object::MIN_CHUNK_BYTES;
use lineside::ota::rollout::Rollout;
use lineside::package::Package;
use lineside::package::gate::Item;
use lineside::safe::DeviceKey;
use publisher::Publisher;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::{Value, json};

/// Bytes that are looked for.
const PIECE: usize = 64;
const KEY: [u8; 32] = [0x6B; 32];

fn bundled() -> Package {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
    Package::open(&folder).unwrap()
}

/// Weights of the variant that is taken, from several places of its file.
fn pieces() -> Vec<Vec<u8>> {
    let package = bundled();
    let (variant, header) = package.variants().next().unwrap();
    let file = fs::read(package.model_path(variant)).unwrap();
    let from = usize::try_from(header.data_offset).unwrap();
    let at = |share: usize| {
        let begin = from + (file.len() - from) / 16 * share;
        let dense = |bytes: &&[u8]| {
            let mut seen = bytes.to_vec();
            seen.sort_unstable();
            seen.dedup();
            seen.len() > PIECE / 2
        };
        let piece = file[begin..].chunks_exact(PIECE).find(dense);
        piece.unwrap().to_vec()
    };
    (0..15).map(at).collect()
}

/// Whether any of the pieces is in there, found in one pass.
fn holds(bytes: &[u8], pieces: &[Vec<u8>]) -> bool {
    let mut begins = [false; 256];
    for piece in pieces {
        begins[usize::from(piece[0])] = true;
    }
    (0..bytes.len()).any(|at| {
        begins[usize::from(bytes[at])] && pieces.iter().any(|it| bytes[at..].starts_with(it))
    })
}

/// The files below a folder that have any of these bytes in them.
fn with_weights(folder: &Path) -> Vec<PathBuf> {
    let pieces = pieces();
    let (mut open, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let about = path.symlink_metadata().unwrap();
            if about.is_dir() {
                open.push(path);
            } else if about.is_file() {
                let bytes = fs::read(&path).unwrap();
                if holds(&bytes, &pieces) {
                    found.push(path);
                }
            }
        }
    }
    found
}

/// A repository with the bundled package, for the last ring.
fn publisher() -> Publisher {
    let mut publisher = Publisher::new(&fresh_dir(), Clock::start().now().wall);
    let package = bundled();
    publisher.package(&package, MIN_CHUNK_BYTES);
    let manifest = package.manifest();
    let rollout = Rollout::new("stable", &manifest.name, manifest.seq, 1000).unwrap();
    publisher.open("stable", &rollout);
    publisher.publish();
    publisher
}

/// An appliance without a broker whose packages lie so.
fn appliance(publisher: &Publisher, at_rest: &str, more: &str) -> Appliance {
    let dir = fresh_dir();
    let key = dir.join("device-key");
    fs::write(&key, KEY).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "[appliance]\nname = \"line-3\"\nstate_dir = \"{}\"\n[broker]\n\
         url = \"mqtt://127.0.0.1:1\"\n[log]\nto = \"stderr\"\n[ota]\nrepository = \"{}\"\n\
         root_file = \"{}\"\n{at_rest}\n{more}",
        dir.join("state").display(),
        publisher.root().display(),
        publisher.anchor().display(),
    );
    let appliance = Appliance::configured(dir, &text);
    fs::create_dir(appliance.dir.join("conf.d")).unwrap();
    appliance
}

const ENCRYPTED: &str = "at_rest = \"encrypted\"\ndevice_key_file = \"device-key\"";

/// The same with this package to serve.
fn serve(appliance: &Appliance, folder: &str) {
    // One thread, as the answers are compared.
    let more = format!("[model]\npackage = \"{folder}\"\n[engine]\nthreads = 1\n");
    fs::write(appliance.dir.join("conf.d/serve.toml"), more).unwrap();
}

fn awake(appliance: &mut Appliance) {
    appliance.launch();
    appliance.until(|status| status["state"].is_string());
}

fn fetched(appliance: &Appliance) -> String {
    let output = appliance.subcommand("ota").arg("check").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report = appliance.command(&json!({"cmd": "ota", "action": "status"}));
    let folder = report.unwrap()["outcome"]["folder"].clone();
    folder.as_str().unwrap().to_owned()
}

const INPUTS: [&str; 6] = [
    "spindle vibration 9.3 mm/s",
    "CNC-07 spindle vibration 9.8 mm/s rising",
    "coolant level low on press 4",
    "all quiet at station 12",
    "emergency stop pressed at cell 3, operator reports smoke",
    "hydraulic pressure 88 bar, nominal 120",
];

/// What it answers, without what differs from one run to the next.
fn answers(appliance: &Appliance, round: &str) -> Vec<Value> {
    let ask = |(no, input): (usize, &&str)| {
        let request = json!({
            "id": format!("{round}-{no}"), "task": "triage", "input": input, "deadline_ms": 60_000,
        });
        let reply = appliance
            .command(&json!({"cmd": "ask", "request": request}))
            .unwrap();
        assert_eq!(reply["status"], "answered", "{reply}");
        json!({
            "text": reply["text"], "json": reply["json"], "confidence": reply["confidence"],
            "model": reply["model"], "completion": reply["tokens"]["completion"],
        })
    };
    INPUTS.iter().enumerate().map(ask).collect()
}

fn ready(appliance: &mut Appliance) {
    appliance.until(|status| status["engine"] == "ready");
}

#[test]
fn an_encrypted_package_comes_serves_the_same_answers_and_leaves_no_weight_on_the_disk() {
    let publisher = publisher();
    let mut plain = appliance(&publisher, "", "");
    awake(&mut plain);
    let folder = fetched(&plain);
    plain.stop();
    serve(&plain, &folder);
    plain.launch();
    ready(&mut plain);
    assert!(
        !with_weights(&plain.dir).is_empty(),
        "the search finds what is there"
    );

    let mut sealed = appliance(&publisher, ENCRYPTED, "");
    awake(&mut sealed);
    let folder = fetched(&sealed);
    sealed.stop();
    serve(&sealed, &folder);
    sealed.launch();
    ready(&mut sealed);
    let key = DeviceKey::read(&KEY).unwrap();
    let package = Package::open_with(Path::new(&folder), Some(&key)).unwrap();
    package.verify().unwrap();
    assert!(package.is_sealed());

    let told = answers(&sealed, "first");
    assert_eq!(told, answers(&plain, "first"));
    // A new process for it is opened the same way.
    kill_process(sealed.engine_pid(), Signal::KILL).unwrap();
    sealed.until(|status| status["engine"] == "ready" && status["engine_crashes"] != 0);
    assert_eq!(answers(&sealed, "second"), told);
    assert_eq!(with_weights(&sealed.dir), Vec::<PathBuf>::new());
    // Once it is loaded, the engine holds no file with them.
    let files = fs::read_dir(format!("/proc/{}/fd", sealed.engine_pid().as_raw_nonzero())).unwrap();
    let links = files
        .flatten()
        .filter_map(|it| fs::read_link(it.path()).ok());
    for link in links {
        assert!(
            !link.to_string_lossy().contains("memfd"),
            "{}",
            link.display()
        );
    }
    // The console's own look at it has the key, too.
    let told = sealed
        .command(&json!({"cmd": "models", "action": "verify"}))
        .unwrap();
    assert_eq!(told["ok"], true, "{told}");
    sealed.stop();
    assert_eq!(with_weights(&sealed.dir), Vec::<PathBuf>::new());
}

#[test]
fn a_kill_in_the_middle_of_an_encrypted_download_costs_a_chunk_and_leaves_no_weight() {
    let publisher = publisher();
    let slow = "max_bytes_per_s = 400000\n";
    let mut appliance = appliance(&publisher, ENCRYPTED, slow);
    awake(&mut appliance);
    let begun = appliance
        .subcommand("ota")
        .args(["check", "--no-wait"])
        .output()
        .unwrap();
    assert!(begun.status.success(), "{begun:?}");
    let status = json!({"cmd": "ota", "action": "status"});
    let (mut before, mut needed) = (0, 0);
    while before < 1_000_000 {
        let report = appliance.command(&status).unwrap();
        assert_eq!(report["looks"], 0, "it was over too soon: {report}");
        let bytes = |what: &str| report["progress"][what].as_u64().unwrap_or(0);
        (before, needed) = (bytes("there_bytes"), bytes("needed_bytes"));
    }
    appliance.kill();
    assert_eq!(with_weights(&appliance.dir), Vec::<PathBuf>::new());
    awake(&mut appliance);
    let folder = fetched(&appliance);
    let report = appliance.command(&status).unwrap();
    let fetched = report["progress"]["fetched_bytes"].as_u64().unwrap();
    // A chunk is as long as a frame here.
    assert!(fetched <= needed - before + 2 * MIN_CHUNK_BYTES, "{report}");
    let key = DeviceKey::read(&KEY).unwrap();
    Package::open_with(Path::new(&folder), Some(&key))
        .unwrap()
        .verify()
        .unwrap();
    assert_eq!(with_weights(&appliance.dir), Vec::<PathBuf>::new());
}

/// Whether this kernel writes cores into the folder in which a process works, as this test needs it.
fn writes_cores() -> bool {
    let dir = fresh_dir();
    let line = "ulimit -c unlimited && kill -ABRT $$";
    let _ = Command::new("/bin/sh")
        .args(["-c", line])
        .current_dir(&dir)
        .output(); // it dies
    let core = cores(&dir);
    let _ = fs::remove_dir_all(&dir);
    !core.is_empty()
}

fn cores(dir: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(dir).unwrap().flatten().map(|it| it.path());
    let is_core = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("core")
    };
    all.filter(is_core).collect()
}

/// Lifts the limit of cores, as whoever looks for a fault might, and has the process abort. Whether it
/// could be lifted: that is a right of its own, which the super-user of a container may lack.
fn abort(pid: Pid) -> bool {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    let lifted = prlimit(Some(pid), Resource::Core, unlimited).is_ok();
    kill_process(pid, Signal::ABORT).unwrap();
    lifted
}

fn core_limit(pid: Pid) -> String {
    let limits = fs::read_to_string(format!("/proc/{}/limits", pid.as_raw_nonzero())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let line = line.unwrap().split_whitespace().skip(4);
    line.take(2).collect::<Vec<_>>().join(" ")
}

#[test]
fn no_core_dump_has_weights_in_it_or_the_key() {
    let publisher = publisher();
    let mut plain = appliance(&publisher, "", "");
    let mut sealed = appliance(&publisher, ENCRYPTED, "");
    for appliance in [&mut plain, &mut sealed] {
        awake(appliance);
        let folder = fetched(appliance);
        appliance.stop();
        serve(appliance, &folder);
        appliance.launch();
        ready(appliance);
        assert_eq!(core_limit(appliance.engine_pid()), "0 0");
    }
    assert_eq!(core_limit(sealed.pid()), "0 0");
    if !writes_cores() {
        return; // the limits above, and that it cannot be dumped, are all that can be seen here
    }
    // What a core of an engine would have in it, were it not for the limit.
    let lifted = abort(plain.engine_pid());
    plain.until(|status| status["engine"] == "ready" && status["engine_crashes"] == 1);
    let left = cores(&plain.dir);
    assert_eq!(left.is_empty(), !lifted);
    for core in left {
        let core = fs::read(core).unwrap();
        assert!(holds(&core, &pieces()), "weights are in memory");
    }
    abort(sealed.engine_pid());
    sealed.until(|status| status["engine"] == "ready" && status["engine_crashes"] == 1);
    assert_eq!(cores(&sealed.dir), Vec::<PathBuf>::new());
    abort(sealed.pid());
    sealed.ended();
    assert_eq!(cores(&sealed.dir), Vec::<PathBuf>::new());
    assert_eq!(with_weights(&sealed.dir), Vec::<PathBuf>::new());
}

/// Whose the files of a process below `/proc` are: its user's, but the super-user's where it cannot be
/// dumped.
fn owner(pid: Pid) -> u32 {
    let path = format!("/proc/{}/environ", pid.as_raw_nonzero());
    fs::metadata(path).unwrap().uid()
}

/// The engine that this test has started, by its program.
fn own_engine(program: &Path) -> Pid {
    let own = std::process::id().to_string();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let mut found = all.filter_map(|it| {
        let no: i32 = it.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(it.path().join("status")).ok()?;
        let line = fs::read(it.path().join("cmdline")).ok()?;
        let is_child = status.lines().any(|it| it == format!("PPid:\t{own}"));
        let is_ours = line.starts_with(program.as_os_str().as_encoded_bytes());
        (is_child && is_ours && line.ends_with(b"\0engine\0")).then_some(no)
    });
    Pid::from_raw(found.next().unwrap()).unwrap()
}

#[test]
fn an_engine_with_an_encrypted_model_cannot_be_dumped_and_no_other_is_kept_from_it() {
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        return; // only the super-user can start a process for somebody else
    }
    let publisher = publisher();
    let mut appliance = appliance(&publisher, ENCRYPTED, "");
    awake(&mut appliance);
    let folder = fetched(&appliance);
    appliance.stop();
    // Others cannot reach the folder that it was built in.
    let place = fresh_dir();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.join("lineside");
    fs::copy(env!("CARGO_BIN_EXE_lineside"), &program).unwrap();
    let model = place.join("model.gguf");
    let plain = bundled();
    let (variant, _) = plain.variants().next().unwrap();
    fs::copy(plain.model_path(variant), &model).unwrap();
    let user = NOBODY.to_string();
    let words = ["--clear-groups", "--reuid", &user, "--regid", &user];
    let launch = Launch {
        program: "/usr/bin/setpriv".into(),
        arguments: (words.iter().map(|it| (*it).to_owned()))
            .chain([program.display().to_string(), SUBCOMMAND.into()])
            .collect(),
        group: None,
    };
    let options = exam::options(512);
    let key = DeviceKey::read(&KEY).unwrap();
    let sealed = Package::open_with(Path::new(&folder), Some(&key)).unwrap();
    let book = Book::of(&sealed, sealed.variants().next().unwrap().0);
    let load = book.load(&options, None);
    let sitting = Sitting::open_sealed(&launch, load.clone(), book.sealed()).unwrap();
    assert_eq!(owner(own_engine(&program)), 0);
    drop(sitting);
    let load = Load {
        model: model.display().to_string(),
        ..load
    };
    let sitting = Sitting::open(&launch, load).unwrap();
    assert_eq!(owner(own_engine(&program)), NOBODY);
    drop(sitting);
    fs::remove_dir_all(place).unwrap();
}

/// Under the shipped unit no process of another is seen, and an engine that was handed a sealed model
/// belongs to nobody: its heat and its memory must be known all the same.
#[test]
fn an_engine_that_cannot_be_looked_at_is_still_watched_over() {
    if !rustix::process::geteuid().is_root() {
        return; // only the super-user can hide processes
    }
    let publisher = publisher();
    let mut appliance = appliance(&publisher, ENCRYPTED, "");
    awake(&mut appliance);
    let folder = fetched(&appliance);
    serve(&appliance, &folder);
    appliance.stop();
    let place = fresh_dir();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.join("lineside");
    fs::copy(env!("CARGO_BIN_EXE_lineside"), &program).unwrap();
    let owned = Command::new("chown")
        .args(["-R", "65534:65534"])
        .arg(&appliance.dir)
        .status();
    assert!(owned.unwrap().success());
    appliance.hidden = Some(program);
    appliance.launch();
    ready(&mut appliance);
    let told = appliance.log();
    let lacks = |line: &str| line.contains("every guard") && line.contains("oom");
    assert!(!told.lines().any(lacks), "{told}");
    // From where the service is, and as its user, there is no such process.
    let service = appliance.pid().as_raw_nonzero().to_string();
    let engine = appliance.engine_pid().as_raw_nonzero();
    let look = |pid: &str| {
        let seen = Command::new("nsenter")
            .args(["--target", &service, "--mount"])
            .args([
                "setpriv",
                "--clear-groups",
                "--reuid",
                "65534",
                "--regid",
                "65534",
            ])
            .args(["cat", &format!("/proc/{pid}/status")])
            .output();
        seen.unwrap().status.success()
    };
    assert!(look("self"));
    assert!(!look(&engine.to_string()));
    let begun = Instant::now();
    loop {
        let memory = appliance.command(&json!({"cmd": "memory"})).unwrap();
        if memory["engine_bytes"]
            .as_u64()
            .is_some_and(|it| it > 4 << 20)
        {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{memory}");
        std::thread::sleep(Duration::from_millis(50));
    }
    appliance.stop();
    fs::remove_dir_all(place).unwrap();
}

#[test]
fn an_engine_of_ones_own_opens_an_encrypted_package_the_same_way() {
    let publisher = publisher();
    let mut appliance = appliance(&publisher, ENCRYPTED, "");
    awake(&mut appliance);
    let folder = fetched(&appliance);
    let key = DeviceKey::read(&KEY).unwrap();
    let sealed = Package::open_with(Path::new(&folder), Some(&key)).unwrap();
    let launch = Launch {
        program: env!("CARGO_BIN_EXE_lineside").into(),
        arguments: vec![SUBCOMMAND.into()],
        group: None,
    };
    let asked = |package: &Package| {
        let (variant, _) = package.variants().next().unwrap();
        let book = Book::of(package, variant);
        let options = exam::options(512);
        let load = book.load(&options, None);
        let mut sitting = Sitting::open_sealed(&launch, load, book.sealed()).unwrap();
        let suite = package.gate().unwrap();
        let question = |item: &Item| book.question(&item.task, &item.input).unwrap().0;
        let done = sitting
            .ask(suite.items.iter().take(12).map(question))
            .unwrap();
        done.into_iter()
            .map(|it| it.unwrap().text)
            .collect::<Vec<_>>()
    };
    let told = asked(&sealed);
    assert_eq!(told.len(), 12);
    assert_eq!(told, asked(&bundled()));
}
