//! A `llama-server` to be measured against, where `LLAMA_SERVER` names one.
//!
//! It is set up as well as it can be for this kind of work: as many slots and threads as our
//! engine, one cache for all slots, no copies of idle slots put aside, no log, no page. It is
//! asked over one connection that stays open, with the very prompts of our engine, a grammar for
//! the answer, and only the answer's text to come back.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lineside::engine::protocol::{Ask, Instruction, Rule};
use serde_json::{Value, json};

use crate::WARM_UP;
use crate::figures::{Goal, Sheet, median_ratio, quantiles_us};
use crate::process::{Engine, SEQUENCES};
use crate::system;
use crate::tasks::{CHOICES, TRIAGE, Tasks};

/// How long it may take to load a model, and to answer.
const PATIENCE: Duration = Duration::from_mins(2);

/// The program, if there is one to measure against.
pub(crate) fn program() -> Option<PathBuf> {
    std::env::var_os("LLAMA_SERVER").map(PathBuf::from)
}

/// Killed when dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) port: u16,
    line: Option<BufReader<TcpStream>>,
}

impl Server {
    /// Started, with its model loaded.
    pub(crate) fn start(
        program: &Path,
        model: &Path,
        threads: u16,
        context_tokens: u32,
    ) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let number = |number: u32| number.to_string();
        let log = std::env::temp_dir().join(format!("lineside-llama-server-{port}.log"));
        let process = Command::new(program)
            .args(["--host", "127.0.0.1", "--port", &number(u32::from(port))])
            .arg("--model")
            .arg(model)
            .args(["--threads", &number(u32::from(threads))])
            .args(["--threads-batch", &number(u32::from(threads))])
            .args(["--parallel", &number(u32::from(SEQUENCES)), "--kv-unified"])
            .args(["--ctx-size", &number(context_tokens)])
            .args(["--cache-ram", "0", "--no-cache-idle-slots", "--no-slots"])
            .args(["--no-webui", "--log-verbosity", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let mut server = Self {
            process,
            port,
            line: None,
        };
        let begun = Instant::now();
        while !matches!(server.exchange("GET", "/health", ""), Ok((200, _))) {
            if let Some(status) = server.process.try_wait()? {
                bail!("it ended with {status}, see {}", log.display());
            }
            ensure!(begun.elapsed() < PATIENCE, "it loads for ever");
            sleep(Duration::from_millis(100));
        }
        let _ = fs::remove_file(log);
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The answer to a prompt.
    pub(crate) fn complete(&mut self, instruction: &Instruction, input: &str) -> Result<String> {
        let prompt = format!("{}{input}{}", instruction.head, instruction.tail);
        let asked = json!({
            "prompt": prompt,
            "grammar": grammar(&instruction.rule)?,
            "n_predict": instruction.max_tokens,
            "temperature": 0,
            "cache_prompt": true,
            "response_fields": ["content"],
        });
        let (status, body) = self.exchange("POST", "/completion", &asked.to_string())?;
        ensure!(status == 200, "{status}: {body}");
        let answer: Value = serde_json::from_str(&body)?;
        let content = answer["content"].as_str().context("an answer has a text")?;
        Ok(content.to_owned())
    }

    /// A request and its response, over the connection that is open if one is.
    fn exchange(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        let mut line = match self.line.take() {
            Some(line) => line,
            None => BufReader::new(self.connect()?),
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        line.get_mut().write_all(head.as_bytes())?;
        let mut first = String::new();
        line.read_line(&mut first)?;
        let status = first.split(' ').nth(1).context("a status line")?.parse()?;
        let (mut length, mut stays) = (0, true);
        loop {
            let mut header = String::new();
            line.read_line(&mut header)?;
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(number) = header.strip_prefix("content-length:") {
                length = number.trim().parse()?;
            }
            stays &= header != "connection: close";
        }
        let mut body = vec![0; length];
        line.read_exact(&mut body)?;
        if stays {
            self.line = Some(line);
        }
        Ok((status, String::from_utf8(body)?))
    }

    fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended
        let _ = self.process.wait();
    }
}

/// A rule in the server's own words.
pub(crate) fn grammar(rule: &Rule) -> Result<String> {
    match rule {
        Rule::Grammar(text) => Ok(text.clone()),
        Rule::Choices(choices) => {
            let quoted = choices.iter().map(|choice| format!("{choice:?}"));
            Ok(format!(
                "root ::= {}",
                quoted.collect::<Vec<_>>().join(" | ")
            ))
        }
        Rule::Text | Rule::Schema(_) | Rule::Regex(_) => bail!("nobody asks the server for this"),
    }
}

/// The same questions to our engine over its socket and to the server over HTTP, in turn.
pub(crate) fn compare(
    engine: &mut Engine,
    server: &mut Server,
    tasks: &Tasks,
    rounds: usize,
    sheet: &mut Sheet,
) -> Result<Value> {
    let mut figures = serde_json::Map::new();
    for (name, place) in [("choices", CHOICES), ("triage", TRIAGE)] {
        let instruction = tasks.instruction(place);
        let (mut ours, mut theirs, mut same) = (Vec::new(), Vec::new(), 0_u32);
        let mut before = [Duration::ZERO; 2];
        for round in 0..rounds + WARM_UP {
            let input = tasks.input(round);
            if round == WARM_UP {
                before = [engine.busy()?, system::busy(server.pid())?];
            }
            let (engine_took, done) = engine.ask_all(vec![(Ask::Known(place), input.into())])?;
            let begun = Instant::now();
            let content = server.complete(instruction, input)?;
            let server_took = begun.elapsed();
            if round >= WARM_UP {
                ours.push(engine_took);
                theirs.push(server_took);
                same += u32::from(done.iter().all(|done| done.text == content));
            }
        }
        let ratio = median_ratio(&ours, &theirs);
        let what = format!("{name}: engine / llama-server over HTTP");
        sheet.row(&what, ratio, "", Goal::Open);
        let [ours_us, theirs_us] = [&ours, &theirs].map(|spans| quantiles_us(spans));
        sheet.row("  the engine's median", ours_us[0], "us", Goal::Open);
        sheet.row("  the server's", theirs_us[0], "us", Goal::Open);
        let after = [engine.busy()?, system::busy(server.pid())?];
        let busy_us = [0, 1].map(|who| {
            let busy = after[who].saturating_sub(before[who]);
            busy.as_secs_f64() * 1e6 / ours.len() as f64
        });
        let by_time = busy_us[0] / busy_us[1];
        sheet.row("  by computing time", by_time, "", Goal::Open);
        sheet.row(
            "  computing time of the engine's",
            busy_us[0],
            "us",
            Goal::Open,
        );
        let share = 100.0 * f64::from(same) / ours.len() as f64;
        sheet.row("  the same answer from both", share, "%", Goal::Open);
        let figure = json!({
            "ratio": ratio,
            "engine_us": { "p50": ours_us[0], "p99": ours_us[1] },
            "server_us": { "p50": theirs_us[0], "p99": theirs_us[1] },
            "engine_busy_us": busy_us[0],
            "server_busy_us": busy_us[1],
            "rounds": ours.len(),
            "same_percent": share,
        });
        figures.insert(name.into(), figure);
    }
    Ok(figures.into())
}
