//! From our words to the client library's and back.

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectProperties, DisconnectReasonCode, Filter, LastWill, PubAckReason, Publish,
    PublishProperties, RetainForwardRule, SubscribeReasonCode,
};
use rumqttc::v5::{ConnectionError, MqttOptions, StateError};
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};

use super::ledger::{Again, MAX_WINDOW, Packed, Terms};
use crate::broker::tls::{TlsError, client_config};
use crate::broker::{Delivery, Link, Parcel, Retain, Role, Session};
use crate::intake::{AckToken, Message};

/// Shorter keep-alives are refused by the library with a panic.
const SHORTEST_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Longest packet of the protocol, for brokers that name no limit.
const PROTOCOL_MAX_BYTES: u32 = 268_435_455;
/// Time for TCP, TLS and CONNACK together.
const CONNECT_WITHIN_S: u64 = 10;

pub(super) fn options(link: &Link) -> Result<MqttOptions, TlsError> {
    let host = match (&link.tls, link.host.contains(':')) {
        // The library joins host and port with a colon.
        (None, true) => format!("[{}]", link.host),
        (None, false) | (Some(_), _) => link.host.clone(),
    };
    let mut options = MqttOptions::new(&link.client_id, host, link.port);
    options
        .set_keep_alive(link.keep_alive.max(SHORTEST_KEEP_ALIVE))
        .set_clean_start(link.role == Role::Visitor)
        .set_manual_acks(true)
        .set_connection_timeout(CONNECT_WITHIN_S)
        .set_outgoing_inflight_upper_limit(MAX_WINDOW)
        .set_network_options(without_delay())
        .set_connect_properties(ConnectProperties {
            session_expiry_interval: Some(link.session_expiry_s),
            receive_maximum: Some(link.receive_maximum.max(1)),
            max_packet_size: Some(link.max_packet_bytes),
            ..ConnectProperties::new()
        });
    if let Some(username) = &link.username {
        let password = link.password.as_ref().map_or("", |secret| secret.reveal());
        options.set_credentials(username, password);
    }
    if let Some(will) = &link.will {
        let retain = will.retain == Retain::Yes;
        let payload = will.payload.clone();
        options.set_last_will(LastWill::new(
            &will.topic,
            payload,
            QoS::AtLeastOnce,
            retain,
            None,
        ));
    }
    if let Some(tls) = &link.tls {
        let tls = TlsConfiguration::Rustls(client_config(tls)?);
        options.set_transport(Transport::tls_with_config(tls));
    }
    Ok(options)
}

/// Small packets go at once: with Nagle's algorithm a round trip takes as long as a delayed TCP
/// acknowledgement.
fn without_delay() -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network
}

pub(super) fn is_filter(filter: &str) -> bool {
    rumqttc::valid_filter(filter)
}

/// QoS 1 at most: a QoS 2 publisher's message arrives as QoS 1, and the spool tells duplicates.
pub(super) fn filters(link: &Link, kept: &RetainForwardRule) -> Vec<Filter> {
    let filter = |path: &String| Filter {
        preserve_retain: true,
        retain_forward_rule: kept.clone(),
        ..Filter::new(path, QoS::AtLeastOnce)
    };
    link.subscriptions.iter().map(filter).collect()
}

pub(super) fn session(connack: &ConnAck) -> Session {
    if connack.session_present {
        Session::Resumed
    } else {
        Session::Fresh
    }
}

pub(super) fn terms(connack: &ConnAck) -> Terms {
    let properties = connack.properties.as_ref();
    let window = properties.and_then(|p| p.receive_max).unwrap_or(MAX_WINDOW);
    let max_packet_bytes = properties.and_then(|p| p.max_packet_size);
    Terms {
        window: window.clamp(1, MAX_WINDOW),
        max_packet_bytes: max_packet_bytes.unwrap_or(PROTOCOL_MAX_BYTES),
        surest: match properties.and_then(|p| p.max_qos) {
            Some(0) => Delivery::AtMostOnce,
            Some(_) | None => Delivery::AtLeastOnce,
        },
        retain: match properties.and_then(|p| p.retain_available) {
            Some(0) => Retain::No,
            Some(_) | None => Retain::Yes,
        },
    }
}

pub(super) fn publish(parcel: &Parcel) -> Publish {
    let qos = match parcel.delivery {
        Delivery::AtMostOnce => QoS::AtMostOnce,
        Delivery::AtLeastOnce => QoS::AtLeastOnce,
    };
    let properties = PublishProperties {
        message_expiry_interval: parcel.expiry_s,
        correlation_data: parcel.correlation.clone().map(Into::into),
        user_properties: parcel.user_properties.clone(),
        content_type: parcel.content_type.map(Into::into),
        ..PublishProperties::default()
    };
    let mut publish = Publish::new(&parcel.topic, qos, parcel.payload.clone(), Some(properties));
    publish.retain = parcel.retain == Retain::Yes;
    publish
}

pub(super) fn publish_again(again: &Again) -> Publish {
    Publish {
        dup: true,
        pkid: again.packet,
        ..publish(&again.parcel)
    }
}

pub(super) fn pack(parcel: Parcel) -> Packed {
    let mut sized = publish(&parcel);
    sized.pkid = 1; // else the library leaves the id out of the count
    Packed {
        packet_bytes: sized.size(),
        parcel,
    }
}

pub(super) fn message(publish: Publish, ack: Option<AckToken>) -> Message {
    let properties = publish.properties.unwrap_or_default();
    Message {
        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
        payload: publish.payload.into(),
        response_topic: properties.response_topic,
        correlation: properties.correlation_data.map(Into::into),
        expiry_s: properties.message_expiry_interval,
        content_type: properties.content_type,
        user_properties: properties.user_properties,
        retained: publish.retain,
        redelivered: publish.dup,
        ack,
    }
}

/// Why the broker did not take a publish, if it did not.
pub(super) fn refusal(reason: PubAckReason) -> Option<String> {
    match reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => None,
        PubAckReason::UnspecifiedError
        | PubAckReason::ImplementationSpecificError
        | PubAckReason::NotAuthorized
        | PubAckReason::TopicNameInvalid
        | PubAckReason::PacketIdentifierInUse
        | PubAckReason::QuotaExceeded
        | PubAckReason::PayloadFormatInvalid => Some(format!("the broker refused it: {reason:?}")),
    }
}

/// Why the broker will not send what matches a filter, if it will not.
pub(super) fn deafness(reason: SubscribeReasonCode) -> Option<String> {
    (!matches!(reason, SubscribeReasonCode::Success(_))).then(|| format!("{reason:?}"))
}

pub(super) fn was_taken_over(error: &ConnectionError) -> bool {
    matches!(
        error,
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        })
    )
}

/// The error in words for a technician.
pub(super) fn why(error: &ConnectionError, link: &Link) -> String {
    let Link {
        host,
        port,
        client_id,
        ..
    } = link;
    if was_taken_over(error) {
        return format!(
            "another client connected with our client id {client_id:?}: two appliances have the same name"
        );
    }
    if let ConnectionError::MqttState(StateError::ConnectionAborted) = error {
        // mosquitto 2.0 throws out a namesake without a word.
        return format!(
            "broker {host}:{port} closed the connection without a reason; a second client with our client id {client_id:?} would look like this"
        );
    }
    if let ConnectionError::ConnectionRefused(code) = error {
        return format!("broker {host}:{port} refused the connection: {code:?}");
    }
    if matches!(error, ConnectionError::Timeout(_)) {
        return format!("broker {host}:{port} did not answer in time");
    }
    format!("broker {host}:{port}: {error}")
}
