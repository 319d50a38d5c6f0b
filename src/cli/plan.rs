//! `lineside plan`: what a model takes of memory, whether it fits, and how it would be run.
//!
//! Reads headers only and loads nothing; asks the same functions as the service before it starts an
//! engine. The board is this one, as it is now, or one that is described by options. The site's own
//! settings count as for the service; options stand in for them.

mod page;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::check::{EXIT_UNAVAILABLE, faults_json, json};
use super::{EXIT_USAGE, USAGE, refuse};
use crate::appliance::plan;
use crate::config::{self, Engine, KvType, Settings, Surroundings};
use crate::governor::memory::parts::shown;
use crate::governor::memory::{self, Board, Kv, Plan, Refusal, Shape, Wishes};
use crate::package::{Header, Package, gguf};

/// Tokens of a conversation with a bare model that nobody says anything of: what the packages here
/// ask for at most, and no small board has room for what the files promise.
const USUAL_CONTEXT_TOKENS: u32 = 4096;

/// Arguments of `lineside plan`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A model file or a package's folder; the configured package, if none is named.
    #[arg(value_name = "MODEL|PACKAGE")]
    model: Option<PathBuf>,
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Memory for the service and its engine, such as 4GiB; else what this machine has to give.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    ram: Option<u64>,
    /// A graphics processor's own memory.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    vram: Option<u64>,
    /// Cores, if not those of this machine.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    cores: Option<u16>,
    /// Tokens of one request, its answer included.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(64..=1 << 20))]
    context: Option<u32>,
    /// Requests that are computed together.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    sequences: Option<u16>,
    /// How the cache stores its numbers.
    #[arg(long, value_name = "TYPE")]
    kv: Option<KvWord>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// How a cache stores its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum KvWord {
    #[value(name = "f16")]
    F16,
    #[value(name = "q8_0")]
    Q8,
    #[value(name = "q4_0")]
    Q4,
}

/// A number of bytes, with a unit or without.
fn bytes(text: &str) -> Result<u64, String> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err("bytes, or a number with KiB, MiB or GiB".into()),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "bytes, or a number with KiB, MiB or GiB".to_owned())?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "positive by its digits; a float that is too large becomes the greatest"
    )]
    let bytes = (number * unit as f64) as u64;
    Ok(bytes)
}

/// Runs the subcommand and returns the exit code.
pub fn command(args: &Args) -> io::Result<u8> {
    let settings = match config::load(&Surroundings::of_process(args.config.as_deref())) {
        Ok(settings) => settings,
        Err(faults) => {
            if args.json {
                writeln!(io::stdout(), "{}", faults_json(&faults))?;
            } else {
                write!(io::stderr(), "{faults}")?;
            }
            return Ok(config::EXIT_CODE);
        }
    };
    let named = args.model.as_deref().or(settings.model_package.as_deref());
    let Some(path) = named else {
        let why = "name a model file or a package; none is configured";
        refuse(args.json, USAGE, why);
        return Ok(EXIT_USAGE);
    };
    let told = match Told::of(path, args, &settings) {
        Ok(told) => told,
        Err(why) => {
            refuse(args.json, USAGE, &format!("{}: {why}", path.display()));
            return Ok(EXIT_USAGE);
        }
    };
    let text = if args.json {
        format!("{}\n", told.json())
    } else {
        page::text(&told)
    };
    let _ = io::stdout().lock().write_all(text.as_bytes()); // a reader that hung up is no fault
    Ok(if told.served().is_some() {
        0
    } else {
        EXIT_UNAVAILABLE
    })
}

/// What is told.
struct Told {
    /// As it was named.
    name: String,
    board: Board,
    /// Where its memory comes from, in words.
    limited_by: &'static str,
    variants: Vec<VariantPlan>,
}

/// One model file, and whether it fits.
struct VariantPlan {
    name: String,
    header: Header,
    shape: Shape,
    result: Result<Plan, Refusal>,
}

impl Told {
    fn of(path: &Path, args: &Args, settings: &Settings) -> Result<Self, String> {
        let (board, limited_by) = board(args, settings);
        let engine = engine(args, &settings.engine);
        let name = path.display().to_string();
        let planned = |name: String, header: Header, wishes: &Wishes| {
            let shape = plan::shape(&header);
            let result = memory::plan(&shape, &board, wishes);
            VariantPlan {
                name,
                header,
                shape,
                result,
            }
        };
        let variants = if path.is_dir() {
            let package = Package::open_with(path, settings.at_rest.device_key.as_ref())
                .map_err(|faults| faults.to_string())?;
            let wishes = plan::wishes(&package, &engine);
            let all = package.variants();
            all.map(|(variant, header)| {
                planned(variant.quantization.clone(), header.clone(), &wishes)
            })
            .collect()
        } else {
            let header = header(path)?;
            let wishes = Wishes {
                package_context_tokens: USUAL_CONTEXT_TOKENS,
                ..plan::wishes_of_site(&engine)
            };
            let name = header.quantization.unwrap_or("model").to_owned();
            vec![planned(name, header, &wishes)]
        };
        Ok(Self {
            name,
            board,
            limited_by,
            variants,
        })
    }

    /// The best that fits.
    fn served(&self) -> Option<&VariantPlan> {
        self.variants.iter().find(|it| it.result.is_ok())
    }
}

fn header(path: &Path) -> Result<Header, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let bytes = file.metadata().map_err(|error| error.to_string())?.len();
    gguf::read(io::BufReader::new(file), bytes).map_err(|error| error.to_string())
}

fn board(args: &Args, settings: &Settings) -> (Board, &'static str) {
    let (board, limited_by) = match args.ram {
        Some(ram) => (plan::board_with(ram), "as given"),
        None => plan::board(settings),
    };
    let board = Board {
        vram_bytes: args.vram,
        cores: args.cores.unwrap_or(board.cores),
        ..board
    };
    (board, limited_by)
}

/// The site's settings, with the options over them.
fn engine(args: &Args, site: &Engine) -> Engine {
    let kv_type = args.kv.map(|kv| match kv {
        KvWord::F16 => KvType::F16,
        KvWord::Q8 => KvType::Q8,
        KvWord::Q4 => KvType::Q4,
    });
    Engine {
        context_tokens: args.context.or(site.context_tokens),
        sequences: args.sequences.or(site.sequences),
        kv_type: kv_type.or(site.kv_type),
        ..site.clone()
    }
}

/// The JSON of `--json`.
#[derive(Serialize)]
struct ToldJson<'a> {
    ok: bool,
    model: &'a str,
    board: BoardJson,
    /// The variant that would be served.
    served: Option<&'a str>,
    variants: Vec<VariantJson<'a>>,
}

#[derive(Serialize)]
struct BoardJson {
    ram_bytes: u64,
    limited_by: &'static str,
    vram_bytes: Option<u64>,
    cores: u16,
}

#[derive(Serialize)]
struct VariantJson<'a> {
    name: &'a str,
    architecture: &'a str,
    parameters: u64,
    fits: bool,
    needs_bytes: u64,
    engine_bytes: u64,
    service_bytes: u64,
    /// What the engine's process takes, by part.
    parts: serde_json::Map<String, serde_json::Value>,
    graphics_bytes: u64,
    settings: Vec<SettingJson<'a>>,
    /// Bytes of the cache that one token takes, by the way in which it is stored.
    token_bytes: serde_json::Map<String, serde_json::Value>,
    why: Option<String>,
    suggestions: Vec<SuggestionJson<'a>>,
}

#[derive(Serialize)]
struct SettingJson<'a> {
    key: &'static str,
    value: &'a str,
    why: &'a str,
}

#[derive(Serialize)]
struct SuggestionJson<'a> {
    what: &'a str,
    needs_bytes: Option<u64>,
}

impl Told {
    fn json(&self) -> String {
        json(&ToldJson {
            ok: self.served().is_some(),
            model: &self.name,
            board: BoardJson {
                ram_bytes: self.board.ram_bytes,
                limited_by: self.limited_by,
                vram_bytes: self.board.vram_bytes,
                cores: self.board.cores,
            },
            served: self.served().map(|it| it.name.as_str()),
            variants: self.variants.iter().map(VariantPlan::json).collect(),
        })
    }
}

impl VariantPlan {
    fn json(&self) -> VariantJson<'_> {
        let parts = match &self.result {
            Ok(plan) => plan.parts,
            Err(refusal) => refusal.parts,
        };
        let settings = self.result.iter().flat_map(|plan| &plan.reasons);
        let refusal = self.result.as_ref().err();
        let suggestions = refusal.iter().flat_map(|refusal| &refusal.suggestions);
        VariantJson {
            name: &self.name,
            architecture: &self.header.architecture,
            parameters: self.header.parameters,
            fits: self.result.is_ok(),
            needs_bytes: memory::needs(&parts),
            engine_bytes: parts.engine_bytes(),
            service_bytes: memory::SERVICE_BYTES,
            parts: (parts.list().into_iter())
                .map(|(name, bytes)| (name.to_owned(), bytes.into()))
                .collect(),
            graphics_bytes: parts.graphics_bytes,
            settings: settings
                .map(|reason| SettingJson {
                    key: reason.setting.word(),
                    value: &reason.value,
                    why: &reason.why,
                })
                .collect(),
            token_bytes: (Kv::ALL.into_iter())
                .map(|kv| (kv.word().to_owned(), self.shape.token_bytes(kv).into()))
                .collect(),
            why: refusal.map(ToString::to_string),
            suggestions: suggestions
                .map(|it| SuggestionJson {
                    what: &it.what,
                    needs_bytes: it.needs_bytes,
                })
                .collect(),
        }
    }

    fn needs(&self) -> String {
        shown(match &self.result {
            Ok(plan) => plan.needs_bytes,
            Err(refusal) => refusal.needs_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_with_units_and_without() {
        for (text, expected) in [
            ("4294967296", 4 << 30),
            ("4GiB", 4 << 30),
            ("4g", 4 << 30),
            ("1.5 MiB", 3 << 19),
            ("512MB", 512_000_000),
            ("0", 0),
            ("99999999999999999999GiB", u64::MAX),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "GiB", "4TiB", "-1", "1.2.3", "four"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
