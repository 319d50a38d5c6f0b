//! The settings that the appliance is built from: checked, complete, without a trace of TOML.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::intake::{GateLimits, Limits, Topics};
use crate::router::{Accepts, Policy, Window};
use crate::safe::DeviceKey;
use crate::service::{Destination, Levels};

use super::panel::Panel;
use super::pin::Pin;
use super::secret::Secret;
use super::telemetry::Telemetry;

/// Everything that the site decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Who this is.
    pub name: ApplianceName,
    /// Everything that outlives a restart; absolute, perhaps not there yet.
    pub state_dir: PathBuf,
    /// Where the command line reaches the running service.
    pub control_socket: PathBuf,
    /// The names of its topics.
    pub topics: Topics,
    /// The line to the broker.
    pub link: Link,
    /// What a single request may be.
    pub intake: Limits,
    /// How many, and how fast.
    pub gate: GateLimits,
    /// What the disk may hold.
    pub spool: SpoolLimits,
    /// Folder of the model package, if one is set or found.
    pub model_package: Option<PathBuf>,
    /// How the model is run.
    pub engine: Engine,
    /// Where requests go.
    pub policy: Policy,
    /// How far the site's clocks are ahead of UTC.
    pub utc_offset_minutes: i16,
    /// Models elsewhere, in the order in which they stand in for each other.
    pub clouds: Vec<Upstream>,
    /// How sure an answer from one of them must be; absent: as sure as one from here.
    pub cloud_threshold: Option<f64>,
    /// How long a request is kept for them.
    pub cloud_keep: Duration,
    /// Who reviews.
    pub review: Review,
    /// When an answer is believed.
    pub confidence: Confidence,
    /// Where packages come from over the air, if they do.
    pub ota: Option<Ota>,
    /// How models lie on the disk.
    pub at_rest: AtRest,
    /// The technicians' port, if there is one.
    pub console: Option<Console>,
    /// The page and the metrics, unless they are off.
    pub panel: Option<Panel>,
    /// Figures over MQTT, unless they are off.
    pub telemetry: Telemetry,
    /// Bytes of memory that service and engine may take together; absent: what the machine has.
    pub memory_budget_bytes: Option<u64>,
    /// Where the kernel shows what it knows.
    pub roots: Roots,
    /// How hot it may become.
    pub heat: HeatLimit,
    /// What is logged.
    pub log: Log,
    /// The longest that an orderly end may take.
    pub drain_timeout: Duration,
    /// The file that the command line named.
    pub config_file: Option<PathBuf>,
    /// The site's files that had a say, lowest first.
    pub files: Vec<PathBuf>,
    pub(super) effective: String,
}

impl Settings {
    /// All keys with a value, as TOML; a comment says where each came from that is no default.
    /// Of a secret there is only the path.
    pub fn effective_toml(&self) -> &str {
        &self.effective
    }
}

/// An appliance's name: one level of a topic, and part of its MQTT client id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApplianceName(String);

impl ApplianceName {
    /// Bytes of a name: it stands in every topic and in each log line.
    pub const MAX_BYTES: usize = 64;

    /// The name, if it is one. `pool` is none: its topics would be those of the pools.
    pub fn parse(name: &str) -> Option<Self> {
        (is_level(name) && name != "pool").then(|| Self(name.to_owned()))
    }

    /// A name made of the machine's.
    pub fn of_host(host: &str) -> Self {
        let label = host.split('.').next().unwrap_or_default();
        let bytes = label.bytes().take(Self::MAX_BYTES);
        let name = bytes
            .map(|byte| {
                if is_name_byte(byte) {
                    char::from(byte)
                } else {
                    '-'
                }
            })
            .collect::<String>();
        let meant = name.bytes().any(|byte| byte.is_ascii_alphanumeric());
        let name = if meant { Self::parse(&name) } else { None };
        name.unwrap_or_else(|| Self("appliance".into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ApplianceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a name can be one level of a topic, of a length that leaves room for the others.
pub(super) fn is_level(name: &str) -> bool {
    (1..=ApplianceName::MAX_BYTES).contains(&name.len()) && name.bytes().all(is_name_byte)
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

/// The line to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where it is.
    pub endpoint: Endpoint,
    /// How the appliance names itself to it.
    pub client_id: String,
    /// How the appliance proves itself, where it does.
    pub login: Option<Login>,
    /// The largest packet, both ways.
    pub max_packet_bytes: u32,
    /// Pause after which the line is tried.
    pub keep_alive: Duration,
    /// How long the broker keeps the session of an appliance that is away.
    pub session_expiry_s: u32,
    /// How long the broker keeps a reply for a device that is away.
    pub reply_expiry_s: u32,
    /// Messages under way to the appliance that it has not acknowledged.
    pub receive_maximum: u16,
}

/// Where the broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Inside this process.
    Embedded {
        /// Where it listens for devices.
        listen: SocketAddr,
    },
    /// Elsewhere, in the clear.
    Plain {
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// Elsewhere, over TLS.
    Tls {
        /// Name or address; the broker's certificate must be for it.
        host: String,
        /// TCP port.
        port: u16,
        /// Whom to believe.
        trust: Trust,
        /// The appliance's own certificate, where the broker wants one.
        client: Option<ClientCertificate>,
    },
}

/// Which certificates make a broker genuine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those that the system trusts.
    System,
    /// Those in this PEM file, and no others.
    File(PathBuf),
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The chain, own certificate first.
    pub cert_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

/// A user name and what proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub username: String,
    /// The proof.
    pub password: Secret,
}

/// What the disk may hold. Bytes are those of records alive; the store's files take about
/// [`SpoolLimits::DISK_FACTOR_PERCENT`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolLimits {
    /// Accepted requests without an outcome.
    pub inbox_bytes: u64,
    /// Replies that the broker has not taken yet.
    pub outbox_bytes: u64,
    /// Escalations on their way to a cloud model.
    pub cloud_bytes: u64,
    /// Escalations that wait for a person.
    pub review_bytes: u64,
    /// What became of each request.
    pub outcomes_bytes: u64,
    /// Steps of each request's life.
    pub trail_bytes: u64,
    /// Damaged records, as they were found.
    pub aside_bytes: u64,
    /// Measurements; a cap of their own, so that they never crowd out requests.
    pub telemetry_bytes: u64,
    /// Outcomes that are remembered.
    pub outcomes_kept: u64,
    /// How long they are.
    pub outcomes_kept_for: Duration,
    /// A file that is deleted when the disk is full.
    pub ballast_bytes: u64,
    /// Bytes that stay free on the file system.
    pub headroom_bytes: u64,
}

impl SpoolLimits {
    /// Space on disk against bytes of live records, as measured of the store's files.
    pub const DISK_FACTOR_PERCENT: u64 = 250;

    /// Each tree's part of `max_bytes`, in percent. Requests come first: what was accepted must
    /// fit even when nothing leaves. A reply is short beside its request. Outcomes, trail and
    /// what was set aside are a quarter together: they are memory, and the oldest give way.
    const INBOX_PERCENT: u64 = 40;
    const OUTBOX_PERCENT: u64 = 15;
    const CLOUD_PERCENT: u64 = 10;
    const REVIEW_PERCENT: u64 = 10;
    const OUTCOMES_PERCENT: u64 = 15;
    const TRAIL_PERCENT: u64 = 8;
    const ASIDE_PERCENT: u64 = 2;

    /// The shares of `max_bytes`; the rest is left at zero for the caller.
    pub(super) fn shared_out(max_bytes: u64) -> Self {
        let share = |percent: u64| max_bytes / 100 * percent;
        Self {
            inbox_bytes: share(Self::INBOX_PERCENT),
            outbox_bytes: share(Self::OUTBOX_PERCENT),
            cloud_bytes: share(Self::CLOUD_PERCENT),
            review_bytes: share(Self::REVIEW_PERCENT),
            outcomes_bytes: share(Self::OUTCOMES_PERCENT),
            trail_bytes: share(Self::TRAIL_PERCENT),
            aside_bytes: share(Self::ASIDE_PERCENT),
            telemetry_bytes: 0,
            outcomes_kept: 0,
            outcomes_kept_for: Duration::ZERO,
            ballast_bytes: 0,
            headroom_bytes: 0,
        }
    }

    /// Bytes of live records when every tree is full.
    pub fn live_bytes(&self) -> u64 {
        self.inbox_bytes
            + self.outbox_bytes
            + self.cloud_bytes
            + self.review_bytes
            + self.outcomes_bytes
            + self.trail_bytes
            + self.aside_bytes
            + self.telemetry_bytes
    }

    /// Bytes on the disk when every tree is full, without the headroom.
    pub fn disk_bytes(&self) -> u64 {
        self.live_bytes() / 100 * Self::DISK_FACTOR_PERCENT + self.ballast_bytes
    }
}

/// How the model is run; what is absent, the appliance finds out by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Engine {
    /// Threads.
    pub threads: Option<u16>,
    /// Conversations at a time.
    pub sequences: Option<u16>,
    /// Tokens of one conversation.
    pub context_tokens: Option<u32>,
    /// Layers on a graphics processor.
    pub gpu_layers: Option<u32>,
    /// How keys and values are stored.
    pub kv_type: Option<KvType>,
    /// Whether attention is computed in one go.
    pub flash_attention: Option<bool>,
    /// A smaller model that guesses ahead; absent: none.
    pub draft_model: Option<PathBuf>,
    /// How long the engine may have nothing to do; absent: for ever.
    pub unload_after_idle: Option<Duration>,
}

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// 16 bit each.
    F16,
    /// 8 bit and a scale.
    Q8,
    /// 4 bit and a scale.
    Q4,
}

/// A model elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// How rules and replies call it.
    pub name: String,
    /// Where it is asked.
    pub url: String,
    /// Which model there.
    pub model: String,
    /// What proves who asks.
    pub api_key: Option<Secret>,
    /// Certificates that its own must descend from; absent: those of the system.
    pub ca_file: Option<PathBuf>,
    /// What stands between; absent: nothing.
    pub proxy: Option<Proxy>,
    /// What may go there.
    pub accepts: Accepts,
    /// The longest that a connection may take to come about.
    pub connect_timeout: Duration,
    /// The longest that an answer may take.
    pub timeout: Duration,
    /// Requests in an hour at most.
    pub requests_per_hour: u32,
    /// What else it may use up.
    pub bill: Bill,
}

/// What a model elsewhere may use up, in calendar hours and months of UTC; absent: as much as is
/// wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// Requests.
    pub requests_per_month: Option<u64>,
    /// Tokens, those of prompts and of answers.
    pub tokens_per_hour: Option<u64>,
    /// The same.
    pub tokens_per_month: Option<u64>,
    /// Hundredths of the currency's unit.
    pub cents_per_hour: Option<u64>,
    /// The same.
    pub cents_per_month: Option<u64>,
    /// What a million tokens of prompts cost.
    pub prompt_cents: u64,
    /// What a million tokens of answers cost.
    pub completion_cents: u64,
}

/// A proxy between the appliance and a model elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// The one that the environment names.
    System,
    /// This one.
    At(String),
}

/// Who reviews.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Review {
    /// Whether persons answer at this appliance.
    pub local: bool,
    /// What persons elsewhere may see; nothing, where there are none.
    pub remote: Accepts,
    /// How long an item waits for them.
    pub expires_after: Duration,
    /// Whether they are asked about answers in doubt, too.
    pub doubtful: bool,
    /// What becomes of it then.
    pub at_expiry: Expiry,
}

/// What becomes of an item for which nobody was found in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Its draft is the answer; without one it is refused.
    Draft,
    /// It is refused.
    Refuse,
}

/// When an answer is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Confidence {
    /// How sure it must be; absent: as the task says.
    pub threshold: Option<f64>,
    /// The share of answers that may be wrong, where the threshold is to follow from it.
    pub risk_target: Option<f64>,
}

/// Packages over the air.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ota {
    /// Where they come from, in the order in which it is asked.
    pub sources: Vec<PackageSource>,
    /// The first root metadata that is trusted.
    pub root_file: PathBuf,
    /// Certificates that a server's must descend from; absent: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Which ring of a rollout this appliance belongs to.
    pub ring: Option<String>,
    /// How often new metadata is looked for.
    pub check_every: Duration,
    /// How fast a download may go; absent: as fast as it can.
    pub max_bytes_per_s: Option<u64>,
    /// How slow a source may be.
    pub min_bytes_per_s: u64,
    /// When downloads may run, by the site's clocks; absent: always.
    pub hours: Option<Window>,
    /// Bytes of packages beyond which those go that are not needed to serve or to go back.
    pub keep_bytes: u64,
    /// Requests that a package must answer well before it serves for good.
    pub trial_requests: u32,
    /// How long it must have served by then.
    pub trial_for: Duration,
    /// How often an item of its gate is asked again afterwards; absent: never.
    pub watch_every: Option<Duration>,
    /// What happens if it answers these worse than at its gate.
    pub on_alarm: OnAlarm,
}

/// What happens when a package got worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAlarm {
    /// People are told.
    Tell,
    /// The package before it serves, too.
    RollBack,
}

/// How models lie on the disk, and what opens them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AtRest {
    /// How those lie that come from now on.
    pub form: Form,
    /// What opens the encrypted ones; always there where they are to be.
    pub device_key: Option<DeviceKey>,
}

/// The form of a file on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    #[default]
    Plain,
    /// With a key of this device.
    Encrypted,
}

/// Where packages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackageSource {
    /// A server, `https://` or `http://`.
    Url(String),
    /// A folder, such as a USB stick's.
    Folder(PathBuf),
}

/// The technicians' port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    /// The device.
    pub device: PathBuf,
    /// Symbols in a second.
    pub baud: u32,
    /// The bit that guards the others.
    pub parity: Parity,
    /// How either end says that it cannot keep up.
    pub flow_control: Flow,
    /// Who may in.
    pub entry: Entry,
    /// How long somebody who is in may type nothing.
    pub idle_timeout: Duration,
}

/// Who may in at the technicians' port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Who knows this PIN.
    Pin(Pin),
    /// Whoever holds the cable: the site says so.
    Open,
    /// Nobody: the site has not said who.
    Shut,
}

/// The bit that guards the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// There is none.
    None,
    /// It makes the ones even.
    Even,
    /// It makes the ones odd.
    Odd,
}

/// How either end of a serial line says that it cannot keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Not at all.
    None,
    /// RTS and CTS.
    Hardware,
    /// XON and XOFF.
    Software,
}

/// How hot it may become.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatLimit {
    /// No sensor that counts may be hotter.
    pub celsius: f64,
    /// The sensors that count; empty means those of the parts that the appliance heats.
    pub sensors: Vec<String>,
}

/// Where the kernel shows what it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// Sensors.
    pub sysfs: PathBuf,
    /// Memory and pressure.
    pub procfs: PathBuf,
}

/// What is logged, and where to.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// How much each crate says.
    pub levels: Levels,
    /// Where to.
    pub to: Destination,
}
