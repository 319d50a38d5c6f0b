//! What `lineside check` prints, and with which code it ends.

use super::*;
use crate::cli::selfcheck::Folder;
use crate::config::Trust;

fn machine(folder: &Folder) -> Machine {
    Machine {
        run: folder.0.join("run"),
        now: Wall(1_800_000_000_000),
        patience: Duration::from_millis(50),
    }
}

/// Default settings, but with a broker elsewhere.
fn settings(folder: &Folder) -> Settings {
    let mut settings = folder.settings();
    settings.link.endpoint = Endpoint::Tls {
        host: "broker.plant".into(),
        port: 8883,
        trust: Trust::System,
        client: None,
    };
    settings.roots.sysfs = folder.0.join("sys");
    settings.roots.procfs = folder.0.join("proc");
    settings
}

fn item<'r>(report: &'r Report, name: &str) -> &'r Item {
    report.items.iter().find(|item| item.name == name).unwrap()
}

#[tokio::test]
async fn a_broker_that_echoes_is_ok_and_a_slow_one_a_warning() {
    let folder = Folder::new();
    let settings = settings(&folder);
    for (echo_ms, state) in [(1, State::Ok), (90, State::Warn)] {
        let probe = async |settings: &Settings| {
            assert_eq!(settings.link.client_id, "lineside-line-3");
            Ok(Duration::from_millis(echo_ms))
        };
        let report = run(&settings, &machine(&folder), probe).await;
        assert_eq!(item(&report, "broker").state, state);
        assert_eq!(report.exit_code(), 0);
    }
}

#[tokio::test]
async fn a_broker_out_of_reach_ends_with_unavailable_and_says_why() {
    let folder = Folder::new();
    let settings = settings(&folder);
    let refused = async |_: &Settings| Err("connection refused".into());
    let report = run(&settings, &machine(&folder), refused).await;
    assert_eq!(
        item(&report, "broker").what,
        "broker.plant:8883: connection refused"
    );
    assert_eq!(report.exit_code(), EXIT_UNAVAILABLE);
}

#[tokio::test]
async fn a_broker_that_never_answers_does_not_hold_the_check() {
    let settings = settings(&Folder::new());
    let silent = async |_: &Settings| std::future::pending().await;
    let item = broker(&settings, Duration::from_millis(1), silent).await;
    assert_eq!(item.state, State::Fail);
}

#[tokio::test]
async fn the_port_of_the_embedded_broker_is_looked_at() {
    let held = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = held.local_addr().unwrap();
    assert_eq!(embedded(listen).await.state, State::Warn);
    drop(held);
    assert_eq!(embedded(listen).await.state, State::Ok);
    // 192.0.2.0/24 is reserved for documentation: no machine has it.
    assert_eq!(
        embedded("192.0.2.1:1883".parse().unwrap()).await.state,
        State::Fail
    );
}

#[test]
fn the_table_is_aligned_and_says_what_to_do_below_each_line() {
    let report = Report {
        items: vec![
            Item::new("broker", State::Ok, "b:1883 echoes in 0.2 ms"),
            Item::new("serial port", State::Fail, "/dev/ttyX: gone").todo("plug it in"),
        ],
    };
    let expected = "\
ok    broker       b:1883 echoes in 0.2 ms
fail  serial port  /dev/ttyX: gone
                   -> plug it in
";
    assert_eq!(report.to_string(), expected);
}

#[test]
fn json_carries_the_same_as_the_table() {
    let folder = Folder::new();
    let settings = folder.settings();
    let report = Report {
        items: vec![Item::new("broker", State::Fail, "gone").todo("look")],
    };
    let json = report.to_json(&settings);
    let read: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(read["ok"], false);
    assert_eq!(read["appliance"], "line-3");
    assert_eq!(read["items"][0]["state"], "fail");
    assert_eq!(read["items"][0]["todo"], "look");
    assert!(
        read["settings"]
            .as_str()
            .unwrap()
            .starts_with("[appliance]\nname = \"line-3\"")
    );
}

#[test]
fn faults_are_json_too() {
    let around = Surroundings {
        config: Some(PathBuf::from("/nonexistent/config.toml")),
        env: [("HOME".to_owned(), "/home/op".into())].into(),
        host_name: "line-3".into(),
        etc: PathBuf::from("/nonexistent"),
        packages: Vec::new(),
    };
    let faults = config::load(&around).unwrap_err();
    let read: serde_json::Value = serde_json::from_str(&faults_json(&faults)).unwrap();
    assert_eq!(read["faults"][0]["file"], "/nonexistent/config.toml");
    assert_eq!(read["faults"][0]["line"], 0);
}
