//! An engine process and this end of its socket, spoken to as the service does.

use std::io::{BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lineside::engine::process::environment;
use lineside::engine::protocol::{
    self, Ask, Done, Facts, Failure, Flash, FromEngine, Instruction, KvType, Load, Mapping,
    Options, ToEngine, Without, Work, WorkNo,
};

use crate::figures::quantiles_us;
use crate::system;
use crate::tasks::NOWHERE;

/// How long anything may take before the bench gives up.
const PATIENCE: Duration = Duration::from_mins(5);

/// Killed when dropped.
pub(crate) struct Engine {
    process: Child,
    socket: UnixStream,
    from: BufReader<UnixStream>,
    pub(crate) facts: Facts,
    next: u64,
}

impl Engine {
    pub(crate) fn start(
        model: &Path,
        options: Options,
        instructions: &[Instruction],
    ) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(PATIENCE))?;
        let process = Command::new(env!("CARGO_BIN_EXE_lineside"))
            .arg("engine")
            .env_clear()
            .envs(environment(Some(model)))
            .stdin(OwnedFd::from(theirs))
            .spawn()?;
        let mut engine = Self {
            process,
            from: BufReader::new(ours.try_clone()?),
            socket: ours,
            facts: Facts::default(),
            next: 0,
        };
        engine.send(&ToEngine::Load(Box::new(Load {
            model: model.display().to_string(),
            adapter: None,
            draft: None,
            options,
            instructions: instructions.to_vec(),
        })))?;
        loop {
            match engine.receive()? {
                FromEngine::Ready(facts) => {
                    engine.facts = *facts;
                    return Ok(engine);
                }
                FromEngine::Unloadable(why) => bail!("it cannot be loaded: {why}"),
                FromEngine::Beat(_) => {}
                other => bail!("{other:?} before it is ready"),
            }
        }
    }

    fn send(&mut self, message: &ToEngine) -> Result<()> {
        let bytes = protocol::frame(message)?;
        Ok(self.socket.write_all(&bytes)?)
    }

    fn receive(&mut self) -> Result<FromEngine> {
        let message = protocol::read(&mut self.from)?;
        message.context("the engine went away")
    }

    /// Work of a client of its own, of middling priority, with time enough.
    pub(crate) fn work(&mut self, ask: Ask, input: String) -> Work {
        self.next += 1;
        Work {
            no: WorkNo(self.next),
            ask,
            input,
            max_tokens: None,
            due_ms: 3_600_000, // eight long prompts of a large model, one after the other
            priority: 1,
            client: self.next,
            stream: false,
        }
    }

    pub(crate) fn begin(&mut self, work: Work) -> Result<()> {
        self.send(&ToEngine::Start(Box::new(work)))
    }

    /// The next answer, whoever asked for it.
    pub(crate) fn next_done(&mut self) -> Result<Done> {
        loop {
            match self.receive()? {
                FromEngine::Done(answer) => return Ok(*answer),
                FromEngine::Failed { why, .. } => bail!("no answer: {why:?}"),
                FromEngine::Beat(_) | FromEngine::Began(_) => {}
                other => bail!("{other:?} instead of an answer"),
            }
        }
    }

    pub(crate) fn ask_one(&mut self, ask: Ask, input: &str) -> Result<Done> {
        let (_, mut done) = self.ask_all(vec![(ask, input.to_owned())])?;
        done.pop().context("one answer to one request")
    }

    /// Asks for all at once and waits for the last; the answers are in the order of the requests.
    pub(crate) fn ask_all(&mut self, all: Vec<(Ask, String)>) -> Result<(Duration, Vec<Done>)> {
        let works: Vec<_> = all
            .into_iter()
            .map(|(ask, input)| self.work(ask, input))
            .collect();
        let first = works.first().map_or(0, |work| work.no.0);
        let mut done: Vec<Option<Done>> = vec![None; works.len()];
        // Put together before the clock runs, and sent in one go.
        let mut bytes = Vec::new();
        for work in works {
            bytes.extend(protocol::frame(&ToEngine::Start(Box::new(work)))?);
        }
        let begun = Instant::now();
        self.socket.write_all(&bytes)?;
        while done.iter().any(Option::is_none) {
            let answer = self.next_done()?;
            let place = usize::try_from(answer.no.0 - first)?;
            done[place] = Some(answer);
        }
        Ok((begun.elapsed(), done.into_iter().flatten().collect()))
    }

    /// Half of there and back, with a request that needs no computing.
    pub(crate) fn hops(&mut self, count: usize) -> Result<[f64; 2]> {
        let mut spans = Vec::with_capacity(count);
        for _ in 0..count {
            let work = self.work(Ask::Known(NOWHERE), "Is it safe?".into());
            let begun = Instant::now();
            self.begin(work)?;
            loop {
                match self.receive()? {
                    FromEngine::Failed {
                        why: Failure::Unknown,
                        ..
                    } => break,
                    FromEngine::Beat(_) => {}
                    other => bail!("{other:?} to a request that nobody knows"),
                }
            }
            spans.push(begun.elapsed() / 2);
        }
        Ok(quantiles_us(&spans))
    }

    pub(crate) fn rss_kb(&self) -> Result<u64> {
        system::rss_kb(self.process.id())
    }

    /// Time that it has spent on a core: what a busy machine disturbs least.
    pub(crate) fn busy(&self) -> Result<Duration> {
        system::busy(self.process.id())
    }

    pub(crate) fn shutdown(mut self) -> Result<()> {
        self.send(&ToEngine::Shutdown)?;
        let status = self.process.wait()?;
        ensure!(status.success(), "the engine ended with {status}");
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended
        let _ = self.process.wait();
    }
}

/// How the engine is run here: room for long prompts, else as the service runs it.
pub(crate) fn options(threads: u16, without: Without) -> Options {
    Options {
        context_tokens: CONTEXT_TOKENS,
        cache_tokens: 16_384,
        sequences: SEQUENCES,
        queue: 64,
        threads: Some(threads),
        batch_tokens: 512,
        pass_ms: 25,
        gpu_layers: 0,
        kv_type: KvType::F16,
        flash_attention: Flash::Auto,
        mapping: Mapping::Read,
        without,
    }
}

/// Tokens of one conversation.
pub(crate) const CONTEXT_TOKENS: u32 = 2048;
/// Conversations at a time.
pub(crate) const SEQUENCES: u16 = 8;
