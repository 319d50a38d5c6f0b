//! Topic names and filters, and which topics mean what.
//!
//! MQTT calls the thing that a message is published on a *name* and the thing that a
//! subscription holds a *filter*; only filters have wildcards.

/// Whether `name` may be published on: not empty, no wildcard, no leading `$`, and no character
/// for which a broker may hang up. A durable reply to such a topic would cut the line again at
/// each new connection.
pub fn is_topic_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= super::MAX_TOPIC_BYTES
        && !name.starts_with('$')
        && !name.contains(['+', '#'])
        && !name.contains(may_close_the_line)
}

/// Control characters and Unicode's non-characters: a receiver may treat a packet with one as
/// malformed (MQTT 5, 1.5.4), and mosquitto does. NUL is among them.
fn may_close_the_line(c: char) -> bool {
    let code = u32::from(c);
    c.is_control() || (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

/// What is wrong with a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Nothing to match.
    #[error("is empty")]
    Empty,
    /// `#` stands alone as the last level.
    #[error("'#' must be the whole last level")]
    Hash,
    /// `+` stands alone in its level.
    #[error("'+' must be a whole level")]
    Plus,
    /// Longer than a topic may be, or with a character that MQTT bans.
    #[error("is too long or holds a control character")]
    Bytes,
}

/// Whether `filter` is a well-formed topic filter.
pub fn is_topic_filter(filter: &str) -> Result<(), FilterError> {
    if filter.is_empty() {
        return Err(FilterError::Empty);
    }
    if filter.len() > super::MAX_TOPIC_BYTES || filter.contains(may_close_the_line) {
        return Err(FilterError::Bytes);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err(FilterError::Hash);
        }
        if level.contains('+') && level != "+" {
            return Err(FilterError::Plus);
        }
    }
    Ok(())
}

/// Whether a message on `name` reaches a subscription to `filter`. A wildcard in front does not
/// stand for a level with `$`: those are the broker's own.
pub fn filter_matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = name.split('/');
    for want in filter.split('/') {
        if want == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if want == "+" || want == level => {}
            Some(_) | None => return false,
        }
    }
    levels.next().is_none()
}

/// The topics of one appliance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// Before everything.
    pub prefix: String,
    /// The appliance's name.
    pub appliance: String,
    /// The pool that it shares, if any.
    pub pool: Option<String>,
}

impl Topics {
    /// The appliance's own topic for `what`.
    fn own(&self, what: &str) -> String {
        format!("{}/{}/{what}", self.prefix, self.appliance)
    }

    /// What the appliance subscribes to.
    pub fn subscriptions(&self) -> Vec<String> {
        vec![self.own("request"), self.own("request/+")]
    }

    /// What a member of a pool subscribes to on the pool's line: its share of the requests.
    pub fn pool_requests(&self, pool: &str) -> String {
        format!("$share/{pool}/{}/pool/{pool}/request", self.prefix)
    }

    /// The status of every appliance under the same prefix.
    pub fn every_status(&self) -> String {
        format!("{}/+/status", self.prefix)
    }

    /// The appliance whose status topic this is.
    pub fn status_of<'t>(&self, topic: &'t str) -> Option<&'t str> {
        let rest = topic.strip_prefix(&self.prefix)?.strip_prefix('/')?;
        let name = rest.strip_suffix("/status")?;
        (!name.contains('/')).then_some(name)
    }

    /// Where the appliance says how it is.
    pub fn status(&self) -> String {
        self.own("status")
    }

    /// Where it says which package serves, and which is on its way.
    pub fn ota_state(&self) -> String {
        self.own("ota/state")
    }

    /// Where figures go that are fresh, and those of an outage afterwards.
    pub fn telemetry(&self) -> [String; 2] {
        [self.own("telemetry/live"), self.own("telemetry/replay")]
    }

    /// Where the few figures stand that Home Assistant shows.
    pub fn telemetry_brief(&self) -> String {
        self.own("telemetry/brief")
    }

    /// Where reviewers elsewhere are shown what waits for a person.
    pub fn review_item(&self) -> String {
        self.own("review/item")
    }

    /// Where they say what is to become of it.
    pub fn review_verdict(&self) -> String {
        self.own("review/verdict")
    }

    /// Where they are told what became of that.
    pub fn review_result(&self) -> String {
        self.own("review/verdict/result")
    }

    /// Where the self-test of the line talks to itself.
    pub fn echo(&self) -> String {
        self.own("echo")
    }

    /// Where a reply goes when the device named no other place.
    pub fn reply(&self, id: &str) -> String {
        self.own(&format!("reply/{id}"))
    }

    /// The client that a request topic proves, if `topic` is one with a client's name.
    pub fn proven_client<'t>(&self, topic: &'t str) -> Option<&'t str> {
        topic.strip_prefix(&self.own("request/"))
    }

    /// Whether an appliance listens to or speaks on `topic` itself, so that a reply there would
    /// make it talk to itself, or in another's name.
    pub fn is_reserved(&self, topic: &str) -> bool {
        let Some(rest) = topic
            .strip_prefix(&self.prefix)
            .and_then(|rest| rest.strip_prefix('/'))
        else {
            return false;
        };
        let mut levels = rest.split('/');
        let (first, second) = (levels.next(), levels.next());
        first == Some("pool") || second != Some("reply")
    }
}
