//! `lineside explain`, the real binary.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// A folder with a configuration and requests, gone after the test.
struct Desk(PathBuf);

impl Desk {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("explain-{}-{next}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        let desk = Self(folder);
        desk.write("config.toml", CONFIG);
        desk.write(
            "request.json",
            r#"{"id":"r-1","task":"triage","input":"CANARY vibration 9.8 mm/s","classification":"public","risk":20,"complexity":0.31,"max_tokens":16}"#,
        );
        desk
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    fn explain(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_lineside"))
            .arg("explain")
            .args(arguments)
            .args(["--config", "config.toml", "--at", "12:00"])
            .current_dir(&self.0)
            .env_clear()
            .env("HOME", &self.0)
            .output()
            .unwrap()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A site with a cloud in the plant, and no model package.
const CONFIG: &str = r#"
[appliance]
name = "line-3"
[engine]
context_tokens = 512
[cloud]
url = "https://llm.plant/v1/chat/completions"
name = "plant"
model = "large"
accepts = ["public", "internal"]
"#;

/// What is told of the request, word for word.
const GOLDEN: &str = "\
decides     rule default -> edge
            it asks nothing: it takes whatever comes to it
serves      edge; in doubt cloud:plant
before it   rule restricted-stays -> edge: classification is public, wanted restricted
            rule too-long -> cloud: tokens is 50 (edge context 512), wanted above the edge context
            rule high-risk -> review: risk is 20, wanted at least 80
            rule complex -> cloud: complexity is 0.31, wanted above 0.72
would       classification restricted -> edge by rule restricted-stays
            risk 80 or more -> review by rule high-risk
            complexity above 0.72 -> cloud by rule complex
            tokens 513 or more -> cloud by rule too-long
goes by     classification public
            risk           20
            complexity     0.31
            tokens         50 (edge context 512), estimated with the usual weights
            task           triage
            client         press7
            topic          lineside/line-3/request/press7
            time           12:00
            broker         online
            cloud          online
            allowance      nominal
            text           25 bytes
";

#[track_caller]
fn ended(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    (out, err)
}

#[test]
fn a_request_is_explained_word_for_word() {
    let desk = Desk::new();
    let (told, _) = ended(&desk.explain(&["request.json", "--client", "press7"]), 0);
    assert_eq!(told, GOLDEN);
}

#[test]
fn the_same_is_told_as_json_and_the_text_of_the_request_never() {
    let desk = Desk::new();
    let (told, _) = ended(&desk.explain(&["request.json", "--json"]), 0);
    assert!(!told.contains("CANARY"));
    let json: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(json["rule"]["name"], "default");
    assert_eq!(json["tier"], "edge");
    assert_eq!(json["before"].as_array().unwrap().len(), 4);
    assert_eq!(json["before"][2]["about"][0]["wanted"], "at least 80");
    assert_eq!(json["changes"][1]["value"], "80 or more");
    assert_eq!(json["weights"], "usual");
}

#[test]
fn how_things_stand_is_told_by_options() {
    let desk = Desk::new();
    let hard = r#"{"prompt":"p","classification":"internal","complexity":0.9}"#;
    desk.write("request.json", hard);
    let serves = |options: &[&str]| {
        let arguments = [&["request.json", "--json"], options].concat();
        let (told, _) = ended(&desk.explain(&arguments), 0);
        let json: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(json["rule"]["name"], "complex");
        (
            json["tier"].clone(),
            json["owed"].clone(),
            json["degraded"].clone(),
        )
    };
    let none = Value::Null;
    assert_eq!(
        serves(&[]),
        ("cloud:plant".into(), none.clone(), false.into())
    );
    let offline = serves(&["--cloud", "offline"]);
    assert_eq!(offline, ("edge".into(), "cloud:plant".into(), true.into()));
    let shut = serves(&["--cloud", "offline", "--edge", "offline"]);
    assert_eq!(shut, ("review".into(), none, true.into()));
}

#[test]
fn rules_of_the_site_are_explained_and_what_they_miss_too() {
    let desk = Desk::new();
    let rules = r#"
[[route]]
name = "night"
when = { client = "press*", words = ["feuer"], time = "22:00-06:00" }
to = "review"
[[route]]
name = "no-prompts"
when = { task = "(none)" }
to = "refuse"
"#;
    desk.write("config.toml", &format!("{CONFIG}{rules}"));
    let (told, _) = ended(&desk.explain(&["request.json", "--client", "press7"]), 0);
    let night = "rule night -> review: time is 12:00, wanted 22:00-06:00; \
                 text is 25 bytes, wanted one of the words \"feuer\"";
    assert!(told.contains(night), "{told}");
    assert!(
        told.contains("task (none) -> refuse by rule no-prompts"),
        "{told}"
    );
    desk.write("request.json", r#"{"prompt":"a joke"}"#);
    let (told, _) = ended(&desk.explain(&["request.json"]), 0);
    assert!(told.contains("serves      refuse (policy)"), "{told}");
}

#[test]
fn what_cannot_be_explained_ends_with_the_right_code() {
    let desk = Desk::new();
    ended(&desk.explain(&["missing.json"]), 69);
    desk.write("request.json", r#"{"promt":"p"}"#);
    let (_, told) = ended(&desk.explain(&["request.json"]), 64);
    assert!(told.contains("no request (invalid)"), "{told}");
    ended(&desk.explain(&["request.json", "--allowance", "tepid"]), 64);
    ended(&desk.explain(&[]), 64);
    desk.write(
        "config.toml",
        &CONFIG.replace("\"internal\"", "\"restricted\""),
    );
    let (_, told) = ended(&desk.explain(&["request.json"]), 78);
    assert!(told.contains("cloud.accepts"), "{told}");
}

#[test]
fn the_check_says_which_rules_hold_and_what_is_worth_knowing() {
    let desk = Desk::new();
    let check = || {
        let output = Command::new(env!("CARGO_BIN_EXE_lineside"))
            .args(["check", "--config", "config.toml", "--json"])
            .current_dir(&desk.0)
            .env_clear()
            .env("HOME", &desk.0)
            .output()
            .unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let items = json["items"].as_array().unwrap().clone();
        items
            .into_iter()
            .find(|item| item["name"] == "routing")
            .unwrap()
    };
    let item = check();
    assert_eq!(item["state"], "ok", "{item}");
    assert!(
        item["what"].as_str().unwrap().contains("reference"),
        "{item}"
    );
    let rule =
        "[[route]]\nname = \"stays\"\nwhen = { classification = \"restricted\" }\nto = \"edge\"\n";
    desk.write("config.toml", &format!("{CONFIG}{rule}"));
    let item = check();
    assert_eq!(item["state"], "warn", "{item}");
    assert!(item["todo"].as_str().unwrap().contains("default"), "{item}");
}
