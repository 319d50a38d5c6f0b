//! Who answers besides the edge: the rules about `[cloud]`, `[review]` and `[confidence]`.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::Checker;
use super::file::{self, File};
use super::settings::{Bill, Confidence, Expiry, Proxy, Review, Upstream, is_level};
use super::{keys, secret};
use crate::intake::Classification;
use crate::router::{Accepts, MAX_UPSTREAMS, Ways};

/// The upstreams, in the order in which they stand in for each other: `[cloud]`, then each
/// `[[cloud.more]]`. None after a fault.
pub(super) fn clouds(checker: &mut Checker<'_>, file: &File) -> Option<Vec<Upstream>> {
    let cloud = &file.cloud;
    let first = file::Upstream {
        name: Some(cloud.name.clone()),
        url: cloud.url.clone(),
        model: cloud.model.clone(),
        api_key_file: cloud.api_key_file.clone(),
        ca_file: cloud.ca_file.clone(),
        proxy: cloud.proxy.clone(),
        accepts: cloud.accepts.clone(),
        connect_timeout_ms: Some(cloud.connect_timeout_ms),
        timeout_ms: Some(cloud.timeout_ms),
        requests_per_hour: Some(cloud.requests_per_hour),
        requests_per_month: cloud.requests_per_month,
        tokens_per_hour: cloud.tokens_per_hour,
        tokens_per_month: cloud.tokens_per_month,
        cost_cents_per_hour: cloud.cost_cents_per_hour,
        cost_cents_per_month: cloud.cost_cents_per_month,
        prompt_cents_per_million: cloud.prompt_cents_per_million,
        completion_cents_per_million: cloud.completion_cents_per_million,
    };
    if cloud.url.is_none() {
        return no_cloud(checker, cloud);
    }
    let mut found = vec![Look::at_section(checker, cloud).upstream(&first)];
    for (index, more) in cloud.more.iter().enumerate() {
        found.push(Look::at_entry(checker, cloud, index).upstream(more));
    }
    if found.len() > MAX_UPSTREAMS {
        let wanted = format!("at most {MAX_UPSTREAMS} upstreams, with [cloud]");
        checker.fault("cloud.more", wanted);
    }
    let found: Vec<_> = found.into_iter().collect::<Option<_>>()?;
    let twice = (1..found.len()).find(|index| {
        let name = &found[*index].name;
        found[..*index].iter().any(|other| other.name == *name)
    });
    if let Some(index) = twice {
        let name = found[index].name.clone();
        Look::at_entry(checker, cloud, index - 1).fault("name", &name, "a name of its own");
        return None;
    }
    Some(found)
}

/// Without a URL there is no cloud, and what else is said of one is said in vain.
fn no_cloud(checker: &mut Checker<'_>, cloud: &file::Cloud) -> Option<Vec<Upstream>> {
    let wanted = "cloud.url beside it: without one there is no cloud";
    let mut silent = true;
    for (key, given) in [
        ("cloud.model", cloud.model.is_some()),
        ("cloud.api_key_file", cloud.api_key_file.is_some()),
        ("cloud.ca_file", cloud.ca_file.is_some()),
        ("cloud.proxy", cloud.proxy.is_some()),
        ("cloud.accepts", cloud.accepts.is_some()),
        ("cloud.more", !cloud.more.is_empty()),
    ] {
        checker.rule(!given, [key, "cloud.url"], wanted);
        silent &= !given;
    }
    silent.then(Vec::new)
}

/// One upstream's keys, and where they stand.
struct Look<'a, 'c> {
    checker: &'a mut Checker<'c>,
    cloud: &'a file::Cloud,
    /// The entry of `[[cloud.more]]`; none for `[cloud]` itself.
    entry: Option<usize>,
}

impl<'a, 'c> Look<'a, 'c> {
    fn at_section(checker: &'a mut Checker<'c>, cloud: &'a file::Cloud) -> Self {
        Self {
            checker,
            cloud,
            entry: None,
        }
    }

    fn at_entry(checker: &'a mut Checker<'c>, cloud: &'a file::Cloud, index: usize) -> Self {
        Self {
            checker,
            cloud,
            entry: Some(index),
        }
    }

    /// The key under which the checker finds where the file is.
    fn home(&self, key: &str) -> String {
        match self.entry {
            None => format!("cloud.{key}"),
            Some(_) => "cloud.more".into(),
        }
    }

    fn fault(&mut self, key: &str, value: &str, wanted: impl Into<String>) {
        match self.entry {
            None => self.checker.fault(&format!("cloud.{key}"), wanted),
            Some(index) => {
                self.checker
                    .entry_fault("cloud.more", index, key, value, wanted);
            }
        }
    }

    fn upstream(mut self, given: &file::Upstream) -> Option<Upstream> {
        let name = self.name(given.name.as_deref());
        let url = self.url("url", given.url.as_deref(), "https");
        let model = self.needed("model", given.model.as_deref(), "the name of a model there");
        let api_key = self.api_key(given.api_key_file.as_deref());
        let ca_file = self.ca_file(given.ca_file.as_deref());
        let proxy = self.proxy(given.proxy.as_deref());
        let accepts = self.accepts(given.accepts.as_deref());
        let connect_ms = given
            .connect_timeout_ms
            .unwrap_or(self.cloud.connect_timeout_ms);
        let total_ms = given.timeout_ms.unwrap_or(self.cloud.timeout_ms);
        if connect_ms > total_ms {
            let wanted = format!("at most timeout_ms ({total_ms})");
            self.fault("connect_timeout_ms", &connect_ms.to_string(), wanted);
        }
        Some(Upstream {
            name: name?,
            url: url?,
            model: model?,
            api_key: api_key?,
            ca_file: ca_file?,
            proxy: proxy?,
            accepts: accepts?,
            connect_timeout: Duration::from_millis(connect_ms),
            timeout: Duration::from_millis(total_ms),
            requests_per_hour: (given.requests_per_hour).unwrap_or(self.cloud.requests_per_hour),
            bill: Bill {
                requests_per_month: given.requests_per_month,
                tokens_per_hour: given.tokens_per_hour,
                tokens_per_month: given.tokens_per_month,
                cents_per_hour: given.cost_cents_per_hour,
                cents_per_month: given.cost_cents_per_month,
                prompt_cents: given.prompt_cents_per_million.unwrap_or_default(),
                completion_cents: given.completion_cents_per_million.unwrap_or_default(),
            },
        })
    }

    fn name(&mut self, given: Option<&str>) -> Option<String> {
        let good = given.filter(|name| is_level(name));
        if good.is_none() {
            let wanted = "1 to 64 letters, digits, '-', '_' or '.': a rule may name it";
            self.fault("name", given.unwrap_or_default(), wanted);
        }
        good.map(str::to_owned)
    }

    fn needed(&mut self, key: &str, given: Option<&str>, wanted: &str) -> Option<String> {
        if given.is_none() {
            self.fault(key, "", wanted);
        }
        given.map(str::to_owned)
    }

    /// `scheme://HOST…`; in the clear only to this machine, where nobody listens in.
    fn url(&mut self, key: &str, given: Option<&str>, scheme: &str) -> Option<String> {
        let wanted = format!("{scheme}://HOST[:PORT][/PATH]");
        let Some(url) = given else {
            self.fault(key, "", wanted);
            return None;
        };
        let fault = if url_authority(url).is_some_and(|authority| authority.contains('@')) {
            // A login in a URL is a secret, and is not shown.
            Some("a URL without a login: api_key_file takes the key".to_owned())
        } else if url.contains(char::is_whitespace) || url.contains('#') {
            Some(wanted)
        } else {
            match (url.split_once("://"), url_host(url)) {
                (Some(("https", _)), Some(_)) => None,
                (Some(("http", _)), Some(host)) if is_this_machine(host) => None,
                (Some(("http", _)), Some(_)) => Some(
                    "https: in the clear, requests and the key could be read on the way".into(),
                ),
                (Some(_) | None, _) => Some(wanted),
            }
        };
        if let Some(wanted) = fault {
            let shown = if url.contains('@') {
                super::fault::HIDDEN.to_owned()
            } else {
                url.to_owned()
            };
            self.fault(key, &shown, wanted);
            return None;
        }
        Some(url.to_owned())
    }

    #[allow(clippy::option_option, reason = "as every part: none after a fault")]
    fn proxy(&mut self, given: Option<&str>) -> Option<Option<Proxy>> {
        let Some(given) = given else {
            return Some(None);
        };
        if given == "system" {
            return Some(Some(Proxy::System));
        }
        let plain = given.starts_with("http://") || given.starts_with("https://");
        if plain && url_host(given).is_some() && !given.contains(['@', '#', ' ']) {
            return Some(Some(Proxy::At(given.to_owned())));
        }
        let wanted = "http://HOST[:PORT] without a login, or \"system\" for the one that the \
                      environment names";
        let shown = if given.contains('@') {
            super::fault::HIDDEN
        } else {
            given
        };
        self.fault("proxy", shown, wanted);
        None
    }

    #[allow(clippy::option_option, reason = "as every part: none after a fault")]
    fn api_key(&mut self, given: Option<&str>) -> Option<Option<secret::Secret>> {
        let Some(value) = given else {
            return Some(None);
        };
        let home = self.home("api_key_file");
        match self.checker.resolved(&home, value).and_then(secret::read) {
            Ok(secret) => Some(Some(secret)),
            Err(wanted) => {
                self.fault("api_key_file", super::fault::HIDDEN, wanted);
                None
            }
        }
    }

    #[allow(clippy::option_option, reason = "as every part: none after a fault")]
    fn ca_file(&mut self, given: Option<&str>) -> Option<Option<std::path::PathBuf>> {
        let Some(value) = given else {
            return Some(None);
        };
        let home = self.home("ca_file");
        let found = self.checker.resolved(&home, value);
        match found.and_then(|path| secret::open_plain(&path).map(|_| path)) {
            Ok(path) => Some(Some(path)),
            Err(wanted) => {
                self.fault("ca_file", value, wanted);
                None
            }
        }
    }

    fn accepts(&mut self, given: Option<&[String]>) -> Option<Accepts> {
        let shown = keys::short_list(given.unwrap_or_default());
        match accepts(given.unwrap_or_default()) {
            Ok(accepts) => Some(accepts),
            Err(wanted) => {
                self.fault("accepts", &shown, wanted);
                None
            }
        }
    }
}

/// What a list of classifications lets through; the error says what would be right.
fn accepts(given: &[String]) -> Result<Accepts, String> {
    let words = given.iter().map(String::as_str);
    if words
        .clone()
        .any(|word| word == Classification::Restricted.word())
    {
        let what = "public and internal only: what is restricted never leaves the appliance";
        return Err(what.into());
    }
    let known = [Classification::Public, Classification::Internal];
    let strange = |word: &str| !known.iter().any(|class| class.word() == word);
    if given.is_empty() || words.clone().any(strange) {
        return Err("a list of what may go there: \"public\", \"internal\" or both".into());
    }
    let meant = known
        .into_iter()
        .filter(|class| words.clone().any(|word| word == class.word()));
    Ok(Accepts::of(&meant.collect::<Vec<_>>()))
}

/// What stands between the scheme and the path.
pub(super) fn url_authority(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.split(['/', '?']).next()
}

pub(super) fn url_host(url: &str) -> Option<&str> {
    let authority = url_authority(url)?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']')?;
            (
                host,
                rest.strip_prefix(':').or(rest.is_empty().then_some("1")),
            )
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("1")),
        },
    };
    let digits = port.filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))?;
    let good_port = digits.parse::<u16>().is_ok_and(|port| port > 0);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    let good_host = (1..=253).contains(&host.len()) && host.bytes().all(plain);
    (good_host && good_port).then_some(host)
}

pub(super) fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Who reviews.
pub(super) fn review(checker: &mut Checker<'_>, review: &file::Review) -> Option<Review> {
    let remote = match (review.remote, accepts(&review.accepts)) {
        (false, Ok(_)) => Accepts::default(),
        (true, Ok(accepts)) => accepts,
        (true | false, Err(wanted)) => {
            checker.fault("review.accepts", wanted);
            return None;
        }
    };
    Some(Review {
        local: review.local,
        remote,
        expires_after: Duration::from_secs(u64::from(review.expires_hours) * 3600),
        doubtful: review.doubtful,
        at_expiry: match review.expiry.as_str() {
            "refuse" => Expiry::Refuse,
            _ => Expiry::Draft,
        },
    })
}

/// `[confidence]` as it is written.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bars {
    pub(super) threshold: Option<f64>,
    pub(super) risk_target: Option<f64>,
}

/// When an answer is believed.
pub(super) fn confidence(checker: &mut Checker<'_>, given: &Bars) -> Confidence {
    let target = given.risk_target;
    checker.rule(
        given.threshold.is_none() || target.is_none(),
        ["confidence.risk_target", "confidence.threshold"],
        "one of the two: a threshold follows from a risk target",
    );
    if target.is_some_and(|target| target <= 0.0 || target > MAX_RISK_TARGET) {
        let wanted = format!("a share above 0, and {MAX_RISK_TARGET} at most");
        checker.fault("confidence.risk_target", wanted);
    }
    Confidence {
        threshold: given.threshold,
        risk_target: target,
    }
}

/// More wrong answers than that are no target.
const MAX_RISK_TARGET: f64 = 0.5;

/// What the policy is to know of them.
pub(super) fn ways(clouds: &[Upstream], review: &Review) -> Ways {
    let upstream = |cloud: &Upstream| crate::router::Upstream {
        name: cloud.name.clone(),
        accepts: cloud.accepts,
    };
    Ways {
        upstreams: clouds.iter().map(upstream).collect(),
        local_review: review.local,
        remote_review: review.remote,
        doubtful_review: review.doubtful,
    }
}
