//! The connection against a real broker: what is promised holds when the broker dies, refuses,
//! or hands a dead appliance's requests to another.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

#[path = "support/mosquitto.rs"]
#[allow(dead_code, unreachable_pub)]
mod mosquitto;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use lineside::broker::mqtt::{self, TlsError};
use lineside::broker::{
    Command, Delivery, End, Event, Identity, Link, Parcel, ParcelId, Retain, Role, Secret, Session,
    Tls, Will,
};
use lineside::clock::Clock;
use lineside::intake::Message;
use mosquitto::{Mosquitto, Setup};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event as Polled, MqttOptions};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Far longer than anything here takes; only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough for something that must not come.
const QUIET: Duration = Duration::from_millis(700);

/// The appliance's side of a link under test.
struct Appliance {
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<Event>,
    task: JoinHandle<Result<End, TlsError>>,
}

impl Appliance {
    fn start(link: Link) -> Self {
        let (commands, for_link) = mpsc::channel(64);
        let (to_us, events) = mpsc::channel(64);
        let task = tokio::spawn(mqtt::run(link, for_link, to_us, Clock::start(), 1, || {}));
        Self {
            commands,
            events,
            task,
        }
    }

    async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv())
            .await
            .expect("an event")
            .expect("a link")
    }

    /// Skips to the next event that `wanted` takes.
    async fn until<T>(&mut self, wanted: impl Fn(Event) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.event().await) {
                return found;
            }
        }
    }

    async fn up(&mut self) -> Session {
        self.until(|event| match event {
            Event::Up(session) => Some(session),
            Event::Down { .. } => None,
            other => panic!("before up: {other:?}"),
        })
        .await
    }

    async fn message(&mut self) -> Message {
        self.until(|event| match event {
            Event::Message(message) => Some(message),
            _ => None,
        })
        .await
    }

    async fn is_quiet(&mut self) -> bool {
        timeout(QUIET, self.events.recv()).await.is_err()
    }

    async fn publish(&self, parcel: Parcel) {
        self.commands.send(Command::Publish(parcel)).await.unwrap();
    }

    async fn acknowledge(&self, message: &Message) {
        let token = message.ack.expect("QoS 1");
        self.commands
            .send(Command::Acknowledge(token))
            .await
            .unwrap();
    }

    /// As SIGKILL would: the socket closes, no goodbye.
    async fn die(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    async fn close(self) -> End {
        self.commands.send(Command::Close).await.unwrap();
        timeout(PATIENCE, self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap()
    }
}

fn link(broker: &Mosquitto, client_id: &str, filters: &[&str]) -> Link {
    Link {
        host: "127.0.0.1".into(),
        port: broker.port,
        tls: None,
        username: None,
        password: None,
        client_id: client_id.into(),
        keep_alive: Duration::from_secs(30),
        max_packet_bytes: 262_144,
        receive_maximum: 32,
        session_expiry_s: 3600,
        subscriptions: filters.iter().map(ToString::to_string).collect(),
        will: None,
        role: Role::Owner,
    }
}

fn parcel(id: u64, topic: &str, payload: &[u8]) -> Parcel {
    Parcel {
        id: ParcelId(id),
        topic: topic.into(),
        payload: payload.into(),
        correlation: Some(vec![0, 255]),
        user_properties: vec![("line".into(), "3".into())],
        content_type: Some("application/json"),
        expiry_s: Some(60),
        delivery: Delivery::AtLeastOnce,
        retain: Retain::No,
    }
}

/// A plain client, as a device would be.
struct Device {
    client: AsyncClient,
    packets: mpsc::UnboundedReceiver<Packet>,
    task: JoinHandle<()>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Device {
    async fn start(broker: &Mosquitto, filters: &[&str]) -> Self {
        let name = format!("device-{}", fastrand::u64(..));
        let mut options = MqttOptions::new(name, "127.0.0.1", broker.port);
        options.set_max_packet_size(Some(1 << 20));
        let (client, mut line) = AsyncClient::new(options, 1024);
        let (to_us, packets) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            loop {
                match line.poll().await {
                    Ok(Polled::Incoming(packet)) => drop(to_us.send(packet)),
                    Ok(Polled::Outgoing(_)) => {}
                    Err(_) => sleep(Duration::from_millis(50)).await,
                }
            }
        });
        let mut device = Self {
            client,
            packets,
            task,
        };
        device.packet(|p| matches!(p, Packet::ConnAck(_))).await;
        device.listen(filters).await;
        device
    }

    async fn listen(&mut self, filters: &[&str]) {
        for filter in filters {
            self.client
                .subscribe(*filter, QoS::AtLeastOnce)
                .await
                .unwrap();
            self.packet(|p| matches!(p, Packet::SubAck(_))).await;
        }
    }

    async fn packet(&mut self, wanted: impl Fn(&Packet) -> bool) -> Packet {
        loop {
            let packet = timeout(PATIENCE, self.packets.recv())
                .await
                .expect("a packet")
                .unwrap();
            if wanted(&packet) {
                return packet;
            }
        }
    }

    /// Publishes at QoS 1 and waits until the broker has it.
    async fn publish(&mut self, topic: &str, payload: &str) {
        self.client
            .publish(topic, QoS::AtLeastOnce, false, payload.to_owned())
            .await
            .unwrap();
        self.packet(|p| matches!(p, Packet::PubAck(_))).await;
    }

    async fn heard(&mut self) -> (String, Vec<u8>) {
        match self.packet(|p| matches!(p, Packet::Publish(_))).await {
            Packet::Publish(p) => (
                String::from_utf8(p.topic.to_vec()).unwrap(),
                p.payload.to_vec(),
            ),
            other => panic!("{other:?}"),
        }
    }
}

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
async fn a_refused_parcel_is_undeliverable_and_a_refused_filter_is_reported() {
    let broker = Mosquitto::start(&Setup {
        acl: Some("topic readwrite open/#\n"),
        ..Setup::default()
    });
    let mut appliance = Appliance::start(link(&broker, "a", &["open/in", "closed/in"]));
    appliance.up_or_deaf().await;
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

impl Appliance {
    async fn up_or_deaf(&mut self) {
        // mosquitto 2.0 grants a filter that its rules close, and filters at delivery.
        self.until(|event| matches!(event, Event::Up(_)).then_some(()))
            .await;
    }
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

#[tokio::test]
async fn a_dead_pool_members_unacknowledged_requests_go_to_its_stand_in() {
    const SHARED: &str = "$share/press/pool/press/request";
    let broker = Mosquitto::start(&Setup::default());
    let mut device = Device::start(&broker, &[]).await;
    let mut dying = Appliance::start(link(&broker, "pool-a", &[SHARED]));
    dying.up().await;
    let own = link(&broker, "pool-b", &[SHARED]);
    let mut living = Appliance::start(own.clone());
    living.up().await;
    for number in 0..10 {
        device
            .publish("pool/press/request", &format!("m{number}"))
            .await;
    }
    let mut held = HashSet::new();
    for _ in 0..5 {
        held.insert(dying.message().await.payload);
        let message = living.message().await;
        living.acknowledge(&message).await;
    }
    dying.die().await;
    assert!(
        living.is_quiet().await,
        "the broker hands nothing over by itself"
    );

    // More of the dead one's share comes while it is away.
    for number in 10..16 {
        device
            .publish("pool/press/request", &format!("m{number}"))
            .await;
    }
    let mut all = HashSet::new();
    for _ in 0..3 {
        let message = living.message().await;
        all.insert(message.payload.clone());
        living.acknowledge(&message).await;
    }
    let mut stand_in = Appliance::start(own.stand_in("pool-a".into()));
    let mut taken = HashSet::new();
    let mut redelivered = HashSet::new();
    while taken.len() < 8 {
        let message = stand_in.message().await;
        if message.redelivered {
            redelivered.insert(message.payload.clone());
        }
        taken.insert(message.payload.clone());
        stand_in.acknowledge(&message).await;
    }
    assert_eq!(redelivered, held, "all that was unacknowledged");
    all.extend(taken.difference(&held).cloned());
    assert_eq!(all.len(), 6, "and all that was queued for it");

    assert!(
        stand_in.is_quiet().await,
        "its acknowledgements are through"
    );

    // The owner comes back: the stand-in leaves, and nothing comes twice.
    let mut back = Appliance::start(link(&broker, "pool-a", &[SHARED]));
    assert_eq!(back.up().await, Session::Resumed);
    let end = timeout(PATIENCE, stand_in.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(end, End::Lost);
    assert!(back.is_quiet().await);
    device.publish("pool/press/request", "new").await;
    device.publish("pool/press/request", "new").await;
    assert_eq!(back.message().await.payload, b"new");
}

#[tokio::test]
async fn a_stand_in_for_a_member_without_a_session_ends_and_does_no_harm() {
    let broker = Mosquitto::start(&Setup::default());
    let mut device = Device::start(&broker, &[]).await;
    let owner = link(&broker, "pool-a", &["$share/g/t"]);
    let stand_in = Appliance::start(owner.stand_in("pool-a".into()));
    let end = timeout(PATIENCE, stand_in.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(end, End::NoSession);
    // The empty session that it left behind does not make the owner deaf.
    let mut owner = Appliance::start(owner);
    owner.up().await;
    device.publish("t", "x").await;
    assert_eq!(owner.message().await.payload, b"x");
}
