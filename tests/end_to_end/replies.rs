//! A request's reply reaches its device, on the right topic, with the right envelope.

use serde_json::json;

use super::appliance::count;
use super::device::{Ask, Device, Version};
use super::{connections, lives, plant, redeliveries};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_with_mqtt_5_gets_its_envelope_back() {
    let (broker, _appliance) = plant("[broker]\nreply_expiry_s = 600\n");
    let mut device = Device::start(Version::V5, broker.port, &["devices/press7/answers"]).await;
    let correlation = (0..=255).collect::<Vec<u8>>();
    let mut ask = Ask::new(r#"{"prompt":"stop or go?","id":"press7-1"}"#)
        .to("devices/press7/answers")
        .correlated(&correlation);
    let pairs = [("line", "3"), ("line", "4"), ("", ""), ("größe", "µ")];
    let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
    ask.properties.user_properties = pairs.to_vec();
    ask.properties.content_type = Some("application/json; charset=utf-8".into());
    ask.properties.payload_format_indicator = Some(1);

    let reply = device.ask(&ask).await;
    assert_eq!(reply.topic, "devices/press7/answers");
    assert_eq!(reply.correlation, Some(correlation));
    assert_eq!(reply.user_properties, pairs);
    assert_eq!(reply.content_type.as_deref(), Some("application/json"));
    let expiry = reply.expiry_s.unwrap();
    assert!((1..=600).contains(&expiry), "{expiry}");
    assert!(!reply.retained);
    let json = reply.json();
    assert_eq!(json["id"], "press7-1");
    assert_eq!(json["status"], "refused");
    assert_eq!(json["final"], true);
    assert_eq!(json["degraded"], true);
    assert_eq!(json["connectivity"], "online");
    assert_eq!(json["error"]["code"], "engine_unavailable");
    assert!(device.is_quiet().await, "one request, one reply");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_with_mqtt_3_1_1_finds_all_it_needs_in_the_json() {
    let (broker, _appliance) = plant("");
    let filters = ["devices/cam2/answers", "lineside/line-3/reply/+"];
    let mut device = Device::start(Version::V3, broker.port, &filters).await;

    let named = r#"{"prompt":"a","id":"cam2-1","reply_to":"devices/cam2/answers"}"#;
    let reply = device.ask(&Ask::new(named)).await;
    assert_eq!(reply.topic, "devices/cam2/answers");
    assert_eq!(
        (reply.id().as_str(), reply.code().as_str()),
        ("cam2-1", "engine_unavailable")
    );

    let by_default = r#"{"prompt":"b","id":"cam2-2"}"#;
    let reply = device.ask(&Ask::new(by_default)).await;
    assert_eq!(reply.topic, "lineside/line-3/reply/cam2-2");

    let without_id = device.ask(&Ask::new(r#"{"prompt":"c"}"#)).await;
    let made = without_id.id();
    assert!(!made.is_empty());
    assert_eq!(without_id.topic, format!("lineside/line-3/reply/{made}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_defaults_to_the_correlation_data() {
    let (broker, _appliance) = plant("");
    let mut device = Device::start(Version::V5, broker.port, &["lineside/line-3/reply/+"]).await;
    let as_text = device
        .ask(&Ask::new(r#"{"prompt":"a"}"#).correlated(b"order-17"))
        .await;
    assert_eq!(as_text.id(), "order-17");
    assert_eq!(as_text.topic, "lineside/line-3/reply/order-17");
    let as_bytes = device
        .ask(&Ask::new(r#"{"prompt":"a"}"#).correlated(&[0, 255, b'#']))
        .await;
    assert_eq!(as_bytes.id(), "00ff23");
    assert_eq!(as_bytes.correlation, Some(vec![0, 255, b'#']));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_gets_the_recorded_reply_and_is_not_run_again() {
    let (broker, appliance) = plant("");
    let filters = ["devices/+/answers", "lineside/line-3/reply/+"];
    let mut device = Device::start(Version::V5, broker.port, &filters).await;
    let request = r#"{"prompt":"a","id":"x-1","risk":7}"#;
    let first = device.ask(&Ask::new(request)).await;
    // Another address, another envelope, other white space: the content is the same.
    let again = Ask::new(r#"{ "risk": 7, "id": "x-1", "prompt": "a" }"#)
        .to("devices/late/answers")
        .correlated(b"two");
    let second = device.ask(&again).await;
    assert_eq!(second.payload, first.payload);
    assert_eq!(second.topic, "devices/late/answers");
    assert_eq!(second.correlation.as_deref(), Some(&b"two"[..]));
    let third = device.ask(&Ask::new(request)).await;
    assert_eq!(third.payload, first.payload);

    let lives = lives(&appliance.trace("x-1"));
    assert_eq!(lives.len(), 1, "{lives:?}");
    let accepted = lives[0].iter().filter(|step| *step == "accepted");
    assert_eq!(accepted.count(), 1, "{lives:?}");
    let status = appliance.status();
    assert_eq!(count(&status, "requests", "accepted"), 1);
    assert_eq!(count(&status, "requests", "duplicate"), 2);
    assert_eq!(count(&status, "settled", "engine_unavailable"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_unique_within_its_client_only() {
    let (broker, appliance) = plant("");
    let mut device = Device::start(Version::V3, broker.port, &["lineside/line-3/reply/+"]).await;
    for client in ["press7", "press8"] {
        let payload = json!({ "prompt": format!("of {client}"), "id": "1" }).to_string();
        let ask = Ask::new(payload).on(&format!("lineside/line-3/request/{client}"));
        assert_eq!(device.ask(&ask).await.code(), "engine_unavailable");
    }
    // Who only says that he is press7 does not reach what is press7's.
    let claimed = Ask::new(r#"{"prompt":"of press7","id":"1","client":"press7"}"#);
    assert_eq!(device.ask(&claimed).await.code(), "engine_unavailable");
    assert_eq!(lives(&appliance.trace("1")).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_device_may_ask_the_same_twice_without_an_id() {
    let (broker, appliance) = plant("");
    let mut device = Device::start(Version::V3, broker.port, &["lineside/line-3/reply/+"]).await;
    let first = device.ask(&Ask::new(r#"{"prompt":"same"}"#)).await;
    let second = device.ask(&Ask::new(r#"{"prompt":"same"}"#)).await;
    assert_ne!(first.id(), second.id());
    assert_eq!(count(&appliance.status(), "requests", "accepted"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_devices_at_once_each_get_their_own_replies() {
    const DEVICES: usize = 64;
    const REQUESTS: usize = 6;
    let (broker, mut appliance) = plant("");
    let mut tasks = Vec::new();
    for number in 0..DEVICES {
        let port = broker.port;
        tasks.push(tokio::spawn(async move {
            let version = [Version::V3, Version::V5][number % 2];
            let answers = format!("devices/d{number}/answers");
            let mut device = Device::start(version, port, &[&answers]).await;
            let topic = format!("lineside/line-3/request/d{number}");
            let id = |request| format!("d{number}-{request}");
            for request in 0..REQUESTS {
                let payload = json!({ "prompt": "p", "id": id(request), "reply_to": answers });
                device.send(&Ask::new(payload.to_string()).on(&topic));
            }
            let mut heard = Vec::new();
            for _ in 0..REQUESTS {
                let reply = device.reply().await;
                assert_eq!(reply.code(), "engine_unavailable");
                heard.push(reply.id());
            }
            heard.sort();
            assert_eq!(heard, (0..REQUESTS).map(id).collect::<Vec<_>>());
            assert!(device.is_quiet().await);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let all = (DEVICES * REQUESTS) as u64;
    let status = appliance.until(|status| count(status, "replies", "delivered") == all);
    assert_eq!(count(&status, "requests", "accepted"), all);
    assert_eq!(
        (status["open"].as_u64(), status["outbox"].as_u64()),
        (Some(0), Some(0))
    );
    assert_eq!((connections(&broker), redeliveries(&broker)), (1, 0));
}
