//! One page for each command.

use serde_json::Value;

use super::heat;
use super::layout::{Sheet, bytes, clean, moment, span, table, text};

/// What stands in a list that is empty.
pub(super) fn list(data: &Value) -> &[Value] {
    data.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

pub(super) fn help(data: &Value) -> String {
    let commands = list(data);
    let mut sheet = Sheet::default();
    if let [command] = commands {
        sheet.line(format!(
            "{}: {}",
            text(&command["name"]),
            text(&command["about"])
        ));
        for (at, usage) in list(&command["usage"]).iter().enumerate() {
            sheet.row(if at == 0 { "usage" } else { "" }, text(usage));
        }
        for (at, example) in list(&command["examples"]).iter().enumerate() {
            sheet.row(if at == 0 { "example" } else { "" }, text(example));
        }
        return sheet.text();
    }
    for command in commands {
        let name = text(&command["name"]);
        sheet.line(format!("{name:<15}{}", text(&command["about"])));
    }
    sheet.line("`help COMMAND` shows how to use one. Tab completes, arrows go back.");
    sheet.text()
}

/// What is not as it should be, and what to do about it.
fn worries(data: &Value) -> Vec<&'static str> {
    let mut worries = Vec::new();
    if data["state"] == "offline" {
        worries.push("no broker: `broker` says why; replies wait on the disk");
    }
    if data["state"] == "maintenance" {
        worries.push("new requests are refused: `maintenance off` ends it");
    }
    match data["engine"].as_str().unwrap_or_default() {
        "absent" => worries.push("no model answers here: `models` and `check` say why"),
        "unloadable" => worries.push("the model cannot be loaded: `models verify`, then `logs`"),
        "restarting" => worries.push("the engine failed and starts again: `logs --level warn`"),
        _ => {}
    }
    if data["store"] == "failing" {
        worries.push("the disk does not take writes: free space, see `check`");
    }
    worries.extend(heat::worry(&data["governor"]));
    if list(&data["reduced"]).iter().any(|it| it == "cloud") {
        worries.push("a model elsewhere cannot be asked: `uplink`");
    }
    worries
}

/// How a package came to serve.
fn standing(data: &Value) -> String {
    let mut told = format!("{} on {}", text(&data["variant"]), text(&data["board"]));
    if let Some(ring) = data["ring"].as_str() {
        told = format!("{told}, ring {}", clean(ring));
    }
    if let [right, of] = list(&data["gate"]) {
        told = format!(
            "{told}, {} of {} right in its gate",
            number(right),
            number(of)
        );
    }
    told
}

pub(super) fn status(data: &Value) -> String {
    let mut sheet = Sheet::default();
    let (name, version) = (text(&data["appliance"]), text(&data["version"]));
    sheet.row("appliance", format!("{name}, version {version}"));
    sheet.told("state", &data["state"]);
    let mut engine = text(&data["engine"]);
    if let Some(package) = data["package"].as_str() {
        engine = format!("{engine}, package {}", clean(package));
    }
    match number(&data["engine_crashes"]) {
        0 => {}
        1 => engine.push_str(", failed once"),
        count => engine = format!("{engine}, failed {count} times"),
    }
    if let Some(why) = data["engine_why"].as_str() {
        engine = format!("{engine}: {}", clean(why));
    }
    sheet.row("engine", engine);
    if data["standing"].is_object() {
        sheet.row("model", standing(&data["standing"]));
    }
    if !list(&data["engine_unguarded"]).is_empty() {
        sheet.told("unguarded", &data["engine_unguarded"]);
    }
    sheet.told("store", &data["store"]);
    sheet.row("heat", heat::told(&data["governor"]));
    sheet.row("requests", open(data));
    if !list(&data["cloud"]).is_empty() {
        sheet.row("cloud", pairs(&data["cloud"]));
    }
    if !list(&data["reduced"]).is_empty() {
        sheet.told("missing", &data["reduced"]);
    }
    sheet.row(
        "replies",
        format!("{} on their way", number(&data["outbox"])),
    );
    sheet.row(
        "outcomes",
        format!("{} on record", number(&data["outcomes"])),
    );
    sheet.row("on disk", trees(&data["bytes"]));
    for (at, count) in list(&data["counts"]).iter().enumerate() {
        let line = format!(
            "{:>8}  {}: {}",
            number(&count[2]),
            text(&count[0]),
            text(&count[1])
        );
        sheet.row(if at == 0 { "counted" } else { "" }, line);
    }
    for worry in worries(data) {
        sheet.row("do", worry);
    }
    sheet.text()
}

fn open(data: &Value) -> String {
    format!(
        "{} open ({} running, {} waiting, {} for the cloud, {} for a person)",
        number(&data["open"]),
        number(&data["running"]),
        number(&data["waiting"]),
        number(&data["away"]),
        number(&data["pending"])
    )
}

fn pairs(data: &Value) -> String {
    let pairs = list(data)
        .iter()
        .map(|pair| format!("{} {}", text(&pair[0]), text(&pair[1])));
    pairs.collect::<Vec<_>>().join(", ")
}

fn trees(data: &Value) -> String {
    let trees = list(data).iter().filter(|pair| number(&pair[1]) > 0);
    let trees: Vec<_> = trees
        .map(|pair| format!("{} {}", text(&pair[0]), bytes(number(&pair[1]))))
        .collect();
    if trees.is_empty() {
        return "nothing".into();
    }
    trees.join(", ")
}

pub(super) fn queues(data: &Value) -> String {
    let mut sheet = Sheet::default();
    for (label, key) in [
        ("open", "open"),
        ("running", "running"),
        ("waiting", "waiting"),
        ("cloud", "away"),
        ("persons", "pending"),
        ("replies", "outbox"),
        ("outcomes", "outcomes"),
    ] {
        sheet.row(label, format!("{:>8}", number(&data[key])));
    }
    sheet.row("on disk", trees(&data["bytes"]));
    sheet.text()
}

pub(super) fn requests(data: &Value) -> String {
    let requests = list(&data["requests"]);
    if requests.is_empty() {
        return format!(
            "none of the latest {} requests is such a one\n",
            number(&data["looked_at"])
        );
    }
    let rows: Vec<Vec<String>> = requests
        .iter()
        .map(|request| {
            let verdict = &request["verdict"];
            let state = if verdict.is_null() {
                &request["state"]
            } else {
                verdict
            };
            let accepted = moment(number(&request["accepted_ms"]));
            vec![
                accepted["2026-".len()..].to_owned(), // the year is this one
                text(state),
                text(&request["rule"]),
                text(&request["client"]),
                text(&request["id"]),
            ]
        })
        .collect();
    table(&["ACCEPTED", "STATE", "RULE", "CLIENT", "ID"], &rows)
}

pub(super) fn trace(data: &Value) -> String {
    let timelines = list(data);
    if timelines.is_empty() {
        return "nothing is known of it: it never arrived, was refused at the door, or left the \
                window of recorded outcomes\n"
            .into();
    }
    let mut sheet = Sheet::default();
    for (at, timeline) in timelines.iter().enumerate() {
        if at > 0 {
            sheet.line("");
        }
        let rule = timeline["rule"].as_str().unwrap_or("none yet");
        sheet.line(format!(
            "{} of {} (ticket {}): {}, rule {}",
            text(&timeline["id"]),
            text(&timeline["client"]),
            number(&timeline["ticket"]),
            text(&timeline["state"]),
            clean(rule)
        ));
        let steps = list(&timeline["steps"]);
        let start = steps.first().map_or(0, |step| number(&step["at_ms"]));
        for step in steps {
            let at = number(&step["at_ms"]);
            sheet.line(format!(
                "  {}  +{:>6} ms  {}",
                moment(at),
                at.saturating_sub(start),
                text(&step["what"])
            ));
        }
    }
    sheet.text()
}

pub(super) fn reply(data: &Value) -> String {
    let mut sheet = Sheet::default();
    let id = text(&data["id"]);
    let rule = text(&data["route"]["rule"]);
    if let Some(answer) = data["text"].as_str() {
        for line in answer.lines() {
            sheet.line(clean(line));
        }
        sheet.line(reply_source(data).trim_end_matches('\n'));
    } else {
        let fault = &data["error"];
        sheet.row(
            "refused",
            format!("{} ({})", text(&fault["message"]), text(&fault["code"])),
        );
        if let Some(after) = fault["retry_after_ms"].as_u64() {
            sheet.row("do", format!("try again in {}", span(after.max(1000))));
        }
        sheet.row("rule", rule);
        sheet.row("id", format!("{id}; `trace {id}` shows what happened"));
    }
    sheet.text()
}

/// Who has answered, and how sure; below an empty line.
pub(super) fn reply_source(data: &Value) -> String {
    let (id, rule) = (text(&data["id"]), text(&data["route"]["rule"]));
    let sure = data["confidence"].as_f64().unwrap_or_default();
    let source = text(&data["source"]);
    let mut line = format!("\n{id}: answered by {source}, rule {rule}, confidence {sure:.2}");
    if data["degraded"] == true {
        line.push_str(", degraded");
    }
    if data["final"] == false {
        line.push_str(", the last word follows");
    }
    line.push('\n');
    line
}

pub(super) fn explain(data: &Value) -> String {
    let mut sheet = Sheet::default();
    let rule = &data["rule"];
    let mut decides = format!("rule {} -> {}", text(&rule["name"]), text(&rule["to"]));
    for asked in list(&rule["about"]) {
        decides = format!(
            "{decides}; {} is {}: {}",
            text(&asked["aspect"]),
            text(&asked["value"]),
            text(&asked["wanted"])
        );
    }
    sheet.row("decides", decides);
    let mut serves = text(&data["tier"]);
    if data["degraded"] == true {
        serves.push_str(", degraded");
    }
    if let Some(owed) = data["owed"].as_str() {
        serves = format!("{serves}, until {} can be reached", clean(owed));
    }
    if !list(&data["onward"]).is_empty() {
        serves = format!("{serves}; in doubt {}", text(&data["onward"]));
    }
    sheet.row("serves", serves);
    for (at, reason) in list(&data["reasons"]).iter().enumerate() {
        sheet.row(if at == 0 { "because" } else { "" }, text(reason));
    }
    for (at, seen) in list(&data["before"]).iter().enumerate() {
        let misses: Vec<_> = list(&seen["about"])
            .iter()
            .map(|asked| {
                format!(
                    "{} is {}, wanted {}",
                    text(&asked["aspect"]),
                    text(&asked["value"]),
                    text(&asked["wanted"])
                )
            })
            .collect();
        let line = format!(
            "rule {} -> {}: {}",
            text(&seen["name"]),
            text(&seen["to"]),
            misses.join("; ")
        );
        sheet.row(if at == 0 { "before it" } else { "" }, line);
    }
    for (at, change) in list(&data["changes"]).iter().enumerate() {
        let line = format!(
            "{} {} -> {} by rule {}",
            text(&change["aspect"]),
            text(&change["value"]),
            text(&change["to"]),
            text(&change["rule"])
        );
        sheet.row(if at == 0 { "would" } else { "" }, line);
    }
    let weights = text(&data["weights"]);
    for (at, fact) in list(&data["facts"]).iter().enumerate() {
        let mark = if fact["estimated"] == true {
            format!(", estimated with the {weights} weights")
        } else {
            String::new()
        };
        let line = format!(
            "{:<14} {}{mark}",
            text(&fact["aspect"]),
            text(&fact["value"])
        );
        sheet.row(if at == 0 { "goes by" } else { "" }, line);
    }
    sheet.text()
}

pub(super) fn broker(data: &Value) -> String {
    let mut sheet = Sheet::default();
    sheet.told("broker", &data["url"]);
    sheet.told("state", &data["state"]);
    sheet.told("because", &data["why"]);
    sheet.told("requests", &data["topic"]);
    sheet.row(
        "replies",
        format!("{} on their way", number(&data["outbox"])),
    );
    if data["state"] == "offline" {
        sheet.row(
            "do",
            "check the cable, the broker, and broker.url; `check` tries the line; nothing is lost \
             meanwhile",
        );
    }
    sheet.text()
}

pub(super) fn uplink(data: &Value) -> String {
    let upstreams = list(&data["upstreams"]);
    if upstreams.is_empty() {
        return "no model elsewhere is configured (cloud.url)\n".into();
    }
    let rows: Vec<Vec<String>> = upstreams
        .iter()
        .map(|it| {
            vec![
                text(&it["name"]),
                text(&it["state"]),
                text(&it["model"]),
                text(&it["url"]),
            ]
        })
        .collect();
    let mut page = table(&["NAME", "STATE", "MODEL", "URL"], &rows);
    let mut sheet = Sheet::default();
    sheet.row("waiting", format!("{} requests", number(&data["away"])));
    for upstream in upstreams {
        match upstream["state"].as_str() {
            Some("resting") => sheet.row(
                "do",
                format!(
                    "{} failed and is tried again; check the network and cloud.url",
                    text(&upstream["name"])
                ),
            ),
            Some("spent") => sheet.row(
                "do",
                format!(
                    "{} has used up its budget; requests wait for the next one",
                    text(&upstream["name"])
                ),
            ),
            Some(_) | None => {}
        }
    }
    page.push_str(&sheet.text());
    page
}

pub(super) fn check(data: &Value) -> String {
    if let Some(faults) = data["faults"].as_array() {
        let mut sheet = Sheet::default();
        for fault in faults {
            sheet.row(
                "fault",
                format!("{}: {}", text(&fault["key"]), text(&fault["wanted"])),
            );
        }
        return sheet.text();
    }
    let mut sheet = Sheet::default();
    for item in list(&data["items"]) {
        let (state, name) = (text(&item["state"]), text(&item["name"]));
        sheet.line(format!("{state:<4}  {name:<16}  {}", text(&item["what"])));
        if item["todo"].as_str().is_some_and(|todo| !todo.is_empty()) {
            sheet.line(format!("{:22}  -> {}", "", text(&item["todo"])));
        }
    }
    sheet.text()
}

pub(super) fn logs(data: &Value) -> String {
    let lines = list(&data["lines"]);
    if lines.is_empty() {
        return "no line of that level since the start, as far as they are kept\n".into();
    }
    let mut sheet = Sheet::default();
    for line in lines {
        let level = text(&line["level"]);
        sheet.line(format!(
            "{}  {level:<5}  {}",
            moment(number(&line["at_ms"])),
            text(&line["text"])
        ));
    }
    sheet.text()
}

pub(super) fn maintenance(data: &Value) -> String {
    let mut sheet = Sheet::default();
    sheet.row("maintenance", if data["on"] == true { "on" } else { "off" });
    sheet.row("requests", format!("{} open", number(&data["open"])));
    if data["on"] == true {
        sheet.row("new ones", "refused, with the code maintenance");
        let todo = if number(&data["open"]) == 0 {
            "all is finished; `maintenance off` when the work is done"
        } else {
            "wait until none is open; what waits for a person or the cloud stays on the disk"
        };
        sheet.row("do", todo);
    }
    sheet.text()
}

pub(super) fn factory_reset(call: &Value, data: &Value) -> String {
    if data["resetting"] == true {
        return "It ends, forgets, and starts again.\n".into();
    }
    let lost = &data["lost"];
    let mut sheet = Sheet::default();
    sheet.line("A factory reset forgets what this appliance has taken in and not given out:");
    sheet.row(
        "requests",
        format!("{} without an outcome", number(&lost["open"])),
    );
    sheet.row(
        "replies",
        format!("{} not delivered", number(&lost["outbox"])),
    );
    sheet.row(
        "reviews",
        format!("{} waiting for a person", number(&lost["pending"])),
    );
    sheet.row(
        "outcomes",
        format!("{} on record", number(&lost["outcomes"])),
    );
    sheet.line("It forgets what reviewers taught, too. Models and the configuration stay.");
    sheet.line("So do the board's name, key and certificates.");
    if call["confirm"].is_null() {
        let name = text(&data["confirm"]);
        sheet.line(format!("`factory-reset --confirm {name}` does it."));
    }
    sheet.text()
}
