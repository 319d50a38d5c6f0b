//! At the appliance itself: the subcommands, the control socket, the first run.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;

use super::appliance::{Appliance, PATIENCE, count, fresh_dir};
use super::device::{Ask, Device, Version};
use super::mosquitto::{Mosquitto, Setup, free_port};
use super::{lives, plant};

/// `EX_UNAVAILABLE` and `EX_CONFIG` of sysexits.h.
const UNAVAILABLE: i32 = 69;
const CONFIG: i32 = 78;

#[tokio::test(flavor = "multi_thread")]
async fn a_person_at_the_appliance_asks_and_traces() {
    let (broker, appliance) = plant("");
    let asked = appliance.told("ask", &["stop or go?", "--id", "by-hand"]);
    assert_eq!(asked.status.code(), Some(UNAVAILABLE), "{asked:?}");
    let text = String::from_utf8(asked.stdout).unwrap();
    assert!(
        text.contains("engine_unavailable") && text.contains("by-hand"),
        "{text}"
    );
    let again = appliance.told_json("ask", &["stop or go?", "--id", "by-hand"]);
    assert_eq!(again["error"]["code"], "engine_unavailable");

    // The same id of a device is another request.
    let mut device = Device::start(Version::V5, broker.port, &["lineside/line-3/reply/+"]).await;
    device
        .ask(&Ask::new(r#"{"prompt":"p","id":"by-hand"}"#))
        .await;
    let trace = appliance.told("trace", &["by-hand"]);
    assert!(trace.status.success());
    let text = String::from_utf8(trace.stdout).unwrap();
    assert!(
        text.contains("by-hand of local") && text.contains("by-hand of anonymous"),
        "{text}"
    );
    assert_eq!(lives(&appliance.trace("by-hand")).len(), 2);
    assert_eq!(
        appliance.told("trace", &["never-seen"]).status.code(),
        Some(1)
    );

    let status = appliance.told("status", &[]);
    let text = String::from_utf8(status.stdout).unwrap();
    for words in ["online", "absent", "well", "engine_unavailable"] {
        assert!(text.contains(words), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_appliance_the_subcommands_say_so() {
    let appliance = Appliance::at(free_port(), "");
    for (name, args) in [("status", &[][..]), ("trace", &["x"]), ("ask", &["x"])] {
        let told = appliance.told(name, args);
        assert_eq!(told.status.code(), Some(UNAVAILABLE), "{told:?}");
        let text = String::from_utf8(told.stderr).unwrap();
        assert!(text.contains("no running appliance"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_works_while_there_is_no_broker() {
    let mut appliance = Appliance::at(free_port(), "");
    appliance.launch();
    appliance.until(|status| status["state"] == "offline");
    let reply = appliance.told_json("ask", &["p"]);
    assert_eq!(reply["error"]["code"], "engine_unavailable");
    assert_eq!(reply["connectivity"], "offline");
    assert!(appliance.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rude_guest_at_the_control_socket_does_no_harm() {
    let (broker, mut appliance) = plant("");
    let connect = || {
        let guest = UnixStream::connect(appliance.socket()).unwrap();
        guest.set_read_timeout(Some(PATIENCE)).unwrap();
        guest.set_write_timeout(Some(PATIENCE)).unwrap();
        guest
    };
    let silent: Vec<_> = (0..4).map(|_| connect()).collect();
    let mut half = connect();
    half.write_all(br#"{"cmd":"sta"#).unwrap();
    // Asks without end and reads nothing.
    let mut deaf = connect();
    deaf.set_nonblocking(true).unwrap();
    while deaf
        .write_all(&b"{\"cmd\":\"help\"}\n".repeat(1000))
        .is_ok()
    {}

    let mut mumbling = connect();
    mumbling.write_all(b"\xff\xfe\n\n{}\nstatus\n").unwrap();
    let answers = BufReader::new(mumbling).lines().take(4);
    for answer in answers {
        let answer = answer.unwrap();
        assert!(answer.contains(r#""code":"syntax""#), "{answer}");
    }
    let mut endless = connect();
    let sent = endless.write_all(&vec![b'x'; 1 << 20]);
    let mut answer = Vec::new();
    let heard = endless.read_to_end(&mut answer);
    let told = String::from_utf8_lossy(&answer);
    assert!(
        told.contains("too_long") || sent.is_err() || heard.is_err(),
        "a megabyte without a line's end: {told}"
    );

    let reply = appliance.told_json("ask", &["p"]);
    assert_eq!(reply["error"]["code"], "engine_unavailable");
    let mut device = Device::start(Version::V3, broker.port, &["lineside/line-3/reply/+"]).await;
    let reply = device.ask(&Ask::new(r#"{"prompt":"p","id":"x"}"#)).await;
    assert_eq!(reply.code(), "engine_unavailable");
    drop((silent, half, deaf));
    assert!(appliance.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_finds_a_good_machine_a_missing_broker_and_a_broken_configuration() {
    let broker = Mosquitto::start(&Setup::default());
    let good = Appliance::at(broker.port, "");
    fs::create_dir_all(good.dir.join("state")).unwrap();
    let told = good.told("check", &[]);
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    let report = good.told_json("check", &[]);
    assert_eq!(report["ok"], true, "{report}");

    let lonely = Appliance::at(free_port(), "");
    let told = lonely.told("check", &[]);
    assert_eq!(told.status.code(), Some(UNAVAILABLE), "{told:?}");
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(text.contains("FAIL") || text.contains("fail"), "{text}");
    assert!(text.contains("check broker.url"), "{text}");

    let faulty = Appliance::at(broker.port, BROKEN);
    let told = faulty.told("check", &[]);
    assert_eq!(told.status.code(), Some(CONFIG), "{told:?}");
}

/// Four faults.
const BROKEN: &str = "[broker]\nkeep_alive_s = 1\nprefx = \"x\"\n\
                      [intake]\nmax_in_flight = \"many\"\n[log]\nlevel = \"loud\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn run_names_every_fault_of_a_broken_configuration_and_touches_nothing() {
    let mut broken = Appliance::at(free_port(), BROKEN);
    broken.launch();
    assert_eq!(broken.ended().code(), Some(CONFIG));
    let log = broken.log();
    for word in [
        "keep_alive_s",
        "prefx",
        "max_in_flight",
        "log.level",
        "4 faults",
    ] {
        assert!(log.contains(word), "{word}: {log}");
    }
    assert!(!broken.dir.join("state").exists());

    let mut missing = Appliance::at(free_port(), "");
    missing.config = Some(missing.dir.join("no-such-file.toml"));
    missing.launch();
    assert_eq!(missing.ended().code(), Some(CONFIG));
    assert!(missing.log().contains("no-such-file.toml"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_run_needs_no_configuration_and_no_broker() {
    // The usual port may be taken on this machine; then only the port is configured.
    let usual = TcpListener::bind(("127.0.0.1", 1883)).is_ok();
    let (mut appliance, port) = if usual {
        (Appliance::bare(fresh_dir()), 1883)
    } else {
        let (dir, port) = (fresh_dir(), free_port());
        let state = dir.join("state");
        let config = format!(
            "[appliance]\nstate_dir = \"{}\"\n[broker]\nembedded_listen = \"127.0.0.1:{port}\"\n",
            state.display()
        );
        (Appliance::configured(dir, &config), port)
    };
    appliance.start();
    for version in [Version::V3, Version::V5, Version::V3] {
        let mut device = Device::start(version, port, &["lineside/+/status"]).await;
        let status = device.reply().await;
        assert_eq!(status.json()["state"], "online");
        let name = status.json()["appliance"].as_str().unwrap().to_owned();

        let answers = format!("devices/{version:?}/answers");
        let mut device = Device::start(version, port, &[&answers]).await;
        let payload = format!(r#"{{"prompt":"p","id":"{version:?}","reply_to":"{answers}"}}"#);
        let ask = Ask::new(payload).on(&format!("lineside/{name}/request"));
        assert_eq!(device.ask(&ask).await.code(), "engine_unavailable");
    }
    let status = appliance.until(|status| count(status, "replies", "delivered") == 3);
    assert_eq!(count(&status, "requests", "accepted"), 2);
    assert_eq!(count(&status, "requests", "duplicate"), 1);
    assert!(appliance.stop().success());
}
