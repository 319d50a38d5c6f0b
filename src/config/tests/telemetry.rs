//! The rules about `[telemetry]`.

use super::*;

fn telemetry(section: &str) -> crate::config::Telemetry {
    settings_of(&format!("[telemetry]\n{section}"))
        .unwrap()
        .telemetry
}

#[test]
fn without_a_word_batches_go_out_and_neighbours_hear_nothing() {
    let it = telemetry("");
    assert_eq!((it.every, it.samples), (Duration::from_secs(10), Some(6)));
    assert_eq!((it.sparkplug, it.home_assistant), (None, None));
    assert_eq!(telemetry("mqtt = false").samples, None);
}

#[test]
fn neighbours_are_told_also_where_batches_are_off() {
    let it = telemetry("mqtt = false\nsparkplug = { group = 'plant', primary_host = 'scada' }");
    let node = it.sparkplug.unwrap();
    assert_eq!(node.group, "plant");
    assert_eq!(node.primary_host.as_deref(), Some("scada"));
    let it = telemetry("home_assistant = 'plant/home'");
    assert_eq!(it.home_assistant.as_deref(), Some("plant/home"));
}

#[test]
fn what_cannot_be_part_of_a_topic_is_a_fault() {
    let long = "x".repeat(65);
    for (section, key) in [
        ("sparkplug = {}", "telemetry.sparkplug"),
        ("sparkplug = { group = 'a/b' }", "telemetry.sparkplug"),
        (
            "sparkplug = { group = 'a', primary_host = '#' }",
            "telemetry.sparkplug",
        ),
        ("sparkplug = { grup = 'a' }", "telemetry.sparkplug.grup"),
        (
            &format!("sparkplug = {{ group = '{long}' }}"),
            "telemetry.sparkplug",
        ),
        ("home_assistant = 'home/+'", "telemetry.home_assistant"),
        (
            &format!("home_assistant = '{long}'"),
            "telemetry.home_assistant",
        ),
        ("every_s = 100\nbatch_s = 99", "telemetry.every_s"),
    ] {
        assert_eq!(
            keys_at_fault(&format!("[telemetry]\n{section}")),
            [key],
            "{section}"
        );
    }
}
