//! The serial console of the real service, over a real pty: a person, a rig, noise, a cable that
//! is pulled, a terminal that never reads. And `lineside do`, which takes the same commands.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/appliance.rs"]
#[allow(dead_code, unreachable_pub)]
mod appliance;
#[path = "serial_console/pty.rs"]
#[allow(unreachable_pub)]
mod pty;
#[path = "serial_console/schema.rs"]
#[allow(unreachable_pub)]
mod schema;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use appliance::{Appliance, fresh_dir};
use pty::Pty;
use rustix::process::Signal;
use rustix::termios::{InputModes, LocalModes};
use schema::Schema;
use serde_json::{Value, json};

const PIN: &str = "4711-canary";
/// A port where nobody listens: broker and network are dead in all of these.
const NOBODY: u16 = 9;
/// Content that must stand in no log and no listing.
const CANARY: &str = "canary-spindle";

/// `EX_USAGE` of sysexits.h.
const USAGE: i32 = 64;

/// An appliance without broker, engine or network, whose console is on a pty.
fn appliance_at(pty: &Pty, more: &str) -> Appliance {
    let pin = Command::new(env!("CARGO_BIN_EXE_lineside"))
        .args(["pin", "--iterations", "1000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            use std::io::Write as _;
            child
                .stdin
                .take()
                .unwrap()
                .write_all(format!("{PIN}\n").as_bytes())?;
            child.wait_with_output()
        })
        .unwrap();
    assert!(pin.status.success());
    let dir = fresh_dir();
    let file = dir.join("pin");
    fs::write(&file, &pin.stdout).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let more = format!(
        "[console]\ndevice = \"{}\"\npin_file = \"{}\"\n{more}\n[log]\nlevel = \"debug\"\n",
        pty.path().display(),
        file.display()
    );
    let state = dir.join("state");
    Appliance::with_state(dir, &state, NOBODY, &more)
}

fn started(pty: &Pty) -> Appliance {
    let mut appliance = appliance_at(pty, "");
    appliance.launch();
    appliance.until(|status| status["state"] == "offline");
    appliance
}

fn logged_in(pty: &mut Pty) {
    pty.type_(b"\r");
    pty.until("PIN: ");
    pty.type_(format!("{PIN}\r").as_bytes());
    pty.until("line-3> ");
}

#[test]
fn a_person_types_mistypes_looks_around_and_leaves() {
    let mut pty = Pty::open();
    let appliance = started(&pty);
    pty.until("PIN: ");
    pty.type_(b"0000\r");
    pty.until("The next one is taken in 1 s.");
    pty.until("PIN: ");
    pty.type_(format!("{PIN}\r").as_bytes());
    pty.until("line-3> ");
    for keys in [&b"statsu\x7f"[..], b"\x7fu", b"s\x1b[D", b"\x1b[C", b"\r"] {
        pty.type_(keys);
        std::thread::sleep(Duration::from_millis(20)); // hands, not a paste
    }
    let screen = pty.until("line-3> ");
    assert!(screen.contains("state       offline"), "{screen}");
    assert!(screen.contains("no broker: `broker` says why"), "{screen}");
    pty.type_(b"brok\t\r");
    let screen = pty.until("line-3> ");
    assert!(screen.contains("check the cable"), "{screen}");
    pty.type_(format!("ask {CANARY} hums\r").as_bytes());
    let screen = pty.until("line-3> ");
    assert!(screen.contains("engine_unavailable"), "{screen}");
    pty.type_(b"trace \t\r");
    let screen = pty.until("line-3> ");
    assert!(screen.contains("of local (ticket"), "{screen}");
    pty.type_(b"help\r");
    pty.until("--More--");
    pty.type_(b"q");
    pty.until("line-3> ");
    pty.type_(b"logs --last 500\r");
    let mut screen = pty.until_any(&["--More--", "line-3> "]);
    while screen.ends_with("--More--") {
        pty.type_(b"a");
        screen += &pty.until_any(&["--More--", "line-3> "]);
    }
    pty.type_(b"exit\r");
    pty.until("PIN: ");

    let told = format!("{screen}{}", appliance.log());
    assert!(
        told.contains("source=serial command=ask outcome=ok"),
        "{told}"
    );
    assert!(told.contains("command=login outcome=wrong_pin"), "{told}");
    for canary in [CANARY, "canary"] {
        assert!(!told.contains(canary), "{canary}: {told}");
    }
}

#[test]
fn a_rig_runs_a_thousand_commands_in_json() {
    let schema = Schema::read();
    let mut pty = Pty::open();
    let _appliance = started(&pty);
    logged_in(&mut pty);
    pty.type_(b"mode json\n");
    let line = pty.line();
    schema.check("mode", &serde_json::from_str(&line).unwrap());
    let commands = [
        "status",
        "queues",
        "{\"cmd\":\"broker\"}",
        "trace none",
        "requests",
        "tarce",
    ];
    for n in 0..1000 {
        let command = commands[n % commands.len()];
        pty.type_(format!("{command}\n").as_bytes());
        let told: Value = serde_json::from_str(&pty.line()).unwrap();
        let name = command
            .split([' ', '"'])
            .find(|it| schema.knows(it))
            .unwrap_or("tarce");
        schema.check(name, &told);
        assert_eq!(told["ok"], name != "tarce", "{command}: {told}");
    }
    pty.type_(b"mode text\n");
    pty.until("line-3> ");
}

#[test]
fn every_command_answers_with_everything_dead_and_its_json_is_as_the_schema_says() {
    let schema = Schema::read();
    let mut pty = Pty::open();
    let mut appliance = started(&pty);
    let commands = [
        ("help", "state"),
        ("status", "no broker"),
        ("queues", "waiting"),
        ("thermals", "governor"),
        ("memory", "to plan by"),
        ("ask --id by-hand hello", "engine_unavailable"),
        ("requests", "by-hand"),
        ("trace by-hand", "ticket"),
        ("explain --classification public hello", "decides"),
        ("review", "nothing waits for a person"),
        ("learned", "no package"),
        ("models", "served"),
        ("models verify", "no_package"),
        ("models rollback", "packages come only by hand"),
        ("models pin plant-3", "packages come only by hand"),
        ("ota", "packages come only by hand"),
        ("bundle --to nowhere", "whole path"),
        ("broker", "check the cable"),
        ("uplink", "no model elsewhere"),
        ("config show", "[broker]"),
        ("logs --last 3", "info"),
        ("maintenance on", "refused"),
        ("status", "maintenance off"),
        ("ask hello", "maintenance"),
        ("maintenance off", "off"),
        ("check", "state directory"),
    ];
    for (line, words) in commands {
        let told = appliance.told("do", &[line]);
        let text = [told.stdout.as_slice(), &told.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        let wide = text.lines().find(|line| line.chars().count() > 79);
        assert_eq!(wide, None, "{line}");
        if line != "help" {
            assert!(text.contains(words), "{line}: {text}");
        }
        if line.starts_with("ask") || line.starts_with("maintenance") {
            continue; // it would be another request
        }
        let json = appliance.told_json("do", &[line]);
        schema.check(line.split(' ').next().unwrap(), &json);
    }
    let typo = appliance.told("do", &["statsu"]);
    assert_eq!(typo.status.code(), Some(USAGE));
    let text = String::from_utf8(typo.stderr).unwrap();
    assert!(text.contains("did you mean status?"), "{text}");
    let _ = pty.until("PIN: ");
    appliance.stop();
    let gone = appliance.told("do", &["status"]);
    let text = String::from_utf8(gone.stderr).unwrap();
    assert!(text.contains("no running appliance"), "{text}");
}

#[test]
fn the_words_of_an_answer_come_one_by_one_and_make_the_whole() {
    use std::io::{BufRead as _, Write as _};
    let mut pty = Pty::open();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
    let more = format!("[model]\npackage = \"{}\"\n", folder.display());
    let mut appliance = appliance_at(&pty, &more);
    appliance.launch();
    appliance.until(|status| status["engine"] == "ready");
    let schema = Schema::read();
    let mut socket = std::os::unix::net::UnixStream::connect(appliance.socket()).unwrap();
    let request = json!({"task": "triage", "input": "CNC-07 spindle vibration 9.8 mm/s rising",
        "stream": true});
    writeln!(socket, "{}", json!({"cmd": "ask", "request": request})).unwrap();
    let mut words = Vec::new();
    let mut reply = Value::Null;
    for line in std::io::BufReader::new(socket).lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        schema.check("ask", &line);
        let Some(text) = line["part"]["text"].as_str() else {
            reply = line["data"].clone();
            break;
        };
        words.push(text.to_owned());
    }
    assert!(words.len() > 1, "{words:?}");
    assert_eq!(reply["status"], "answered", "{reply}");
    assert_eq!(words.concat(), reply["text"].as_str().unwrap());

    logged_in(&mut pty);
    pty.type_(b"ask --task triage forklift blocks the emergency exit at gate 4\r");
    let screen = pty.until("line-3> ");
    assert!(screen.contains("answered by edge"), "{screen}");
    let shown = screen.split_once("gate 4\r\n").unwrap().1;
    assert_eq!(
        shown.matches("{\"").count(),
        1,
        "it is shown once: {screen}"
    );
}

/// A break is what a laptop sends when it is plugged in, and what some programs send to wake a
/// console. A pty has none; but of a line the kernel makes of it what the port is set to, and as it is
/// set here (`n_tty_receive_break`) that is one byte of zero.
#[test]
fn a_break_on_the_line_costs_nothing() {
    let mut pty = Pty::open();
    let _appliance = started(&pty);
    pty.until("PIN: ");
    let settings = pty.settings();
    let marks = InputModes::IGNBRK | InputModes::BRKINT | InputModes::PARMRK;
    assert!(
        !settings.input_modes.intersects(marks),
        "a break is one NUL"
    );
    assert!(
        !settings.local_modes.contains(LocalModes::ISIG),
        "and no signal"
    );

    pty.type_(b"\0");
    let (first, rest) = PIN.as_bytes().split_at(3);
    pty.type_(&[first, b"\0\0", rest, b"\0\r"].concat());
    pty.until("line-3> ");
    pty.type_(b"\0\0\0sta\0tus\0\r\0");
    let screen = pty.until("line-3> ");
    assert!(screen.contains("state       offline"), "{screen}");
    // In the middle of a letter, of an arrow key, of a quoted word.
    pty.type_(b"ask \xc3\0\xa4 '\0hums'\x1b\0[D\0\r");
    let screen = pty.until("line-3> ");
    assert!(screen.contains("engine_unavailable"), "{screen}");
    pty.type_(b"help\r");
    pty.until("--More--");
    pty.type_(b"\0\0q");
    pty.until("line-3> ");
    pty.type_(b"mode json\n");
    pty.line();
    pty.type_(b"\0{\"cmd\":\0\"queues\"}\0\n");
    let told: Value = serde_json::from_str(&pty.line()).unwrap();
    assert_eq!(told["ok"], true, "{told}");
    // Nothing more was answered than was asked.
    pty.type_(b"mode text\n");
    let screen = pty.until("line-3> ");
    assert!(!screen.contains("error"), "{screen}");
}

#[test]
fn states_are_in_colour_for_those_who_ask_and_for_nobody_else() {
    const RED: &str = "\u{1b}[31moffline\u{1b}[0m";
    let mut pty = Pty::open();
    let appliance = started(&pty);
    logged_in(&mut pty);
    pty.type_(b"status\r");
    let screen = pty.until("line-3> ");
    assert!(
        screen.contains("offline") && !screen.contains("\u{1b}[3"),
        "{screen}"
    );
    pty.type_(b"mode color\r");
    pty.until("line-3> ");
    pty.type_(b"status\r");
    let screen = pty.until("line-3> ");
    assert!(screen.contains(RED), "{screen}");
    pty.type_(b"mode text\r");
    pty.until("line-3> ");
    pty.type_(b"status\r");
    assert!(!pty.until("line-3> ").contains("\u{1b}[3"));
    // The next one who logs in has not asked.
    pty.type_(b"mode color\rexit\r");
    logged_in(&mut pty);
    pty.type_(b"status\r");
    assert!(!pty.until("line-3> ").contains("\u{1b}[3"));
    for (name, args) in [("status", vec![]), ("do", vec!["status"])] {
        let told = |more: &[&str]| {
            let told = appliance.told(name, &[more, args.as_slice()].concat());
            String::from_utf8(told.stdout).unwrap()
        };
        assert!(!told(&[]).contains('\u{1b}'), "{name}");
        let (plain, painted) = (told(&[]), told(&["--color"]));
        assert!(painted.contains(RED), "{name}: {painted}");
        assert_eq!(
            painted.replace(RED, "offline").lines().next(),
            plain.lines().next()
        );
    }
}

/// What a person is promised, and what a machine may take more that tests in parallel, without
/// optimisation: without it this measures the machine. What hangs takes longer in any case.
const SECOND: Duration = Duration::from_secs(1);
const SLACK: Duration = Duration::from_secs(3);

#[test]
fn with_broker_network_and_engine_dead_every_command_answers_within_a_second() {
    let pty = Pty::open();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
    let mut appliance = appliance_at(
        &pty,
        &format!(
            "[model]\npackage = \"{}\"\n[cloud]\nurl = \"http://127.0.0.1:9/v1/chat/completions\"\n\
             model = \"m\"\napi_key_file = \"KEY\"\naccepts = [\"public\"]\n",
            folder.display()
        ),
    );
    let key = appliance.dir.join("key");
    fs::write(&key, "a key").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let fragment = appliance.dir.join("conf.d/more.toml");
    let text = fs::read_to_string(&fragment).unwrap();
    fs::write(&fragment, text.replace("KEY", &key.display().to_string())).unwrap();
    appliance.launch();
    appliance.until(|status| status["engine"] == "ready");
    appliance.told("do", &["ask --id known --task triage spindle hums"]);
    // All that there is; what reads a whole model, ends the process, or forgets everything, has its
    // own tests.
    let lines = [
        "help",
        "status",
        "queues",
        "thermals",
        "memory",
        "requests",
        "trace known",
        "trace none",
        "explain --classification public hello",
        "review",
        "review show 9f4e02",
        "review take --as anna 9f4e02",
        "review approve 9f4e02",
        "learned",
        "models",
        "models show",
        "models rollback",
        "ota",
        "ota check",
        "ota cancel",
        "broker",
        "uplink",
        "config show",
        "check",
        "logs --last 5",
        "bundle --to nowhere",
        "maintenance",
        "maintenance off",
        "factory-reset",
        // As long as the request itself may take.
        "ask --deadline-ms 500 --classification public hello",
    ];
    let mut worst = (Duration::ZERO, "");
    for blow in [Signal::STOP, Signal::KILL] {
        // The supervisor ends an engine that is silent and starts another: each command meets it
        // just struck.
        for line in lines {
            if let Some(engine) = appliance.any_engine() {
                let _ = rustix::process::kill_process(engine, blow); // it may be gone already
            }
            let begun = std::time::Instant::now();
            let told = appliance.told("do", &[line]);
            let took = begun.elapsed();
            assert!(took < SECOND + SLACK, "{line}: {took:?}");
            worst = worst.max((took, line));
            let text = [told.stdout.as_slice(), &told.stderr].concat();
            let text = String::from_utf8(text).unwrap();
            assert!(
                !text.is_empty() && !text.contains("no_answer"),
                "{line}: {text}"
            );
            match line {
                "status" => assert!(text.contains("no broker: `broker` says why"), "{text}"),
                "broker" => assert!(text.contains("check the cable"), "{text}"),
                "check" => assert!(text.contains("fail  broker"), "{text}"),
                _ => {}
            }
        }
    }
    eprintln!("the slowest: {} in {:?}", worst.1, worst.0);
    // In the end it is said what is dead.
    appliance.until(|status| status["engine_crashes"].as_u64() > Some(1));
    let told = appliance.told("do", &["status"]);
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(text.contains("failed"), "{text}");
}

#[test]
fn a_service_that_is_stopped_altogether_is_told_and_not_waited_for_for_ever() {
    let pty = Pty::open();
    let appliance = started(&pty);
    appliance.signal(Signal::STOP);
    for name in ["status", "do"] {
        let args: &[&str] = if name == "do" { &["queues"] } else { &[] };
        let told = appliance.told(name, args);
        let text = String::from_utf8(told.stderr).unwrap();
        assert!(
            text.contains("says nothing: it is stuck or stopped"),
            "{name}: {text}"
        );
        assert!(
            text.contains("systemctl restart lineside"),
            "{name}: {text}"
        );
    }
    appliance.signal(Signal::CONT);
}

#[test]
fn an_archive_for_those_who_help_holds_no_text_of_a_request() {
    let pty = Pty::open();
    let mut appliance = appliance_at(
        &pty,
        "[cloud]\nurl = \"http://127.0.0.1:9/v1/chat/completions\"\nmodel = \"m\"\napi_key_file = \"KEY\"\naccepts = [\"public\"]\n",
    );
    let key = appliance.dir.join("key");
    fs::write(&key, format!("{CANARY}-key")).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let fragment = appliance.dir.join("conf.d/more.toml");
    let text = fs::read_to_string(&fragment).unwrap();
    fs::write(&fragment, text.replace("KEY", &key.display().to_string())).unwrap();
    appliance.launch();
    appliance.until(|status| status["state"] == "offline");
    appliance.told(
        "do",
        &[&format!(
            "ask --id asked --classification public --deadline-ms 300 {CANARY} hums"
        )],
    );
    appliance.told("do", &[&format!("explain {CANARY}")]);
    appliance.told("do", &[&format!("{CANARY} is no command")]);
    let stick = fresh_dir();
    let line = format!("bundle --to {}", stick.display());
    let told = appliance.told_json("do", &[&line]);
    Schema::read().check("bundle", &told);
    assert_eq!(told["data"]["missing"], json!([]), "{told}");
    let path = told["data"]["path"].as_str().unwrap();
    let unpacked = fresh_dir();
    let unpack = Command::new("tar")
        .args(["-xf", path])
        .current_dir(&unpacked)
        .status();
    assert!(unpack.unwrap().success());
    let mut whole = String::new();
    for name in told["data"]["files"].as_array().unwrap() {
        whole += &fs::read_to_string(unpacked.join(name.as_str().unwrap())).unwrap();
    }
    // It is of use: the state, the settings, the log and the requests are there.
    for words in [
        "\"offline\"",
        "[broker]",
        "lineside::appliance: ready",
        "\"asked\"",
        "fail",
    ] {
        assert!(whole.contains(words), "{words}");
    }
    for secret in ["canary", "pbkdf2"] {
        assert!(!whole.contains(secret), "{secret}");
        assert!(!appliance.log().contains(secret), "{secret}");
    }
    let logs = appliance.told_json("do", &["logs --level trace --last 2000"]);
    assert!(!logs.to_string().contains("canary"), "{logs}");
    assert_eq!(fs::read_dir(&stick).unwrap().count(), 1, "no .part is left");
}

#[test]
fn what_the_golden_transcripts_are_made_of_is_as_the_schema_says() {
    let fixtures = include_str!("../src/console/pages/fixtures.json");
    let fixtures: Vec<Value> = serde_json::from_str(fixtures).unwrap();
    let schema = Schema::read();
    for fixture in fixtures {
        let command = fixture["line"].as_str().unwrap().split(' ').next().unwrap();
        schema.check(command, &json!({"ok": true, "data": fixture["data"]}));
    }
}

#[test]
fn a_broker_that_takes_connections_and_says_nothing_is_named_and_not_waited_for() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let dir = fresh_dir();
    let mut appliance = Appliance::with_state(dir.clone(), &dir.join("state"), port, "");
    appliance.launch();
    appliance.until(|status| status["state"] == "offline");
    let told = appliance.told("do", &["check"]);
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(text.contains("no answer in 0.7 s"), "{text}");
    for command in [
        "status", "queues", "broker", "uplink", "thermals", "memory", "logs",
    ] {
        let told = appliance.told_json("do", &[command]);
        assert_eq!(told["ok"], true, "{command}: {told}");
    }
    assert_eq!(
        appliance.told_json("do", &["broker"])["data"]["state"],
        "offline"
    );
}

#[test]
fn a_session_unplugged_at_every_byte_leaves_nothing_behind() {
    let script = format!("\r{PIN}\rstatus\rtrace x\rmode json\n{{\"cmd\":\"queues\"}}\n");
    let mut pty = Pty::open();
    let appliance = started(&pty);
    for cut in 0..script.len() {
        pty.until("PIN: ");
        pty.type_(&script.as_bytes()[..cut]);
        pty.replug();
    }
    pty.patiently_logged_in(PIN);
    pty.type_(b"status\r");
    assert!(pty.until("line-3> ").contains("offline"));
    assert!(!appliance.log().contains("canary"));
}

#[test]
fn noise_and_a_terminal_that_never_reads_concern_nobody() {
    let mut pty = Pty::open();
    let appliance = started(&pty);
    logged_in(&mut pty);
    pty.type_(b"mode json\n");
    pty.line();
    // Nothing is read from here on, while far more is answered than any buffer holds.
    for _ in 0..2000 {
        pty.try_type(b"status\n");
    }
    for _ in 0..50 {
        let status = appliance.command(&json!({"cmd": "status"})).unwrap();
        assert_eq!(status["state"], "offline");
    }
    pty.replug();
    pty.until("PIN: ");
    let mut noise = fastrand::Rng::with_seed(7);
    for _ in 0..200 {
        let bytes: Vec<u8> = (0..50).map(|_| noise.u8(..)).collect();
        pty.try_type(&bytes);
    }
    pty.try_type(&vec![b'x'; 100_000]);
    pty.replug();
    // A wrong PIN among the noise costs its wait.
    pty.patiently_logged_in(PIN);
    pty.type_(b"queues\r");
    assert!(pty.until("line-3> ").contains("open"));
}

#[test]
fn a_restart_and_a_factory_reset_come_back_by_themselves() {
    let mut pty = Pty::open();
    let mut appliance = started(&pty);
    let pid = appliance.pid();
    appliance.told("do", &["ask --id kept hello"]);
    assert!(appliance.told("do", &["restart"]).status.success());
    let begun = std::time::Instant::now();
    while appliance.log().matches(": ready ").count() < 2 {
        assert!(begun.elapsed() < appliance::PATIENCE, "{}", appliance.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    appliance.until(|status| status["outcomes"] == 1);
    assert_eq!(appliance.pid(), pid);

    pty.patiently_logged_in(PIN);
    pty.type_(b"factory-reset\r");
    let screen = pty.until("Name: ");
    assert!(screen.contains("1 on record"), "{screen}");
    pty.type_(b"line-4\r");
    assert!(pty.until("line-3> ").contains("not_confirmed"));
    pty.type_(b"factory-reset\r");
    pty.until("Name: ");
    pty.type_(b"line-3\r");
    appliance.until(|status| status["outcomes"] == 0);
    assert!(appliance.log().contains("all was forgotten"));
    assert!(appliance.stop().success());
}

#[test]
fn the_control_socket_turns_strangers_away() {
    let pty = Pty::open();
    let appliance = started(&pty);
    let socket = appliance.socket();
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    if !rustix::process::geteuid().is_root() {
        return; // only the super-user can become a stranger
    }
    // As if somebody had opened every door in the file system.
    for path in [appliance.dir.as_path(), socket.parent().unwrap(), &socket] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    // Others cannot reach the folder that it was built in.
    let program = appliance.dir.join("program");
    fs::copy(env!("CARGO_BIN_EXE_lineside"), &program).unwrap();
    let asked = |uid: &str, gid: &str| {
        let mut command = Command::new("setpriv");
        let ids = ["--clear-groups", "--reuid", uid, "--regid", gid];
        let command = command.args(ids).arg(&program);
        let output = command.arg("do").arg("--socket").arg(&socket).arg("queues");
        let output = output.output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let stranger = asked("65534", "65534");
    assert!(stranger.contains("in its group"), "{stranger}");
    let member = asked("65534", "0");
    assert!(member.contains("outcomes"), "{member}");
    assert!(appliance.log().contains("turned a stranger away"));
}
