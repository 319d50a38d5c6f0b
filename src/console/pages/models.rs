//! `models`: which package serves, what one is, and where those stand that came over the air.

use serde_json::Value;

use super::answers::{list, number};
use super::layout::{Sheet, bytes, clean, table, text};

pub(super) fn told(data: &Value) -> String {
    let mut sheet = Sheet::default();
    if let Some(faults) = data["faults"].as_array() {
        sheet.row("faulty", text(&data["folder"]));
        for fault in faults {
            let what = format!("{}: {}", text(&fault["key"]), text(&fault["wanted"]));
            sheet.row("", what);
        }
        return sheet.text();
    }
    if data.get("packages").is_some() {
        sheet.row(
            "served",
            data["served"].as_str().map_or("none".into(), clean),
        );
        for package in list(&data["packages"]) {
            let what = match package["error"].as_str() {
                Some(error) => format!("cannot be read: {}", clean(error)),
                None => format!("{} {}", text(&package["name"]), number(&package["seq"])),
            };
            sheet.row("package", format!("{what} in {}", text(&package["folder"])));
        }
        let air = &data["air"];
        if list(&data["packages"]).is_empty() && air.is_null() {
            sheet.row("do", "set model.package: no package was found");
        }
        let mut told = sheet.text();
        if !air.is_null() {
            told.push_str(&standings(air));
        }
        return told;
    }
    sheet.row(
        "package",
        format!(
            "{} {} in {}",
            text(&data["name"]),
            number(&data["seq"]),
            text(&data["folder"])
        ),
    );
    if data["verified"] == true {
        sheet.row("verified", "every file is as the manifest says");
    }
    for model in list(&data["models"]) {
        let size = bytes(number(&model["bytes"]));
        let what = format!(
            "{}, {}, {size}",
            text(&model["file"]),
            text(&model["quantization"])
        );
        sheet.row("model", what);
    }
    for task in list(&data["tasks"]) {
        sheet.row(
            "task",
            format!(
                "{}: {}, prompt version {}",
                text(&task["name"]),
                text(&task["answer"]),
                text(&task["prompt_version"])
            ),
        );
    }
    sheet.text()
}

/// Where the packages that came over the air stand.
fn standings(air: &Value) -> String {
    let course = &air["course"];
    let mut sheet = Sheet::default();
    let words = match text(&course["state"]).as_str() {
        "idle" => "nothing is on its way".into(),
        state => format!("{} {state}", text(&course["package"])),
    };
    sheet.row("on its way", words);
    if let (Some(reason), Some(code)) = (course["reason"].as_str(), course["code"].as_str()) {
        sheet.row("because", format!("{} ({code})", clean(reason)));
    }
    if let Some(good) = course["good"].as_array() {
        let (good, most) = (number(&good[0]), number(&good[1]));
        let minutes = |at: usize| number(&course["served_ms"][at]) / 60_000;
        sheet.row(
            "trial",
            format!(
                "{good} of {most} good answers, {} of {} minutes, attempt {}",
                minutes(0),
                minutes(1),
                number(&course["attempt"])
            ),
        );
    }
    sheet.told("pinned", &course["pinned"]);
    if course["halted"] == true {
        sheet.row("ring", "halted: nothing new begins");
    }
    let rows: Vec<Vec<String>> = list(&air["packages"])
        .iter()
        .map(|it| {
            let gate = it["gate"].as_array().filter(|it| it.len() == 2);
            let gate = gate.map(|it| format!("gate {} of {}", number(&it[0]), number(&it[1])));
            let why = it["reason"].as_str().map(clean);
            vec![
                text(&it["package"]),
                text(&it["standing"]),
                why.or(gate).unwrap_or_default(),
            ]
        })
        .collect();
    let mut told = sheet.text();
    if !rows.is_empty() {
        told.push_str(&table(&["PACKAGE", "IS", "SAID OF IT"], &rows));
    }
    told
}
