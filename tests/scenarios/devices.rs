//! Devices: what they send, and what they know of it afterwards.

use std::collections::BTreeMap;

use lineside::clock::Wall;
use lineside::intake::{
    self, AckToken, Limits, Message, Request, RequestId, ReturnAddress, Topics,
};

use crate::cloud::SECRET;
use crate::engine::{POISON, TOO_LONG, UNSURE};

/// Replaced by the real token when the broker delivers; says that the message is at `QoS` 1.
pub(crate) const QOS_1: Option<AckToken> = Some(AckToken {
    line: 0,
    generation: 0,
    packet: 0,
});

/// A message that the broker took from a device.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) message: Message,
    /// As the appliance should read it, or where it should refuse it to.
    pub(crate) read: Result<Request, Option<ReturnAddress>>,
    /// The appliance acknowledged it because of this.
    pub(crate) acked: Option<Why>,
    /// The broker lost it with the session.
    pub(crate) lost: bool,
}

/// Why a message could be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Durable,
    RefusalTaken,
    RefusedAgain,
    Nobody,
}

impl Sent {
    pub(crate) fn new(message: Message, topics: &Topics, limits: &Limits) -> Self {
        let read = intake::read(&message, topics, limits, Wall(0));
        Self {
            message,
            read: read.map_err(|refusal| refusal.reply),
            acked: None,
            lost: false,
        }
    }

    /// Where the reply is expected; unknown where the appliance makes up the topic.
    pub(crate) fn address(&self) -> Option<&ReturnAddress> {
        match &self.read {
            Ok(request) => {
                let made = matches!(request.id, RequestId::Made(_));
                let own = !made || self.message.response_topic.is_some();
                own.then_some(&request.reply)
            }
            Err(reply) => reply.as_ref(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Devices {
    pub(crate) sent: Vec<Sent>,
    next_id: BTreeMap<usize, u64>,
}

impl Devices {
    pub(crate) fn new() -> Self {
        Self {
            sent: Vec::new(),
            next_id: BTreeMap::new(),
        }
    }

    /// The next thing that some device thinks of sending.
    pub(crate) fn think(&mut self, rng: &mut fastrand::Rng) -> Message {
        let client = rng.usize(0..5);
        let again = !self.sent.is_empty() && rng.u8(..) < 90;
        if again {
            let from = self.sent.len().saturating_sub(12);
            let old = self.sent[rng.usize(from..self.sent.len())].message.clone();
            return Self::vary(old, rng);
        }
        match rng.u8(0..40) {
            0 => Message {
                payload: b"\xff\x00 no request".to_vec(),
                ..self.new_request(client, rng)
            },
            1 => Message {
                payload: br#"{"id":"g-1","promt":"misspelt"}"#.to_vec(),
                response_topic: None,
                ..self.new_request(client, rng)
            },
            2 => Message {
                retained: true,
                ..self.new_request(client, rng)
            },
            3 => Message {
                retained: true,
                payload: Vec::new(),
                ..self.new_request(client, rng)
            },
            4 | 5 => Message {
                response_topic: Some("lineside/other/request".into()),
                ..self.new_request(client, rng)
            },
            6..=8 => Message {
                ack: None,
                ..self.new_request(client, rng)
            },
            _ => self.new_request(client, rng),
        }
    }

    /// The same once more, or almost.
    fn vary(mut old: Message, rng: &mut fastrand::Rng) -> Message {
        match rng.u8(0..8) {
            0 => old.response_topic = Some(format!("devices/elsewhere{}/answers", rng.u8(0..5))),
            1 => old.correlation = Some(vec![rng.u8(0..4), 1]),
            2 => {
                let text = String::from_utf8_lossy(&old.payload).replace("bearing", "belt");
                old.payload = text.into_bytes();
            }
            _ => {}
        }
        old
    }

    fn new_request(&mut self, client: usize, rng: &mut fastrand::Rng) -> Message {
        let next = self.next_id.entry(client).or_default();
        *next += 1;
        let id = match rng.u8(0..8) {
            0 => String::new(),
            _ => format!(r#""id":"{client}-{next}","#),
        };
        let poison = match rng.u8(..) {
            0..8 => POISON,
            8..16 => TOO_LONG,
            16..90 => UNSURE,
            90.. => "bearing",
        };
        let (label, secret) = match rng.u8(0..6) {
            0 => ("", SECRET),
            1 => (r#""classification":"restricted","#, SECRET),
            2 => (r#""classification":"internal","#, ""),
            _ => (r#""classification":"public","#, ""),
        };
        let late = ["", "", r#","late":true"#, r#","late":false"#][rng.usize(0..4)];
        let wanted = ["", r#","risk":90"#, r#","complexity":0.9"#][rng.usize(0..3)];
        let what = match rng.u8(0..4) {
            0 => r#""task":"extract","input""#,
            1 => r#""task":"triage","input""#,
            _ => r#""prompt""#,
        };
        let priority = ["low", "normal", "high"][rng.usize(0..3)];
        let deadline = [50, 400, 2000, 20_000, 60_000][rng.usize(0..5)];
        let who = if client == 1 {
            r#""client":"press","#
        } else {
            ""
        };
        let padding = "x".repeat(rng.usize(0..200));
        let text = if id.is_empty() { rng.u64(0..3) } else { *next };
        let payload = format!(
            r#"{{{id}{who}{label}{what}:"{poison} {secret} {text} {padding}","priority":"{priority}","deadline_ms":{deadline}{late}{wanted}}}"#
        );
        let own_topic = rng.u8(0..4) == 0;
        Message {
            topic: match client {
                0 => "lineside/A/request/station0".into(),
                2 => "lineside/A/request/station2".into(),
                _ => "lineside/A/request".into(),
            },
            payload: payload.into_bytes(),
            response_topic: (!own_topic).then(|| format!("devices/d{client}/answers")),
            correlation: (rng.u8(0..3) == 0).then(|| next.to_le_bytes().to_vec()),
            ack: QOS_1,
            ..Message::default()
        }
    }
}
