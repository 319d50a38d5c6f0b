//! What can be told and done without the dispatcher: settings, log, packages, restart, reset.
//!
//! Where a subcommand of the command line knows the answer already (`check`, `explain`, `models
//! check`), the service's own program is run as a process of its own, with a limit: what hangs
//! there, on a network or a disk, hangs nobody here.

mod board;
mod bundle;
mod reset;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tracing::Level;

use super::commands::raw;
use crate::config::{Endpoint, Roots, Settings};
use crate::dispatch::StatusReport;
use crate::engine::process::Processes;
use crate::ota::course::Sight;
use crate::ota::keeper::STORE;
use crate::ota::store::{self, PackageId};
use crate::package;
use crate::service::{LogTail, Stopper};

pub use bundle::Bundled;
pub use reset::reset_if_marked;

/// How long a process of our own may take: far longer than it ever does, on a crowded board.
const OWN_PROGRAM: Duration = Duration::from_secs(15);
/// Of a check for somebody who stands before the appliance: the rest of a second is for the rest.
const CHECK_PATIENCE_MS: &str = "700";
/// The same where it reads all of a model.
const OWN_PROGRAM_READING: Duration = Duration::from_mins(10);
/// Lines of the log where nobody says how many.
const LOG_LINES: usize = 20;

/// What the process does after its drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// It ends.
    #[default]
    Stop,
    /// It starts again.
    Restart,
}

/// Ends the process in order, on somebody's word.
#[derive(Clone, Debug)]
pub struct Ender {
    stopper: Stopper,
    wish: Arc<std::sync::OnceLock<Ending>>,
}

impl Ender {
    /// One that asks through this.
    pub fn new(stopper: Stopper) -> Self {
        Self {
            stopper,
            wish: Arc::default(),
        }
    }

    /// What was wished for; to stop, where nobody wished.
    pub fn wish(&self) -> Ending {
        self.wish.get().copied().unwrap_or_default()
    }

    fn restart(&self) {
        let _ = self.wish.set(Ending::Restart); // a second wish is the same
        self.stopper.stop();
    }
}

/// Why the house has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The log is not kept in memory here.
    #[error("this process keeps no log lines")]
    NoLog,
    /// There is nothing to look at.
    #[error("no model package is set or found; set model.package")]
    NoPackage,
    /// Our own program could not be run, or took too long.
    #[error("lineside {0} gave no answer: {1}")]
    OwnProgram(&'static str, String),
    /// Another serial number, or another name where there is none.
    #[error("this is not what was asked for; nothing was reset")]
    NotConfirmed,
    /// The archive has nowhere to go.
    #[error("no USB stick is mounted")]
    NoStick,
    /// It cannot be done here.
    #[error("{0}")]
    Unavailable(String),
}

impl Fault {
    /// The word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoLog => "no_log",
            Self::NoPackage => "no_package",
            Self::OwnProgram(..) => "failed",
            Self::NotConfirmed => "not_confirmed",
            Self::NoStick => "no_stick",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// Which look at the packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Models {
    /// Which there are.
    List,
    /// What one is; none is the one that serves.
    Show(Option<PackageId>),
    /// Whether all of it is as it should be.
    Verify(Option<PackageId>),
}

/// Which lines of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logs {
    level: Level,
    since: u64,
    max: usize,
}

impl Logs {
    /// As somebody asks for them; none where the level is none.
    pub fn read(level: Option<&str>, since: Option<u64>, max: Option<usize>) -> Option<Self> {
        let level = match level.unwrap_or("info") {
            "error" => Level::ERROR,
            "warn" => Level::WARN,
            "info" => Level::INFO,
            "debug" => Level::DEBUG,
            "trace" => Level::TRACE,
            _ => return None,
        };
        Some(Self {
            level,
            since: since.unwrap_or_default(),
            max: max.unwrap_or(LOG_LINES),
        })
    }
}

/// The house.
#[derive(Clone, Debug, Default)]
pub struct House {
    facts: Arc<Facts>,
    log: Option<LogTail>,
    ender: Option<Ender>,
    /// A look at the board that is under way: a driver that hangs must not collect threads.
    looking: Arc<Mutex<()>>,
    /// The engine's processes.
    processes: Option<watch::Receiver<Processes>>,
}

/// What the settings say.
#[derive(Debug, Default)]
struct Facts {
    name: String,
    config_file: Option<PathBuf>,
    toml: String,
    broker: String,
    topic: String,
    package: Option<PathBuf>,
    upstreams: Vec<(String, String, String)>,
    state_dir: PathBuf,
    roots: Roots,
    memory_budget_bytes: Option<u64>,
}

impl House {
    /// The house of these settings.
    pub fn new(
        settings: &Settings,
        log: Option<LogTail>,
        ender: Ender,
        processes: watch::Receiver<Processes>,
    ) -> Self {
        let upstream =
            |it: &crate::config::Upstream| (it.name.clone(), it.model.clone(), it.url.clone());
        let topics = &settings.topics;
        Self {
            facts: Arc::new(Facts {
                name: settings.name.to_string(),
                config_file: settings.config_file.clone(),
                toml: settings.effective_toml().to_owned(),
                broker: match &settings.link.endpoint {
                    Endpoint::Embedded { listen } => format!("embedded, on {listen}"),
                    Endpoint::Plain { host, port } => format!("mqtt://{host}:{port}"),
                    Endpoint::Tls { host, port, .. } => format!("mqtts://{host}:{port}"),
                },
                topic: format!("{}/{}/request", topics.prefix, topics.appliance),
                package: settings.model_package.clone(),
                upstreams: settings.clouds.iter().map(upstream).collect(),
                state_dir: settings.state_dir.clone(),
                roots: settings.roots.clone(),
                memory_budget_bytes: settings.memory_budget_bytes,
            }),
            log,
            ender: Some(ender),
            looking: Arc::default(),
            processes: Some(processes),
        }
    }

    /// The line to the broker.
    pub(super) fn broker<'a>(&'a self, status: &'a StatusReport) -> impl Serialize + use<'a> {
        #[derive(Serialize)]
        struct Broker<'a> {
            url: &'a str,
            state: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            why: Option<&'a str>,
            topic: &'a str,
            outbox: u64,
        }
        Broker {
            url: &self.facts.broker,
            state: if status.broker_online {
                "online"
            } else {
                "offline"
            },
            why: status.broker_why.as_deref(),
            topic: &self.facts.topic,
            outbox: status.outbox,
        }
    }

    /// The models elsewhere.
    pub(super) fn uplink<'a>(&'a self, status: &'a StatusReport) -> impl Serialize + use<'a> {
        #[derive(Serialize)]
        struct Upstream<'a> {
            name: &'a str,
            state: &'a str,
            model: &'a str,
            url: &'a str,
        }
        #[derive(Serialize)]
        struct Uplink<'a> {
            upstreams: Vec<Upstream<'a>>,
            away: usize,
        }
        let state = |name: &str| {
            let standing = status.cloud.iter().find(|(it, _)| it == name);
            standing.map_or("unknown", |(_, word)| *word)
        };
        let upstreams = self.facts.upstreams.iter();
        let upstreams = upstreams.map(|(name, model, url)| Upstream {
            name,
            state: state(name),
            model,
            url,
        });
        Uplink {
            upstreams: upstreams.collect(),
            away: status.away,
        }
    }

    /// The settings in force.
    pub(super) fn config(&self) -> impl Serialize + use<'_> {
        #[derive(Serialize)]
        struct Config<'a> {
            toml: &'a str,
        }
        Config {
            toml: &self.facts.toml,
        }
    }

    /// The last lines of the log.
    pub(super) fn logs(&self, wanted: Logs) -> Result<impl Serialize + use<>, Fault> {
        #[derive(Serialize)]
        struct Line {
            no: u64,
            at_ms: u64,
            level: String,
            text: String,
        }
        #[derive(Serialize)]
        struct Lines {
            lines: Vec<Line>,
            /// What to give as `since` to get only what comes after.
            newest: u64,
        }
        let log = self.log.as_ref().ok_or(Fault::NoLog)?;
        let newest = log.newest();
        let lines = log.lines(wanted.level, wanted.since, wanted.max);
        let lines = lines.into_iter().map(|line| Line {
            no: line.no,
            at_ms: line.at.0,
            level: line.level.as_str().to_ascii_lowercase(),
            text: line.text,
        });
        Ok(Lines {
            lines: lines.collect(),
            newest,
        })
    }

    /// `lineside check`, beside the running service.
    pub(super) async fn check(&self) -> Result<Box<RawValue>, Fault> {
        let args = ["check", "--json", "--patience-ms", CHECK_PATIENCE_MS];
        self.own("check", &args, None, OWN_PROGRAM).await
    }

    /// `lineside explain`, as things stand now.
    pub(super) async fn explain(
        &self,
        request: &RawValue,
        status: Option<&StatusReport>,
    ) -> Result<Box<RawValue>, Fault> {
        let word = |there: bool| if there { "online" } else { "offline" };
        let broker = word(status.is_some_and(|it| it.broker_online));
        let edge = word(status.is_none_or(|it| it.engine != "absent"));
        let cloud = word(status.is_none_or(|it| it.cloud.iter().all(|(_, word)| *word == "open")));
        let args = [
            "explain", "-", "--json", "--broker", broker, "--edge", edge, "--cloud", cloud,
        ];
        let payload = Some(request.get().as_bytes());
        self.own("explain", &args, payload, OWN_PROGRAM).await
    }

    /// The packages.
    pub(super) async fn models(
        &self,
        which: Models,
        served: Option<String>,
        sight: Option<Sight>,
    ) -> Result<Box<RawValue>, Fault> {
        #[derive(Serialize)]
        struct Found {
            folder: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            name: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            seq: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<String>,
        }
        #[derive(Serialize)]
        struct List {
            served: Option<String>,
            packages: Vec<Found>,
            /// Where the packages that came over the air stand.
            #[serde(skip_serializing_if = "Option::is_none")]
            air: Option<Sight>,
        }
        let folder = self.facts.package.as_deref();
        let which = match which {
            Models::Show(id) | Models::Verify(id) => Some(id),
            Models::List => None,
        };
        let Some(id) = which else {
            let found = |folder: &Path| {
                let manifest = package::manifest_in(folder);
                let (manifest, error) = match manifest {
                    Ok(manifest) => (Some(manifest), None),
                    Err(faults) => (None, Some(faults.to_string())),
                };
                Found {
                    folder: folder.display().to_string(),
                    name: manifest.as_ref().map(|it| it.name.clone()),
                    seq: manifest.as_ref().map(|it| it.seq),
                    error,
                }
            };
            return Ok(raw(&List {
                served,
                packages: folder.map(found).into_iter().collect(),
                air: sight,
            }));
        };
        let serving = sight.and_then(|it| it.course.serving);
        let id = id.or(serving.as_deref().and_then(PackageId::parse));
        let stored = id.map(|id| store::folder_in(&self.facts.state_dir.join(STORE), &id));
        let folder = stored.as_deref().or(folder);
        let folder = folder.ok_or(Fault::NoPackage)?.display().to_string();
        let args = ["models", "check", folder.as_str(), "--json"];
        self.own("models", &args, None, OWN_PROGRAM_READING).await
    }

    /// An orderly end, and a new start.
    pub(super) fn restart(&self) -> Result<Value, Fault> {
        self.ender()?.restart();
        Ok(serde_json::json!({"restarting": true}))
    }

    fn ender(&self) -> Result<&Ender, Fault> {
        let nobody = || Fault::Unavailable("this process cannot restart itself".into());
        self.ender.as_ref().ok_or_else(nobody)
    }

    /// Runs the service's own program and takes what it prints.
    async fn own(
        &self,
        name: &'static str,
        args: &[&str],
        input: Option<&[u8]>,
        limit: Duration,
    ) -> Result<Box<RawValue>, Fault> {
        let fault = |why: String| Fault::OwnProgram(name, why);
        let io = |error: io::Error| fault(error.to_string());
        let mut command = Command::new(std::env::current_exe().map_err(io)?);
        command
            .args(args)
            .stdin(if input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_remove("NOTIFY_SOCKET")
            .kill_on_drop(true);
        if let Some(file) = self.facts.config_file.as_deref() {
            command.arg("--config").arg(file);
        }
        let running = async {
            let mut child = command.spawn()?;
            if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
                let _ = stdin.write_all(input).await; // it may end before it has read all
            }
            child.wait_with_output().await
        };
        let output = match timeout(limit, running).await {
            Ok(output) => output.map_err(io)?,
            Err(_) => return Err(fault(format!("it took longer than {} s", limit.as_secs()))),
        };
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        RawValue::from_string(said).map_err(|_| {
            let why = String::from_utf8_lossy(&output.stderr);
            fault(
                why.lines()
                    .next()
                    .unwrap_or("it printed nothing")
                    .to_owned(),
            )
        })
    }
}

/// What waits where.
pub(super) fn queues(status: &StatusReport) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Queues<'a> {
        open: usize,
        running: u32,
        waiting: u64,
        away: usize,
        pending: usize,
        outbox: u64,
        outcomes: usize,
        bytes: &'a [(&'static str, u64)],
    }
    Queues {
        open: status.open,
        running: status.running,
        waiting: status.waiting,
        away: status.away,
        pending: status.pending,
        outbox: status.outbox,
        outcomes: status.outcomes,
        bytes: &status.bytes,
    }
}
