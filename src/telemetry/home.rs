//! The appliance in Home Assistant: a handful of sensors that show up there by themselves.
//!
//! ```text
//!  PREFIX/sensor/lineside_NAME/SENSOR/config   retained: what the sensor is, and where its value stands
//!  lineside/NAME/telemetry/brief               retained: the values, each time that one is another
//!  lineside/NAME/status                        whether they can be believed; the state itself
//! ```
//!
//! A plain struct: inputs in, commands out. What was announced under a prefix is taken back once the
//! site names another one or none: an empty message that is retained removes a sensor. So the
//! prefixes that were ever used are on the disk *before* the first announcement, and go from there
//! only when the broker has taken every removal ([`Effects::kept`]).
//!
//! How it fails: a broker that refuses is told in the log; a removal that was refused is tried again
//! in the next life.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{note, reporter};
use crate::broker::{Command, Delivery, Event, Parcel, ParcelId, Retain};

/// Parcels of these have this bit beside the reporter's, whose numbers never reach it.
const PARCEL: u64 = reporter::PARCEL | (1 << 61);
/// What carries values; nobody waits for it.
const BRIEF: ParcelId = ParcelId(PARCEL);

/// What a sensor is: its key, its name, and what Home Assistant may know of it.
const SENSORS: [(&str, &str, &str); 5] = [
    ("state", "State", r#"{"icon":"mdi:factory"}"#),
    (
        "celsius",
        "Temperature",
        r#"{"device_class":"temperature","unit_of_measurement":"°C","state_class":"measurement"}"#,
    ),
    (
        "open",
        "Open requests",
        r#"{"icon":"mdi:tray-full","state_class":"measurement"}"#,
    ),
    (
        "answered",
        "Answered requests",
        r#"{"icon":"mdi:check-all","state_class":"total_increasing"}"#,
    ),
    ("package", "Package", r#"{"icon":"mdi:package-variant"}"#),
];

/// The values of the sensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Brief {
    /// The temperature nearest to its limit, to a tenth; none without a sensor.
    pub celsius: Option<f64>,
    /// Requests without an outcome.
    pub open: u64,
    /// Requests that were answered since the start.
    pub answered: u64,
    /// The package that serves.
    pub package: Option<String>,
}

/// What the site wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The appliance's name.
    pub appliance: String,
    /// Where Home Assistant looks for announcements; none: not at all.
    pub prefix: Option<String>,
    /// Prefixes of earlier lives whose announcements are to be taken back.
    pub stale: Vec<String>,
    /// Where the appliance says how it is.
    pub status_topic: String,
    /// Where the values go.
    pub brief_topic: String,
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the broker's connection.
    pub broker: Vec<Command>,
    /// These prefixes, and no others, are to be remembered from now on.
    pub kept: Option<Vec<String>>,
}

/// Announces, keeps the values fresh, and takes back.
#[derive(Debug)]
pub struct Home {
    plan: Plan,
    is_online: bool,
    /// Announcements and removals that the broker does not have yet.
    under_way: BTreeSet<ParcelId>,
    removals: BTreeSet<ParcelId>,
    latest: Option<Brief>,
    told: Option<Brief>,
    out: Effects,
}

impl Home {
    /// Nothing was said yet in this life.
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            is_online: false,
            under_way: BTreeSet::new(),
            removals: BTreeSet::new(),
            latest: None,
            told: None,
            out: Effects::default(),
        }
    }

    /// Values were looked at.
    pub fn on_brief(&mut self, brief: Brief) {
        self.latest = Some(brief);
        self.tell();
    }

    /// The connection has news.
    pub fn on_broker(&mut self, event: &Event) {
        match event {
            Event::Up(_) => self.on_up(),
            Event::Down { .. } => self.is_online = false,
            Event::Delivered(id) => {
                self.under_way.remove(id);
                if self.removals.remove(id) && self.removals.is_empty() {
                    self.plan.stale.clear();
                    self.out.kept = Some(self.plan.prefix.iter().cloned().collect());
                }
            }
            Event::Undeliverable { parcel, why } => {
                if self.under_way.remove(parcel) {
                    tracing::warn!(
                        error = why,
                        "the broker refused what Home Assistant is to know"
                    );
                }
            }
            Event::Deaf { .. } | Event::Message(_) => {}
        }
    }

    /// What is to be done now.
    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.out)
    }

    /// The broker may have forgotten everything; what is under way, the connection sends again.
    fn on_up(&mut self) {
        self.is_online = true;
        self.told = None;
        if self.under_way.is_empty() {
            self.removals.clear();
            self.take_back();
            self.announce();
        }
        self.tell();
    }

    fn announce(&mut self) {
        let Some(prefix) = self.plan.prefix.clone() else {
            return;
        };
        for (key, name, more) in SENSORS {
            let config = self.config(key, name, more);
            let config = serde_json::to_vec(&config).expect("words always serialize");
            self.retain(self.topic(&prefix, key), config);
        }
    }

    fn take_back(&mut self) {
        let stale = self.plan.stale.clone();
        let pairs = stale
            .iter()
            .flat_map(|prefix| SENSORS.map(|it| (prefix, it.0)));
        let mut topics: Vec<_> = pairs.map(|(prefix, key)| self.topic(prefix, key)).collect();
        if self.plan.prefix.is_none() && !stale.is_empty() {
            topics.push(self.plan.brief_topic.clone());
        }
        for topic in topics {
            let id = self.retain(topic, Vec::new());
            self.removals.insert(id);
        }
    }

    fn retain(&mut self, topic: String, payload: Vec<u8>) -> ParcelId {
        let id = ParcelId(BRIEF.0 + 1 + self.under_way.len() as u64);
        self.under_way.insert(id);
        self.out.broker.push(Command::Publish(Parcel {
            id,
            topic,
            payload,
            correlation: None,
            user_properties: Vec::new(),
            content_type: None,
            expiry_s: None,
            delivery: Delivery::AtLeastOnce,
            retain: Retain::Yes,
        }));
        id
    }

    fn tell(&mut self) {
        let is_news = self.latest.is_some() && self.latest != self.told;
        if !self.is_online || self.plan.prefix.is_none() || !is_news {
            return;
        }
        self.told.clone_from(&self.latest);
        self.out.broker.push(Command::Publish(Parcel {
            id: BRIEF,
            topic: self.plan.brief_topic.clone(),
            payload: serde_json::to_vec(&self.latest).expect("numbers always serialize"),
            correlation: None,
            user_properties: Vec::new(),
            content_type: Some("application/json"),
            expiry_s: None,
            delivery: Delivery::AtMostOnce, // the next one comes in a moment
            retain: Retain::Yes,
        }));
    }

    /// What Home Assistant calls this appliance.
    fn node(&self) -> String {
        // It takes letters, digits, `-` and `_`; an appliance's name may have a point, too.
        format!("lineside_{}", self.plan.appliance.replace('.', "_"))
    }

    fn topic(&self, prefix: &str, key: &str) -> String {
        format!("{prefix}/sensor/{}/{key}/config", self.node())
    }

    fn config(&self, key: &str, name: &str, more: &str) -> Value {
        let node = self.node();
        let topic = match key {
            "state" => &self.plan.status_topic,
            _ => &self.plan.brief_topic,
        };
        let mut config = json!({
            "name": name,
            "unique_id": format!("{node}_{key}"),
            "state_topic": topic,
            "value_template": format!("{{{{ value_json.{key} }}}}"),
            "availability_topic": self.plan.status_topic,
            "availability_template":
                "{{ 'offline' if value_json.state == 'offline' else 'online' }}",
            "device": {
                "identifiers": [node],
                "name": self.plan.appliance,
                "manufacturer": "lineside",
                "model": "inference appliance",
                "sw_version": env!("CARGO_PKG_VERSION"),
            },
            "origin": {"name": "lineside", "sw_version": env!("CARGO_PKG_VERSION")},
        });
        let more: Value = serde_json::from_str(more).expect("the table above is JSON");
        if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
            config.extend(more);
        }
        config
    }
}

/// The prefixes under which something may have been announced.
pub fn remembered(path: &Path) -> Vec<String> {
    let text = note::read(path).unwrap_or_else(|error| {
        tracing::error!(path = %path.display(), %error, "what was announced to Home Assistant");
        None
    });
    text.unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Remembers these and no others.
pub fn remember(path: &Path, prefixes: &[String]) {
    if let Err(error) = note::replace(path, &prefixes.join("\n")) {
        tracing::error!(path = %path.display(), %error, "what was announced to Home Assistant");
    }
}

/// Keeps Home Assistant told until no more values come.
pub async fn run(
    mut home: Home,
    mut briefs: mpsc::Receiver<Brief>,
    mut news: mpsc::Receiver<Event>,
    commands: mpsc::Sender<Command>,
    kept_in: PathBuf,
) {
    loop {
        let effects = home.take_effects();
        for command in effects.broker {
            if commands.send(command).await.is_err() {
                return; // the connection is gone, and the appliance with it
            }
        }
        if let Some(prefixes) = effects.kept {
            let path = kept_in.clone();
            let write = move || remember(&path, &prefixes);
            let _ = tokio::task::spawn_blocking(write).await; // what went wrong, it tells itself
        }
        tokio::select! {
            brief = briefs.recv() => match brief {
                Some(brief) => home.on_brief(brief),
                None => return,
            },
            Some(event) = news.recv() => home.on_broker(&event),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Session;

    const UP: Event = Event::Up(Session::Fresh);

    fn home(prefix: Option<&str>, stale: &[&str]) -> Home {
        Home::new(Plan {
            appliance: "line.3".into(),
            prefix: prefix.map(Into::into),
            stale: stale.iter().map(|it| (*it).to_owned()).collect(),
            status_topic: "lineside/line.3/status".into(),
            brief_topic: "lineside/line.3/telemetry/brief".into(),
        })
    }

    fn published(home: &mut Home) -> Vec<Parcel> {
        let commands = home.take_effects().broker.into_iter();
        let parcels = commands.filter_map(|command| match command {
            Command::Publish(parcel) => Some(parcel),
            Command::Acknowledge(_) | Command::Close => None,
        });
        parcels.collect()
    }

    #[test]
    fn each_sensor_is_announced_at_each_connection_and_says_where_its_value_is() {
        let mut home = home(Some("homeassistant"), &[]);
        home.on_broker(&UP);
        let all = published(&mut home);
        assert_eq!(all.len(), SENSORS.len());
        for (parcel, (key, ..)) in all.iter().zip(SENSORS) {
            assert_eq!(
                parcel.topic,
                format!("homeassistant/sensor/lineside_line_3/{key}/config")
            );
            assert_eq!(parcel.retain, Retain::Yes);
            assert!(reporter::is_ours(parcel.id), "or nobody is told of its end");
            let config: Value = serde_json::from_slice(&parcel.payload).unwrap();
            assert_eq!(
                config["value_template"],
                format!("{{{{ value_json.{key} }}}}")
            );
            assert_eq!(config["availability_topic"], "lineside/line.3/status");
        }
        home.on_broker(&UP);
        assert!(published(&mut home).is_empty(), "they are on their way");
        for parcel in &all {
            home.on_broker(&Event::Delivered(parcel.id));
        }
        home.on_broker(&UP);
        assert_eq!(published(&mut home).len(), SENSORS.len());
        assert_eq!(home.take_effects().kept, None, "nothing was stale");
    }

    #[test]
    fn values_are_told_when_they_change_and_to_a_new_broker() {
        let mut home = home(Some("homeassistant"), &[]);
        home.on_brief(Brief::default());
        assert!(published(&mut home).is_empty(), "there is no broker");
        home.on_broker(&UP);
        assert_eq!(published(&mut home).len(), SENSORS.len() + 1);
        home.on_brief(Brief::default());
        assert!(published(&mut home).is_empty());
        let open = Brief {
            open: 1,
            ..Brief::default()
        };
        home.on_brief(open);
        let told = published(&mut home);
        assert_eq!(told[0].topic, "lineside/line.3/telemetry/brief");
        let json: Value = serde_json::from_slice(&told[0].payload).unwrap();
        assert_eq!(
            json,
            json!({"celsius": null, "open": 1, "answered": 0, "package": null})
        );
        home.on_broker(&UP);
        assert_eq!(
            published(&mut home).len(),
            1,
            "the announcements are on their way"
        );
    }

    #[test]
    fn what_was_announced_is_taken_back_and_then_forgotten() {
        let mut home = home(None, &["homeassistant", "old"]);
        home.on_brief(Brief::default());
        home.on_broker(&UP);
        let all = published(&mut home);
        assert_eq!(all.len(), 2 * SENSORS.len() + 1);
        assert!(
            all.iter()
                .all(|it| it.payload.is_empty() && it.retain == Retain::Yes)
        );
        let (last, others) = all.split_last().unwrap();
        assert_eq!(last.topic, "lineside/line.3/telemetry/brief");
        for parcel in others {
            home.on_broker(&Event::Delivered(parcel.id));
            assert_eq!(home.take_effects().kept, None);
        }
        home.on_broker(&Event::Delivered(last.id));
        assert_eq!(home.take_effects().kept, Some(Vec::new()));
        home.on_broker(&UP);
        assert!(published(&mut home).is_empty());
    }

    #[test]
    fn a_refused_removal_is_not_forgotten() {
        let mut home = home(Some("new"), &["old"]);
        home.on_broker(&UP);
        let all = published(&mut home);
        assert_eq!(all.len(), 2 * SENSORS.len());
        let why = "not authorized".to_owned();
        let parcel = all[0].id;
        home.on_broker(&Event::Undeliverable { parcel, why });
        for parcel in &all[1..] {
            home.on_broker(&Event::Delivered(parcel.id));
        }
        assert_eq!(home.take_effects().kept, None);
    }
}
