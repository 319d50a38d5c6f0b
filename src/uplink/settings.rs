//! What the site decided about its upstreams. Plain values; the configuration fills them.

use std::path::PathBuf;
use std::time::Duration;

use super::Cost;
use crate::broker::{Secret, Tls};
use crate::router::Accepts;

/// All upstreams.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// In the order in which they stand in for each other. Names are unique.
    pub upstreams: Vec<Upstream>,
    /// Calls for one errand before it is given back.
    pub tries: u32,
    /// Where the counters of the budgets are kept over a restart.
    pub kept_in: PathBuf,
}

impl Settings {
    /// The upstreams to ask where a rule names one, or none: that one first, then the others in
    /// their order.
    pub fn order<'a>(&'a self, named: Option<&'a str>) -> impl Iterator<Item = &'a str> {
        let names = || self.upstreams.iter().map(|it| it.name.as_str());
        let is_named = move |name: &&str| Some(*name) == named;
        let others = names().filter(move |name| !is_named(name));
        names().filter(is_named).chain(others)
    }
}

/// A model that is not on this appliance.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Its name in routes, replies and logs.
    pub name: String,
    /// Its chat completions, as an address of `http` or `https`.
    pub url: String,
    /// What the model is called there.
    pub model: String,
    /// What proves the appliance to it.
    pub key: Option<Secret>,
    /// Whom to believe, and with which certificate of our own.
    pub tls: Tls,
    /// Through whom.
    pub proxy: Proxy,
    /// What may go there.
    pub accepts: Accepts,
    /// How long, how many, how fast.
    pub limits: Limits,
    /// How much.
    pub budget: Budget,
}

/// Through whom an upstream is reached.
#[derive(Clone, Debug, Default)]
pub enum Proxy {
    /// Directly, whatever the environment says.
    #[default]
    None,
    /// As `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say.
    Environment,
    /// Through this one.
    Url {
        /// Its address.
        url: String,
        /// A name and what proves it, where the proxy wants one.
        login: Option<(String, Secret)>,
    },
}

/// Limits of one upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Until the connection is there, TLS included.
    pub connect: Duration,
    /// From the beginning of a call to the last byte of its answer.
    pub total: Duration,
    /// Calls at a time.
    pub concurrent: u32,
    /// Calls begin so far apart in the long run; as many as may run at a time may begin at once,
    /// except right after the upstream came back.
    pub start_every: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            total: Duration::from_secs(2),
            concurrent: 4,
            start_every: Duration::from_millis(250),
        }
    }
}

/// What may be used up; absent: as much as is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// In a calendar hour of UTC.
    pub hour: Allotment,
    /// In a calendar month of UTC.
    pub month: Allotment,
    /// What tokens cost.
    pub price: Price,
}

/// What may be used up in a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allotment {
    /// Calls.
    pub requests: Option<u64>,
    /// Tokens, those of prompts and of answers.
    pub tokens: Option<u64>,
    /// Money.
    pub cost: Option<Cost>,
}

/// What tokens cost, in millionths of the currency's unit for a million tokens: 2.50 is 2500000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// Those of prompts.
    pub prompt: u64,
    /// Those of answers.
    pub completion: u64,
}
