//! The same figures for others on the plant's network: SCADA systems, by Sparkplug B, and Home
//! Assistant. What each wants to know, in its words; the tasks that tell it.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::figures::GOODBYE;
use super::{CHANNEL, line};
use crate::broker;
use crate::clock::Clock;
use crate::config::Settings;
use crate::dispatch::StatusReport;
use crate::telemetry::batch::Sample;
use crate::telemetry::home::{self, Brief, Home};
use crate::telemetry::sparkplug::payload::Value;
use crate::telemetry::sparkplug::shell::{self, Site};
use crate::telemetry::sparkplug::{Look, Plan, Tally, Values};
use crate::telemetry::{By, Meters};

/// The file with the number of the last connection of Sparkplug's, in the state directory.
const BD_SEQ: &str = "sparkplug-bdseq";
/// The file with the prefixes under which something was announced to Home Assistant.
const ANNOUNCED: &str = "home-assistant";
/// Figures of single classes of a duration: a graph's matter, and of no use as a tag.
const CLASS: &str = ".class_";

/// Those who are told.
#[derive(Default)]
pub(super) struct Neighbours {
    node: Option<(mpsc::Sender<Look>, JoinHandle<()>)>,
    home: Option<(mpsc::Sender<Brief>, JoinHandle<()>)>,
}

/// What others hold of it.
#[derive(Default)]
pub(super) struct Told {
    /// Takes the news of the line, where somebody wants them.
    pub news: Option<mpsc::Sender<broker::Event>>,
    /// What became of Sparkplug's messages, where there are any.
    pub node: Option<watch::Receiver<Tally>>,
}

impl Neighbours {
    /// Those that the settings want.
    pub(super) fn start(
        settings: &Settings,
        commands: mpsc::Sender<broker::Command>,
        clock: Clock,
    ) -> (Self, Told) {
        let (mut neighbours, mut told) = (Self::default(), Told::default());
        if let Some(sparkplug) = &settings.telemetry.sparkplug {
            let plan = Plan {
                group: sparkplug.group.clone(),
                node: settings.name.to_string(),
                primary_host: sparkplug.primary_host.clone(),
                pause: settings.telemetry.pause,
            };
            let site = Site {
                link: line::link_of(settings),
                kept_in: settings.state_dir.join(BD_SEQ),
                seed: fastrand::u64(..),
            };
            let (looks, inlet) = mpsc::channel(CHANNEL);
            let (tally, receiver) = watch::channel(Tally::default());
            let task = tokio::spawn(shell::run(plan, site, inlet, tally, clock));
            neighbours.node = Some((looks, task));
            told.node = Some(receiver);
        }
        if let Some((home, kept_in)) = home_of(settings) {
            let (briefs, inlet) = mpsc::channel(CHANNEL);
            let (news, events) = mpsc::channel(CHANNEL);
            let task = tokio::spawn(home::run(home, inlet, events, commands, kept_in));
            neighbours.home = Some((briefs, task));
            told.news = Some(news);
        }
        (neighbours, told)
    }

    /// Whether there are any.
    pub(super) fn are_there(&self) -> bool {
        self.node.is_some() || self.home.is_some()
    }

    /// Who tells them.
    pub(super) fn ears(&self) -> Ears {
        Ears {
            node: self.node.as_ref().map(|it| it.0.clone()),
            home: self.home.as_ref().map(|it| it.0.clone()),
        }
    }

    /// Ends them, once nobody else holds [`Ears`].
    pub(super) async fn close(self) {
        let node = self.node.map(|(_, task)| task);
        let home = self.home.map(|(_, task)| task);
        tokio::join!(ended(node), ended(home));
    }
}

async fn ended(task: Option<JoinHandle<()>>) {
    if let Some(mut task) = task
        && timeout(GOODBYE, &mut task).await.is_err()
    {
        task.abort(); // the broker does not answer
    }
}

/// The ways to them.
pub(super) struct Ears {
    node: Option<mpsc::Sender<Look>>,
    home: Option<mpsc::Sender<Brief>>,
}

impl Ears {
    /// Tells what was seen. Who is stuck has enough.
    pub(super) fn tell(&self, sample: &Sample, status: &StatusReport, meters: &Arc<Meters>) {
        if let Some(node) = &self.node {
            let values = values(sample, status);
            let at = sample.at;
            let _ = node.try_send(Look { at, values });
        }
        if let Some(home) = &self.home {
            let _ = home.try_send(brief(status, meters));
        }
    }
}

/// Home Assistant, where it is to be told, or was in an earlier life.
fn home_of(settings: &Settings) -> Option<(Home, std::path::PathBuf)> {
    let kept_in = settings.state_dir.join(ANNOUNCED);
    let prefix = settings.telemetry.home_assistant.clone();
    let mut stale = home::remembered(&kept_in);
    if let Some(prefix) = &prefix
        && !stale.contains(prefix)
    {
        let all: Vec<_> = stale.iter().chain([prefix]).cloned().collect();
        home::remember(&kept_in, &all);
    }
    stale.retain(|it| Some(it) != prefix.as_ref());
    if prefix.is_none() && stale.is_empty() {
        return None;
    }
    let home = Home::new(home::Plan {
        appliance: settings.name.to_string(),
        prefix,
        stale,
        status_topic: settings.topics.status(),
        brief_topic: settings.topics.telemetry_brief(),
    });
    Some((home, kept_in))
}

/// The figures as tags in folders, and a few words beside them.
fn values(sample: &Sample, status: &StatusReport) -> Values {
    let figures = sample.figures.iter();
    let figures = figures.filter(|(name, _)| !name.contains(CLASS));
    let mut values: Values = figures
        .map(|(name, value)| (name.replace('.', "/"), Value::Whole(*value)))
        .collect();
    for (name, truth) in [
        ("broker/connected", status.broker_online),
        ("engine/ready", status.engine == "ready"),
        ("store/healthy", status.store != "failing"),
    ] {
        values.insert(name.into(), Value::Truth(truth));
    }
    let package = status.package.clone().unwrap_or_default();
    for (name, text) in [
        ("state", status.state.to_owned()),
        ("engine/state", status.engine.to_owned()),
        ("governor/state", status.governor.state.to_owned()),
        ("package/name", package),
        ("software/version", status.version.to_owned()),
    ] {
        values.insert(name.into(), Value::Text(text));
    }
    values
}

fn brief(status: &StatusReport, meters: &Meters) -> Brief {
    let tenth = |celsius: f32| (f64::from(celsius) * 10.0).round() / 10.0;
    Brief {
        celsius: status.governor.celsius.map(tenth),
        open: status.open as u64,
        answered: By::ALL.iter().map(|by| meters.answers(*by).count()).sum(),
        package: status.package.clone(),
    }
}
