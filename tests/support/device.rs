//! A factory device: MQTT 3.1.1 or 5, as it comes; connects again by itself.

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5 as five;
use rumqttc::{NetworkOptions, v5};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Far longer than anything here takes on a crowded machine; only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// Long enough for something that must not come.
pub const QUIET: Duration = Duration::from_millis(500);
/// Packets that may wait for the connection.
const QUEUE: usize = 4096;
/// Larger than what any test sends.
const MAX_PACKET_BYTES: u32 = 1 << 20;
/// Between two tries to connect.
const AGAIN: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V3,
    V5,
}

/// Whether the broker remembers the device while it is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    None,
    Session,
}

/// What a device publishes.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
    pub properties: five::PublishProperties,
}

/// What a device hears.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retained: bool,
    pub correlation: Option<Vec<u8>>,
    pub user_properties: Vec<(String, String)>,
    pub content_type: Option<String>,
    pub expiry_s: Option<u32>,
}

pub struct Device {
    client: Client,
    replies: UnboundedReceiver<Reply>,
    acks: UnboundedReceiver<()>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
enum Client {
    V3(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

/// What the loop tells the device.
struct Ears {
    replies: UnboundedSender<Reply>,
    acks: UnboundedSender<()>,
    subscribed: UnboundedSender<()>,
    filters: Vec<String>,
    client: Client,
}

impl Ask {
    /// A request on the appliance's own topic.
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        Self {
            topic: "lineside/line-3/request".into(),
            payload: payload.into(),
            ..Self::default()
        }
    }

    pub fn on(mut self, topic: &str) -> Self {
        self.topic = topic.into();
        self
    }

    pub fn to(mut self, topic: &str) -> Self {
        self.properties.response_topic = Some(topic.into());
        self
    }

    pub fn correlated(mut self, data: &[u8]) -> Self {
        self.properties.correlation_data = Some(data.to_vec().into());
        self
    }
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap()
    }

    pub fn id(&self) -> String {
        self.json()["id"].as_str().unwrap_or_default().to_owned()
    }

    /// The error's code; the word of the status where there is none.
    pub fn code(&self) -> String {
        let json = self.json();
        let code = json["error"]["code"].as_str().or(json["status"].as_str());
        code.unwrap_or_default().to_owned()
    }
}

impl Device {
    pub async fn start(version: Version, port: u16, filters: &[&str]) -> Self {
        let name = format!("device-{}", fastrand::u64(..));
        Self::named(&name, version, Memory::None, port, filters).await
    }

    /// Connected and subscribed when this returns.
    pub async fn named(
        name: &str,
        version: Version,
        memory: Memory,
        port: u16,
        filters: &[&str],
    ) -> Self {
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        let (to_replies, replies) = unbounded_channel();
        let (to_acks, acks) = unbounded_channel();
        let (to_subscribed, mut subscribed) = unbounded_channel();
        let ears = |client| Ears {
            replies: to_replies,
            acks: to_acks,
            subscribed: to_subscribed,
            filters: filters.iter().map(ToString::to_string).collect(),
            client,
        };
        let (client, task) = match version {
            Version::V3 => {
                let mut options = rumqttc::MqttOptions::new(name, "127.0.0.1", port);
                let max = MAX_PACKET_BYTES as usize;
                options.set_max_packet_size(max, max);
                options.set_clean_session(memory == Memory::None);
                let (client, mut line) = rumqttc::AsyncClient::new(options, QUEUE);
                line.set_network_options(network);
                let client = Client::V3(client);
                (client.clone(), tokio::spawn(listen_3(line, ears(client))))
            }
            Version::V5 => {
                let mut options = v5::MqttOptions::new(name, "127.0.0.1", port);
                options.set_max_packet_size(Some(MAX_PACKET_BYTES));
                options.set_clean_start(memory == Memory::None);
                if memory == Memory::Session {
                    options.set_session_expiry_interval(Some(3600));
                }
                options.set_network_options(network);
                let (client, line) = v5::AsyncClient::new(options, QUEUE);
                let client = Client::V5(client);
                (client.clone(), tokio::spawn(listen_5(line, ears(client))))
            }
        };
        timeout(PATIENCE, subscribed.recv())
            .await
            .expect("a broker")
            .expect("a device");
        Self {
            client,
            replies,
            acks,
            task,
        }
    }

    /// Publishes at QoS 1 and waits for nothing.
    pub fn send(&self, ask: &Ask) {
        self.client.publish(ask);
    }

    /// The broker has one more of what was sent.
    pub async fn acked(&mut self) {
        timeout(PATIENCE, self.acks.recv())
            .await
            .expect("a PUBACK")
            .expect("a device");
    }

    /// Publishes at QoS 1 and waits until the broker has it.
    pub async fn publish(&mut self, ask: &Ask) {
        self.send(ask);
        self.acked().await;
    }

    pub async fn reply(&mut self) -> Reply {
        timeout(PATIENCE, self.replies.recv())
            .await
            .expect("a reply")
            .expect("a device")
    }

    /// A reply, or none within the time.
    pub async fn reply_within(&mut self, span: Duration) -> Option<Reply> {
        timeout(span, self.replies.recv()).await.ok().flatten()
    }

    /// Publishes and waits for one reply.
    pub async fn ask(&mut self, ask: &Ask) -> Reply {
        self.publish(ask).await;
        self.reply().await
    }

    pub async fn is_quiet(&mut self) -> bool {
        self.reply_within(QUIET).await.is_none()
    }

    /// The socket closes, no goodbye.
    pub async fn die(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    fn publish(&self, ask: &Ask) {
        let (topic, payload) = (ask.topic.clone(), ask.payload.clone());
        match self {
            Self::V3(client) => client
                .try_publish(topic, rumqttc::QoS::AtLeastOnce, ask.retain, payload)
                .unwrap(),
            Self::V5(client) => client
                .try_publish_with_properties(
                    topic,
                    v5::mqttbytes::QoS::AtLeastOnce,
                    ask.retain,
                    payload,
                    ask.properties.clone(),
                )
                .unwrap(),
        }
    }

    fn subscribe(&self, filter: &str) {
        match self {
            Self::V3(client) => client
                .try_subscribe(filter, rumqttc::QoS::AtLeastOnce)
                .unwrap(),
            Self::V5(client) => client
                .try_subscribe(filter, v5::mqttbytes::QoS::AtLeastOnce)
                .unwrap(),
        }
    }
}

impl Ears {
    /// A broker that forgot the device is told again what it wants to hear.
    fn connected(&self) {
        if self.filters.is_empty() {
            let _ = self.subscribed.send(());
        }
        for filter in &self.filters {
            self.client.subscribe(filter);
        }
    }
}

async fn listen_3(mut line: rumqttc::EventLoop, ears: Ears) {
    use rumqttc::{Event, Packet};
    let mut unanswered = 0_usize;
    loop {
        match line.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                unanswered = ears.filters.len();
                ears.connected();
            }
            Ok(Event::Incoming(Packet::SubAck(_))) => {
                unanswered = unanswered.saturating_sub(1);
                if unanswered == 0 {
                    let _ = ears.subscribed.send(());
                }
            }
            Ok(Event::Incoming(Packet::PubAck(_))) => drop(ears.acks.send(())),
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let _ = ears.replies.send(Reply {
                    topic: publish.topic,
                    payload: publish.payload.to_vec(),
                    retained: publish.retain,
                    correlation: None,
                    user_properties: Vec::new(),
                    content_type: None,
                    expiry_s: None,
                });
            }
            Ok(_) => {}
            Err(_) => sleep(AGAIN).await,
        }
    }
}

async fn listen_5(mut line: v5::EventLoop, ears: Ears) {
    use five::Packet;
    use v5::Event;
    let mut unanswered = 0_usize;
    loop {
        match line.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                unanswered = ears.filters.len();
                ears.connected();
            }
            Ok(Event::Incoming(Packet::SubAck(_))) => {
                unanswered = unanswered.saturating_sub(1);
                if unanswered == 0 {
                    let _ = ears.subscribed.send(());
                }
            }
            Ok(Event::Incoming(Packet::PubAck(_))) => drop(ears.acks.send(())),
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let properties = publish.properties.unwrap_or_default();
                let _ = ears.replies.send(Reply {
                    topic: String::from_utf8(publish.topic.to_vec()).unwrap(),
                    payload: publish.payload.to_vec(),
                    retained: publish.retain,
                    correlation: properties.correlation_data.map(|data| data.to_vec()),
                    user_properties: properties.user_properties,
                    content_type: properties.content_type,
                    expiry_s: properties.message_expiry_interval,
                });
            }
            Ok(_) => {}
            Err(_) => sleep(AGAIN).await,
        }
    }
}
