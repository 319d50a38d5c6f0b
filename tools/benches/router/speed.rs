//! How long a decision takes: all that happens between a request that was read and its tier.
//!
//! The table has as many rules as a site hardly ever has, each with conditions of several kinds, and
//! each request fits none but the last. Texts are as long as messages of a line are, and now and then
//! as long as intake lets through.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lineside::clock::{Mono, Wall};
use lineside::intake::{Classification, DeadlineLimits, Limits, Request, Topics, read_local};
use lineside::package::Manifest;
use lineside::router::affinity::Habits;
use lineside::router::pattern::{Keywords, NamePattern};
use lineside::router::rule::{Bounds, Low};
use lineside::router::{
    Accepts, Connectivity, Edge, Estimator, Policy, Reach, Router, Rule, Situation, Strain, To,
    Upstream, Ways, When, Window,
};

const RULES: usize = 200;
/// Decisions that are timed; one in a hundred is about a text of [`LONG_BYTES`].
const DECISIONS: usize = 20_000;
const LONG_BYTES: usize = 8 << 10;
const WARM_UP: usize = 1000;
/// Clients that ask.
const CLIENTS: usize = 40;

/// Microseconds: median and 99th percentile of messages, and the median of long texts.
pub struct Speed {
    pub median: f64,
    pub p99: f64,
    pub long_median: f64,
}

pub fn measure(manifest: &Manifest, texts: &[&str]) -> Result<Speed> {
    let router = Router {
        policy: Policy::new(rules()?, ways()),
        estimator: Estimator::of(manifest),
        context_tokens: 512,
        ..Router::default()
    };
    let requests = requests(texts)?;
    let mut habits = Habits::default();
    let (mut short, mut long) = (Vec::new(), Vec::new());
    for at in 0..WARM_UP + DECISIONS {
        let request = &requests[at % requests.len()];
        let topic = format!("lineside/line-3/request/press{}", at % CLIENTS);
        let situation = Situation {
            topic: Some(&topic),
            minute: router.minute(Wall(1_800_000_000_000)),
            broker: Connectivity::Online,
            edge: Edge::Open,
            clouds: &[Reach::Open],
            review: Reach::Open,
            strain: Strain::Nominal,
        };
        let now = Mono(Duration::from_millis(at as u64));
        let began = Instant::now();
        black_box(habits.decide(&router, black_box(request), &situation, now));
        let micros = began.elapsed().as_secs_f64() * 1e6;
        if at < WARM_UP {
            continue;
        }
        if request.ask.text().len() >= LONG_BYTES {
            long.push(micros);
        } else {
            short.push(micros);
        }
    }
    let share = |of: &mut Vec<f64>, share: usize| {
        of.sort_by(f64::total_cmp);
        of[(of.len() - 1) * share / 100]
    };
    Ok(Speed {
        median: share(&mut short, 50),
        p99: share(&mut short, 99),
        long_median: share(&mut long, 50),
    })
}

fn ways() -> Ways {
    Ways {
        upstreams: vec![Upstream {
            name: "main".into(),
            accepts: Accepts::of(&[Classification::Public]),
        }],
        local_review: true,
        doubtful_review: true,
        remote_review: Accepts::default(),
    }
}

/// The last one fits; each before it fails at one of its conditions, a different one each time.
fn rules() -> Result<Vec<Rule>> {
    let pattern = |text: &str| NamePattern::parse(text, |_| true).context("a pattern");
    let mut rules = Vec::new();
    for number in 0..RULES {
        let complex = |least| Bounds {
            low: Some(Low::Above(least)),
            high: None,
        };
        let mut when = When {
            classification: Some(vec![Classification::Public, Classification::Internal]),
            ..When::default()
        };
        match number % 6 {
            0 => when.task = Some(vec![pattern(&format!("other-{number}"))?]),
            1 => when.topic = Some(vec![format!("lineside/+/request/oven{number}")]),
            2 => when.client = Some(vec![pattern(&format!("oven{number}*"))?]),
            3 => {
                let words = vec![format!("absentword{number}")];
                when.text = Some(Keywords::new(words, vec![format!("fragment{number}x")]));
            }
            4 => when.time = Window::parse("02:00-02:01"),
            _ => when.complexity = complex(0.999),
        }
        rules.push(Rule {
            name: format!("rule-{number}"),
            when,
            to: To::Cloud,
        });
    }
    rules.pop();
    rules.push(Rule {
        name: "last".into(),
        when: When::default(),
        to: To::Edge,
    });
    Ok(rules)
}

fn requests(texts: &[&str]) -> Result<Vec<Request>> {
    let topics = Topics {
        prefix: "lineside".into(),
        appliance: "line-3".into(),
        pool: None,
    };
    let limits = Limits {
        max_payload_bytes: 1 << 16,
        max_prompt_bytes: 1 << 15,
        deadlines: DeadlineLimits {
            default: Duration::from_secs(30),
            max: Duration::from_secs(30),
        },
        default_classification: Classification::Public,
        classification_by_topic: Vec::new(),
        reply_topics: Vec::new(),
    };
    let long = texts.join("\n");
    let long: String = long.chars().cycle().take(LONG_BYTES).collect();
    let requests = (0..1000).map(|at| {
        let text = if at % 100 == 0 {
            &long
        } else {
            texts[at % texts.len()]
        };
        let payload = serde_json::json!({"task": "triage", "input": text}).to_string();
        let read = read_local(payload.as_bytes(), &topics, &limits, Wall(0));
        read.map_err(|refusal| anyhow::anyhow!("{}", refusal.message))
    });
    requests.collect()
}
