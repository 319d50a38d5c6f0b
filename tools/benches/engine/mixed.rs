//! Short urgent requests while the engine reads long prompts and writes long answers.
//!
//! The same questions alone and under load, in blocks that alternate. The load never ends: each
//! answer of it is followed by the next request of the same kind.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use lineside::engine::protocol::{Ask, Done, Instruction, Rule, WorkNo};
use serde_json::{Value, json};

use crate::figures::{Goal, Sheet, quantiles_us};
use crate::process::{CONTEXT_TOKENS, Engine};
use crate::tasks::{CHOICES, TEXT, TRIAGE, Tasks};

/// Conversations of each kind of load: four of the eight, so that the urgent never lack a place.
const READERS: usize = 2;
const WRITERS: usize = 2;
/// Part of the context that a long prompt fills; the answer and the frame need the rest.
const FILLED: f64 = 0.9;
/// Urgent requests in a block. Blocks alternate between alone and loaded.
const BLOCK: usize = 40;
/// Rounds of effort for each block.
const ROUNDS_A_BLOCK: usize = 20;
/// How the urgent and the load rank.
const HIGH: u8 = 2;
const LOW: u8 = 0;

/// Who asks for more.
#[derive(Clone, Copy)]
enum Kind {
    Reader,
    Writer,
}

/// Times, and the load that was worked off beside them.
#[derive(Default)]
struct Block {
    spans: Vec<Duration>,
    /// Computing time of the engine; told of the urgent alone.
    busy: Duration,
    /// Until the last of the load was done.
    lasted: Duration,
    read_tokens: u32,
    written_tokens: u32,
}

pub(crate) fn measure(
    engine: &mut Engine,
    tasks: &Tasks,
    rounds: usize,
    sheet: &mut Sheet,
) -> Result<Value> {
    let sentences = sentences_of_context(engine)?;
    let mut figures = serde_json::Map::new();
    for (name, place) in [("choices", CHOICES), ("triage", TRIAGE)] {
        let (mut alone, mut loaded) = (Block::default(), Block::default());
        let mut load = Load::new(sentences);
        for block in 0..rounds.div_ceil(ROUNDS_A_BLOCK) {
            let before = engine.busy()?;
            for inner in 0..BLOCK {
                let input = tasks.input(block * BLOCK + inner);
                let begun = Instant::now();
                engine.ask_one(Ask::Known(place), input)?;
                alone.spans.push(begun.elapsed());
            }
            alone.busy += engine.busy()?.saturating_sub(before);
            load.begin(engine, tasks)?;
            let begun = Instant::now();
            for inner in 0..BLOCK {
                let input = tasks.input(block * BLOCK + inner);
                let span = load.urgent(engine, place, tasks, input, &mut loaded)?;
                loaded.spans.push(span);
            }
            load.end(engine, &mut loaded)?;
            loaded.lasted += begun.elapsed();
        }
        let [alone_us, loaded_us] = [&alone, &loaded].map(|block| quantiles_us(&block.spans));
        for (index, word) in ["p50", "p99"].iter().enumerate() {
            let what = format!("urgent {name} alone, {word}");
            sheet.row(&what, alone_us[index], "us", Goal::Open);
            let what = format!("urgent {name} under load, {word}");
            sheet.row(&what, loaded_us[index], "us", Goal::Open);
        }
        let busy_us = alone.busy.as_secs_f64() * 1e6 / alone.spans.len() as f64;
        let what = "  computing time of one alone";
        sheet.row(what, busy_us, "us", Goal::Open);
        let rate = |tokens: u32| f64::from(tokens) / loaded.lasted.as_secs_f64();
        let (read, written) = (rate(loaded.read_tokens), rate(loaded.written_tokens));
        sheet.row("  prompts read meanwhile", read, "tok/s", Goal::Open);
        sheet.row("  text written meanwhile", written, "tok/s", Goal::Open);
        let figure = json!({
            "alone_us": { "p50": alone_us[0], "p99": alone_us[1] },
            "loaded_us": { "p50": loaded_us[0], "p99": loaded_us[1] },
            "alone_busy_us": busy_us,
            "requests": loaded.spans.len(),
            "read_per_s": read,
            "written_per_s": written,
        });
        figures.insert(name.into(), figure);
    }
    Ok(figures.into())
}

/// The load, and which of its work is under way.
struct Load {
    sentences: usize,
    number: usize,
    under_way: HashMap<WorkNo, Kind>,
}

impl Load {
    fn new(sentences: usize) -> Self {
        Self {
            sentences,
            number: 0,
            under_way: HashMap::new(),
        }
    }

    fn begin(&mut self, engine: &mut Engine, tasks: &Tasks) -> Result<()> {
        for (kind, count) in [(Kind::Reader, READERS), (Kind::Writer, WRITERS)] {
            for _ in 0..count {
                self.one(engine, tasks, kind)?;
            }
        }
        Ok(())
    }

    /// What was begun is finished, and nothing follows.
    fn end(&mut self, engine: &mut Engine, block: &mut Block) -> Result<()> {
        while !self.under_way.is_empty() {
            let done = engine.next_done()?;
            self.count(&done, block);
        }
        Ok(())
    }

    /// An answer of the load, and what it cost; none if it was something else.
    fn count(&mut self, done: &Done, block: &mut Block) -> Option<Kind> {
        let kind = self.under_way.remove(&done.no)?;
        match kind {
            Kind::Reader => block.read_tokens += done.tokens.prompt - done.tokens.cached,
            Kind::Writer => block.written_tokens += done.tokens.completion,
        }
        Some(kind)
    }

    /// Another request of the load; no two long prompts begin alike.
    fn one(&mut self, engine: &mut Engine, tasks: &Tasks, kind: Kind) -> Result<()> {
        self.number += 1;
        let mut work = match kind {
            Kind::Reader => {
                let ask = Ask::Own(long_reading());
                engine.work(ask, filling(self.number, self.sentences))
            }
            Kind::Writer => {
                let input = tasks.input(self.number).to_owned();
                engine.work(Ask::Known(TEXT), input)
            }
        };
        work.priority = LOW;
        self.under_way.insert(work.no, kind);
        engine.begin(work)
    }

    /// One urgent request through the load.
    fn urgent(
        &mut self,
        engine: &mut Engine,
        place: u16,
        tasks: &Tasks,
        input: &str,
        block: &mut Block,
    ) -> Result<Duration> {
        let mut work = engine.work(Ask::Known(place), input.to_owned());
        work.priority = HIGH;
        let no = work.no;
        let begun = Instant::now();
        engine.begin(work)?;
        loop {
            let done = engine.next_done()?;
            if done.no == no {
                return Ok(begun.elapsed());
            }
            if let Some(kind) = self.count(&done, block) {
                self.one(engine, tasks, kind)?;
            }
        }
    }
}

/// Much to read, nearly nothing to say.
fn long_reading() -> Instruction {
    Instruction {
        head: "<|im_start|>user\n".into(),
        tail: "<|im_end|>\n<|im_start|>assistant\n".into(),
        rule: Rule::Choices(vec!["yes".into(), "no".into()]),
        max_tokens: 4,
    }
}

fn filling(number: usize, sentences: usize) -> String {
    let sentence = "The press stops when its guard is open, and nobody resets it alone. ";
    format!("Log {number}. {}", sentence.repeat(sentences))
}

/// How many sentences fill the context.
fn sentences_of_context(engine: &mut Engine) -> Result<usize> {
    const TRIED: usize = 20;
    let done = engine.ask_one(Ask::Own(long_reading()), &filling(0, TRIED))?;
    let each = f64::from(done.tokens.prompt) / TRIED as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few hundred"
    )]
    Ok((f64::from(CONTEXT_TOKENS) * FILLED / each) as usize)
}
