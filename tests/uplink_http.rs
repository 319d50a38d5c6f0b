//! The uplink against a real server that fails in every way it can: each way is a fault of its
//! own, nothing hangs, nothing is asked twice that was answered, and nobody else hears of it.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

#[path = "support/cloud.rs"]
#[allow(dead_code, unreachable_pub)]
mod cloud;
#[path = "support/mod.rs"]
mod support;

use std::collections::HashSet;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use cloud::{Cloud, Mode, Proof, Tunnel, make_certificates};
use lineside::broker::{Secret, Tls};
use lineside::clock::Clock;
use lineside::engine::Form;
use lineside::engine::protocol::Rule;
use lineside::intake::{
    Ask, Classification, Client, Detail, Late, Priority, Request, RequestId, ReturnAddress, Stream,
    digest_of,
};
use lineside::router::{self, Accepts, Cleared, Escalation, Policy, ToCloud, Ways, Why};
use lineside::ticket::TicketNo;
use lineside::uplink::shell::{self, Ends};
use lineside::uplink::{
    CloudAnswer, Command, Errand, Event, Fault, Garble, Limits, Misfit, Proxy, Question, Settings,
    State, Upstream, openai,
};
use support::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Far beyond every limit here: whoever is not done by then hangs.
const PATIENCE: Duration = Duration::from_mins(1);
/// For what has to run into a limit.
const SHORT: Duration = Duration::from_millis(400);
/// Stands in no source but this one.
const KEY: &str = "sk-xylophone-4711";
const INPUT: &str = "quetzalcoatlus spindle vibrates";

fn upstream(name: &str, url: String) -> Upstream {
    Upstream {
        name: name.into(),
        url,
        model: "large".into(),
        key: Some(Secret::new(KEY.into())),
        tls: Tls::default(),
        proxy: Proxy::None,
        accepts: Accepts::of(&[Classification::Public]),
        limits: Limits {
            connect: PATIENCE / 4,
            total: PATIENCE / 2,
            concurrent: 4,
            start_every: Duration::ZERO,
        },
        budget: lineside::uplink::Budget::default(),
    }
}

/// An upstream over TLS that is believed by this CA.
fn believed(cloud: &Cloud, dir: &TempDir, ca: &str) -> Upstream {
    let mut upstream = upstream("plant", cloud.https());
    upstream.tls.ca_file = Some(dir.path().join(ca));
    upstream
}

/// An upstream with short limits.
fn hasty(url: String) -> Upstream {
    let mut upstream = upstream("plant", url);
    upstream.limits.connect = SHORT;
    upstream.limits.total = SHORT;
    upstream
}

fn proof(dir: &TempDir, name: &str) -> Proof {
    let file = |kind: &str| dir.path().join(format!("{name}.{kind}"));
    Proof::Certificate(file("pem"), file("key"))
}

/// A running uplink.
struct Uplink {
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
    clock: Clock,
    state: State,
}

/// What the policy gives for a request that this upstream may have.
fn cleared(ticket: u64, upstream: &str) -> Cleared<ToCloud> {
    let ways = Ways {
        doubtful_review: true,
        upstreams: vec![router::Upstream {
            name: upstream.into(),
            accepts: Accepts::of(&[Classification::Public]),
        }],
        ..Ways::default()
    };
    let (ask, classification) = (Ask::Prompt(INPUT.into()), Classification::Public);
    let request = Request {
        id: RequestId::Given(format!("id-{ticket}")),
        client: Client::Proven("press7".into()),
        content: digest_of(&ask, classification, None, None, None, None),
        ask,
        classification,
        risk: None,
        complexity: None,
        priority: Priority::Normal,
        deadline: PATIENCE,
        late: Late::No,
        max_tokens: None,
        schema: None,
        stream: Stream::No,
        detail: Detail::Whole,
        reply: ReturnAddress::Local,
    };
    let escalation = Escalation {
        ticket: TicketNo(ticket),
        request,
        draft: None,
        why: Why::EdgeShut,
    };
    let policy = Policy::reference(ways);
    policy.clear_for_cloud(escalation, upstream).unwrap()
}

impl Uplink {
    async fn start(upstreams: Vec<Upstream>, tries: u32, dir: &TempDir) -> Self {
        let (commands, from_us) = mpsc::channel(16);
        let (to_us, events) = mpsc::channel(16);
        let clock = Clock::start();
        let settings = Settings {
            upstreams,
            tries,
            kept_in: dir.path().join("uplink/used.json"),
        };
        let ends = Ends {
            commands: from_us,
            events: to_us,
            spending: watch::channel(Vec::new()).0,
        };
        let task = tokio::spawn(async move {
            shell::run(settings, ends, clock, 5, || {}).await.unwrap();
        });
        let mut uplink = Self {
            commands,
            events,
            task,
            clock,
            state: State::default(),
        };
        match uplink.event().await {
            Event::State(state) => uplink.state = state,
            Event::Ended { ticket, .. } => panic!("{ticket:?} was never sent"),
        }
        uplink
    }

    async fn event(&mut self) -> Event {
        let event = timeout(PATIENCE, self.events.recv()).await;
        event.expect("it hangs").expect("it ended")
    }

    fn errand(&self, ticket: u64, ways: &[&str], rule: Rule, form: Form) -> Errand {
        let question = Question {
            instruction: "Say how urgent it is.".into(),
            input: INPUT.into(),
            rule,
            form,
            max_tokens: 16,
        };
        let until = self.clock.now().mono.after(PATIENCE);
        let errand = Errand::new(cleared(ticket, ways[0]), question, until);
        let others = ways[1..].iter();
        others.fold(errand, |errand, way| {
            errand.or(cleared(ticket, way).into_parts().1)
        })
    }

    async fn send(&self, ticket: u64, ways: &[&str]) {
        let errand = self.errand(ticket, ways, Rule::Text, Form::Text);
        self.commands.send(Command::Send(errand)).await.unwrap();
    }

    /// How the next errand ends.
    async fn ended(&mut self) -> (u64, Result<CloudAnswer, Fault>) {
        loop {
            match self.event().await {
                Event::State(state) => self.state = state,
                Event::Ended { ticket, result } => return (ticket.0, result),
            }
        }
    }

    async fn ask(&mut self, ticket: u64, ways: &[&str]) -> Result<CloudAnswer, Fault> {
        self.send(ticket, ways).await;
        let (ended, result) = self.ended().await;
        assert_eq!(ended, ticket);
        result
    }

    async fn close(self) {
        drop(self.commands);
        timeout(PATIENCE, self.task)
            .await
            .expect("it hangs")
            .unwrap();
    }
}

async fn eventually(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("it never comes");
}

/// What a single try at a cloud that does this brings.
async fn one_try(mode: Mode) -> Fault {
    let dir = TempDir::new("uplink");
    let cloud = Cloud::start(&Proof::None, [mode]).await;
    let mut uplink = Uplink::start(vec![upstream("plant", cloud.http())], 1, &dir).await;
    let fault = uplink.ask(1, &["plant"]).await.unwrap_err();
    assert_eq!(cloud.seen().len(), 1, "asked once");
    uplink.close().await;
    fault
}

/// The same where a short limit has to end it.
async fn one_hasty_try(mode: Mode) -> Fault {
    let dir = TempDir::new("uplink");
    let cloud = Cloud::start(&Proof::None, [mode]).await;
    let mut uplink = Uplink::start(vec![hasty(cloud.http())], 1, &dir).await;
    let fault = uplink.ask(1, &["plant"]).await.unwrap_err();
    assert_eq!(cloud.seen().len(), 1, "asked once");
    fault
}

#[tokio::test]
async fn an_answer_comes_over_tls_and_the_request_is_as_agreed() {
    let dir = TempDir::new("uplink");
    make_certificates(dir.path());
    let cloud = Cloud::start(&proof(&dir, "good"), [Mode::Say("{\"urgent\": true}")]).await;
    let mut uplink = Uplink::start(vec![believed(&cloud, &dir, "ca.pem")], 1, &dir).await;
    let schema =
        r#"{"type":"object","properties":{"urgent":{"type":"boolean"}},"required":["urgent"]}"#;
    let errand = uplink.errand(1, &["plant"], Rule::Schema(schema.into()), Form::Json);
    let key = errand.key.as_str().to_owned();
    uplink.commands.send(Command::Send(errand)).await.unwrap();
    let answer = uplink.ended().await.1.unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.form),
        ("{\"urgent\": true}", Form::Json)
    );
    assert_eq!(
        (answer.upstream.as_str(), answer.model.as_str()),
        ("plant", "large")
    );
    assert_eq!(answer.tokens.prompt, 40);
    let confidence = answer.confidence.unwrap();
    assert!((confidence - (-0.5_f32).exp()).abs() < 1e-6, "{confidence}");

    let seen = cloud.seen().remove(0);
    assert_eq!(seen.line, "POST /v1/chat/completions HTTP/1.1");
    assert_eq!(seen.headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(seen.headers["idempotency-key"], key);
    assert_eq!(seen.headers["content-type"], "application/json");
    assert_eq!(seen.body["logprobs"], true);
    assert_eq!(seen.body["messages"][1]["content"], INPUT);
    let sent = &seen.body["response_format"]["json_schema"]["schema"];
    assert_eq!(
        *sent,
        serde_json::from_str::<serde_json::Value>(schema).unwrap()
    );
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    let dir = TempDir::new("uplink");
    let gone = Cloud::start(&Proof::None, []).await;
    let url = gone.http();
    drop(gone);
    let nobody = upstream("nobody", "http://nobody.invalid/v1".into());
    let mut uplink = Uplink::start(vec![upstream("plant", url), nobody], 1, &dir).await;
    assert_eq!(uplink.ask(1, &["plant"]).await, Err(Fault::Unreachable));
    assert_eq!(uplink.ask(2, &["nobody"]).await, Err(Fault::Unreachable));
}

#[tokio::test]
async fn a_black_hole_is_slow() {
    assert_eq!(one_hasty_try(Mode::BlackHole).await, Fault::Slow);
}

#[tokio::test]
async fn a_peer_that_never_shakes_hands_is_unreachable() {
    let dir = TempDir::new("uplink");
    // The kernel takes the connection; nobody ever takes it from there.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut silent = hasty(format!("https://localhost:{port}/v1"));
    silent.limits.total = PATIENCE / 2;
    let mut uplink = Uplink::start(vec![silent], 1, &dir).await;
    assert_eq!(uplink.ask(1, &["plant"]).await, Err(Fault::Unreachable));
}

#[tokio::test]
async fn a_slow_drip_is_slow_however_much_comes() {
    assert_eq!(one_hasty_try(Mode::Drip).await, Fault::Slow);
}

#[tokio::test]
async fn a_reset_in_the_middle_of_an_answer_is_broken() {
    assert_eq!(one_try(Mode::Reset).await, Fault::Broken);
}

#[tokio::test]
async fn too_many_requests_says_when_to_come_again() {
    let limited = Mode::Status(429, &[("retry-after", "7")]);
    let after = Some(Duration::from_secs(7));
    assert_eq!(one_try(limited).await, Fault::Limited { after });
}

#[tokio::test]
async fn an_error_of_the_server_is_one() {
    assert_eq!(one_try(Mode::Status(500, &[])).await, Fault::Failing(500));
    assert_eq!(one_try(Mode::Status(401, &[])).await, Fault::Denied(401));
    assert_eq!(one_try(Mode::Status(400, &[])).await, Fault::Rejected(400));
}

#[tokio::test]
async fn what_is_not_the_protocol_is_garbled() {
    let json = "application/json";
    let body = |kind, body| one_try(Mode::Body(kind, body));
    assert_eq!(
        body(json, "{\"choices\":").await,
        Fault::Garbled(Garble::Json)
    );
    let portal = "<html>Please log in</html>";
    assert_eq!(
        body("text/html", portal).await,
        Fault::Garbled(Garble::ContentType)
    );
    let error = "{\"error\":{\"message\":\"overloaded\"}}";
    assert_eq!(body(json, error).await, Fault::Garbled(Garble::Error));
    let none = "{\"choices\":[]}";
    assert_eq!(body(json, none).await, Fault::Misfit(Misfit::Empty));
}

#[tokio::test]
async fn an_endless_answer_ends_at_the_limit() {
    assert_eq!(
        one_try(Mode::Endless).await,
        Fault::Garbled(Garble::TooLarge)
    );
}

#[tokio::test]
async fn a_certificate_that_does_not_convince_is_untrusted_and_nothing_is_sent() {
    let dir = TempDir::new("uplink");
    make_certificates(dir.path());
    for (name, ca) in [
        ("expired", "ca.pem"),
        ("good", "other-ca.pem"),
        ("stranger", "ca.pem"),
    ] {
        let cloud = Cloud::start(&proof(&dir, name), [Mode::Say("now")]).await;
        let mut uplink = Uplink::start(vec![believed(&cloud, &dir, ca)], 4, &dir).await;
        assert_eq!(
            uplink.ask(1, &["plant"]).await,
            Err(Fault::Untrusted),
            "{name}"
        );
        assert!(cloud.seen().is_empty(), "{name}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_wherever_it_leads() {
    let other = Cloud::start(&Proof::None, [Mode::Say("now")]).await;
    assert_eq!(
        one_try(Mode::Redirect(other.http())).await,
        Fault::Elsewhere
    );
    assert!(other.seen().is_empty());
    assert_eq!(
        one_try(Mode::Redirect("/v2".into())).await,
        Fault::Elsewhere
    );
}

#[tokio::test]
async fn a_retry_carries_the_same_key_and_a_success_is_the_end_of_it() {
    let dir = TempDir::new("uplink");
    let failing = Mode::Status(500, &[]);
    let modes = [failing, Mode::Reset, Mode::Say("now"), Mode::Say("later")];
    let cloud = Cloud::start(&Proof::None, modes).await;
    let mut uplink = Uplink::start(vec![upstream("plant", cloud.http())], 4, &dir).await;
    let first = uplink.ask(1, &["plant"]).await.unwrap();
    assert_eq!((first.text.as_str(), first.tries), ("now", 3));
    let second = uplink.ask(2, &["plant"]).await.unwrap();
    assert_eq!((second.text.as_str(), second.tries), ("later", 1));
    uplink.close().await;

    let keys: Vec<_> = cloud
        .seen()
        .iter()
        .map(|seen| seen.headers["idempotency-key"].clone())
        .collect();
    assert_eq!(keys.len(), 4, "nothing was sent after a success");
    assert_eq!(keys[..3].iter().collect::<HashSet<_>>().len(), 1);
    assert_ne!(keys[2], keys[3]);
}

#[tokio::test]
async fn another_upstream_takes_over_with_the_same_key() {
    let dir = TempDir::new("uplink");
    let first = Cloud::start(&Proof::None, [Mode::Status(503, &[])]).await;
    let second = Cloud::start(&Proof::None, [Mode::Say("now")]).await;
    let upstreams = vec![upstream("a", first.http()), upstream("b", second.http())];
    let mut uplink = Uplink::start(upstreams, 4, &dir).await;
    let answer = uplink.ask(1, &["a", "b"]).await.unwrap();
    assert_eq!(answer.upstream, "b");
    let key = |cloud: &Cloud| cloud.seen()[0].headers["idempotency-key"].clone();
    assert_eq!(key(&first), key(&second));
}

#[tokio::test]
async fn an_upstream_that_fails_rests_and_comes_back() {
    let dir = TempDir::new("uplink");
    let mut modes = vec![Mode::Status(500, &[]); 3];
    modes.push(Mode::Say("now"));
    let cloud = Cloud::start(&Proof::None, modes).await;
    let mut uplink = Uplink::start(vec![upstream("plant", cloud.http())], 1, &dir).await;
    for ticket in 1..=3 {
        assert_eq!(
            uplink.ask(ticket, &["plant"]).await,
            Err(Fault::Failing(500))
        );
    }
    let rested = uplink.ask(4, &["plant"]).await;
    assert!(matches!(rested, Err(Fault::Resting { .. })), "{rested:?}");
    assert_eq!(cloud.seen().len(), 3, "it was left alone");
    while uplink.state.slots == 0 {
        match uplink.event().await {
            Event::State(state) => uplink.state = state,
            Event::Ended { ticket, .. } => panic!("{ticket:?}"),
        }
    }
    assert_eq!(uplink.ask(5, &["plant"]).await.unwrap().text, "now");
}

#[tokio::test]
async fn a_cancelled_errand_ends_its_connection() {
    let dir = TempDir::new("uplink");
    let cloud = Cloud::start(&Proof::None, [Mode::BlackHole, Mode::Say("now")]).await;
    let mut uplink = Uplink::start(vec![upstream("plant", cloud.http())], 4, &dir).await;
    uplink.send(1, &["plant"]).await;
    eventually(|| !cloud.seen().is_empty()).await;
    let cancel = Command::Cancel(TicketNo(1));
    uplink.commands.send(cancel).await.unwrap();
    eventually(|| cloud.hung_up() == 1).await;
    assert_eq!(
        uplink.ask(2, &["plant"]).await.unwrap().text,
        "now",
        "and of the first nothing was said"
    );
}

#[tokio::test]
async fn a_proxy_that_is_named_is_used_and_sees_nothing_of_what_goes_through() {
    let dir = TempDir::new("uplink");
    make_certificates(dir.path());
    let cloud = Cloud::start(&proof(&dir, "good"), [Mode::Say("now")]).await;
    let tunnel = Tunnel::start(cloud.address).await;
    let mut through = believed(&cloud, &dir, "ca.pem");
    through.proxy = Proxy::Url {
        url: format!("http://{}", tunnel.address),
        login: Some(("line-3".into(), Secret::new("proxy-pass".into()))),
    };
    let mut uplink = Uplink::start(vec![through], 1, &dir).await;
    assert_eq!(uplink.ask(1, &["plant"]).await.unwrap().text, "now");
    let heads = tunnel.heads.lock().unwrap().clone();
    let wanted = format!("CONNECT localhost:{} HTTP/1.1", cloud.address.port());
    assert!(heads[0].starts_with(&wanted), "{heads:?}");
    let heads = heads.concat();
    assert!(
        heads.to_lowercase().contains("proxy-authorization: basic"),
        "{heads}"
    );
    assert!(!heads.contains(KEY) && !heads.contains(INPUT), "{heads}");
}

/// Runs one test of this file again, in an environment that names a proxy where nobody is.
fn again_with_a_proxy_around(test: &str) -> bool {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    for name in [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ] {
        command.env(name, "http://127.0.0.1:9");
    }
    let ended = command
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .args(["--exact", test])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(
        said.contains("1 passed") || said.contains("1 failed"),
        "{said}"
    );
    ended.status.success()
}

#[tokio::test]
async fn the_environment_is_asked_for_a_proxy_only_where_the_settings_say_so() {
    let named = std::env::var("http_proxy").is_ok_and(|it| it == "http://127.0.0.1:9");
    if !named {
        let test = "the_environment_is_asked_for_a_proxy_only_where_the_settings_say_so";
        assert!(again_with_a_proxy_around(test));
        return;
    }
    let dir = TempDir::new("uplink");
    let cloud = Cloud::start(&Proof::None, [Mode::Say("now")]).await;
    let mut by_environment = upstream("b", cloud.http());
    by_environment.proxy = Proxy::Environment;
    let upstreams = vec![upstream("a", cloud.http()), by_environment];
    let mut uplink = Uplink::start(upstreams, 1, &dir).await;
    assert_eq!(uplink.ask(1, &["a"]).await.unwrap().text, "now");
    assert_eq!(uplink.ask(2, &["b"]).await, Err(Fault::Unreachable));
}

#[tokio::test]
async fn a_budget_outlives_the_process() {
    let dir = TempDir::new("uplink");
    let cloud = Cloud::start(&Proof::None, [Mode::Say("now")]).await;
    let mut budgeted = upstream("plant", cloud.http());
    // Of a month, so that no hour ends in the middle of this.
    budgeted.budget.month.requests = Some(2);
    let mut uplink = Uplink::start(vec![budgeted.clone()], 1, &dir).await;
    assert!(uplink.ask(1, &["plant"]).await.is_ok());
    uplink.close().await;
    let mut uplink = Uplink::start(vec![budgeted], 1, &dir).await;
    assert!(uplink.ask(2, &["plant"]).await.is_ok());
    let over = uplink.ask(3, &["plant"]).await;
    assert!(matches!(over, Err(Fault::Budget { .. })), "{over:?}");
    assert_eq!(cloud.seen().len(), 2);
}

#[test]
fn settings_that_cannot_work_are_told_before_anything_is_connected() {
    let fault = |change: fn(&mut Upstream)| {
        let mut upstream = upstream("plant", "https://localhost/v1".into());
        change(&mut upstream);
        let settings = Settings {
            upstreams: vec![upstream],
            ..Settings::default()
        };
        openai::check(&settings).unwrap_err().to_string()
    };
    for bad in [
        fault(|it| it.url = "localhost/v1".into()),
        fault(|it| it.url = "ftp://localhost/v1".into()),
        fault(|it| it.url = "https://user:hidden-word@localhost/v1".into()),
        fault(|it| it.key = Some(Secret::new("hidden-word\n".into()))),
        fault(|it| it.tls.ca_file = Some("/nowhere/ca.pem".into())),
        fault(|it| {
            it.proxy = Proxy::Url {
                url: "hidden-word".into(),
                login: None,
            };
        }),
    ] {
        assert!(bad.starts_with("upstream plant: "), "{bad}");
        assert!(!bad.contains("hidden-word"), "{bad}");
    }
}

/// Everything that anybody logs in this process, vendors included.
fn log() -> &'static Mutex<String> {
    static LOG: OnceLock<Arc<Mutex<String>>> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Arc::new(Mutex::new(String::new()));
        tracing_subscriber::registry()
            .with(Capture(Arc::clone(&log)))
            .init();
        log
    })
}

/// Keeps every field of every event, unlike the appliance's own log.
struct Capture(Arc<Mutex<String>>);

impl<S: tracing::Subscriber> Layer<S> for Capture {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        writeln!(self.0.lock().unwrap(), "{}", line.0).unwrap();
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

#[tokio::test]
async fn neither_key_nor_content_stands_in_a_log_line_or_a_fault() {
    let log = log();
    let dir = TempDir::new("uplink");
    make_certificates(dir.path());
    let good = Cloud::start(&proof(&dir, "good"), [Mode::Say("now")]).await;
    let expired = Cloud::start(&proof(&dir, "expired"), [Mode::Say("now")]).await;
    let mut told = String::new();
    for mode in [
        Mode::Say("quetzalcoatlus"),
        Mode::Status(500, &[]),
        Mode::Status(401, &[]),
        Mode::Status(429, &[("retry-after", "quetzalcoatlus")]),
        Mode::Body("quetzalcoatlus/html", "quetzalcoatlus"),
        Mode::Reset,
        Mode::Redirect("http://quetzalcoatlus.invalid/".into()),
    ] {
        let cloud = Cloud::start(&Proof::None, [mode]).await;
        let upstream = upstream("plant", cloud.http());
        writeln!(told, "{upstream:?} {:?}", openai::Client::new(&upstream)).unwrap();
        let mut uplink = Uplink::start(vec![upstream], 2, &dir).await;
        if let Err(fault) = uplink.ask(1, &["plant"]).await {
            writeln!(told, "{fault} {fault:?}").unwrap();
        }
    }
    for cloud in [good, expired] {
        let mut uplink = Uplink::start(vec![believed(&cloud, &dir, "ca.pem")], 2, &dir).await;
        let _ = uplink.ask(1, &["plant"]).await;
    }
    let log = log.lock().unwrap().clone();
    assert!(
        log.contains("an upstream rests"),
        "the log was captured: {log}"
    );
    for canary in [KEY, "quetzalcoatlus"] {
        assert!(!log.contains(canary), "{log}");
        assert!(!told.contains(canary), "{told}");
    }
}
