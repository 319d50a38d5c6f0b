//! Whether the appliance is well: one word, and every reason why it is not a better one.
//!
//! Pure: a status in, words out. The words are for somebody who stands before the machine.

use serde::Serialize;

use crate::dispatch::StatusReport;

/// From this share of its room on, a tree of the spool is worth a word.
const CROWDED_PERCENT: u64 = 80;
/// A limit that is reached sooner than this is worth a word.
const SOON_S: u64 = 600;

/// How well, from the best on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Nothing is to be done. A reason of this level is news, no complaint.
    #[default]
    Well,
    /// It serves, and something is missing.
    Limited,
    /// Somebody must come.
    Ill,
}

/// A reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Reason {
    /// How bad it is.
    pub level: Level,
    /// What it is about.
    pub what: &'static str,
    /// In words.
    pub text: String,
}

/// How well it is, and why. Nothing of it stands for a dispatcher that does not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Wellness {
    /// The worst of the reasons.
    pub level: Level,
    /// The worst first.
    pub reasons: Vec<Reason>,
}

/// Whether requests are taken, and what is missing for it.
pub(super) fn is_ready(status: Option<&StatusReport>) -> Result<(), &'static str> {
    let status = status.ok_or("the dispatcher does not answer")?;
    let cloud = status.cloud.iter().any(|(_, word)| *word == "open");
    match (status.state, status.store, status.engine) {
        ("draining", ..) => Err("it is going down"),
        ("maintenance", ..) => Err("maintenance: nothing new is let in"),
        (_, "failing", _) => Err("the disk fails: nothing new is taken"),
        (_, _, "absent" | "unloadable") if !cloud => Err("there is no model that could answer"),
        _ => Ok(()),
    }
}

/// How well it is.
pub(super) fn wellness(status: Option<&StatusReport>, limits: &[(&str, u64)]) -> Wellness {
    let Some(status) = status else {
        let text = "The dispatcher does not answer.".into();
        let reason = Reason {
            level: Level::Ill,
            what: "service",
            text,
        };
        return Wellness {
            level: Level::Ill,
            reasons: vec![reason],
        };
    };
    let mut reasons = Vec::new();
    let mut say = |level, what, text: String| reasons.push(Reason { level, what, text });
    match status.state {
        "draining" => say(Level::Limited, "service", "It is going down.".into()),
        "maintenance" => {
            let text = "Maintenance: nothing new is let in.";
            say(Level::Limited, "service", text.into());
        }
        _ => {}
    }
    if status.store == "failing" {
        let text = "The disk fails: nothing new is taken until it can be written.";
        say(Level::Ill, "disk", text.into());
    }
    if !status.broker_online {
        let why = status.broker_why.as_deref().unwrap_or("not connected yet");
        say(Level::Limited, "broker", format!("No broker: {why}."));
    }
    engine(status, &mut say);
    heat(status, &mut say);
    for (name, word) in &status.cloud {
        let text = match *word {
            "resting" => format!("Cloud {name} does not answer; it is tried again."),
            "spent" => format!("The budget of cloud {name} is used up."),
            _ => continue,
        };
        say(Level::Limited, "cloud", text);
    }
    for (tree, bytes) in &status.bytes {
        let limit = limits
            .iter()
            .find(|(name, _)| name == tree)
            .map(|(_, it)| *it);
        let percent = limit
            .filter(|it| *it > 0)
            .map(|it| bytes.saturating_mul(100) / it);
        // Old outcomes, trails and what was set aside give way by themselves.
        let grows = ["inbox", "outbox", "cloud", "review"].contains(tree);
        if let Some(percent) = percent.filter(|it| grows && *it >= CROWDED_PERCENT) {
            let text = format!("The disk's room for {tree} is used to {percent} percent.");
            say(Level::Limited, "disk", text);
        }
    }
    if status.pending > 0 {
        let text = match status.pending {
            1 => "1 request waits for a person.".to_owned(),
            n => format!("{n} requests wait for a person."),
        };
        say(Level::Well, "review", text);
    }
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.level));
    Wellness {
        level: reasons.first().map(|it| it.level).unwrap_or_default(),
        reasons,
    }
}

fn engine(status: &StatusReport, say: &mut impl FnMut(Level, &'static str, String)) {
    let why = status.engine_why.as_deref();
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    let (level, text) = match status.engine {
        "ready" | "unloaded" => return,
        "starting" => (Level::Limited, format!("The engine starts{why}.")),
        "restarting" => (Level::Limited, format!("The engine restarts{why}.")),
        "unloadable" => (Level::Ill, format!("The model cannot be loaded{why}.")),
        _ => (Level::Ill, format!("There is no engine{why}.")),
    };
    say(level, "engine", text);
}

fn heat(status: &StatusReport, say: &mut impl FnMut(Level, &'static str, String)) {
    let governor = &status.governor;
    let what = if governor.short == Some("memory") {
        "memory"
    } else {
        "heat"
    };
    let level = match governor.state {
        "critical" => Level::Ill,
        "hot" => Level::Limited,
        _ if governor.short.is_some() => Level::Limited,
        _ => Level::Well,
    };
    if level > Level::Well {
        let why = match governor.why.as_str() {
            "" => governor.state,
            why => why,
        };
        say(level, what, format!("The governor holds work back: {why}."));
    }
    if let Some(seconds) = governor.limit_in_s.filter(|it| *it <= SOON_S) {
        let text = format!("The temperature would reach its limit in {seconds} s.");
        // A forecast alone is news: the governor is there so that it does not come true.
        say(level, "heat", text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Governed;

    fn well() -> StatusReport {
        StatusReport {
            state: "online",
            broker_online: true,
            engine: "ready",
            store: "well",
            ..StatusReport::default()
        }
    }

    #[test]
    fn an_appliance_that_lacks_nothing_is_well_and_ready() {
        assert_eq!(wellness(Some(&well()), &[]), Wellness::default());
        assert_eq!(is_ready(Some(&well())), Ok(()));
    }

    #[test]
    fn what_waits_for_a_person_is_news_and_no_complaint() {
        let status = StatusReport {
            pending: 3,
            ..well()
        };
        let told = wellness(Some(&status), &[]);
        assert_eq!(told.level, Level::Well);
        assert_eq!(told.reasons[0].text, "3 requests wait for a person.");
    }

    #[test]
    fn the_worst_reason_comes_first_and_gives_the_word() {
        let status = StatusReport {
            broker_online: false,
            broker_why: Some("connection refused".into()),
            store: "failing",
            cloud: vec![("main".into(), "spent"), ("plant".into(), "open")],
            bytes: vec![("inbox", 81), ("outcomes", 100)],
            governor: Governed {
                state: "hot",
                short: Some("hot"),
                limit_in_s: Some(40),
                why: "heat: hot after warm".into(),
                ..Governed::default()
            },
            ..well()
        };
        let told = wellness(Some(&status), &[("inbox", 100), ("outcomes", 100)]);
        assert_eq!(told.level, Level::Ill);
        let texts: Vec<_> = told.reasons.iter().map(|it| it.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "The disk fails: nothing new is taken until it can be written.",
                "No broker: connection refused.",
                "The governor holds work back: heat: hot after warm.",
                "The temperature would reach its limit in 40 s.",
                "The budget of cloud main is used up.",
                "The disk's room for inbox is used to 81 percent.",
            ]
        );
        assert_eq!(
            is_ready(Some(&status)),
            Err("the disk fails: nothing new is taken")
        );
    }

    #[test]
    fn each_state_of_the_engine_has_its_level() {
        for (word, level) in [
            ("ready", Level::Well),
            ("unloaded", Level::Well),
            ("starting", Level::Limited),
            ("restarting", Level::Limited),
            ("unloadable", Level::Ill),
            ("absent", Level::Ill),
        ] {
            let status = StatusReport {
                engine: word,
                ..well()
            };
            assert_eq!(wellness(Some(&status), &[]).level, level, "{word}");
        }
    }

    #[test]
    fn without_an_engine_a_cloud_makes_it_ready() {
        let status = StatusReport {
            engine: "absent",
            ..well()
        };
        assert!(is_ready(Some(&status)).is_err());
        let status = StatusReport {
            cloud: vec![("main".into(), "open")],
            ..status
        };
        assert_eq!(is_ready(Some(&status)), Ok(()));
    }

    #[test]
    fn a_dispatcher_that_does_not_answer_is_ill() {
        assert_eq!(wellness(None, &[]).level, Level::Ill);
        assert!(is_ready(None).is_err());
    }
}
