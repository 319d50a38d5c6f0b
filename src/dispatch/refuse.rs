//! Refusals from memory, and the acknowledgements that wait for them.

use super::{Answer, Dispatch, MAX_VOLATILE, SessionNo};
use crate::broker::{self, Delivery, Parcel, Retain};
use crate::intake::{AckToken, Code, Refusal, Request, ReturnAddress};
use crate::reply::{self, Reply};
use crate::telemetry;

impl Dispatch {
    /// Refuses from memory. The message is acknowledged when the broker has the refusal, so that
    /// a crash in between brings it again; one that was delivered before is acknowledged at
    /// once, so that a refusal which breaks the connection cannot do so for ever.
    pub(super) fn refuse(
        &mut self,
        refusal: &Refusal,
        ack: Option<AckToken>,
        session: Option<SessionNo>,
        redelivered: bool,
    ) {
        if let Some(session) = session {
            self.note(refusal);
            let reply = Reply::to_refusal(refusal, self.condition());
            self.out
                .answers
                .push((session, Answer::Reply(reply.to_json())));
            return;
        }
        self.refuse_all(refusal, ack.into_iter().collect(), redelivered);
    }

    /// One refusal for several deliveries of the same message.
    pub(super) fn refuse_all(&mut self, refusal: &Refusal, acks: Vec<AckToken>, redelivered: bool) {
        self.note(refusal);
        let reply = Reply::to_refusal(refusal, self.condition());
        match &refusal.reply {
            Some(ReturnAddress::Topic {
                topic,
                correlation,
                user_properties,
            }) => {
                let waits: Vec<_> = if redelivered {
                    Vec::new()
                } else {
                    acks.clone()
                };
                if waits.is_empty() && self.post.volatile_count() >= MAX_VOLATILE {
                    self.count("dropped", "refusal");
                    self.acknowledge_all(acks);
                    return;
                }
                let id = self.post.volatile(waits);
                self.out.broker.push(broker::Command::Publish(Parcel {
                    id,
                    topic: topic.clone(),
                    payload: reply.to_json(),
                    correlation: correlation.clone(),
                    content_type: Some(reply::CONTENT_TYPE),
                    expiry_s: Some(self.setup.reply_expiry_s),
                    user_properties: user_properties.clone(),
                    delivery: Delivery::AtLeastOnce,
                    retain: Retain::No,
                }));
                if redelivered {
                    self.acknowledge_all(acks);
                }
            }
            Some(ReturnAddress::Local) => {}
            None => {
                self.count("unaddressable", refusal.code.word());
                self.acknowledge_all(acks);
            }
        }
    }

    fn note(&mut self, refusal: &Refusal) {
        self.count("refused", refusal.code.word());
        let refused = telemetry::Outcome::Refused(refusal.code);
        self.meters.ended(telemetry::meters::INTAKE, refused);
        tracing::info!(
            request_id = refusal.id.as_deref(),
            rule = "intake",
            code = refusal.code.word(),
            "refused"
        );
    }

    pub(super) fn acknowledge_all(&mut self, acks: Vec<AckToken>) {
        for ack in acks {
            self.acknowledge(Some(ack));
        }
    }

    pub(super) fn acknowledge(&mut self, ack: Option<AckToken>) {
        if let Some(ack) = ack {
            self.out.broker.push(broker::Command::Acknowledge(ack));
        }
    }
}

/// What is said to the sender of a request that was read.
pub(super) fn refusal_of(
    request: &Request,
    code: Code,
    message: &str,
    retry_after_ms: Option<u64>,
) -> Refusal {
    Refusal {
        code,
        message: message.into(),
        retry_after_ms,
        id: Some(request.id.as_str().into()),
        reply: Some(request.reply.clone()),
    }
}
