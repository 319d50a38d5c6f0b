//! An engine of one's own, asked in bulk: for the gate, for calibration, for an evaluation.
//!
//! ```text
//!  questions ─► Sitting ══ socket ══► engine process, as the service starts one
//!  answers   ◄─         ◄══════════   (the same frames, instructions, rules and shortcuts)
//! ```
//!
//! Purpose: whoever holds a model to something must hold it to what a device will be told. So
//! this asks the real engine, and [`Book`] makes of its answers what it makes of them in service,
//! confidence included. It blocks, and knows neither clock nor runtime: threads that may wait use
//! it, and commands.
//!
//! Owns one process, which ends with it. Invariants: never more questions are inside than the
//! engine's queue takes, so none is refused for want of room; each has exactly one end.
//!
//! Conversations that share a pass tip each other's answers now and then, where a coarsely
//! quantized model wavers. With [`Options::sequences`] at 1 the same questions have the same
//! answers every time; with more they are computed as under load.
//!
//! How it fails: by [`ExamError`], after which there is no engine any more. That one question
//! cannot be answered is no failure of the sitting.
//!
//! [`Options::sequences`]: super::protocol::Options::sequences

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::handover::Sealed;
use super::order::Book;
use super::process::{Launch, environment};
use super::protocol::{
    self, Ask, Done, Facts, Failure, Flash, FrameError, FromEngine, KvType, Load, Mapping, Options,
    ToEngine, Without, Work, WorkNo,
};
use super::supervise::LOAD_LIMIT;
use super::vitals::Vitals;
use super::{Completion, Fault, Finish, Form, Origin};
use crate::package::Gate;

/// What it is called among processes.
const NAME: &str = "lineside";
/// How long an engine may say nothing, once it has loaded: it gives signs of life between passes,
/// and nobody waits for an exam, so this is far beyond the longest pass.
const SILENCE: Duration = Duration::from_mins(2);

/// Conversations that the cache has room for, so that the instructions stay in it.
const CONTEXTS: u32 = 4;
/// Questions that wait inside, so that the engine is never idle.
const QUEUE: u16 = 4;
/// As in service.
const BATCH_TOKENS: u32 = 512;
/// As in service.
const PASS_MS: u32 = 25;

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// By which instruction.
    pub ask: Ask,
    /// The input, as a device would send it.
    pub input: String,
    /// Another limit than the instruction's.
    pub max_tokens: Option<u32>,
}

/// Why there are no more answers.
#[derive(Debug, thiserror::Error)]
pub enum ExamError {
    /// No process could be started.
    #[error("the engine could not be started: {0}")]
    Start(io::Error),
    /// It cannot load the model.
    #[error("the model cannot be loaded: {0}")]
    Unloadable(String),
    /// It ended with questions inside.
    #[error("the engine ended")]
    Ended,
    /// It gave no sign of life.
    #[error("the engine was silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// It said something that cannot be understood here.
    #[error("the engine cannot be understood: {0}")]
    Garbled(FrameError),
    /// It said something that nobody asked for.
    #[error("the engine told of work that it was not given")]
    Stranger,
    /// Nobody wants the answers any more.
    #[error("it was stopped")]
    Stopped,
}

/// An engine process and this side of its socket.
#[derive(Debug)]
pub struct Sitting {
    child: Child,
    vitals: Option<Vitals>,
    socket: BufReader<UnixStream>,
    facts: Facts,
    /// Questions inside at a time.
    most: usize,
    next: u64,
    /// Ends it before the next answer, once it is set.
    stop: Arc<AtomicBool>,
}

/// How a model is run so that the same questions have the same answers every time: one
/// conversation at a time, on one thread.
pub fn options(context_tokens: u32) -> Options {
    Options {
        context_tokens,
        cache_tokens: context_tokens.saturating_mul(CONTEXTS),
        sequences: 1,
        queue: QUEUE,
        threads: Some(1),
        batch_tokens: BATCH_TOKENS.min(context_tokens),
        pass_ms: PASS_MS,
        gpu_layers: 0,
        kv_type: KvType::F16,
        flash_attention: Flash::Auto,
        mapping: Mapping::Read,
        without: Without::default(),
    }
}

impl Sitting {
    /// Starts an engine and waits until it has loaded.
    pub fn open(launch: &Launch, load: Load) -> Result<Self, ExamError> {
        Self::open_sealed(launch, load, &Sealed::default())
    }

    /// The same with a model that lies sealed, or parts of it: what [`Book::sealed`] gives.
    pub fn open_sealed(launch: &Launch, load: Load, sealed: &Sealed) -> Result<Self, ExamError> {
        let opened = sealed.open().map_err(|error| {
            let why = format!("{}: {error}", load.model);
            ExamError::Unloadable(why)
        })?;
        let (ours, theirs) = UnixStream::pair().map_err(ExamError::Start)?;
        ours.set_read_timeout(Some(LOAD_LIMIT))
            .map_err(ExamError::Start)?;
        let child = Command::new(&launch.program)
            .arg0(NAME)
            .args(&launch.arguments)
            .env_clear()
            .envs(environment(Some(Path::new(&load.model))))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null()) // it may quote what it was given
            .process_group(0) // a key in the service's terminal is no fault of the model's
            .spawn()
            .map_err(ExamError::Start)?;
        // It may be looked at as long as it was told nothing.
        let vitals = Vitals::of(child.id()).ok();
        opened.hand_over(&ours).map_err(ExamError::Start)?;
        if let Some(group) = &launch.group {
            let _ = group.admit(child.id()); // else it stays in this process's own
        }
        let seats = usize::from(load.options.sequences);
        let most = (2 * seats).min(load.options.queue.into()).max(1);
        let mut sitting = Self {
            child,
            vitals,
            socket: BufReader::new(ours),
            facts: Facts::default(),
            most,
            next: 0,
            stop: Arc::default(),
        };
        sitting.say(&ToEngine::Load(Box::new(load)))?;
        match sitting.hear(LOAD_LIMIT)? {
            FromEngine::Ready(facts) => sitting.facts = *facts,
            FromEngine::Unloadable(why) => return Err(ExamError::Unloadable(why)),
            FromEngine::Beat(_)
            | FromEngine::Began(_)
            | FromEngine::Tokens { .. }
            | FromEngine::Done(_)
            | FromEngine::Failed { .. }
            | FromEngine::Prefix(_) => return Err(ExamError::Stranger),
        }
        let socket = sitting.socket.get_ref();
        socket
            .set_read_timeout(Some(SILENCE))
            .map_err(ExamError::Start)?;
        Ok(sitting)
    }

    /// The same, that ends before its next answer when this is set.
    #[must_use]
    pub fn until(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = stop;
        self
    }

    /// What was loaded.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Memory that the engine has taken at most so far; none if it is gone.
    pub fn peak_bytes(&self) -> Option<u64> {
        self.vitals.as_ref()?.peak_bytes()
    }

    /// Asks all of it; results in the order of the questions.
    pub fn ask(
        &mut self,
        questions: impl IntoIterator<Item = Question>,
    ) -> Result<Vec<Result<Done, Failure>>, ExamError> {
        self.ask_aloud(questions, &mut || {})
    }

    /// The same; tells of each question that has its answer.
    fn ask_aloud(
        &mut self,
        questions: impl IntoIterator<Item = Question>,
        on_end: &mut dyn FnMut(),
    ) -> Result<Vec<Result<Done, Failure>>, ExamError> {
        let mut questions = questions.into_iter();
        let mut inside = BTreeMap::new();
        let mut ends: Vec<Option<Result<Done, Failure>>> = Vec::new();
        loop {
            while inside.len() < self.most
                && let Some(question) = questions.next()
            {
                let no = self.begin(question)?;
                inside.insert(no, ends.len());
                ends.push(None);
            }
            if inside.is_empty() {
                break;
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(ExamError::Stopped);
            }
            let (no, end) = match self.hear(SILENCE)? {
                FromEngine::Done(done) => (done.no, Ok(*done)),
                FromEngine::Failed { no, why } => (no, Err(why)),
                FromEngine::Beat(_) | FromEngine::Began(_) | FromEngine::Tokens { .. } => continue,
                FromEngine::Ready(_) | FromEngine::Unloadable(_) | FromEngine::Prefix(_) => {
                    return Err(ExamError::Stranger);
                }
            };
            let place = inside.remove(&no).ok_or(ExamError::Stranger)?;
            ends[place] = Some(end);
            on_end();
        }
        Ok(ends.into_iter().flatten().collect())
    }

    fn begin(&mut self, question: Question) -> Result<WorkNo, ExamError> {
        self.next += 1;
        let no = WorkNo(self.next);
        let work = Work {
            no,
            ask: question.ask,
            input: question.input,
            max_tokens: question.max_tokens,
            due_ms: u32::MAX, // nobody waits
            priority: 0,
            client: 0,
            stream: false,
        };
        self.say(&ToEngine::Start(Box::new(work)))?;
        Ok(no)
    }

    /// The engine's listener always reads, so this waits for it only, never for a pass.
    fn say(&mut self, message: &ToEngine) -> Result<(), ExamError> {
        let frame = protocol::frame(message).map_err(ExamError::Garbled)?;
        let told = self.socket.get_mut().write_all(&frame);
        told.map_err(|_| ExamError::Ended)
    }

    fn hear(&mut self, patience: Duration) -> Result<FromEngine, ExamError> {
        match protocol::read(&mut self.socket) {
            Ok(Some(message)) => Ok(message),
            // So the system calls a read that took too long.
            Err(FrameError::Socket(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(ExamError::Silent(patience))
            }
            Ok(None) | Err(FrameError::Socket(_)) => Err(ExamError::Ended),
            Err(error) => Err(ExamError::Garbled(error)),
        }
    }
}

impl Drop for Sitting {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may be gone already
        let _ = self.child.wait();
    }
}

/// How one item of a suite was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// What a device would have been told.
    pub answer: Result<Completion, Fault>,
    /// Whether it was right.
    pub right: bool,
    /// How long it took, without the wait for a place.
    pub took: Duration,
}

/// Puts a suite to an engine that has this book's instructions loaded; marks in the order of the
/// items. What cannot be answered is not right.
pub fn suite(sitting: &mut Sitting, book: &Book, gate: &Gate) -> Result<Vec<Mark>, ExamError> {
    suite_aloud(sitting, book, gate, &mut || {})
}

/// The same; tells of each item that has its answer.
pub fn suite_aloud(
    sitting: &mut Sitting,
    book: &Book,
    gate: &Gate,
    on_end: &mut dyn FnMut(),
) -> Result<Vec<Mark>, ExamError> {
    let mut asked = Vec::new();
    let mut questions = Vec::new();
    for item in &gate.items {
        asked.push(
            book.question(&item.task, &item.input)
                .map(|(question, asked)| {
                    questions.push(question);
                    asked
                }),
        );
    }
    let mut ends = sitting.ask_aloud(questions, on_end)?.into_iter();
    let mut marks = Vec::new();
    for (item, asked) in gate.items.iter().zip(asked) {
        let end = asked.and_then(|asked| match ends.next() {
            Some(Ok(done)) => Ok((asked, done)),
            Some(Err(why)) => Err(Book::fault(&why)),
            None => Err(Fault::Crashed),
        });
        marks.push(match end {
            Ok((asked, done)) => Mark {
                right: book.is_right(asked, item, &done.text),
                took: Duration::from_micros(done.total_us.saturating_sub(done.queued_us)),
                answer: Ok(book.completion(asked, done, Origin::Model)),
            },
            Err(fault) => Mark {
                right: false,
                took: Duration::ZERO,
                answer: Err(fault),
            },
        });
    }
    Ok(marks)
}

/// Of each task, how many marks are right, and of how many.
pub fn by_task<'g>(gate: &'g Gate, marks: &[Mark]) -> BTreeMap<&'g str, (usize, usize)> {
    let mut counts = BTreeMap::new();
    for (item, mark) in gate.items.iter().zip(marks) {
        let count: &mut (usize, usize) = counts.entry(item.task.as_str()).or_default();
        count.0 += usize::from(mark.right);
        count.1 += 1;
    }
    counts
}

/// How many answers have the form of their task: whole, and JSON where that is asked for. The rule
/// that the engine writes by sees to the rest.
pub fn valid(marks: &[Mark]) -> usize {
    let is_valid = |mark: &&Mark| {
        mark.answer.as_ref().is_ok_and(|it| {
            let reads = it.form == Form::Text
                || serde_json::from_str::<serde::de::IgnoredAny>(&it.text).is_ok();
            it.finish == Finish::End && reads
        })
    };
    marks.iter().filter(is_valid).count()
}

/// The median time of the answers that came; none where none did.
pub fn median(marks: &[Mark]) -> Option<Duration> {
    let answered = marks.iter().filter(|mark| mark.answer.is_ok());
    let mut took: Vec<Duration> = answered.map(|mark| mark.took).collect();
    took.sort_unstable();
    took.get(took.len() / 2).copied()
}

/// How far confidence is off on average, over tenths: of the answers in each tenth, what was said
/// against what was right. None without an answer.
pub fn calibration_error(marks: &[Mark]) -> Option<f64> {
    let mut tenths = [(0.0, 0.0, 0.0); 10]; // answers, their confidence, those that are right
    for mark in marks {
        let Ok(completion) = &mark.answer else {
            continue;
        };
        let sure = f64::from(completion.confidence);
        let place = (1..10)
            .filter(|tenth| sure * 10.0 >= f64::from(*tenth))
            .count();
        let (count, said, right) = &mut tenths[place];
        *count += 1.0;
        *said += sure;
        *right += f64::from(u8::from(mark.right));
    }
    let total: f64 = tenths.iter().map(|(count, _, _)| count).sum();
    let off = tenths.iter().map(|(_, said, right)| f64::abs(said - right));
    (total > 0.0).then(|| off.sum::<f64>() / total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(confidence: f32, right: bool) -> Mark {
        Mark {
            answer: Ok(Completion {
                confidence,
                ..Completion::default()
            }),
            right,
            took: Duration::ZERO,
        }
    }

    #[test]
    fn confidence_is_off_by_what_each_tenth_said_too_much_or_too_little() {
        assert_eq!(calibration_error(&[]), None);
        let failed = Mark {
            answer: Err(Fault::Busy),
            ..mark(0.0, false)
        };
        assert_eq!(calibration_error(&[failed]), None);
        // Nine tenths said, and nine of ten right.
        let honest: Vec<_> = (0..10).map(|at| mark(0.9, at > 0)).collect();
        assert!(calibration_error(&honest).unwrap() < 1e-6);
        // Too much in one tenth is not made up for by too little in another one.
        let off = [mark(1.0, false), mark(0.0, true)];
        assert!((calibration_error(&off).unwrap() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn the_median_is_of_those_that_were_answered() {
        let took = |ms, answer| Mark {
            answer,
            took: Duration::from_millis(ms),
            ..mark(1.0, true)
        };
        let good = || Ok(Completion::default());
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[took(9, Err(Fault::Busy))]), None);
        let marks = [took(5, good()), took(1, good()), took(900, good())];
        assert_eq!(median(&marks), Some(Duration::from_millis(5)));
    }

    #[test]
    fn an_answer_that_was_cut_short_or_is_no_json_has_not_its_form() {
        let answer = |text: &str, form, finish| Mark {
            answer: Ok(Completion {
                text: text.into(),
                form,
                finish,
                ..Completion::default()
            }),
            ..mark(1.0, true)
        };
        let marks = [
            answer("{}", Form::Json, Finish::End),
            answer("words {", Form::Text, Finish::End),
            answer("words", Form::Text, Finish::Length),
            answer("{", Form::Json, Finish::End),
            Mark {
                answer: Err(Fault::Crashed),
                ..mark(1.0, true)
            },
        ];
        assert_eq!(valid(&marks), 2);
    }

    #[test]
    fn a_program_that_is_no_engine_ends_the_sitting() {
        let launch = Launch {
            program: "/bin/true".into(),
            arguments: Vec::new(),
            ..Launch::default()
        };
        let error = Sitting::open(&launch, nothing()).unwrap_err();
        assert!(matches!(error, ExamError::Ended), "{error}");
        let gone = Launch {
            program: "/nonexistent/program".into(),
            ..launch
        };
        let error = Sitting::open(&gone, nothing()).unwrap_err();
        assert!(matches!(error, ExamError::Start(_)), "{error}");
    }

    fn nothing() -> Load {
        Load {
            model: String::new(),
            adapter: None,
            draft: None,
            options: options(64),
            instructions: Vec::new(),
        }
    }
}
