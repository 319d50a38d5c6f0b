//! What persons are asked, and what they taught.

use serde_json::Value;

use super::answers::{list, number};
use super::layout::{Sheet, clean, moment, span, table, text};

pub(super) fn review(data: &Value) -> String {
    if let Some(done) = data["done"].as_str() {
        return format!("{}: {}\n", text(&data["id"]), clean(done));
    }
    if data["items"].is_array() {
        return items(data);
    }
    item(data)
}

fn items(data: &Value) -> String {
    let items = list(&data["items"]);
    if items.is_empty() {
        return "nothing waits for a person\n".into();
    }
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            let id: String = text(&item["id"]).chars().take(12).collect();
            vec![
                id,
                span(number(&item["age_ms"])),
                text(&item["priority"]),
                text(&item["classification"]),
                text(&item["task"]),
                text(&item["client"]),
                text(&item["held_by"]),
            ]
        })
        .collect();
    let heads = [
        "ID", "AGE", "PRIORITY", "CLASS", "TASK", "CLIENT", "HELD BY",
    ];
    let mut page = table(&heads, &rows);
    let total = number(&data["total"]);
    if total > items.len() as u64 {
        let next = text(&data["next"]);
        page = format!(
            "{page}{} of {total}; `review --after {next}` goes on\n",
            items.len()
        );
    }
    page
}

fn item(data: &Value) -> String {
    let mut sheet = Sheet::default();
    sheet.told("item", &data["id"]);
    let task = data["task"].as_str().unwrap_or("a free prompt");
    sheet.row(
        "request",
        format!(
            "{} of {} ({}, {}, priority {})",
            text(&data["request_id"]),
            text(&data["client"]),
            clean(task),
            text(&data["classification"]),
            text(&data["priority"])
        ),
    );
    sheet.row("waits for", span(number(&data["age_ms"])));
    sheet.told("held by", &data["held_by"]);
    sheet.told("because", &data["why"]);
    let choices = &data["answer"]["choices"];
    if list(choices).is_empty() {
        sheet.told("answer", &data["answer"]["kind"]);
    } else {
        sheet.row("answer", format!("one of: {}", text(choices)));
    }
    part(&mut sheet, "question", &data["question"]);
    let draft = &data["draft"];
    if draft.is_object() {
        let mut title = format!("draft of the {}", text(&draft["source"]));
        if let Some(model) = draft["model"].as_str() {
            title = format!("{title}, {}", clean(model));
        }
        if let Some(sure) = draft["confidence"].as_f64() {
            title = format!("{title}, confidence {sure:.2}");
        }
        part(&mut sheet, &title, &draft["text"]);
    } else {
        sheet.line("");
        sheet.line("no draft");
    }
    sheet.text()
}

fn part(sheet: &mut Sheet, title: &str, body: &Value) {
    sheet.line("");
    sheet.line(format!("{title}:"));
    for line in body.as_str().unwrap_or_default().lines() {
        sheet.line(format!("  {}", clean(line)));
    }
}

pub(super) fn learned(data: &Value) -> String {
    let tasks = list(&data["tasks"]);
    if tasks.is_empty() {
        return "no package is served, or it has no tasks\n".into();
    }
    let mut sheet = Sheet::default();
    for task in tasks {
        let name = text(&task["task"]);
        sheet.line(format!(
            "{name}: {} verdicts held, {} of {} wrong, {:.1} expected",
            number(&task["verdicts"]),
            number(&task["wrong"]),
            number(&task["seen"]),
            task["expected"].as_f64().unwrap_or_default(),
        ));
        for change in list(&task["changes"]) {
            sheet.line(format!(
                "  {}  {}, by up to {:.3}",
                moment(number(&change["at_ms"])),
                text(&change["why"]),
                change["most"].as_f64().unwrap_or_default()
            ));
        }
        if let Some(after) = task["alarm"].as_u64() {
            sheet.line(format!(
                "  ALARM after {after} verdicts: more answers are wrong than confidence says; \
                 calibrate the package anew, then `learned --acknowledge {name}`"
            ));
        }
    }
    sheet.text()
}
