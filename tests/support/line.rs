//! Both ends of a line under test: the appliance's link, and a plain client as the device.

use std::time::Duration;

use lineside::broker::mqtt::{self, TlsError};
use lineside::broker::{
    Command, Delivery, End, Event, Link, Parcel, ParcelId, Retain, Role, Session,
};
use lineside::clock::Clock;
use lineside::intake::Message;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event as Polled, MqttOptions};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::mosquitto::Mosquitto;

/// Far longer than anything here takes; only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough for something that must not come.
pub const QUIET: Duration = Duration::from_millis(700);

/// The appliance's side of a link under test.
pub struct Appliance {
    pub commands: mpsc::Sender<Command>,
    pub events: mpsc::Receiver<Event>,
    pub task: JoinHandle<Result<End, TlsError>>,
}

impl Appliance {
    pub fn start(link: Link) -> Self {
        let (commands, for_link) = mpsc::channel(64);
        let (to_us, events) = mpsc::channel(64);
        let task = tokio::spawn(mqtt::run(link, for_link, to_us, Clock::start(), 1, || {}));
        Self {
            commands,
            events,
            task,
        }
    }

    pub async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv())
            .await
            .expect("an event")
            .expect("a link")
    }

    /// Skips to the next event that `wanted` takes.
    pub async fn until<T>(&mut self, wanted: impl Fn(Event) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.event().await) {
                return found;
            }
        }
    }

    pub async fn up(&mut self) -> Session {
        self.until(|event| match event {
            Event::Up(session) => Some(session),
            Event::Down { .. } => None,
            other => panic!("before up: {other:?}"),
        })
        .await
    }

    pub async fn message(&mut self) -> Message {
        self.until(|event| match event {
            Event::Message(message) => Some(message),
            _ => None,
        })
        .await
    }

    pub async fn is_quiet(&mut self) -> bool {
        timeout(QUIET, self.events.recv()).await.is_err()
    }

    pub async fn publish(&self, parcel: Parcel) {
        self.commands.send(Command::Publish(parcel)).await.unwrap();
    }

    pub async fn acknowledge(&self, message: &Message) {
        let token = message.ack.expect("QoS 1");
        self.commands
            .send(Command::Acknowledge(token))
            .await
            .unwrap();
    }

    /// As SIGKILL would: the socket closes, no goodbye.
    pub async fn die(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub async fn close(self) -> End {
        self.commands.send(Command::Close).await.unwrap();
        timeout(PATIENCE, self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap()
    }
}

pub fn link(broker: &Mosquitto, client_id: &str, filters: &[&str]) -> Link {
    link_to(broker.port, client_id, filters)
}

pub fn link_to(port: u16, client_id: &str, filters: &[&str]) -> Link {
    Link {
        host: "127.0.0.1".into(),
        port,
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

pub fn parcel(id: u64, topic: &str, payload: &[u8]) -> Parcel {
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
pub struct Device {
    pub client: AsyncClient,
    packets: mpsc::UnboundedReceiver<Packet>,
    task: JoinHandle<()>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Device {
    pub async fn start(broker: &Mosquitto, filters: &[&str]) -> Self {
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

    pub async fn listen(&mut self, filters: &[&str]) {
        for filter in filters {
            self.client
                .subscribe(*filter, QoS::AtLeastOnce)
                .await
                .unwrap();
            self.packet(|p| matches!(p, Packet::SubAck(_))).await;
        }
    }

    pub async fn packet(&mut self, wanted: impl Fn(&Packet) -> bool) -> Packet {
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
    pub async fn publish(&mut self, topic: &str, payload: &str) {
        self.client
            .publish(topic, QoS::AtLeastOnce, false, payload.to_owned())
            .await
            .unwrap();
        self.packet(|p| matches!(p, Packet::PubAck(_))).await;
    }

    pub async fn heard(&mut self) -> (String, Vec<u8>) {
        match self.packet(|p| matches!(p, Packet::Publish(_))).await {
            Packet::Publish(p) => (
                String::from_utf8(p.topic.to_vec()).unwrap(),
                p.payload.to_vec(),
            ),
            other => panic!("{other:?}"),
        }
    }
}
