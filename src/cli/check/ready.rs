//! `lineside check --commit-ready`: may the system that was booted be kept?
//!
//! For whoever swaps whole systems, RAUC, Mender or their like: they boot a new one on trial, ask a
//! health step, and go back to the one before where it says no. This is that step for the appliance.
//! It asks what runs, over the control socket, and reads no file of it, so it tells how the service
//! is and not how it should be:
//!
//! | It must | Else |
//! | --- | --- |
//! | answer | the service does not run, or is stuck |
//! | take requests | it is in maintenance, or ends |
//! | have a well store | what devices were promised is not on the disk |
//! | serve the committed package, by an engine that is there | it cannot answer, or is on trial itself |
//!
//! A broker out of reach is no fault of a system, unless `--with-broker` says so: a plant's network may
//! be down while its boards restart. Heat and a full queue are none either.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::{Args, EXIT_UNAVAILABLE};
use crate::cli::reach::{ReachError, Target};
use crate::clock::Clock;
use crate::console::client;

/// Between two looks: what is waited for takes seconds.
const LOOK: Duration = Duration::from_millis(500);

/// Further arguments of `lineside check --commit-ready`.
#[derive(Clone, Debug, clap::Args)]
pub struct Terms {
    /// With `--commit-ready`: the longest to wait until it is so.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 0,
        requires = "commit_ready"
    )]
    pub wait_s: u64,
    /// With `--commit-ready`: its broker must have been reached, too.
    #[arg(long, requires = "commit_ready")]
    pub with_broker: bool,
    /// With `--commit-ready`: the appliance's control socket, where it is not the one of the configuration.
    #[arg(long, value_name = "PATH", requires = "commit_ready")]
    pub socket: Option<PathBuf>,
}

/// What is asked of the status.
#[derive(Clone, Debug, Deserialize)]
struct Status {
    state: String,
    broker_online: bool,
    broker_why: Option<String>,
    engine: String,
    engine_why: Option<String>,
    package: Option<String>,
    store: String,
}

/// What is asked of the packages.
#[derive(Clone, Debug, Default, Deserialize)]
struct Models {
    air: Option<Air>,
}

/// Where the packages that came over the air stand.
#[derive(Clone, Debug, Default, Deserialize)]
struct Air {
    packages: Vec<Here>,
}

#[derive(Clone, Debug, Deserialize)]
struct Here {
    package: String,
    standing: String,
    reason: Option<String>,
}

/// Whether an appliance must have its broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broker {
    Needed,
    MayBeAway,
}

/// Runs it and returns the exit code.
pub async fn command(args: &Args) -> Result<u8, ReachError> {
    let target = Target {
        config: args.config.clone(),
        socket: args.ready.socket.clone(),
        json: args.json,
    };
    let broker = if args.ready.with_broker {
        Broker::Needed
    } else {
        Broker::MayBeAway
    };
    let clock = Clock::start();
    let until = clock
        .now()
        .mono
        .after(Duration::from_secs(args.ready.wait_s));
    let reasons = loop {
        let reasons = look(&target, broker).await?;
        let left = until.since(clock.now().mono);
        if reasons.is_empty() || left.is_zero() {
            break reasons;
        }
        tokio::time::sleep(left.min(LOOK)).await;
    };
    tell(&reasons, args.json);
    Ok(if reasons.is_empty() {
        0
    } else {
        EXIT_UNAVAILABLE
    })
}

fn tell(reasons: &[String], as_json: bool) {
    let is_ready = reasons.is_empty();
    // A reader that hung up is no fault of the appliance.
    let _ = if as_json {
        let told = json!({"commit_ready": is_ready, "reasons": reasons});
        writeln!(std::io::stdout(), "{told}")
    } else if is_ready {
        writeln!(std::io::stdout(), "ready: this system may be kept")
    } else {
        let reasons = reasons.join("\n           ");
        writeln!(std::io::stderr(), "not ready: {reasons}")
    };
}

/// Why this system may not be kept; nothing where it may. A fault only where it is not known whom to
/// ask: that nobody answers is a reason.
async fn look(target: &Target, broker: Broker) -> Result<Vec<String>, ReachError> {
    let socket = target.socket()?;
    let status = client::command(&socket, &json!({"cmd": "status"})).await;
    let models = client::command(&socket, &json!({"cmd": "models"})).await;
    let read = status.and_then(|status| {
        let status: Status = client::read(&status)?;
        let models: Models = client::read(&models?)?;
        Ok(reasons(&status, &models, broker))
    });
    Ok(read.unwrap_or_else(|error| vec![error.to_string()]))
}

fn reasons(status: &Status, models: &Models, broker: Broker) -> Vec<String> {
    let mut found = Vec::new();
    if !["online", "offline"].contains(&status.state.as_str()) {
        found.push(format!("the appliance takes no requests: {}", status.state));
    }
    if broker == Broker::Needed && !status.broker_online {
        let why = status.broker_why.as_deref().unwrap_or("not reached yet");
        found.push(format!("no broker: {why}"));
    }
    if status.store != "well" {
        found.push(format!("the store is {}", status.store));
    }
    // An engine that rests starts with the next request.
    if !["ready", "unloaded"].contains(&status.engine.as_str()) {
        let why = status.engine_why.as_deref();
        let why = why.map_or(String::new(), |why| format!(": {why}"));
        found.push(format!("the engine is {}{why}", status.engine));
    }
    found.extend(package(status.package.as_deref(), models));
    found
}

/// What is wrong with what it serves: the last committed package it must be, or, where none was
/// committed yet, the configuration's.
fn package(served: Option<&str>, models: &Models) -> Option<String> {
    let Some(served) = served else {
        return Some("no package is served".into());
    };
    let air = models.air.as_ref()?;
    let with = |standing: &str| air.packages.iter().find(|it| it.standing == standing);
    if let Some(trial) = with("trial") {
        return Some(format!(
            "{} is on trial, and not committed yet",
            trial.package
        ));
    }
    // One that is committed and does not load, perhaps by the fault of what is to be kept.
    let is_aside = |it: &&Here| it.standing == "here" && it.reason.is_some();
    if let Some(aside) = air.packages.iter().find(is_aside) {
        let reason = aside.reason.as_deref().unwrap_or_default();
        return Some(format!("{} is committed: {reason}", aside.package));
    }
    let committed = with("serving")?;
    // The engine's report has a blank before the number, a name on the disk a dash.
    let id = (served.rsplit_once(' ')).map(|(name, seq)| format!("{name}-{seq}"));
    (id.as_deref() != Some(committed.package.as_str()))
        .then(|| format!("{served} is served, committed is {}", committed.package))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Status {
        Status {
            state: "online".into(),
            broker_online: true,
            broker_why: None,
            engine: "ready".into(),
            engine_why: None,
            package: Some("factory-triage 2".into()),
            store: "well".into(),
        }
    }

    fn standing(packages: &[(&str, &str)]) -> Models {
        let packages = packages.iter().map(|(package, standing)| Here {
            package: (*package).into(),
            standing: (*standing).into(),
            reason: None,
        });
        Models {
            air: Some(Air {
                packages: packages.collect(),
            }),
        }
    }

    fn told(status: &Status, models: &Models) -> String {
        reasons(status, models, Broker::MayBeAway).join("; ")
    }

    #[test]
    fn a_system_that_serves_what_was_committed_may_be_kept() {
        assert_eq!(told(&well(), &Models::default()), "");
        let committed = standing(&[
            ("factory-triage-1", "before"),
            ("factory-triage-2", "serving"),
        ]);
        assert_eq!(told(&well(), &committed), "");
        let nothing_yet = standing(&[("factory-triage-3", "candidate")]);
        assert_eq!(told(&well(), &nothing_yet), "");
    }

    #[test]
    fn an_engine_that_rests_and_a_broker_that_is_away_are_no_faults() {
        let status = Status {
            state: "offline".into(),
            broker_online: false,
            engine: "unloaded".into(),
            ..well()
        };
        assert_eq!(told(&status, &Models::default()), "");
        let needed = reasons(&status, &Models::default(), Broker::Needed);
        assert_eq!(needed, ["no broker: not reached yet"]);
    }

    #[test]
    fn each_thing_that_is_missing_is_told() {
        let status = Status {
            state: "maintenance".into(),
            engine: "restarting".into(),
            engine_why: Some("killed by signal 9".into()),
            package: None,
            store: "failing".into(),
            ..well()
        };
        let told = reasons(&status, &Models::default(), Broker::Needed);
        assert_eq!(
            told,
            [
                "the appliance takes no requests: maintenance",
                "the store is failing",
                "the engine is restarting: killed by signal 9",
                "no package is served",
            ]
        );
    }

    #[test]
    fn a_package_on_trial_or_another_than_the_committed_one_keeps_nothing() {
        let trial = standing(&[
            ("factory-triage-2", "trial"),
            ("factory-triage-1", "before"),
        ]);
        let told_of = |models: &Models| told(&well(), models);
        assert_eq!(
            told_of(&trial),
            "factory-triage-2 is on trial, and not committed yet"
        );
        let other = standing(&[("factory-triage-7", "serving")]);
        assert_eq!(
            told_of(&other),
            "factory-triage 2 is served, committed is factory-triage-7"
        );
        let mut aside = standing(&[
            ("factory-triage-2", "serving"),
            ("factory-triage-3", "here"),
        ]);
        let nobody = told_of(&aside);
        assert_eq!(nobody, "", "nobody committed it");
        if let Some(air) = &mut aside.air {
            air.packages[1].reason = Some("it does not load: no memory".into());
        }
        assert_eq!(
            told_of(&aside),
            "factory-triage-3 is committed: it does not load: no memory"
        );
    }
}
