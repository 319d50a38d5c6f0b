//! What service and engine process say to each other, and how it looks on the socket.
//!
//! ```text
//!  frame:  u32 length of what follows (little endian) │ u8 version │ postcard of the message
//!
//!  service ── Load ──────────────────────────► engine      once, first
//!          ◄──────────────── Ready | Unloadable ──
//!          ── Start, Cancel, Allow, Evict, … ──►
//!          ◄── Began, Tokens, Done | Failed, Beat ──
//!          ── Shutdown, or the socket's end ───►           it ends
//! ```
//!
//! Both sides are one program, so a version that differs is a defect or an update under the feet
//! of a running service: the frame is refused, and the engine is started anew.
//!
//! Invariants: a frame that was taken is within [`MAX_FRAME_BYTES`] and holds one whole message
//! and nothing after it; no length is believed before it was held against that limit.
//!
//! How it fails: by [`FrameError`]. There is no way to go on behind a bad frame, so the socket is
//! given up, and with it the process at its other end.

use std::io::{self, Read};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::cage::Guard;

/// The version of every message here.
pub const VERSION: u8 = 1;
/// Bytes of a frame: 64 instructions with the largest system text and grammar a package may have,
/// and room. The largest text that a request brings is a fraction of it.
pub const MAX_FRAME_BYTES: usize = 16 << 20;
/// Bytes of a piece of a saved prefix: small enough that a piece never holds up an answer.
pub const MAX_PIECE_BYTES: usize = 256 << 10;
/// Bytes of a whole saved prefix: five hundred tokens of a large model. The engine holds so much
/// beside its cache while a state comes or goes.
pub const MAX_STATE_BYTES: u64 = 64 << 20;
/// Bytes of a frame's version and the shortest message.
const MIN_BODY_BYTES: usize = 2;

/// Which piece of work; unique within one engine process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkNo(pub u64);

/// What the service says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToEngine {
    /// Load this. The first message, and never again.
    Load(Box<Load>),
    /// Compute this.
    Start(Box<Work>),
    /// The answer is no longer wanted. It is confirmed by `Failed` unless it was done already.
    Cancel(WorkNo),
    /// How much may run from now on.
    Allow(Allowance),
    /// Let go of prefixes that nobody uses, those that cost least to compute again first, until
    /// so many tokens of the cache are free.
    Evict {
        /// Tokens of the cache.
        free_tokens: u32,
    },
    /// Tell a piece of the state of an instruction's prefix, for the disk. Each is asked for, so
    /// that it comes only when there is somewhere to put it; the first one settles the state.
    SavePrefix {
        /// Which instruction's.
        instruction: u16,
        /// From which byte on.
        offset: u64,
    },
    /// A piece of a prefix's state that was saved before. Pieces come in order; one that does not
    /// fit ends the attempt.
    RestorePrefix(Piece),
    /// Finish nothing, end now.
    Shutdown,
    /// These come along as open files, and are loaded instead of what [`Load`] names. Before
    /// anything else, or never.
    Files {
        /// The model.
        model: bool,
        /// Its adapter, behind it.
        adapter: bool,
    },
}

/// What the engine says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromEngine {
    /// The model is loaded.
    Ready(Box<Facts>),
    /// It cannot be loaded, for this reason; the process ends.
    Unloadable(String),
    /// Sign of life from the loop that computes.
    Beat(Beat),
    /// This work left the queue and is being computed.
    Began(WorkNo),
    /// The next words of an answer, where they were asked for.
    Tokens {
        /// Of which work.
        no: WorkNo,
        /// Whole characters; what is left of one follows.
        text: String,
    },
    /// An answer.
    Done(Box<Done>),
    /// There will be no answer.
    Failed {
        /// To which work.
        no: WorkNo,
        /// Why.
        why: Failure,
    },
    /// A piece of a prefix's state, or a void one: it is not in the cache.
    Prefix(Piece),
}

/// A model, and how to run it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// The GGUF file.
    pub model: String,
    /// A low-rank adapter beside it, and its scale.
    pub adapter: Option<(String, f32)>,
    /// A smaller model of the same vocabulary that guesses ahead for free text.
    pub draft: Option<String>,
    /// How to run it.
    pub options: Options,
    /// What is asked again and again; [`Ask::Known`] refers to them by place.
    pub instructions: Vec<Instruction>,
}

/// How a model is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Tokens of one conversation, prompt and answer together.
    pub context_tokens: u32,
    /// Tokens of the cache that all conversations and prefixes share.
    pub cache_tokens: u32,
    /// Conversations at a time.
    pub sequences: u16,
    /// Work that waits inside the engine; more is refused as [`Failure::Full`].
    pub queue: u16,
    /// Threads; none means that the engine measures and chooses.
    pub threads: Option<u16>,
    /// Tokens in one pass at most.
    pub batch_tokens: u32,
    /// While answers are being written, how long a pass may be drawn out by reading prompts.
    pub pass_ms: u32,
    /// Layers on a graphics processor.
    pub gpu_layers: u32,
    /// How keys and values are stored.
    pub kv_type: KvType,
    /// Whether attention is computed in one go.
    pub flash_attention: Flash,
    /// Whether the file is mapped, or read into memory of its own.
    pub mapping: Mapping,
    /// What is left out, so that a measurement shows what it is worth.
    pub without: Without,
}

/// How keys and values are stored in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvType {
    /// 16 bit each.
    #[default]
    F16,
    /// 8 bit and a scale.
    Q8_0,
    /// 4 bit and a scale.
    Q4_0,
}

/// Whether attention is computed in one go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flash {
    /// As the runtime finds best.
    #[default]
    Auto,
    /// Yes; the cache in 8 or 4 bit needs it.
    On,
    /// No.
    Off,
}

/// How the weights come into memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mapping {
    /// The file is mapped: quick, and the kernel may drop pages under pressure.
    #[default]
    Mapped,
    /// It is read: less memory where weights are repacked.
    Read,
}

/// Shortcuts that are not taken. All answers are the same with and without them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is left out or not, on its own"
)]
pub struct Without {
    /// Each prompt is computed whole.
    pub prefixes: bool,
    /// Forced tokens are computed one by one, as if they were free.
    pub jumps: bool,
    /// Choices are generated, not scored.
    pub scoring: bool,
    /// Nothing is guessed ahead.
    pub guesses: bool,
}

/// An instruction with a place for an input, and the rule for its answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instruction {
    /// Before the input; markers in it are markers.
    pub head: String,
    /// After the input; markers in it are markers.
    pub tail: String,
    /// What an answer may be.
    pub rule: Rule,
    /// Tokens of an answer at most.
    pub max_tokens: u32,
}

/// What an answer may be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rule {
    /// Anything.
    Text,
    /// One of these.
    Choices(Vec<String>),
    /// What a grammar in GBNF lets through.
    Grammar(String),
    /// JSON by a schema.
    Schema(String),
    /// What a regular expression matches whole.
    Regex(String),
}

/// One piece of work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Its number.
    pub no: WorkNo,
    /// What is asked.
    pub ask: Ask,
    /// The input: foreign text, in which a marker is text.
    pub input: String,
    /// Another limit than the instruction's.
    pub max_tokens: Option<u32>,
    /// Time that is left.
    pub due_ms: u32,
    /// Who goes first: larger is sooner.
    pub priority: u8,
    /// Whose it is, for fairness: any number that is the same for the same client.
    pub client: u64,
    /// Whether words are wanted as they come.
    pub stream: bool,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Ask {
    /// One of the instructions that were loaded.
    Known(u16),
    /// This.
    Own(Instruction),
}

/// How much may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// Conversations at a time; none pauses the engine between two passes.
    pub sequences: u16,
    /// Threads at most.
    pub threads: Option<u16>,
    /// Rest after each pass, in thousandths of the time that the pass took.
    pub rest_permille: u16,
    /// Whether guesses may be computed.
    pub guessing: Guessing,
    /// Whether what is kept beside the cache may stay in memory.
    pub keeping: Keeping,
}

/// Whether what only saves time may take up memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keeping {
    /// Within its limits.
    #[default]
    WithinLimits,
    /// Nothing: memory is short.
    Nothing,
}

/// Whether something may be computed that only may be of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Guessing {
    /// Where it pays.
    #[default]
    WherePaying,
    /// Never.
    Never,
}

/// What was loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// What the file calls itself.
    pub name: String,
    /// Weights.
    pub parameters: u64,
    /// Tokens of one conversation.
    pub context_tokens: u32,
    /// Tokens of the shared cache.
    pub cache_tokens: u32,
    /// Conversations at a time.
    pub sequences: u16,
    /// Threads that were chosen.
    pub threads: u16,
    /// Passes of one token in a second, as measured while the threads were chosen.
    pub tokens_per_s: f32,
    /// How long loading took.
    pub load_ms: u32,
    /// What this kernel lacks of the cage around the process.
    pub unguarded: Vec<Guard>,
}

/// Sign of life, with what was done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    /// Passes through the model.
    pub passes: u64,
    /// Tokens that were computed.
    pub computed: u64,
    /// Conversations under way.
    pub running: u16,
    /// Work that waits.
    pub waiting: u16,
    /// Tokens of the cache in use.
    pub cache_used: u32,
    /// Threads in use.
    pub threads: u16,
    /// A bit for each of the first instructions: whether its prefix is in the cache.
    pub warm: u64,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// To which work.
    pub no: WorkNo,
    /// What it says.
    pub text: String,
    /// Why it ends there.
    pub finish: Finish,
    /// Every token at which the model had a choice.
    pub free: Vec<FreeChoice>,
    /// Where the answer is one of several: the natural logarithm of each one's probability.
    pub choices: Vec<f32>,
    /// What it cost.
    pub tokens: Spent,
    /// From its arrival to the first pass.
    pub queued_us: u64,
    /// From its arrival to the first token.
    pub first_token_us: u64,
    /// From its arrival to the end.
    pub total_us: u64,
}

impl Default for WorkNo {
    fn default() -> Self {
        Self(u64::MAX)
    }
}

/// Why an answer ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finish {
    /// It is whole.
    #[default]
    End,
    /// It reached the limit of its tokens.
    Length,
}

/// A token at which the model had a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FreeChoice {
    /// Natural logarithm of its probability among all tokens.
    pub logprob: f32,
    /// Entropy of the distribution, in nats.
    pub entropy: f32,
}

/// Tokens that an answer cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// In the prompt.
    pub prompt: u32,
    /// Of those, found computed already.
    pub cached: u32,
    /// In the answer.
    pub completion: u32,
    /// Of those, forced by the rule, so that no pass of their own was needed.
    pub forced: u32,
    /// Guessed ahead, and right.
    pub guessed: u32,
    /// Sent through the model, guesses that were wrong included.
    pub computed: u32,
    /// Passes through the model that the answer took part in.
    pub passes: u32,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// Too much waits already.
    Full,
    /// It cannot be done in the time that is left, so it was not begun or not finished.
    Late,
    /// Prompt and answer do not fit into the context.
    Overflow {
        /// Tokens of prompt and answer.
        tokens: u32,
        /// Tokens that fit.
        context: u32,
    },
    /// The rule for the answer cannot be kept.
    Rule(String),
    /// There is no such instruction.
    Unknown,
    /// It was cancelled.
    Cancelled,
    /// The model went wrong: a pass failed, or a number came out that is none.
    Sick(String),
}

/// A piece of a prefix's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Which instruction's.
    pub instruction: u16,
    /// Where in the state.
    pub offset: u64,
    /// Bytes of the whole state.
    pub total: u64,
    /// The bytes, at most [`MAX_PIECE_BYTES`].
    pub bytes: Vec<u8>,
}

impl Piece {
    /// A piece of nothing. It fits nowhere, so it also ends an attempt to bring a state back.
    pub fn void(instruction: u16) -> Self {
        Self {
            instruction,
            offset: u64::MAX,
            total: 0,
            bytes: Vec::new(),
        }
    }
}

/// Why a frame was not taken.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The socket failed.
    #[error("the socket: {0}")]
    Socket(#[from] io::Error),
    /// The frame is longer than any message.
    #[error("a frame of {0} bytes, more than {MAX_FRAME_BYTES}")]
    TooLong(usize),
    /// The frame is too short to hold a message.
    #[error("a frame of {0} bytes")]
    TooShort(usize),
    /// The other side speaks another version.
    #[error("a message of version {0}, not {VERSION}")]
    Version(u8),
    /// The bytes are no message.
    #[error("no message: {0}")]
    Garbled(#[from] postcard::Error),
}

/// A message as a frame. A message that would be too long for the other side is an error here.
pub fn frame<M: Serialize>(message: &M) -> Result<Vec<u8>, FrameError> {
    let start = vec![0, 0, 0, 0, VERSION];
    let mut bytes = postcard::to_extend(message, start)?;
    let length = bytes.len() - 4;
    if length > MAX_FRAME_BYTES {
        return Err(FrameError::TooLong(length));
    }
    let length = u32::try_from(length).expect("the limit is far below");
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Takes frames from whatever pieces the socket brings.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Where the next frame begins.
    at: usize,
}

impl Frames {
    /// More bytes have come.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, if it is whole.
    pub fn take<M: DeserializeOwned>(&mut self) -> Result<Option<M>, FrameError> {
        let rest = &self.bytes[self.at..];
        let Some((head, body)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = body_length(*head)?;
        let Some(frame) = body.get(..length) else {
            return Ok(None);
        };
        let message = message(frame)?;
        self.at += 4 + length;
        Ok(Some(message))
    }
}

/// Reads one message from a socket that blocks; none at its end.
pub fn read<M: DeserializeOwned>(socket: &mut impl Read) -> Result<Option<M>, FrameError> {
    let mut head = [0; 4];
    match socket.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let mut body = vec![0; body_length(head)?];
    socket.read_exact(&mut body)?;
    message(&body).map(Some)
}

fn body_length(head: [u8; 4]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(head) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(FrameError::TooLong(length));
    }
    if length < MIN_BODY_BYTES {
        return Err(FrameError::TooShort(length));
    }
    Ok(length)
}

fn message<M: DeserializeOwned>(body: &[u8]) -> Result<M, FrameError> {
    let (version, payload) = body.split_first().ok_or(FrameError::TooShort(0))?;
    if *version != VERSION {
        return Err(FrameError::Version(*version));
    }
    let (message, rest) = postcard::take_from_bytes(payload)?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(postcard::Error::DeserializeBadEncoding.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(passes: u64) -> FromEngine {
        FromEngine::Beat(Beat {
            passes,
            ..Beat::default()
        })
    }

    #[test]
    fn messages_come_out_as_they_went_in_however_the_socket_cuts_them() {
        let sent: Vec<_> = (0..5).map(|n| beat(n * 300)).collect();
        let bytes: Vec<u8> = sent.iter().flat_map(|it| frame(it).unwrap()).collect();
        for size in 1..bytes.len() {
            let mut frames = Frames::default();
            let mut got = Vec::new();
            for piece in bytes.chunks(size) {
                frames.extend(piece);
                while let Some(message) = frames.take::<FromEngine>().unwrap() {
                    got.push(message);
                }
            }
            assert_eq!(got, sent);
        }
        let mut socket = bytes.as_slice();
        for message in &sent {
            assert_eq!(
                read::<FromEngine>(&mut socket).unwrap().as_ref(),
                Some(message)
            );
        }
        assert!(read::<FromEngine>(&mut socket).unwrap().is_none());
    }

    #[test]
    fn a_frame_at_the_limit_passes_and_one_byte_more_does_not() {
        let whole = |bytes: usize| {
            let text = "x".repeat(bytes);
            FromEngine::Unloadable(text)
        };
        let overhead = frame(&whole(MAX_FRAME_BYTES / 2)).unwrap().len() - MAX_FRAME_BYTES / 2;
        let most = MAX_FRAME_BYTES + 4 - overhead;
        let bytes = frame(&whole(most)).unwrap();
        assert_eq!(read(&mut bytes.as_slice()).unwrap(), Some(whole(most)));
        let error = frame(&whole(most + 1)).unwrap_err();
        assert!(matches!(error, FrameError::TooLong(_)), "{error}");
    }

    #[test]
    fn lengths_versions_and_trailing_bytes_that_lie_are_refused() {
        let refused = |bytes: &[u8]| {
            let mut frames = Frames::default();
            frames.extend(bytes);
            let streamed = frames.take::<FromEngine>().unwrap_err();
            let read = read::<FromEngine>(&mut &*bytes).unwrap_err();
            assert_eq!(streamed.to_string(), read.to_string());
            read
        };
        assert!(matches!(
            refused(&[255, 255, 255, 255]),
            FrameError::TooLong(_)
        ));
        assert!(matches!(
            refused(&[1, 0, 0, 0, VERSION]),
            FrameError::TooShort(1)
        ));
        let mut bytes = frame(&beat(1)).unwrap();
        bytes[4] += 1;
        assert!(matches!(refused(&bytes), FrameError::Version(_)));
        let mut bytes = frame(&beat(1)).unwrap();
        bytes.push(0);
        bytes[0] += 1;
        assert!(matches!(refused(&bytes), FrameError::Garbled(_)));
    }
}
