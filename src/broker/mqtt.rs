//! The connection through rumqttc.
