//! The cage around the engine, tried from inside: whoever has the process in his hands while it
//! reads a model file gets nowhere.
//!
//! A library is put in front of the real engine's C library. It makes one attempt from the very
//! place where llama.cpp opens the model, that is in foreign code, behind the closed cage, on the
//! thread that computes. The same attempts from a program without a cage come through, so that
//! none of them fails for another reason.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/engine.rs"]
mod engine;

use std::fs;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use engine::{Engine, bundled, instructions, model, options};
use lineside::engine::cage::Guard;
use lineside::engine::process::environment;
use lineside::engine::protocol::{self, FromEngine, Load, ToEngine};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::FdFlags;

/// `EPERM` and `EACCES`.
const REFUSED: [&str; 2] = ["error 1", "error 13"];
/// What ends a process that makes a call which is out of the question.
const SIGSYS: i32 = 31;

/// A folder with the compiled attempts and a file that is nobody's business.
struct Scene {
    folder: PathBuf,
}

impl Scene {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cage-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("spool")).unwrap();
        let scene = Self { folder };
        fs::write(scene.spool(), "a request").unwrap();
        compile(
            "intruder.c",
            &scene.library(),
            &["-shared", "-fPIC", "-ldl"],
        );
        scene
    }

    fn spool(&self) -> PathBuf {
        self.folder.join("spool/db")
    }

    fn library(&self) -> PathBuf {
        self.folder.join("intruder.so")
    }

    /// What becomes of an attempt inside the engine.
    fn inside(&self, attempt: &str) -> Output {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let load = load();
        let engine = Command::new(env!("CARGO_BIN_EXE_lineside"))
            .arg("engine")
            .env_clear()
            .envs(environment(Some(Path::new(&load.model))))
            .env("LD_PRELOAD", self.library())
            .env("INTRUDER", attempt)
            .env("INTRUDER_AT", self.spool())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let frame = protocol::frame(&ToEngine::Load(Box::new(load))).unwrap();
        ours.write_all(&frame).unwrap();
        engine.wait_with_output().unwrap()
    }

    /// And of the same outside.
    fn outside(&self, attempt: &str) -> Output {
        let program = self.folder.join("outside");
        if !program.exists() {
            compile("outside.c", &program, &[]);
        }
        Command::new(program)
            .arg(load().model)
            .env("LD_PRELOAD", self.library())
            .env("INTRUDER", attempt)
            .env("INTRUDER_AT", self.spool())
            .output()
            .unwrap()
    }
}

fn compile(source: &str, to: &Path, options: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine_cage");
    let done = Command::new("cc")
        .arg(folder.join(source))
        .arg("-o")
        .arg(to)
        .args(options)
        .status();
    assert!(done.unwrap().success(), "{source} does not compile");
}

fn load() -> Load {
    let package = bundled();
    Load {
        model: model(&package).to_string_lossy().into_owned(),
        adapter: None,
        draft: None,
        options: options(),
        instructions: instructions(&package),
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

fn ended_by_the_cage(scene: &Scene, attempts: &[&str]) {
    for attempt in attempts {
        let output = scene.inside(attempt);
        assert_eq!(
            output.status.signal(),
            Some(SIGSYS),
            "{attempt}: {:?}, {}",
            output.status,
            told(&output)
        );
    }
}

fn refused(scene: &Scene, attempts: &[&str]) {
    for attempt in attempts {
        let output = scene.inside(attempt);
        let told = told(&output);
        assert!(
            REFUSED.contains(&told.as_str()),
            "{attempt}: {told}, {:?}",
            output.status
        );
    }
}

#[test]
fn from_inside_no_socket_is_opened() {
    let scene = Scene::new("sockets");
    ended_by_the_cage(&scene, &["tcp", "udp", "unix", "pair"]);
}

#[test]
fn from_inside_no_file_is_found_but_the_model() {
    let scene = Scene::new("files");
    refused(&scene, &["read", "list"]);
}

#[test]
fn from_inside_nothing_is_written() {
    let scene = Scene::new("writes");
    refused(&scene, &["write", "create", "nameless"]);
    let fatal = ["truncate", "chmod", "unlink", "mkdir", "memfd"];
    ended_by_the_cage(&scene, &fatal);
    assert_eq!(fs::read_to_string(scene.spool()).unwrap(), "a request");
}

#[test]
fn from_inside_no_program_is_started() {
    let scene = Scene::new("programs");
    ended_by_the_cage(&scene, &["exec", "fork"]);
    refused(&scene, &["code"]);
}

#[test]
fn from_inside_no_other_process_is_reached() {
    let scene = Scene::new("processes");
    ended_by_the_cage(&scene, &["ptrace", "peek", "signal"]);
    refused(&scene, &["memory", "environment"]);
}

#[test]
fn from_inside_nothing_of_the_system_is_changed() {
    let scene = Scene::new("system");
    ended_by_the_cage(&scene, &["mount", "space", "limits"]);
}

/// Each of these comes through where there is no cage, so it is the cage that stops it. Those that
/// need root are tried as root only.
#[test]
fn without_the_cage_the_same_attempts_come_through() {
    let scene = Scene::new("outside");
    let mut attempts = vec![
        "tcp",
        "unix",
        "pair",
        "read",
        "list",
        "write",
        "create",
        "memfd",
        "truncate",
        "chmod",
        "unlink",
        "mkdir",
        "fork",
        "peek",
        "signal",
        "environment",
        "code",
    ];
    if rustix::process::geteuid().is_root() {
        attempts.extend(["memory", "ptrace"]);
    }
    for attempt in attempts {
        let output = scene.outside(attempt);
        assert_eq!(told(&output), "through", "{attempt}: {:?}", output.status);
    }
}

/// And what it needs, it has.
#[test]
fn from_inside_threads_are_started() {
    let output = Scene::new("threads").inside("thread");
    assert_eq!(told(&output), "through", "{:?}", output.status);
}

#[test]
fn the_engine_says_that_nothing_is_missing_where_the_kernel_has_it_all() {
    use landlock::{Access as _, AccessFs, Compatible as _, RulesetAttr as _};
    let strict = landlock::Ruleset::default()
        .set_compatibility(landlock::CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(landlock::ABI::V1));
    let has_landlock = strict.is_ok_and(|rules| rules.create().is_ok());
    let expected = if has_landlock {
        vec![]
    } else {
        vec![Guard::Files]
    };
    assert_eq!(Engine::start(options()).facts.unguarded, expected);
}

/// The ready message of an engine on a kernel that does not know this call.
fn unguarded_without(scene: &Scene, call: libc::c_long) -> Vec<Guard> {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let load = load();
    let mut engine = Command::new(env!("CARGO_BIN_EXE_lineside"))
        .arg("engine")
        .env_clear()
        .env("LD_PRELOAD", scene.library())
        .env("INTRUDER_LACKS", call.to_string())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    let frame = protocol::frame(&ToEngine::Load(Box::new(load))).unwrap();
    ours.write_all(&frame).unwrap();
    let heard = protocol::read::<FromEngine>(&mut ours).unwrap();
    engine.kill().unwrap();
    engine.wait().unwrap();
    match heard {
        Some(FromEngine::Ready(facts)) => facts.unguarded,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_kernel_lacks_is_told_and_the_engine_serves_all_the_same() {
    let scene = Scene::new("lacks");
    let without_files = unguarded_without(&scene, libc::SYS_landlock_create_ruleset);
    assert_eq!(without_files, [Guard::Files]);
    let without_calls = unguarded_without(&scene, libc::SYS_seccomp);
    assert!(without_calls.contains(&Guard::Calls), "{without_calls:?}");
}

/// As an opened package leaves it: sealed, in memory alone, with no name but its descriptor.
#[test]
fn a_model_in_sealed_memory_is_read_through_its_descriptor() {
    let package = bundled();
    let bytes = fs::read(model(&package)).unwrap();
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("model", flags).unwrap();
    let mut file = fs::File::from(memory);
    file.write_all(&bytes).unwrap();
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals).unwrap();
    rustix::io::fcntl_setfd(&file, FdFlags::empty()).unwrap();
    let mut engine = Engine::load(Load {
        model: format!("/proc/self/fd/{}", file.as_raw_fd()),
        ..load()
    })
    .unwrap();
    assert_eq!(engine.facts.unguarded, []);
    let work = engine.work(0, "CNC-07 spindle vibration 9.8 mm/s rising");
    assert!(!engine.answer(work).unwrap().text.is_empty());
}
