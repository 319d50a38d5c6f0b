//! What may stand in a configuration file: the keys, their kinds and their ranges.
//!
//! Purpose: [`File`] mirrors the TOML, and [`KEYS`] says the same as a table. The table is what
//! a file is held against, key by key, because serde stops at the first thing it dislikes and a
//! technician wants all of them; the mirror is what the rest of the configuration reads. A test
//! holds the two together.
//!
//! Invariant: what passed the table deserializes into the mirror.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Kind of a key's value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Any text; [`super::check`] looks closer.
    Text,
    /// A path, or a credential.
    Path,
    /// A path whose file holds a secret.
    SecretPath,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number.
    Number {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
        /// Why not less and not more.
        why: &'static str,
    },
    /// A whole number, or a word that stands for one.
    NumberOr {
        /// The word.
        word: &'static str,
        /// The least.
        min: i64,
        /// The most.
        max: i64,
        /// Why not less and not more.
        why: &'static str,
    },
    /// A list of texts.
    Texts,
    /// A text, or a list of at least one.
    OneOrMore,
    /// One of these words, or a list of at least one.
    Words(&'static [&'static str]),
    /// Yes or no.
    Truth,
    /// A number from 0 to 1.
    Share,
    /// A temperature that a board can be held to: [`CELSIUS`].
    Celsius,
    /// A list of tables, each with a topic filter and a classification.
    Exceptions,
    /// A table with these keys.
    Table(&'static [Key]),
    /// A list of tables.
    Entries(&'static Entry),
}

/// What each table of a list may have.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its keys.
    pub(super) keys: &'static [Key],
    /// Those that it must have.
    pub(super) needed: &'static [&'static str],
    /// What would be right, as a whole.
    pub(super) wanted: &'static str,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Section and name.
    pub(super) name: &'static str,
    /// What it takes.
    pub(super) kind: Kind,
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

const fn number(name: &'static str, min: i64, max: i64, why: &'static str) -> Key {
    Key {
        name,
        kind: Kind::Number { min, max, why },
    }
}

#[rustfmt::skip] // one line, as the one above
const fn number_or(name: &'static str, word: &'static str, min: i64, max: i64, why: &'static str) -> Key {
    Key { name, kind: Kind::NumberOr { word, min, max, why } }
}

/// Limits of a temperature: below, a warm room is too hot; above, no chip of a board survives.
pub(super) const CELSIUS: std::ops::RangeInclusive<f64> = 40.0..=125.0;

/// Stands for what the appliance finds out by itself.
pub(super) const AUTO: &str = "auto";

/// The words of a classification.
pub(super) const CLASSIFICATIONS: &[&str] = &["public", "internal", "restricted"];

const KIB: i64 = 1024;
const MIB: i64 = 1024 * KIB;
const GIB: i64 = 1024 * MIB;
const DAY_S: i64 = 86_400;

/// Every key, in the order of the reference. The ranges are wide on purpose: they keep out what
/// cannot work, not what is unusual.
#[rustfmt::skip] // a table is read by its columns
pub(super) const KEYS: &[Key] = &[
    key("appliance.name", Kind::Text),
    key("appliance.state_dir", Kind::Path),
    key("appliance.default_classification", Kind::Word(CLASSIFICATIONS)),
    number("appliance.utc_offset_minutes", -12 * 60, 14 * 60, "no clock on Earth is further from UTC"),
    key("broker.url", Kind::Text),
    key("broker.embedded_listen", Kind::Text),
    key("broker.username", Kind::Text),
    key("broker.password_file", Kind::SecretPath),
    key("broker.ca_file", Kind::Path),
    key("broker.cert_file", Kind::Path),
    key("broker.key_file", Kind::SecretPath),
    key("broker.prefix", Kind::Text),
    key("broker.pool", Kind::Text),
    number("broker.max_packet_bytes", 4 * KIB, 2 * MIB, "a request with its properties must fit, receive_maximum of them into memory, and one with an answer to it into a record on the disk"),
    number("broker.keep_alive_s", 5, 3600, "shorter wakes radio links for nothing, longer leaves a dead line unnoticed"),
    number("broker.session_expiry_s", 60, 365 * DAY_S, "the broker must remember the appliance over a restart, but not for ever"),
    number("broker.reply_expiry_s", 1, 365 * DAY_S, "a reply without an end would fill the broker for a device that is gone"),
    number("broker.receive_maximum", 1, 1024, "each message is held in memory until it is on the disk"),
    number("intake.max_prompt_bytes", 256, 2 * MIB, "a sentence must fit, and the prompt into a packet"),
    number("intake.max_in_flight", 1, 100_000, "each open request is held in memory"),
    number("intake.max_in_flight_per_client", 1, 100_000, "each open request is held in memory"),
    number("intake.requests_per_client_per_s", 1, 10_000, "the disk commits no more than that"),
    number("intake.requests_per_client_burst", 1, 100_000, "one request must pass, and a burst is held in memory"),
    number("intake.default_deadline_ms", 10, 7 * DAY_S * 1000, "an answer takes milliseconds at least; nobody waits for longer than a week"),
    number("intake.max_deadline_ms", 10, 7 * DAY_S * 1000, "an answer takes milliseconds at least; nobody waits for longer than a week"),
    key("intake.reply_topics", Kind::Texts),
    key("intake.classification", Kind::Exceptions),
    key("model.package", Kind::Path),
    number_or("engine.threads", AUTO, 1, 256, "no board has more cores"),
    number_or("engine.sequences", AUTO, 1, 64, "each holds a part of the cache; more gain nothing on a board"),
    number_or("engine.context_tokens", AUTO, 64, 1 << 20, "a question and its answer must fit, and the cache into memory"),
    number_or("engine.gpu_layers", AUTO, 0, 1000, "no model has more layers"),
    key("engine.kv_type", Kind::Word(&[AUTO, "f16", "q8_0", "q4_0"])),
    key("engine.flash_attention", Kind::Word(&[AUTO, "on", "off"])),
    key("engine.draft_model", Kind::Path),
    number_or("engine.unload_after_idle_s", "never", 1, 365 * DAY_S, "a start takes a moment, and a request must pay it"),
    key("governor.limit_celsius", Kind::Celsius),
    key("governor.sensors", Kind::Texts),
    number_or("governor.memory_budget_bytes", AUTO, 64 * MIB, 1024 * GIB, "below, not even the service itself has room; no board has more"),
    key("governor.sysfs_root", Kind::Path),
    key("governor.procfs_root", Kind::Path),
    number("spool.max_bytes", 8 * MIB, 64 * GIB, "below, the smaller trees hold nothing of use; above, opening the store takes minutes"),
    number("spool.telemetry_max_bytes", MIB, 16 * GIB, "below, a night offline leaves no trace; above, opening the store takes minutes"),
    number("spool.outcomes_kept", 100, 10_000_000, "duplicates are known by these; each takes some memory"),
    number("spool.outcomes_kept_hours", 1, 8760, "a device repeats itself within the hour; a year is an archive's work"),
    number("spool.ballast_bytes", MIB, GIB, "opening a full store takes about a megabyte; more than a gigabyte is a waste"),
    number("spool.headroom_bytes", 4 * MIB, 64 * GIB, "the store rewrites itself into free space before it gives any back"),
    key("route", Kind::Entries(&ROUTE)),
    key("confidence.threshold", Kind::Share),
    key("confidence.risk_target", Kind::Share),
    key("cloud.url", Kind::Text),
    key("cloud.name", Kind::Text),
    key("cloud.model", Kind::Text),
    key("cloud.api_key_file", Kind::SecretPath),
    key("cloud.ca_file", Kind::Path),
    key("cloud.proxy", Kind::Text),
    key("cloud.accepts", Kind::Texts),
    number("cloud.connect_timeout_ms", 10, 600_000, CLOUD_WAIT),
    number("cloud.timeout_ms", 10, 600_000, CLOUD_WAIT),
    number("cloud.requests_per_hour", 1, 1_000_000, "one must pass, and a bill has an end"),
    number("cloud.requests_per_month", 1, 1_000_000_000, BILL),
    number("cloud.tokens_per_hour", 1, 1_000_000_000, BILL),
    number("cloud.tokens_per_month", 1, 1_000_000_000_000, BILL),
    number("cloud.cost_cents_per_hour", 1, 1_000_000, BILL),
    number("cloud.cost_cents_per_month", 1, 100_000_000, BILL),
    number("cloud.prompt_cents_per_million", 0, 1_000_000, PRICE),
    number("cloud.completion_cents_per_million", 0, 1_000_000, PRICE),
    key("cloud.threshold", Kind::Share),
    number("cloud.keep_hours", 1, 8760, "a line must have a chance to come back, and a request an end"),
    key("cloud.more", Kind::Entries(&CLOUD_MORE)),
    key("review.local", Kind::Truth),
    key("review.remote", Kind::Truth),
    key("review.accepts", Kind::Texts),
    key("review.doubtful", Kind::Truth),
    number("review.expires_hours", 1, 8760, "a person must have a chance, and an item an end"),
    key("review.expiry", Kind::Word(&["draft", "refuse"])),
    key("ota.repository", Kind::OneOrMore),
    key("ota.root_file", Kind::Path),
    key("ota.ca_file", Kind::Path),
    key("ota.plain_http", Kind::Truth),
    key("ota.ring", Kind::Text),
    number("ota.check_every_s", 60, 30 * DAY_S, "a rollout waits for the slowest; a repository is asked by a whole fleet"),
    number_or("ota.max_bytes_per_s", "unlimited", 1000, 4 * GIB - 1, "below, a model never arrives"),
    number("ota.min_bytes_per_s", 1, GIB, "a source that gives less is left for another; a line over a mobile network is slow"),
    key("ota.hours", Kind::Text),
    key("ota.at_rest", Kind::Word(&["plain", "encrypted"])),
    key("ota.device_key_file", Kind::SecretPath),
    number("ota.keep_bytes", 0, 1 << 40, "the committed package and the one before it stay in any case"),
    number("ota.trial_requests", 1, 1_000_000, "a package that answered nothing has shown nothing"),
    number("ota.trial_s", 0, 30 * DAY_S, "a trial that never ends keeps the next package away"),
    number_or("ota.watch_every_s", "never", 1, DAY_S, "rarer, it sees nothing; it takes the engine for an answer's time"),
    key("ota.on_alarm", Kind::Word(&["tell", "roll_back"])),
    key("console.device", Kind::Path),
    number("console.baud", 9600, 921_600, "the rates that serial adapters share"),
    key("console.parity", Kind::Word(&["none", "even", "odd"])),
    key("console.flow_control", Kind::Word(&["none", "hardware", "software"])),
    key("console.pin_file", Kind::SecretPath),
    key("console.pin", Kind::Word(&["file", "none"])),
    number("console.idle_timeout_s", 30, DAY_S, "a person must find the next word, and a day is too long for an open door"),
    key("panel.listen", Kind::Text),
    key("panel.cert_file", Kind::Path),
    key("panel.key_file", Kind::SecretPath),
    key("panel.token_file", Kind::SecretPath),
    key("panel.hosts", Kind::Texts),
    key("panel.restricted", Kind::Truth),
    key("telemetry.mqtt", Kind::Truth),
    number("telemetry.every_s", 1, 3600, "figures of an hour say nothing of its minutes, and each look costs a moment"),
    number("telemetry.batch_s", 1, 86_400, "a batch is one message, and who watches wants it within the day"),
    number("telemetry.batches_per_s", 1, 1000, "a backlog must drain, and requests go first"),
    key("telemetry.sparkplug", Kind::Table(super::telemetry::SPARKPLUG)),
    key("telemetry.home_assistant", Kind::Text),
    key("provision.est_url", Kind::Text),
    key("provision.ca_file", Kind::Path),
    key("provision.username", Kind::Text),
    key("provision.password_file", Kind::SecretPath),
    key("provision.cert_file", Kind::Path),
    key("provision.key_file", Kind::SecretPath),
    key("log.level", Kind::Text),
    key("log.to", Kind::Word(&["auto", "journald", "stderr"])),
    number("service.drain_timeout_ms", 100, 80_000, "one write must fit; systemd kills after 90 seconds"),
];

const BILL: &str = "something must pass, and a bill has an end";
const PRICE: &str = "the price of a million tokens, in hundredths of the currency's unit";
const CLOUD_WAIT: &str = "a line has its delay, and the edge answers what takes longer";

/// A rule.
#[rustfmt::skip] // a table is read by its columns
const ROUTE: Entry = Entry {
    keys: &[
        key("name", Kind::Text),
        key("when", Kind::Table(WHEN)),
        key("to", Kind::Text),
    ],
    needed: &["name", "to"],
    wanted: "[[route]] with a name, when = { … } and to = \"edge\", \"cloud\", \"cloud:NAME\", \"review\" or \"refuse\"",
};

/// What a rule may ask.
#[rustfmt::skip] // a table is read by its columns
pub(super) const WHEN: &[Key] = &[
    key("classification", Kind::Words(CLASSIFICATIONS)),
    key("task", Kind::OneOrMore),
    key("topic", Kind::OneOrMore),
    key("client", Kind::OneOrMore),
    number("risk_at_least", 0, 100, RISK),
    number("risk_above", 0, 100, RISK),
    number("risk_at_most", 0, 100, RISK),
    number("risk_below", 0, 100, RISK),
    key("complexity_at_least", Kind::Share),
    key("complexity_above", Kind::Share),
    key("complexity_at_most", Kind::Share),
    key("complexity_below", Kind::Share),
    number_or("tokens_at_least", CONTEXT, 0, MAX_TOKENS, TOKENS),
    number_or("tokens_above", CONTEXT, 0, MAX_TOKENS, TOKENS),
    number_or("tokens_at_most", CONTEXT, 0, MAX_TOKENS, TOKENS),
    number_or("tokens_below", CONTEXT, 0, MAX_TOKENS, TOKENS),
    key("words", Kind::OneOrMore),
    key("fragments", Kind::OneOrMore),
    key("time", Kind::Text),
    key("broker", Kind::Word(LINE)),
    key("cloud", Kind::Word(LINE)),
    key("allowance", Kind::Words(ALLOWANCES)),
];

const RISK: &str = "as in a request";
const TOKENS: &str = "no model has a longer context";
const MAX_TOKENS: i64 = 1 << 24;
/// Stands for the context of the model on this appliance.
const CONTEXT: &str = "context";
const LINE: &[&str] = &["online", "offline"];
const ALLOWANCES: &[&str] = &["nominal", "warm", "hot", "critical"];

/// A further upstream.
#[rustfmt::skip] // a table is read by its columns
const CLOUD_MORE: Entry = Entry {
    keys: &[
        key("name", Kind::Text),
        key("url", Kind::Text),
        key("model", Kind::Text),
        key("api_key_file", Kind::SecretPath),
        key("ca_file", Kind::Path),
        key("proxy", Kind::Text),
        key("accepts", Kind::Texts),
        number("connect_timeout_ms", 10, 600_000, CLOUD_WAIT),
        number("timeout_ms", 10, 600_000, CLOUD_WAIT),
        number("requests_per_hour", 1, 1_000_000, "one must pass, and a bill has an end"),
        number("requests_per_month", 1, 1_000_000_000, BILL),
        number("tokens_per_hour", 1, 1_000_000_000, BILL),
        number("tokens_per_month", 1, 1_000_000_000_000, BILL),
        number("cost_cents_per_hour", 1, 1_000_000, BILL),
        number("cost_cents_per_month", 1, 100_000_000, BILL),
        number("prompt_cents_per_million", 0, 1_000_000, PRICE),
        number("completion_cents_per_million", 0, 1_000_000, PRICE),
    ],
    needed: &["name", "url", "model", "accepts"],
    wanted: "[[cloud.more]] with a name, url, model and accepts",
};

/// The keys of one entry of `intake.classification`.
pub(super) const EXCEPTION_KEYS: &[&str] = &["topic", "classification"];

/// A whole configuration, all layers together.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) appliance: Appliance,
    pub(super) broker: Broker,
    pub(super) intake: Intake,
    #[serde(default)]
    pub(super) model: Model,
    pub(super) engine: Engine,
    pub(super) governor: Governor,
    pub(super) spool: Spool,
    #[serde(default)]
    pub(super) route: Option<Vec<Route>>,
    #[serde(default)]
    pub(super) confidence: super::tiers::Bars,
    pub(super) cloud: Cloud,
    pub(super) review: Review,
    pub(super) ota: super::ota::Section,
    pub(super) console: Console,
    pub(super) panel: super::panel::Section,
    pub(super) telemetry: super::telemetry::Section,
    #[serde(default)]
    pub(super) provision: super::provision::Section,
    pub(super) log: Log,
    pub(super) service: Service,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Appliance {
    pub(super) name: Option<String>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) default_classification: String,
    pub(super) utc_offset_minutes: i16,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Broker {
    pub(super) url: String,
    pub(super) embedded_listen: String,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<String>,
    pub(super) ca_file: Option<String>,
    pub(super) cert_file: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) prefix: String,
    pub(super) pool: Option<String>,
    pub(super) max_packet_bytes: u32,
    pub(super) keep_alive_s: u16,
    pub(super) session_expiry_s: u32,
    pub(super) reply_expiry_s: u32,
    pub(super) receive_maximum: u16,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Intake {
    pub(super) max_prompt_bytes: u32,
    pub(super) max_in_flight: u32,
    pub(super) max_in_flight_per_client: u32,
    pub(super) requests_per_client_per_s: u32,
    pub(super) requests_per_client_burst: u32,
    pub(super) default_deadline_ms: u64,
    pub(super) max_deadline_ms: u64,
    pub(super) reply_topics: Option<Vec<String>>,
    #[serde(default)]
    pub(super) classification: Vec<Exception>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exception {
    pub(super) topic: String,
    pub(super) classification: String,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    pub(super) package: Option<PathBuf>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Engine {
    pub(super) threads: NumberOr,
    pub(super) sequences: NumberOr,
    pub(super) context_tokens: NumberOr,
    pub(super) gpu_layers: NumberOr,
    pub(super) kv_type: String,
    pub(super) flash_attention: String,
    pub(super) draft_model: String,
    pub(super) unload_after_idle_s: NumberOr,
}

/// A number, or the word that the table of keys allows instead.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(super) enum NumberOr {
    Number(u64),
    Word(String),
}

impl NumberOr {
    /// The number, unless the word stands there. For keys whose range is that of 32 bit.
    pub(super) fn number(&self) -> Option<u32> {
        u32::try_from(self.wide()?).ok()
    }

    /// The same for all other keys.
    pub(super) fn wide(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Word(_) => None,
        }
    }
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Governor {
    pub(super) limit_celsius: f64,
    pub(super) sensors: Vec<String>,
    pub(super) memory_budget_bytes: NumberOr,
    pub(super) sysfs_root: PathBuf,
    pub(super) procfs_root: PathBuf,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spool {
    pub(super) max_bytes: u64,
    pub(super) telemetry_max_bytes: u64,
    pub(super) outcomes_kept: u64,
    pub(super) outcomes_kept_hours: u64,
    pub(super) ballast_bytes: u64,
    pub(super) headroom_bytes: u64,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) name: String,
    #[serde(default)]
    pub(super) when: When,
    pub(super) to: String,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct When {
    pub(super) classification: Option<OneOrMore>,
    pub(super) task: Option<OneOrMore>,
    pub(super) topic: Option<OneOrMore>,
    pub(super) client: Option<OneOrMore>,
    pub(super) risk_at_least: Option<u8>,
    pub(super) risk_above: Option<u8>,
    pub(super) risk_at_most: Option<u8>,
    pub(super) risk_below: Option<u8>,
    pub(super) complexity_at_least: Option<f64>,
    pub(super) complexity_above: Option<f64>,
    pub(super) complexity_at_most: Option<f64>,
    pub(super) complexity_below: Option<f64>,
    pub(super) tokens_at_least: Option<NumberOr>,
    pub(super) tokens_above: Option<NumberOr>,
    pub(super) tokens_at_most: Option<NumberOr>,
    pub(super) tokens_below: Option<NumberOr>,
    pub(super) words: Option<OneOrMore>,
    pub(super) fragments: Option<OneOrMore>,
    pub(super) time: Option<String>,
    pub(super) broker: Option<String>,
    pub(super) cloud: Option<String>,
    pub(super) allowance: Option<OneOrMore>,
}

/// A text, or several.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    /// All of them.
    pub(super) fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::More(texts) => texts,
        }
    }
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cloud {
    pub(super) url: Option<String>,
    pub(super) name: String,
    pub(super) model: Option<String>,
    pub(super) api_key_file: Option<String>,
    pub(super) ca_file: Option<String>,
    pub(super) proxy: Option<String>,
    pub(super) accepts: Option<Vec<String>>,
    pub(super) connect_timeout_ms: u64,
    pub(super) timeout_ms: u64,
    pub(super) requests_per_hour: u32,
    pub(super) requests_per_month: Option<u64>,
    pub(super) tokens_per_hour: Option<u64>,
    pub(super) tokens_per_month: Option<u64>,
    pub(super) cost_cents_per_hour: Option<u64>,
    pub(super) cost_cents_per_month: Option<u64>,
    pub(super) prompt_cents_per_million: Option<u64>,
    pub(super) completion_cents_per_million: Option<u64>,
    pub(super) threshold: Option<f64>,
    pub(super) keep_hours: u32,
    #[serde(default)]
    pub(super) more: Vec<Upstream>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) name: Option<String>,
    pub(super) url: Option<String>,
    pub(super) model: Option<String>,
    pub(super) api_key_file: Option<String>,
    pub(super) ca_file: Option<String>,
    pub(super) proxy: Option<String>,
    pub(super) accepts: Option<Vec<String>>,
    pub(super) connect_timeout_ms: Option<u64>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) requests_per_hour: Option<u32>,
    pub(super) requests_per_month: Option<u64>,
    pub(super) tokens_per_hour: Option<u64>,
    pub(super) tokens_per_month: Option<u64>,
    pub(super) cost_cents_per_hour: Option<u64>,
    pub(super) cost_cents_per_month: Option<u64>,
    pub(super) prompt_cents_per_million: Option<u64>,
    pub(super) completion_cents_per_million: Option<u64>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Review {
    pub(super) local: bool,
    pub(super) remote: bool,
    pub(super) doubtful: bool,
    pub(super) accepts: Vec<String>,
    pub(super) expires_hours: u32,
    pub(super) expiry: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Console {
    pub(super) device: Option<PathBuf>,
    pub(super) baud: u32,
    pub(super) parity: String,
    pub(super) flow_control: String,
    pub(super) pin_file: Option<String>,
    pub(super) pin: String,
    pub(super) idle_timeout_s: u64,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) level: String,
    pub(super) to: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    pub(super) drain_timeout_ms: u64,
}
