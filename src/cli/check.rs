//! `lineside check`: is the configuration right, and will it work on this machine?
//!
//! Prints the effective settings and a table of what was looked at, each with a word and with
//! what to do about it. Changes nothing, and runs beside a running service.
//!
//! With `--commit-ready` it asks that service instead: see [`ready`].

pub mod ready;

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::selfcheck::{self, Item, State};
use crate::clock::{Clock, Wall};
use crate::config::{self, Endpoint, Faults, REFERENCE, Settings, Surroundings};
use crate::fault::Fault;
use crate::router::Policy;
use crate::router::policy::DEFAULT_RULE;
use crate::router::reach::{self, What};

/// The process's exit code where something needed is unavailable (`EX_UNAVAILABLE`).
pub const EXIT_UNAVAILABLE: u8 = 69;

/// The longest that the broker may take to answer where nobody says: a name is looked up, and a
/// line over a modem is set up.
const PATIENCE_MS: u64 = 10_000;

/// An echo slower than this is no network but a setting: Nagle's algorithm on either side.
const SLOW_ECHO: Duration = Duration::from_millis(20);

/// Arguments of `lineside check`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// The longest that the broker may take to answer.
    #[arg(long, value_name = "MS", default_value_t = PATIENCE_MS)]
    pub patience_ms: u64,
    /// Print the reference configuration, every key with its default, and do nothing else.
    #[arg(long)]
    pub reference: bool,
    /// Ask the running appliance instead whether this system may be kept: it is up, its store is well,
    /// and it serves its committed package. Ends with 0 if so, else with 69 and the reasons.
    #[arg(long, conflicts_with_all = ["reference", "patience_ms"])]
    pub commit_ready: bool,
    /// How it is asked.
    #[command(flatten)]
    pub ready: ready::Terms,
}

/// What the machine shows besides the settings.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Where daemons leave their marks.
    pub run: PathBuf,
    /// The time.
    pub now: Wall,
    /// The longest that the broker may take to answer.
    pub patience: Duration,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Each thing that was looked at.
    pub items: Vec<Item>,
}

/// Runs the subcommand and returns the exit code. `probe` connects to the broker and says how
/// long an echo took, or why there was none.
pub async fn command<P>(args: &Args, probe: P) -> io::Result<u8>
where
    P: AsyncFnOnce(&Settings) -> Result<Duration, String>,
{
    let mut out = io::stdout();
    if args.reference {
        out.write_all(REFERENCE.as_bytes())?;
        return Ok(0);
    }
    let settings = match config::load(&Surroundings::of_process(args.config.as_deref())) {
        Ok(settings) => settings,
        Err(faults) => {
            if args.json {
                writeln!(out, "{}", faults_json(&faults))?;
            } else {
                write!(io::stderr(), "{faults}")?;
            }
            return Ok(config::EXIT_CODE);
        }
    };
    let machine = Machine {
        run: PathBuf::from("/run"),
        now: Clock::start().now().wall,
        patience: Duration::from_millis(args.patience_ms),
    };
    let report = run(&settings, &machine, probe).await;
    if args.json {
        writeln!(out, "{}", report.to_json(&settings))?;
    } else {
        write!(out, "{}\n{report}", settings.effective_toml())?;
    }
    Ok(report.exit_code())
}

/// Looks at everything.
pub async fn run<P>(settings: &Settings, machine: &Machine, probe: P) -> Report
where
    P: AsyncFnOnce(&Settings) -> Result<Duration, String>,
{
    Report {
        items: vec![
            configuration(settings),
            routing(settings),
            broker(settings, machine.patience, probe).await,
            selfcheck::state_dir(settings),
            selfcheck::file_system(settings),
            selfcheck::disk_room(settings),
            selfcheck::control_socket(settings),
            selfcheck::clock(&machine.run, machine.now),
            selfcheck::thermal(&settings.roots.sysfs),
            selfcheck::memory(&settings.roots.procfs),
            selfcheck::serial(settings),
            selfcheck::model_package(settings),
        ],
    }
}

fn configuration(settings: &Settings) -> Item {
    let files = settings.files.iter().map(|file| file.display().to_string());
    let files = files.collect::<Vec<_>>().join(", ");
    let what = if files.is_empty() {
        "no file: all defaults".to_owned()
    } else {
        files
    };
    Item::new("configuration", State::Ok, what)
}

/// Which rules hold, and what in them is worth knowing; their faults were told before.
fn routing(settings: &Settings) -> Item {
    let name = "routing";
    let policy = &settings.policy;
    let is_reference = *policy == Policy::reference(policy.ways().clone());
    let what = if is_reference {
        "the five reference rules".to_owned()
    } else {
        format!("{} rules", policy.rules().len())
    };
    let findings = reach::look_through(policy, &settings.topics);
    let to_cloud = findings.iter().filter(|it| it.what == What::NoCloud);
    let to_cloud = to_cloud.filter_map(|it| policy.rules().get(it.rule?));
    let to_cloud: Vec<_> = to_cloud.map(|rule| rule.name.as_str()).collect();
    if findings.iter().any(|it| it.what == What::NoCatchAll) {
        let todo = "end [[route]] with a rule without when, unless that is meant";
        let what =
            format!("{what}; what none of them takes goes to the edge, by rule \"{DEFAULT_RULE}\"");
        Item::new(name, State::Warn, what).todo(format!("{todo} (it acts as {DEFAULT_RULE})"))
    } else if !to_cloud.is_empty() && !is_reference {
        let what = format!(
            "{what}; {} to a cloud, and there is none",
            to_cloud.join(", ")
        );
        Item::new(name, State::Warn, what)
            .todo("set cloud.url, or the edge answers instead, marked as degraded")
    } else {
        Item::new(name, State::Ok, what)
    }
}

async fn broker<P>(settings: &Settings, patience: Duration, probe: P) -> Item
where
    P: AsyncFnOnce(&Settings) -> Result<Duration, String>,
{
    let name = "broker";
    let link = &settings.link;
    let at = match &link.endpoint {
        Endpoint::Embedded { listen } => return embedded(*listen).await,
        Endpoint::Plain { host, port } | Endpoint::Tls { host, port, .. } => {
            format!("{host}:{port}")
        }
    };
    let echo = match tokio::time::timeout(patience, probe(settings)).await {
        Ok(Ok(echo)) => echo,
        Ok(Err(why)) => {
            return Item::new(name, State::Fail, format!("{at}: {why}"))
                .todo("check broker.url, the network, and the broker's access list");
        }
        Err(_) => {
            let seconds = patience.as_secs_f64();
            return Item::new(name, State::Fail, format!("{at}: no answer in {seconds} s"))
                .todo("check broker.url and the network");
        }
    };
    let what = format!("{at} echoes in {:.1} ms", echo.as_secs_f64() * 1000.0);
    if echo > SLOW_ECHO {
        Item::new(name, State::Warn, what)
            .todo("on a local network: set_tcp_nodelay true in the broker's configuration")
    } else if matches!(&link.endpoint, Endpoint::Plain { .. }) && link.login.is_some() {
        Item::new(
            name,
            State::Warn,
            format!("{what}; the password goes in the clear"),
        )
        .todo("use mqtts:// unless the broker is on this machine")
    } else {
        Item::new(name, State::Ok, what)
    }
}

/// The broker inside the process is not up now; its port can be looked at.
async fn embedded(listen: SocketAddr) -> Item {
    let name = "broker";
    match tokio::net::TcpListener::bind(listen).await {
        Ok(_) if listen.ip().is_loopback() => Item::new(
            name,
            State::Ok,
            format!("embedded, will listen on {listen}"),
        ),
        Ok(_) => Item::new(
            name,
            State::Warn,
            format!("embedded, will listen on {listen} and let everyone in"),
        )
        .todo("use a broker with an access list where others share the network"),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => Item::new(
            name,
            State::Warn,
            format!("embedded, but {listen} is in use already"),
        )
        .todo("nothing if that is the running service; else set broker.url or embedded_listen"),
        Err(e) => Item::new(name, State::Fail, format!("embedded, but {listen}: {e}"))
            .todo("set broker.embedded_listen to an address of this machine"),
    }
}

impl Report {
    /// Zero unless something failed.
    pub fn exit_code(&self) -> u8 {
        let failed = self.items.iter().any(|item| item.state == State::Fail);
        if failed { EXIT_UNAVAILABLE } else { 0 }
    }

    /// One line of JSON.
    pub fn to_json(&self, settings: &Settings) -> String {
        let items = self.items.iter().map(|item| ItemJson {
            name: item.name,
            state: item.state.word(),
            what: &item.what,
            todo: &item.todo,
        });
        json(&ReportJson {
            ok: self.exit_code() == 0,
            appliance: settings.name.as_str(),
            files: (settings.files.iter())
                .map(|file| file.display().to_string())
                .collect(),
            items: items.collect(),
            settings: settings.effective_toml(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.items.iter().map(|item| item.name.len()).max();
        let width = width.unwrap_or_default();
        for item in &self.items {
            let state = item.state.word();
            writeln!(f, "{state:<4}  {:<width$}  {}", item.name, item.what)?;
            if !item.todo.is_empty() {
                writeln!(f, "{:4}  {:<width$}  -> {}", "", "", item.todo)?;
            }
        }
        Ok(())
    }
}

/// The JSON of `--json`.
#[derive(Serialize)]
struct ReportJson<'a> {
    ok: bool,
    appliance: &'a str,
    files: Vec<String>,
    items: Vec<ItemJson<'a>>,
    settings: &'a str,
}

#[derive(Serialize)]
struct ItemJson<'a> {
    name: &'a str,
    state: &'a str,
    what: &'a str,
    todo: &'a str,
}

#[derive(Serialize)]
struct FaultsJson<'a> {
    ok: bool,
    faults: Vec<FaultJson<'a>>,
}

#[derive(Serialize)]
pub(super) struct FaultJson<'a> {
    key: &'a str,
    value: &'a str,
    wanted: &'a str,
    file: Option<String>,
    line: Option<usize>,
}

impl<'a> FaultJson<'a> {
    pub(super) fn of(fault: &'a Fault) -> Self {
        Self {
            key: &fault.key,
            value: &fault.value,
            wanted: &fault.wanted,
            file: (fault.place.as_ref()).map(|place| place.file.display().to_string()),
            line: fault.place.as_ref().map(|place| place.line),
        }
    }
}

/// The faults as one line of JSON.
pub fn faults_json(faults: &Faults) -> String {
    json(&FaultsJson {
        ok: false,
        faults: faults.0.iter().map(FaultJson::of).collect(),
    })
}

pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("structs of texts and numbers always serialize")
}

#[cfg(test)]
mod tests;
