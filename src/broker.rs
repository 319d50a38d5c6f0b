//! The connection to the MQTT broker, as the appliance sees it.
//!
//! Purpose: bring each message in once it arrived, carry each [`Parcel`] out until the broker
//! has taken it, and say when the line is up or down. [`mqtt`] does it with rumqttc;
//! `embedded` is a broker inside the process for the run without any set-up.
//!
//! Invariants of the port:
//!
//! - An inbound QoS 1 message is acknowledged to the broker only by [`Command::Acknowledge`].
//!   A token of an earlier connection is ignored: that broker will deliver the message again.
//! - A parcel ends in exactly one [`Event::Delivered`] or [`Event::Undeliverable`], however
//!   often the connection or the session is lost in between; the adapter keeps it until then
//!   and sends it again where it must.
//! - Events come in the order in which they happened.
//!
//! How it fails: a broker that is away is an [`Event::Down`] and a retry with growing, jittered
//! pauses, for ever; nothing here ends the process.
//!
//! # Pools
//!
//! Appliances that share a queue do not get each other's unacknowledged requests from the broker.
//! A broker keeps them for the session that it chose, sends that session its share of new ones
//! even while its owner is away, and with mosquitto throws all of them away when the session
//! ends. So a pool has a session of its own, apart from the appliance's, that outlives its
//! owner: a [`Link`] with another client id and only the shared filter. When a member dies
//! (its last will says so), another one connects *as that session*, with [`Link::stand_in`]:
//! the broker then hands over what was unacknowledged and the share of the dead member, at once.
//! The owner takes its session back by connecting; the stand-in then leaves by itself
//! ([`End::Lost`]). Two stand-ins for one member sort themselves out the same way. Replies go
//! over the appliance's own link. All of this is at least once: a request that its owner had stored but not yet acknowledged is
//! answered twice, as after any redelivery to another machine.

#[cfg(feature = "embedded-broker")]
pub mod embedded;
mod link;
pub mod mqtt;
pub mod pool;
pub mod tls;

pub use link::{Identity, Link, Role, Secret, Tls, Will};

use crate::intake::{AckToken, Message};

/// Names a parcel among those under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParcelId(pub u64);

/// Something to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// Chosen by the sender; comes back with the result.
    pub id: ParcelId,
    /// Where to.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// Copied byte for byte from the request.
    pub correlation: Option<Vec<u8>>,
    /// Copied pair for pair from the request.
    pub user_properties: Vec<(String, String)>,
    /// MIME type of the payload.
    pub content_type: Option<&'static str>,
    /// How long a broker keeps it for a device that is away.
    pub expiry_s: Option<u32>,
    /// How surely.
    pub delivery: Delivery,
    /// Whether late subscribers get it too.
    pub retain: Retain,
}

/// How surely a parcel reaches the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// QoS 0: counts as delivered once it was handed to the connection.
    AtMostOnce,
    /// QoS 1: delivered when the broker said so.
    AtLeastOnce,
}

/// Whether the broker keeps the message as the topic's last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retain {
    /// For those who listen now.
    No,
    /// Also for those who come later.
    Yes,
}

/// What the connection reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Connected and subscribed.
    Up(Session),
    /// The broker will not let us listen to this filter; comes before [`Event::Up`]. The link
    /// stays up, for what else it carries, and asks again at each new connection.
    Deaf {
        /// To what.
        filter: String,
        /// In the broker's words.
        why: String,
    },
    /// The connection is gone, or could not be made; another try is under way. Said again only
    /// when the reason changes.
    Down {
        /// For the log and the status.
        why: String,
    },
    /// A message arrived.
    Message(Message),
    /// The broker has the parcel.
    Delivered(ParcelId),
    /// The broker will never take this parcel: refused by reason code, or larger than it allows.
    Undeliverable {
        /// Which.
        parcel: ParcelId,
        /// For the log and the timeline.
        why: String,
    },
}

/// Whether the broker remembered the appliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// It did: what it held for us comes now.
    Resumed,
    /// It did not: subscribed anew.
    Fresh,
}

/// What the appliance asks of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Carry this out.
    Publish(Parcel),
    /// The message behind this token is safe; the broker may forget it.
    Acknowledge(AckToken),
    /// Say goodbye properly (no last will) and end, once what was to be published is with the
    /// broker or a short time is over. A dropped sender means the same. A parcel that has had no
    /// event by then was not delivered.
    Close,
}

/// Why a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As asked.
    Closed,
    /// Only a [`Role::StandIn`] or [`Role::Visitor`], which connect once: the connection is gone. Most
    /// likely the owner of a session took it back (not every broker says so); if it is still missed,
    /// stand in again.
    Lost,
    /// Only a [`Role::StandIn`]: the broker knows no such session.
    NoSession,
}
