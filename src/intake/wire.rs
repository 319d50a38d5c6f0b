//! The wire form of a request, and the way from bytes to [`Request`].

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::digest::digest_of;
use super::values::Input;
use super::{
    Ask, Classification, Client, Code, Detail, Digest, Late, Limits, MAX_ANSWER_TOKENS,
    MAX_CORRELATION_BYTES, MAX_ID_BYTES, MAX_JSON_DEPTH, MAX_NAME_BYTES, MAX_USER_PROPERTIES_BYTES,
    Message, Priority, Refusal, Request, RequestId, ReturnAddress, Stream, Topics, filter_matches,
    is_topic_name,
};
use crate::clock::Wall;

/// A request as a device writes it. Unknown keys are refused by name: a misspelt
/// `classification` must not pass for none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    id: Option<String>,
    task: Option<String>,
    input: Option<Input>,
    prompt: Option<String>,
    classification: Option<WireClassification>,
    risk: Option<i64>,
    complexity: Option<f64>,
    priority: Option<WirePriority>,
    deadline_ms: Option<i64>,
    max_tokens: Option<i64>,
    schema: Option<Box<RawValue>>,
    stream: Option<bool>,
    logprobs: Option<bool>,
    late: Option<bool>,
    reply_to: Option<String>,
    client: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WireClassification {
    Public,
    Internal,
    Restricted,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WirePriority {
    Low,
    Normal,
    High,
}

/// What is read from a payload that is no request, to be able to say so to its sender.
#[derive(Debug, Default, Deserialize)]
struct Envelope {
    id: Option<serde_json::Value>,
    reply_to: Option<serde_json::Value>,
}

/// Reads a message as a request.
pub fn read(
    message: &Message,
    topics: &Topics,
    limits: &Limits,
    now: Wall,
) -> Result<Request, Refusal> {
    read_from(message, topics, limits, now, Late::Yes)
}

/// `patient` is who names no deadline and says nothing of late answers.
fn read_from(
    message: &Message,
    topics: &Topics,
    limits: &Limits,
    now: Wall,
    patient: Late,
) -> Result<Request, Refusal> {
    match understand(message, topics, limits, now, patient) {
        Ok(request) => Ok(request),
        Err(fault) => Err(fault.addressed(message, topics, limits)),
    }
}

/// What is wrong, before it is known whom to tell.
struct Fault {
    code: Code,
    message: String,
}

/// Bytes of a refusal's message: it may quote the sender, but not without end.
pub(super) const MAX_FAULT_BYTES: usize = 240;

/// Bytes of a user property in a packet besides its text: its mark and two lengths. They count,
/// or empty properties would come in any number.
pub(super) const USER_PROPERTY_BYTES: usize = 5;

fn fault<T>(code: Code, message: impl Into<String>) -> Result<T, Fault> {
    let mut message = message.into();
    if message.len() > MAX_FAULT_BYTES {
        let mut end = MAX_FAULT_BYTES;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    Err(Fault { code, message })
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Fault> {
    fault(Code::Invalid, message)
}

fn understand(
    message: &Message,
    topics: &Topics,
    limits: &Limits,
    now: Wall,
    patient: Late,
) -> Result<Request, Fault> {
    check_message(message, limits)?;
    let wire = parse(&message.payload)?;
    let ask = ask_of(&wire, limits)?;
    let client = client_of(&wire, message, topics)?;
    let classification = wire
        .classification
        .map_or_else(|| unlabelled(message, limits), Classification::from);
    let schema = wire.schema.as_ref().map(|raw| raw.get().to_owned());
    if schema.as_ref().is_some_and(|json| !json.starts_with('{')) {
        return invalid("schema must be a JSON object");
    }
    let risk = within("risk", wire.risk, 0, 100)?.and_then(|risk| u8::try_from(risk).ok());
    let max_tokens = within(
        "max_tokens",
        wire.max_tokens,
        1,
        i64::from(MAX_ANSWER_TOKENS),
    )?
    .and_then(|tokens| u32::try_from(tokens).ok());
    let complexity = complexity_of(wire.complexity)?;
    let content = digest_of(
        &ask,
        classification,
        risk,
        complexity,
        max_tokens,
        schema.as_deref(),
    );
    let id = id_of(&wire, message, content, now)?;
    Ok(Request {
        reply: address_of(&wire, message, &id, topics, limits)?,
        deadline: deadline_of(&wire, message, limits)?,
        late: match wire.late {
            Some(true) => Late::Yes,
            None if wire.deadline_ms.is_none() && message.expiry_s.is_none() => patient,
            Some(false) | None => Late::No,
        },
        priority: wire.priority.map_or_else(Priority::default, Priority::from),
        stream: match wire.stream {
            Some(true) => Stream::Yes,
            Some(false) | None => Stream::No,
        },
        detail: match wire.logprobs {
            Some(true) => Detail::Tokens,
            Some(false) | None => Detail::Whole,
        },
        id,
        client,
        ask,
        classification,
        risk,
        complexity,
        max_tokens,
        schema,
        content,
    })
}

/// What can be said before the payload is read.
fn check_message(message: &Message, limits: &Limits) -> Result<(), Fault> {
    if message.retained {
        return fault(
            Code::Retained,
            "a retained request would come back at each subscription; publish it without retain",
        );
    }
    if message.payload.len() > limits.max_payload_bytes {
        return fault(
            Code::TooLarge,
            format!(
                "the payload has {} bytes; the limit is {}",
                message.payload.len(),
                limits.max_payload_bytes
            ),
        );
    }
    if message
        .correlation
        .as_ref()
        .is_some_and(|data| data.len() > MAX_CORRELATION_BYTES)
    {
        return fault(
            Code::TooLarge,
            format!("the correlation data has more than {MAX_CORRELATION_BYTES} bytes"),
        );
    }
    let properties: usize = message
        .user_properties
        .iter()
        .map(|(key, value)| USER_PROPERTY_BYTES + key.len() + value.len())
        .sum();
    if properties > MAX_USER_PROPERTIES_BYTES {
        return fault(
            Code::TooLarge,
            format!("the user properties have more than {MAX_USER_PROPERTIES_BYTES} bytes"),
        );
    }
    match &message.content_type {
        Some(kind) if !is_json(kind) => invalid(format!(
            "the content type is '{kind}'; requests are application/json"
        )),
        Some(_) | None => Ok(()),
    }
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") || kind.eq_ignore_ascii_case("text/json")
}

fn parse(payload: &[u8]) -> Result<Wire, Fault> {
    let Ok(text) = std::str::from_utf8(payload) else {
        return invalid("the payload is not UTF-8");
    };
    if depth(payload) > MAX_JSON_DEPTH {
        return fault(
            Code::TooLarge,
            format!("the JSON is nested deeper than {MAX_JSON_DEPTH} levels"),
        );
    }
    match serde_json::from_str(text) {
        Ok(wire) => Ok(wire),
        Err(error) => invalid(format!("the payload is not a request: {error}")),
    }
}

/// How deep brackets nest outside strings; counted before the parser recurses.
fn depth(json: &[u8]) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                open += 1;
                deepest = deepest.max(open);
            }
            (false, b'}' | b']') => open = open.saturating_sub(1),
            (true | false, _) => {}
        }
    }
    deepest
}

fn ask_of(wire: &Wire, limits: &Limits) -> Result<Ask, Fault> {
    let ask = match (&wire.prompt, &wire.task, &wire.input) {
        (Some(prompt), None, None) => Ask::Prompt(prompt.clone()),
        (None, Some(task), Some(input)) => {
            if !is_name(task, MAX_NAME_BYTES) {
                return invalid(name_fault("task", MAX_NAME_BYTES));
            }
            let task = task.clone();
            match input {
                Input::Text(input) => Ask::Task {
                    task,
                    input: input.clone(),
                },
                Input::Values(values) if values.is_empty() => {
                    return invalid("the input has no values");
                }
                Input::Values(values) => Ask::Values {
                    task,
                    values: values.canonical(),
                },
            }
        }
        (None, None, None) => return invalid("give a prompt, or a task and its input"),
        (None, Some(_), None) => return invalid("the task has no input"),
        (None, None, Some(_)) => return invalid("the input has no task"),
        (Some(_), _, _) => return invalid("give a prompt, or a task and its input, not both"),
    };
    if ask.text().trim().is_empty() {
        return invalid("the prompt or input is empty");
    }
    if ask.text().len() > limits.max_prompt_bytes {
        return fault(
            Code::TooLarge,
            format!(
                "the prompt or input has {} bytes; the limit is {}",
                ask.text().len(),
                limits.max_prompt_bytes
            ),
        );
    }
    Ok(ask)
}

fn client_of(wire: &Wire, message: &Message, topics: &Topics) -> Result<Client, Fault> {
    let claimed = wire.client.as_deref();
    if claimed.is_some_and(|name| !is_name(name, MAX_NAME_BYTES)) {
        return invalid(name_fault("client", MAX_NAME_BYTES));
    }
    match (topics.proven_client(&message.topic), claimed) {
        (Some(proven), _) if !is_name(proven, MAX_NAME_BYTES) => {
            invalid(name_fault("the client in the topic", MAX_NAME_BYTES))
        }
        (Some(proven), Some(claimed)) if proven != claimed => invalid(format!(
            "the topic belongs to client '{proven}', the payload says '{claimed}'"
        )),
        (Some(proven), _) => Ok(Client::Proven(proven.to_owned())),
        (None, Some(claimed)) => Ok(Client::Claimed(claimed.to_owned())),
        (None, None) => Ok(Client::Anonymous),
    }
}

fn unlabelled(message: &Message, limits: &Limits) -> Classification {
    limits
        .classification_by_topic
        .iter()
        .find(|(filter, _)| filter_matches(filter, &message.topic))
        .map_or(limits.default_classification, |(_, class)| *class)
}

fn within(key: &str, value: Option<i64>, low: i64, high: i64) -> Result<Option<i64>, Fault> {
    match value {
        Some(value) if !(low..=high).contains(&value) => {
            invalid(format!("{key} is {value}; it must be from {low} to {high}"))
        }
        Some(_) | None => Ok(value),
    }
}

fn complexity_of(value: Option<f64>) -> Result<Option<f32>, Fault> {
    match value {
        Some(value) if !(0.0..=1.0).contains(&value) => {
            invalid(format!("complexity is {value}; it must be from 0 to 1"))
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "from 0 to 1, and seven digits are plenty"
        )]
        Some(value) => Ok(Some(value as f32)),
        None => Ok(None),
    }
}

fn deadline_of(wire: &Wire, message: &Message, limits: &Limits) -> Result<Duration, Fault> {
    let asked = match wire.deadline_ms {
        None => limits.deadlines.default,
        Some(ms) => match u64::try_from(ms) {
            Ok(ms) if ms > 0 => Duration::from_millis(ms),
            Ok(_) | Err(_) => {
                return invalid(format!("deadline_ms is {ms}; it must be 1 or more"));
            }
        },
    };
    let expiry = message
        .expiry_s
        .map_or(Duration::MAX, |s| Duration::from_secs(u64::from(s)));
    Ok(asked.min(expiry).min(limits.deadlines.max))
}

fn id_of(wire: &Wire, message: &Message, content: Digest, now: Wall) -> Result<RequestId, Fault> {
    match (&wire.id, &message.correlation) {
        (Some(id), _) if is_name(id, MAX_ID_BYTES) => Ok(RequestId::Given(id.clone())),
        (Some(_), _) => invalid(name_fault("id", MAX_ID_BYTES)),
        (None, Some(data)) if !data.is_empty() => Ok(RequestId::Given(id_from_correlation(data))),
        (None, Some(_) | None) => Ok(RequestId::Made(format!(
            "{}-{}",
            &hex(&content.0)[..12],
            now.0
        ))),
    }
}

/// Correlation data that reads as an id is one; other bytes are written out.
fn id_from_correlation(data: &[u8]) -> String {
    match std::str::from_utf8(data) {
        Ok(text) if is_name(text, MAX_ID_BYTES) => text.to_owned(),
        Ok(_) | Err(_) if data.len() * 2 <= MAX_ID_BYTES => hex(data),
        Ok(_) | Err(_) => hex(&Digest::of(&[data]).0),
    }
}

fn address_of(
    wire: &Wire,
    message: &Message,
    id: &RequestId,
    topics: &Topics,
    limits: &Limits,
) -> Result<ReturnAddress, Fault> {
    let asked = message.response_topic.as_ref().or(wire.reply_to.as_ref());
    match asked {
        Some(topic) if !is_allowed(topic, topics, limits) => fault(
            Code::ReplyTopic,
            format!("replies may not go to '{topic}': see intake.reply_topics"),
        ),
        Some(topic) => Ok(address(topic.clone(), message)),
        None => match default_topic(id.as_str(), topics) {
            Some(topic) => Ok(address(topic, message)),
            None => invalid("the id is too long for a reply topic of this appliance"),
        },
    }
}

/// The reply topic of an id, where no other is named.
fn default_topic(id: &str, topics: &Topics) -> Option<String> {
    Some(topics.reply(id)).filter(|topic| is_topic_name(topic))
}

fn is_allowed(topic: &str, topics: &Topics, limits: &Limits) -> bool {
    is_topic_name(topic)
        && !topics.is_reserved(topic)
        && limits
            .reply_topics
            .iter()
            .any(|filter| filter_matches(filter, topic))
}

fn address(topic: String, message: &Message) -> ReturnAddress {
    ReturnAddress::Topic {
        topic,
        correlation: message.correlation.clone(),
        user_properties: message.user_properties.clone(),
    }
}

impl Fault {
    /// Finds whom to tell: the response topic, `reply_to`, or the topic of the id.
    fn addressed(self, message: &Message, topics: &Topics, limits: &Limits) -> Refusal {
        // Of a payload beyond the limit nothing is read, and what the broker kept was sent long
        // ago: only the envelope can say whom to tell.
        let envelope = if message.payload.len() > limits.max_payload_bytes
            || depth(&message.payload) > MAX_JSON_DEPTH
        {
            Envelope::default()
        } else {
            serde_json::from_slice(&message.payload).unwrap_or_default()
        };
        let id = envelope
            .id
            .as_ref()
            .and_then(|id| id.as_str())
            .filter(|id| is_name(id, MAX_ID_BYTES))
            .map(str::to_owned)
            .or_else(|| {
                let data = message.correlation.as_ref()?;
                (!data.is_empty() && data.len() <= MAX_CORRELATION_BYTES)
                    .then(|| id_from_correlation(data))
            });
        let reply_to = envelope
            .reply_to
            .as_ref()
            .and_then(|topic| topic.as_str())
            .map(str::to_owned);
        let topic = message
            .response_topic
            .clone()
            .or(reply_to)
            .filter(|topic| is_allowed(topic, topics, limits))
            .or_else(|| default_topic(id.as_ref()?, topics));
        let reply = topic.map(|topic| ReturnAddress::Topic {
            topic,
            correlation: message
                .correlation
                .clone()
                .filter(|data| data.len() <= MAX_CORRELATION_BYTES),
            user_properties: Vec::new(),
        });
        Refusal {
            code: self.code,
            message: self.message,
            retry_after_ms: None,
            id,
            reply,
        }
    }
}

/// Whether `name` may stand in a topic, a log line and a file name: ASCII letters, digits and a
/// few marks, not too long.
fn is_name(name: &str, max_bytes: usize) -> bool {
    !name.is_empty()
        && name.len() <= max_bytes
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:@~".contains(&byte))
}

fn name_fault(what: &str, max_bytes: usize) -> String {
    format!("{what} must be 1 to {max_bytes} of the characters A-Z a-z 0-9 - _ . : @ ~")
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

impl From<WireClassification> for Classification {
    fn from(wire: WireClassification) -> Self {
        match wire {
            WireClassification::Public => Self::Public,
            WireClassification::Internal => Self::Internal,
            WireClassification::Restricted => Self::Restricted,
        }
    }
}

impl From<WirePriority> for Priority {
    fn from(wire: WirePriority) -> Self {
        match wire {
            WirePriority::Low => Self::Low,
            WirePriority::Normal => Self::Normal,
            WirePriority::High => Self::High,
        }
    }
}

/// For `ask` at the appliance itself: the same reading, with a person as the client.
pub fn read_local(
    payload: &[u8],
    topics: &Topics,
    limits: &Limits,
    now: Wall,
) -> Result<Request, Refusal> {
    let message = Message {
        topic: topics.reply("local"),
        payload: payload.to_vec(),
        ..Message::default()
    };
    // Whoever sits there waits for one answer.
    match read_from(&message, topics, limits, now, Late::No) {
        Ok(request) => Ok(Request {
            client: Client::Local,
            reply: ReturnAddress::Local,
            ..request
        }),
        Err(refusal) => Err(Refusal {
            reply: Some(ReturnAddress::Local),
            ..refusal
        }),
    }
}
