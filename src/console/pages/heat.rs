//! What the governor allows, and where the temperature is going.

use std::fmt::Write as _;

use serde_json::Value;

use super::layout::{clean, text};

/// The line of the state's page.
pub(super) fn told(governor: &Value) -> String {
    let degrees = |key: &str| {
        governor[key]
            .as_f64()
            .map(|celsius| format!("{celsius:.1}"))
    };
    let mut line = text(&governor["state"]);
    if let Some(short) = governor["short"].as_str() {
        let _ = write!(line, ", turns away ({})", clean(short)); // writing to a String cannot fail
    }
    match degrees("celsius") {
        Some(celsius) => {
            let _ = write!(line, ", {celsius} °C");
        }
        None => line.push_str(", no temperature sensor"),
    }
    if let Some(limit) = degrees("limit_celsius") {
        let _ = write!(line, " of {limit}");
    }
    if let Some(ahead) = degrees("ahead_celsius") {
        let _ = write!(line, ", in a minute {ahead}");
    }
    if let Some(seconds) = governor["limit_in_s"].as_u64() {
        let _ = write!(line, ", limit in {seconds} s");
    }
    if let Some(why) = governor["why"].as_str().filter(|why| !why.is_empty()) {
        let _ = write!(line, ": {}", clean(why));
    }
    line
}

/// What to do about it.
pub(super) fn worry(governor: &Value) -> Option<&'static str> {
    if governor["short"] == "memory" {
        return Some("memory is short: end what else runs here, or see `plan` for a smaller model");
    }
    let state = governor["state"].as_str().unwrap_or_default();
    let is_hot = ["hot", "critical"].contains(&state) || governor["short"] == "hot";
    is_hot.then_some("it is too hot: look at fan, heat sink and the air around it")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn heat_is_told_as_far_as_it_is_known() {
        let blind = json!({"state": "nominal", "rest_permille": 0});
        assert_eq!(told(&blind), "nominal, no temperature sensor");
        assert_eq!(worry(&blind), None);
        let hot = json!({
            "state": "hot", "short": "hot", "celsius": 84.25, "limit_celsius": 85.0,
            "ahead_celsius": 85.5, "limit_in_s": 40, "rest_permille": 900, "why": "heat: \u{1b}",
        });
        assert_eq!(
            told(&hot),
            "hot, turns away (hot), 84.2 °C of 85.0, in a minute 85.5, limit in 40 s: heat: \u{fffd}"
        );
        assert!(worry(&hot).is_some_and(|todo| todo.contains("fan")));
        let short = json!({"state": "hot", "short": "memory"});
        assert!(worry(&short).is_some_and(|todo| todo.contains("memory")));
    }
}
