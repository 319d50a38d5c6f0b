//! The connection against a real broker: what is promised holds when the broker dies, hangs,
//! forgets or refuses.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

#[path = "support/line.rs"]
#[allow(dead_code, unreachable_pub)]
mod line;
#[path = "support/mosquitto.rs"]
#[allow(dead_code, unreachable_pub)]
mod mosquitto;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use line::{Appliance, Device, PATIENCE, QUIET, link, link_to, parcel};
use lineside::broker::mqtt;
use lineside::broker::{
    Command, End, Event, Identity, Link, ParcelId, Retain, Secret, Session, Tls, Will,
};
use lineside::clock::Clock;
use mosquitto::{Mosquitto, Setup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

#[tokio::test]
async fn a_request_sent_while_the_appliance_was_away_arrives_with_the_session() {
    let broker = Mosquitto::start(&Setup::default());
    let mut device = Device::start(&broker, &[]).await;
    let mut appliance = Appliance::start(link(&broker, "a", &["in/#"]));
    assert_eq!(appliance.up().await, Session::Fresh);
    assert_eq!(appliance.close().await, End::Closed);

    device.publish("in/1", "while away").await;
    let mut appliance = Appliance::start(link(&broker, "a", &["in/#"]));
    let message = appliance.message().await;
    assert_eq!(
        (message.topic.as_str(), &*message.payload),
        ("in/1", b"while away".as_slice())
    );
    assert_eq!(appliance.up().await, Session::Resumed);
    appliance.acknowledge(&message).await;
    appliance.close().await;

    let mut appliance = Appliance::start(link(&broker, "a", &["in/#"]));
    appliance.up().await;
    assert!(appliance.is_quiet().await, "it was acknowledged");
}

#[tokio::test]
async fn an_unacknowledged_request_comes_again_and_a_stale_token_does_not_acknowledge_it() {
    let mut broker = Mosquitto::start(&Setup {
        persistent: true,
        ..Setup::default()
    });
    let mut device = Device::start(&broker, &[]).await;
    let mut appliance = Appliance::start(link(&broker, "a", &["in"]));
    appliance.up().await;
    device.publish("in", "once").await;
    let first = appliance.message().await;
    assert!(!first.redelivered);

    broker.stop();
    appliance
        .until(|e| matches!(e, Event::Down { .. }).then_some(()))
        .await;
    broker.restart();
    let again = appliance.message().await;
    assert!(again.redelivered);
    assert_ne!(again.ack, first.ack);
    appliance.up().await;
    appliance.acknowledge(&first).await;
    sleep(QUIET).await;
    appliance.die().await;

    let mut appliance = Appliance::start(link(&broker, "a", &["in"]));
    let third = appliance.message().await;
    assert_eq!(third.payload, b"once", "the stale token did nothing");
    appliance.acknowledge(&third).await;
    appliance.close().await;
    let mut appliance = Appliance::start(link(&broker, "a", &["in"]));
    appliance.up().await;
    assert!(appliance.is_quiet().await);
}

#[tokio::test]
async fn parcels_survive_a_broker_that_forgets_everything() {
    let broker = Mosquitto::start(&Setup::default());
    outlive(broker, Mosquitto::kill, Session::Fresh).await;
}

#[tokio::test]
async fn parcels_survive_a_broker_that_remembers_the_session() {
    let broker = Mosquitto::start(&Setup {
        persistent: true,
        ..Setup::default()
    });
    outlive(broker, Mosquitto::stop, Session::Resumed).await;
}

/// Sends parcels through a broker that ends and comes back several times meanwhile: each has
/// exactly one end.
async fn outlive(mut broker: Mosquitto, end: fn(&mut Mosquitto), expected: Session) {
    const PARCELS: u64 = 600;
    const LIVES: [usize; 3] = [40, 200, 400];
    let mut appliance = Appliance::start(link(&broker, "a", &["in"]));
    appliance.up().await;
    let mut device = Device::start(&broker, &["out"]).await;
    let commands = appliance.commands.clone();
    let sender = tokio::spawn(async move {
        for id in 0..PARCELS {
            let publish = Command::Publish(parcel(id, "out", &id.to_be_bytes()));
            commands.send(publish).await.unwrap();
        }
    });
    let mut ends = BTreeMap::new();
    let mut lives = LIVES.iter().peekable();
    while ends.len() < usize::try_from(PARCELS).unwrap() {
        if lives.next_if_eq(&&ends.len()).is_some() {
            end(&mut broker);
            broker.restart();
            device = Device::start(&broker, &["out"]).await;
        }
        match appliance.event().await {
            Event::Delivered(id) => *ends.entry(id).or_insert(0) += 1,
            Event::Up(session) => assert_eq!(session, expected),
            Event::Down { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    sender.await.unwrap();
    assert!(appliance.is_quiet().await);
    assert!(
        lives.next().is_none() && ends.values().all(|times| *times == 1),
        "{ends:?}"
    );
    while device.heard().await.1 != (PARCELS - 1).to_be_bytes() {}
}

#[tokio::test]
async fn a_burst_goes_through_the_window_without_a_deadlock() {
    const PARCELS: u64 = 5000;
    let broker = Mosquitto::start(&Setup::default());
    let mut appliance = Appliance::start(link(&broker, "a", &["in"]));
    appliance.up().await;
    let mut device = Device::start(&broker, &["out"]).await;
    let commands = appliance.commands.clone();
    tokio::spawn(async move {
        for id in 0..PARCELS {
            let publish = Command::Publish(parcel(id, "out", &id.to_be_bytes()));
            commands.send(publish).await.unwrap();
        }
    });
    for expected in 0..PARCELS {
        assert_eq!(
            appliance.event().await,
            Event::Delivered(ParcelId(expected))
        );
    }
    for expected in 0..PARCELS {
        assert_eq!(device.heard().await.1, expected.to_be_bytes(), "in order");
    }
}

#[tokio::test]
async fn an_appliance_that_looks_away_for_a_while_misses_nothing() {
    const REQUESTS: usize = 1000;
    let broker = Mosquitto::start(&Setup::default());
    let mut device = Device::start(&broker, &["out"]).await;
    let mut appliance = Appliance::start(link(&broker, "a", &["in"]));
    appliance.up().await;
    for number in 0..REQUESTS {
        device.publish("in", &number.to_string()).await;
    }
    appliance.publish(parcel(1, "out", b"x")).await;
    assert_eq!(device.heard().await.1, b"x", "commands are taken meanwhile");
    let mut delivered = 0;
    let mut numbers = Vec::new();
    while numbers.len() < REQUESTS || delivered == 0 {
        match appliance.event().await {
            Event::Message(message) => {
                appliance.acknowledge(&message).await;
                numbers.push(String::from_utf8(message.payload).unwrap());
            }
            Event::Delivered(_) => delivered += 1,
            other => panic!("{other:?}"),
        }
    }
    let expected: Vec<_> = (0..REQUESTS).map(|n| n.to_string()).collect();
    assert_eq!(numbers, expected);
}

#[tokio::test]
async fn a_broker_that_hangs_is_noticed_and_found_again() {
    let mut broker = Mosquitto::start(&Setup::default());
    let mut appliance = Appliance::start(Link {
        keep_alive: Duration::from_secs(5),
        ..link(&broker, "a", &["in"])
    });
    appliance.up().await;
    broker.freeze();
    for id in 0..40 {
        appliance.publish(parcel(id, "out", b"x")).await;
    }
    appliance
        .until(|event| matches!(event, Event::Down { .. }).then_some(()))
        .await;
    broker.thaw();
    let mut delivered = HashSet::new();
    while delivered.len() < 40 {
        if let Event::Delivered(id) = appliance.event().await {
            assert!(delivered.insert(id));
        }
    }
}

#[tokio::test]
async fn a_refused_parcel_is_undeliverable_and_the_link_stays() {
    let broker = Mosquitto::start(&Setup {
        acl: Some("topic readwrite open/#\n"),
        ..Setup::default()
    });
    let mut appliance = Appliance::start(link(&broker, "a", &["open/in"]));
    appliance.up().await;
    appliance.publish(parcel(1, "closed/out", b"x")).await;
    match appliance.event().await {
        Event::Undeliverable { parcel, why } => {
            assert_eq!(parcel, ParcelId(1));
            assert!(why.contains("NotAuthorized"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    appliance.publish(parcel(2, "open/out", b"x")).await;
    assert_eq!(appliance.event().await, Event::Delivered(ParcelId(2)));
}

#[tokio::test]
async fn a_parcel_larger_than_the_broker_takes_is_undeliverable_and_the_link_stays() {
    let broker = Mosquitto::start(&Setup {
        more: "max_packet_size 2000\n",
        ..Setup::default()
    });
    let mut appliance = Appliance::start(link(&broker, "a", &["in"]));
    appliance.up().await;
    appliance.publish(parcel(1, "out", &[0; 2000])).await;
    match appliance.event().await {
        Event::Undeliverable { parcel, .. } => assert_eq!(parcel, ParcelId(1)),
        other => panic!("{other:?}"),
    }
    appliance.publish(parcel(2, "out", &[0; 1000])).await;
    assert_eq!(appliance.event().await, Event::Delivered(ParcelId(2)));
}

#[tokio::test]
async fn a_goodbye_leaves_the_last_will_unspoken_and_a_death_does_not() {
    let broker = Mosquitto::start(&Setup::default());
    let mut device = Device::start(&broker, &["status"]).await;
    let with_will = || Link {
        will: Some(Will {
            topic: "status".into(),
            payload: b"offline".to_vec(),
            retain: Retain::Yes,
        }),
        ..link(&broker, "a", &["in"])
    };
    let mut appliance = Appliance::start(with_will());
    appliance.up().await;
    appliance.publish(parcel(1, "status", b"bye")).await;
    appliance.close().await;
    assert_eq!(
        device.heard().await.1,
        b"bye",
        "a close lets the last parcel go"
    );
    assert!(timeout(QUIET, device.heard()).await.is_err());

    let mut appliance = Appliance::start(with_will());
    appliance.up().await;
    appliance.die().await;
    assert_eq!(device.heard().await.1, b"offline");
}

#[tokio::test]
async fn a_namesake_is_named_as_the_reason() {
    let broker = Mosquitto::start(&Setup::default());
    let mut first = Appliance::start(link(&broker, "twin", &["in"]));
    first.up().await;
    let mut second = Appliance::start(link(&broker, "twin", &["in"]));
    second.up().await;
    let why = first
        .until(|event| match event {
            Event::Down { why } => Some(why),
            _ => None,
        })
        .await;
    assert!(why.contains("twin"), "{why}");
}

#[tokio::test]
async fn tls_needs_the_right_authority_and_both_certificates() {
    let broker = Mosquitto::start(&Setup {
        tls: true,
        ..Setup::default()
    });
    let secured = |ca: &str, with_identity: bool| Link {
        host: "localhost".into(),
        tls: Some(Tls {
            ca_file: Some(broker.dir.join(ca)),
            identity: with_identity.then(|| Identity {
                cert_file: broker.dir.join("client.pem"),
                key_file: broker.dir.join("client.key"),
            }),
        }),
        ..link(&broker, "a", &["in"])
    };
    let mut appliance = Appliance::start(secured("ca.pem", true));
    appliance.up().await;
    appliance.publish(parcel(1, "out", b"x")).await;
    assert_eq!(appliance.event().await, Event::Delivered(ParcelId(1)));
    appliance.close().await;

    for (ca, with_identity, hint) in [("other-ca.pem", true, "certificate"), ("ca.pem", false, "")]
    {
        let mut appliance = Appliance::start(secured(ca, with_identity));
        match appliance.event().await {
            Event::Down { why } => assert!(why.contains(hint), "{why}"),
            other => panic!("{ca}: {other:?}"),
        }
    }
    let appliance = Appliance::start(secured("missing.pem", true));
    let error = timeout(PATIENCE, appliance.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert!(error.to_string().contains("missing.pem"), "{error}");
}

/// Nobody starts the appliance again when `lineside provision` has brought another certificate.
#[tokio::test]
async fn a_certificate_that_was_replaced_is_shown_from_the_next_connection_on() {
    let broker = Mosquitto::start(&Setup {
        tls: true,
        ..Setup::default()
    });
    let identity = Identity {
        cert_file: broker.dir.join("device.pem"),
        key_file: broker.dir.join("device.key"),
    };
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["line-3".into()]).unwrap();
    std::fs::write(&identity.cert_file, cert.pem()).unwrap();
    std::fs::write(&identity.key_file, signing_key.serialize_pem()).unwrap();
    let mut appliance = Appliance::start(Link {
        host: "localhost".into(),
        tls: Some(Tls {
            ca_file: Some(broker.dir.join("ca.pem")),
            identity: Some(identity.clone()),
        }),
        ..link(&broker, "a", &["in"])
    });
    match appliance.event().await {
        Event::Down { .. } => {}
        other => panic!("the broker knows no such certificate: {other:?}"),
    }
    // Between the two there is a pair that cannot be used, which changes nothing.
    std::fs::copy(broker.dir.join("client.pem"), &identity.cert_file).unwrap();
    std::fs::copy(broker.dir.join("client.key"), &identity.key_file).unwrap();
    appliance.up().await;
    appliance.close().await;
}

#[tokio::test]
async fn a_password_opens_the_broker_and_a_wrong_one_is_reported() {
    let broker = Mosquitto::start(&Setup {
        user: Some(("line-3", "secret")),
        ..Setup::default()
    });
    let with = |password: &str| Link {
        username: Some("line-3".into()),
        password: Some(Secret::new(password.into())),
        ..link(&broker, "a", &["in"])
    };
    let mut appliance = Appliance::start(with("secret"));
    appliance.up().await;
    appliance.close().await;
    let mut appliance = Appliance::start(with("wrong"));
    match appliance.event().await {
        Event::Down { why } => {
            assert!(why.contains("refused") && !why.contains("wrong"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_goodbye_is_said_although_nobody_listens_to_the_answers_any_more() {
    let broker = Mosquitto::start(&Setup::default());
    let mut device = Device::start(&broker, &["out"]).await;
    let mut appliance = Appliance::start(link(&broker, "a", &["in"]));
    appliance.up().await;
    let Appliance {
        commands,
        events,
        task,
    } = appliance;
    drop(events);
    let publish = |id, payload: &[u8]| Command::Publish(parcel(id, "out", payload));
    commands.send(publish(1, b"draining")).await.unwrap();
    assert_eq!(device.heard().await.1, b"draining");
    sleep(QUIET).await; // the broker's answer has come, and nobody wants to know
    commands.send(publish(2, b"offline")).await.unwrap();
    commands.send(Command::Close).await.unwrap();
    assert_eq!(device.heard().await.1, b"offline");
    let end = timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
    assert_eq!(end, End::Closed);
}

#[tokio::test]
async fn a_probe_measures_the_echo() {
    let broker = Mosquitto::start(&Setup::default());
    let link = link(&broker, "a", &[]);
    let echo = mqtt::probe(&link, "lineside/a/echo", Clock::start(), PATIENCE)
        .await
        .unwrap();
    assert!(echo.round_trip > Duration::ZERO);
    assert_eq!(echo.receive_maximum, Some(20));
    assert!(echo.shared_subscriptions);
}

/// Says what it is told to, one line of the script for each packet that comes. mosquitto 2.0
/// neither refuses a filter nor says that it throws out a namesake; other brokers do.
async fn scripted(script: &'static [&'static [u8]]) -> u16 {
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = door.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut client, _) = door.accept().await.unwrap();
        for line in script {
            let mut packet = [0; 1024];
            assert!(client.read(&mut packet).await.unwrap() > 0);
            client.write_all(line).await.unwrap();
        }
        sleep(PATIENCE).await;
    });
    port
}

#[tokio::test]
async fn a_refused_filter_and_a_namesake_are_reported_in_the_brokers_words() {
    const CONNACK: &[u8] = &[0x20, 3, 0, 0, 0];
    const ONE_GRANTED_ONE_REFUSED_THEN_TAKEN_OVER: &[u8] =
        &[0x90, 5, 0, 1, 0, 1, 0x87, 0xe0, 2, 0x8e, 0];
    let port = scripted(&[CONNACK, ONE_GRANTED_ONE_REFUSED_THEN_TAKEN_OVER]).await;
    let mut appliance = Appliance::start(Link {
        port,
        subscriptions: ["open", "no/#/filter", "closed"].map(Into::into).into(),
        ..link_to(port, "a", &[])
    });
    let deaf = |filter: &str, why: &str| Event::Deaf {
        filter: filter.into(),
        why: why.into(),
    };
    assert_eq!(
        appliance.event().await,
        deaf("no/#/filter", "not a topic filter")
    );
    assert_eq!(appliance.event().await, deaf("closed", "NotAuthorized"));
    let why = appliance
        .until(|event| match event {
            Event::Down { why } => Some(why),
            _ => None,
        })
        .await;
    assert!(why.contains("same name"), "{why}");
}
