//! Whatever a device sends, it is told what is wrong, and the service lives on.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::appliance::{Appliance, count};
use super::device::{Ask, Device, Reply, Version};
use super::mosquitto::{Mosquitto, Setup};
use super::{connections, plant, redeliveries};

/// The service takes requests, and nothing above went round in circles.
async fn lives_on(broker: &Mosquitto, device: &mut Device) {
    let fine = format!(r#"{{"prompt":"fine","id":"fine-{}"}}"#, fastrand::u64(..));
    let reply = device.ask(&Ask::new(fine)).await;
    assert_eq!(reply.code(), "engine_unavailable");
    assert!(device.is_quiet().await);
    assert_eq!((connections(broker), redeliveries(broker)), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_in_a_request_is_named_to_its_sender() {
    let (broker, appliance) = plant("[intake]\nmax_prompt_bytes = 1000\n");
    let filters = ["devices/+/answers", "lineside/line-3/reply/+"];
    let mut device = Device::start(Version::V5, broker.port, &filters).await;
    let long = "p".repeat(1001);
    let deep = format!(
        r#"{{"prompt":"p","schema":{}1{}}}"#,
        r#"{"a":"#.repeat(40),
        "}".repeat(40)
    );
    let cases: Vec<(Vec<u8>, &str, &str)> = vec![
        (b"\xff\xfe{}".to_vec(), "invalid", "UTF-8"),
        (b"{\"prompt\":".to_vec(), "invalid", "not a request"),
        (b"".to_vec(), "invalid", "not a request"),
        (b"[]".to_vec(), "invalid", "not a request"),
        (b"{}".to_vec(), "invalid", "give a prompt"),
        (
            br#"{"prompt":"p","promt":"p"}"#.to_vec(),
            "invalid",
            "promt",
        ),
        (
            br#"{"prompt":"p","classifcation":"public"}"#.to_vec(),
            "invalid",
            "classifcation",
        ),
        (br#"{"prompt":"p","risk":101}"#.to_vec(), "invalid", "risk"),
        (
            br#"{"prompt":"p","deadline_ms":0}"#.to_vec(),
            "invalid",
            "deadline_ms",
        ),
        (
            br#"{"prompt":"p","task":"t","input":"i"}"#.to_vec(),
            "invalid",
            "not both",
        ),
        (br#"{"task":"t"}"#.to_vec(), "invalid", "no input"),
        (
            json!({ "prompt": long }).to_string().into(),
            "too_large",
            "1001",
        ),
        (deep.into(), "too_large", "nested"),
    ];
    for (number, (payload, code, word)) in cases.into_iter().enumerate() {
        let correlation = format!("case-{number}");
        let ask = Ask::new(payload)
            .to("devices/d/answers")
            .correlated(correlation.as_bytes());
        let reply = device.ask(&ask).await;
        assert_eq!(reply.code(), code, "{correlation}");
        assert_eq!(reply.topic, "devices/d/answers", "{correlation}");
        assert_eq!(reply.correlation.as_deref(), Some(correlation.as_bytes()));
        let json = reply.json();
        assert_eq!(json["final"], true, "{correlation}");
        let message = json["error"]["message"].as_str().unwrap();
        assert!(message.contains(word), "{correlation}: {message}");
    }
    let mut ask = Ask::new(r#"{"prompt":"p","id":"yaml"}"#);
    ask.properties.content_type = Some("application/yaml".into());
    assert_eq!(device.ask(&ask).await.code(), "invalid");
    let ask = Ask::new(r#"{"prompt":"p","client":"b"}"#)
        .on("lineside/line-3/request/a")
        .correlated(b"who");
    assert_eq!(device.ask(&ask).await.code(), "invalid");
    assert_eq!(count(&appliance.status(), "requests", "accepted"), 0);
    lives_on(&broker, &mut device).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_goes_to_no_topic_where_it_would_do_harm() {
    let (broker, appliance) = plant("");
    let filters = ["lineside/#", "devices/#", "elsewhere/#"];
    let mut device = Device::start(Version::V3, broker.port, &filters).await;
    let forbidden = [
        "devices/+/answers",
        "devices/#",
        "elsewhere/x",
        "devices/d/answers/more",
        "lineside/line-3/request",
        "lineside/line-3/request/d",
        "lineside/line-9/request",
        "lineside/line-3/status",
        "lineside/pool/p/request",
        "$SYS/x",
        "",
    ];
    // What the device published itself comes back to it too, through its wide filters.
    let is_reply = |reply: &Reply| reply.topic.starts_with("lineside/line-3/reply/");
    for (number, topic) in forbidden.into_iter().enumerate() {
        let id = format!("t-{number}");
        let payload = json!({ "prompt": "p", "id": id, "reply_to": topic }).to_string();
        device.publish(&Ask::new(payload)).await;
        let reply = loop {
            let heard = device.reply().await;
            if is_reply(&heard) {
                break heard;
            }
            let ours = [
                "lineside/line-3/request",
                "lineside/line-3/status",
                "lineside/line-3/echo",
            ];
            assert!(ours.contains(&heard.topic.as_str()), "{heard:?}");
        };
        assert_eq!(reply.code(), "reply_topic", "{topic}");
        assert_eq!(reply.topic, format!("lineside/line-3/reply/{id}"));
    }
    assert_eq!(count(&appliance.status(), "requests", "accepted"), 0);
    assert_eq!((connections(&broker), redeliveries(&broker)), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_with_other_content_is_a_conflict() {
    let (broker, _appliance) = plant("");
    let mut device = Device::start(Version::V3, broker.port, &["lineside/line-3/reply/+"]).await;
    let first = device.ask(&Ask::new(r#"{"prompt":"a","id":"x"}"#)).await;
    assert_eq!(first.code(), "engine_unavailable");
    for other in [
        r#"{"prompt":"b","id":"x"}"#,
        r#"{"prompt":"a","id":"x","classification":"public"}"#,
        r#"{"task":"a","input":"a","id":"x"}"#,
    ] {
        assert_eq!(device.ask(&Ask::new(other)).await.code(), "id_conflict");
    }
    let again = device.ask(&Ask::new(r#"{"prompt":"a","id":"x"}"#)).await;
    assert_eq!(again.payload, first.payload);
    lives_on(&broker, &mut device).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retained_request_is_refused_and_does_not_come_back() {
    let broker = Mosquitto::start(&Setup::default());
    let mut device = Device::start(Version::V5, broker.port, &["lineside/line-3/reply/+"]).await;
    let mut ask = Ask::new(r#"{"prompt":"p","id":"kept"}"#);
    ask.retain = true;
    device.publish(&ask).await;
    let mut appliance = Appliance::at(broker.port, "");
    appliance.start();
    let reply = device.reply().await;
    assert_eq!(
        (reply.id().as_str(), reply.code().as_str()),
        ("kept", "retained")
    );
    assert_eq!(count(&appliance.status(), "requests", "accepted"), 0);
    lives_on(&broker, &mut device).await;

    ask.payload.clear(); // how a retained message is taken back
    device.publish(&ask).await;
    lives_on_after_clearing(&broker, &mut device).await;
}

async fn lives_on_after_clearing(broker: &Mosquitto, device: &mut Device) {
    let reply = device
        .ask(&Ask::new(r#"{"prompt":"p","id":"after"}"#))
        .await;
    assert_eq!(reply.code(), "engine_unavailable");
    assert_eq!((connections(broker), redeliveries(broker)), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_fast_is_told_when_to_come_back() {
    let limits = "[intake]\nrequests_per_client_per_s = 1\nrequests_per_client_burst = 2\n";
    let (broker, _appliance) = plant(limits);
    let mut device = Device::start(Version::V3, broker.port, &["lineside/line-3/reply/+"]).await;
    let mut refused = 0;
    for number in 0..10 {
        let payload = json!({ "prompt": "p", "id": format!("r-{number}") }).to_string();
        device.send(&Ask::new(payload).on("lineside/line-3/request/wild"));
    }
    for _ in 0..10 {
        let reply = device.reply().await;
        if reply.code() == "rate_limited" {
            let wait = &reply.json()["error"]["retry_after_ms"];
            assert!((1..=1001).contains(&wait.as_u64().unwrap()), "{wait}");
            refused += 1;
        } else {
            assert_eq!(reply.code(), "engine_unavailable");
        }
    }
    assert!((1..=8).contains(&refused), "{refused}");
    // The wild one takes nothing from the others.
    lives_on(&broker, &mut device).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_too_much_under_way_is_told_so() {
    let (broker, appliance) = plant("[intake]\nmax_in_flight_per_client = 1\n");
    let mut device = Device::start(Version::V5, broker.port, &["lineside/line-3/reply/+"]).await;
    let mut busy = None;
    for round in 0..50 {
        // Requests that arrive together while it holds its breath are looked at together.
        appliance.signal(Signal::STOP);
        for number in 0..8 {
            let payload = json!({ "prompt": "p", "id": format!("b-{round}-{number}") });
            device.send(&Ask::new(payload.to_string()));
        }
        for _ in 0..8 {
            device.acked().await;
        }
        appliance.signal(Signal::CONT);
        for _ in 0..8 {
            let reply = device.reply().await;
            match reply.code().as_str() {
                "busy" => busy = Some(reply),
                "engine_unavailable" => {}
                other => panic!("{other}"),
            }
        }
        if busy.is_some() {
            break;
        }
    }
    let busy = busy.expect("somebody was told to wait");
    assert!(busy.json()["error"]["retry_after_ms"].as_u64() > Some(0));
    lives_on(&broker, &mut device).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_be_told_about_is_counted() {
    let (broker, mut appliance) = plant("");
    let mut device = Device::start(Version::V3, broker.port, &["lineside/line-3/reply/+"]).await;
    let garbage: [&[u8]; 6] = [
        b"\xff\xff",
        b"{",
        b"null",
        br#"{"id":7}"#,
        br#"{"id":"a b","prompt":"p"}"#,
        br#"{"reply_to":"no/such/place"}"#,
    ];
    for payload in garbage {
        device.publish(&Ask::new(payload)).await;
    }
    let too_large = format!(r#"{{"id":"big","prompt":"{}"}}"#, "p".repeat(261_000));
    device.publish(&Ask::new(too_large)).await;
    let status = appliance.until(|status| {
        count(status, "unaddressable", "invalid") == 6
            && count(status, "unaddressable", "too_large") == 1
    });
    assert_eq!(count(&status, "requests", "accepted"), 0);
    lives_on(&broker, &mut device).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_beyond_the_packet_limit_does_not_break_the_line() {
    let (broker, _appliance) = plant("");
    let mut device = Device::start(Version::V5, broker.port, &["lineside/line-3/reply/+"]).await;
    // The broker knows the limit and keeps this from the appliance.
    let huge = format!(r#"{{"id":"huge","prompt":"{}"}}"#, "p".repeat(300_000));
    device.publish(&Ask::new(huge)).await;
    lives_on(&broker, &mut device).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_rubbish_leaves_no_trace_but_numbers() {
    const RUBBISH: u64 = 400;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let (broker, mut appliance) = plant("");
    let mut wild = Device::start(Version::V5, broker.port, &[]).await;
    let words = [
        "{",
        "}",
        "[",
        "\"",
        ":",
        ",",
        "id",
        "prompt",
        "reply_to",
        "\u{0}",
        "null",
        "1e999",
        "-",
        "devices/+/answers",
        "\\ud800",
        "é",
        "true",
        "schema",
    ];
    for _ in 0..RUBBISH {
        let mut payload: Vec<u8> = Vec::new();
        for _ in 0..dice.usize(0..40) {
            if dice.u8(..) < 20 {
                payload.push(dice.u8(..));
            } else {
                payload.extend(words[dice.usize(..words.len())].as_bytes());
            }
        }
        let mut ask = Ask::new(payload);
        if dice.bool() {
            ask = ask.correlated(&[dice.u8(..); 7]);
        }
        if dice.u8(..) < 60 {
            ask = ask.on(&format!("lineside/line-3/request/{}", dice.u8(..)));
        }
        wild.publish(&ask).await;
    }
    let refused = |status: &Value| {
        let counts = status["counts"].as_array().unwrap().iter();
        let refused = counts.filter(|line| line[0] == "refused");
        refused.map(|line| line[2].as_u64().unwrap()).sum::<u64>()
    };
    appliance.until(|status| refused(status) == RUBBISH);
    let mut device = Device::start(Version::V3, broker.port, &["lineside/line-3/reply/+"]).await;
    lives_on(&broker, &mut device).await;
}
