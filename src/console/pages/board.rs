//! The pages on the board itself: heat, memory, the archive for those who help.

use serde_json::Value;

use super::answers::{list, number};
use super::heat;
use super::layout::{Sheet, bytes, clean, table, text};

pub(super) fn thermals(data: &Value) -> String {
    let mut page = String::new();
    let sensors = list(&data["sensors"]);
    if !sensors.is_empty() {
        let degrees = |value: &Value| value.as_f64().map_or("-".into(), |it| format!("{it:.1}"));
        let rows: Vec<Vec<String>> = sensors
            .iter()
            .map(|it| {
                vec![
                    text(&it["name"]),
                    degrees(&it["celsius"]),
                    degrees(&it["passive_celsius"]),
                    degrees(&it["critical_celsius"]),
                    it["why"].as_str().map(clean).unwrap_or_default(),
                ]
            })
            .collect();
        page = table(&["SENSOR", "CELSIUS", "SLOWS AT", "OFF AT", ""], &rows);
    }
    let mut sheet = Sheet::default();
    if sensors.is_empty() {
        sheet.row("sensors", "none: heat cannot be governed here, see `check`");
    }
    for it in list(&data["cooling"]) {
        let at = format!("{} of {}", number(&it["state"]), number(&it["highest"]));
        sheet.row("cooling", format!("{}: {at}", text(&it["name"])));
    }
    if let Some(percent) = data["clock_percent"].as_u64() {
        sheet.row("clock", format!("may run at {percent} % of what it can"));
    }
    if let Some(percent) = data["gpu_percent"].as_u64() {
        sheet.row("graphics", format!("busy {percent} %"));
    }
    if let Some(power) = data["milliwatts"].as_u64() {
        sheet.row("power", format!("{power} mW"));
    }
    if data["governor"].is_object() {
        sheet.row("governor", heat::told(&data["governor"]));
    } else {
        sheet.row("governor", "not known: the service does not answer");
    }
    if let Some(worry) = heat::worry(&data["governor"]) {
        sheet.row("do", worry);
    }
    page.push_str(&sheet.text());
    page
}

pub(super) fn memory(data: &Value) -> String {
    let mut sheet = Sheet::default();
    let mut row = |label: &str, key: &str, what: &str| {
        if let Some(count) = data[key].as_u64() {
            sheet.row(label, format!("{} {what}", bytes(count)));
        }
    };
    row("machine", "total_bytes", "in all");
    row("", "available_bytes", "available");
    row("", "swap_free_bytes", "to swap to");
    row("group", "group_used_bytes", "used, files' pages included");
    row("", "group_limit_bytes", "at most");
    row("service", "service_bytes", "");
    row("engine", "engine_bytes", "");
    let room = match data["room_bytes"].as_u64() {
        Some(u64::MAX) | None => "without a limit".into(),
        Some(count) => bytes(count),
    };
    let limited_by = text(&data["limited_by"]);
    sheet.row("to plan by", format!("{room} for both ({limited_by})"));
    if let Some(percent) = data["stalled_percent"].as_f64() {
        let what = format!("{percent} % of the last minute, for want of memory");
        sheet.row("stood still", what);
    }
    match data["killed"].as_u64() {
        Some(0) | None => {}
        Some(count) => {
            sheet.row("killed", format!("{count}, for want of memory"));
            sheet.row(
                "do",
                "end what else runs here, or see `lineside plan` for a smaller model",
            );
        }
    }
    sheet.text()
}

pub(super) fn bundle(data: &Value) -> String {
    let mut sheet = Sheet::default();
    sheet.row("written", text(&data["path"]));
    sheet.row("size", bytes(number(&data["bytes"])));
    for (at, file) in list(&data["files"]).iter().enumerate() {
        sheet.row(if at == 0 { "holds" } else { "" }, text(file));
    }
    for missing in list(&data["missing"]) {
        sheet.row("missing", text(missing));
    }
    sheet.row("do", "it is synced; the stick can be taken out");
    sheet.text()
}
