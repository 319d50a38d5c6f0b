//! `lineside models`: looks at model packages, and makes them.
//!
//! `check` opens a package like the service does and then hashes every file. `make` turns a GGUF
//! and a task file into a package. Neither talks to the running service; the others ask it, in the
//! words of its console.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::check::{FaultJson, json};
use super::once;
use super::progress::Bar;
use super::reach::Target;
use super::{EXIT_USAGE, USAGE, refuse};
use crate::config::{self, EXIT_CODE, Surroundings};
use crate::package::make::{Existing, Made, MakeError, Order, bytes_to_read, make_aloud};
use crate::package::{self, Answer, Faults, Note, Package};

/// Arguments of `lineside models`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// Which appliance, for those that ask one.
    #[command(flatten)]
    pub(super) target: Target,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Say what a package is, and everything that is wrong with it.
    Check(CheckArgs),
    /// Make a package from GGUF files and a task file.
    Make(MakeArgs),
    /// Say which package serves, which are here, and why others were taken back.
    List,
    /// Say what the package is that serves, or one that is here.
    Show(OneArgs),
    /// Read every byte of the package that serves, or of one that is here.
    Verify(OneArgs),
    /// Choose a package that is here, whatever the ring says. One that served before serves at once;
    /// another goes through gate and trial.
    Pin {
        /// Which.
        #[arg(value_name = "NAME-SEQ")]
        package: String,
    },
    /// Let the ring decide again.
    Unpin,
    /// Take back what is on its way, or else what was committed last. It is not tried again, but by
    /// `pin`.
    Rollback {
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct OneArgs {
    /// Which; without, the one that serves.
    #[arg(value_name = "NAME-SEQ")]
    package: Option<String>,
}

impl Args {
    /// What the running appliance is to be asked; none where it is not needed.
    pub fn asked(&self) -> Option<once::Args> {
        let mut words = vec!["models"];
        match &self.command {
            Command::Check(_) | Command::Make(_) => return None,
            Command::List => words.push("list"),
            Command::Show(it) => words.extend(["show"].into_iter().chain(it.package.as_deref())),
            Command::Verify(it) => {
                words.extend(["verify"].into_iter().chain(it.package.as_deref()));
            }
            Command::Pin { package } => words.extend(["pin", package.as_str()]),
            Command::Unpin => words.push("unpin"),
            Command::Rollback { reason } => {
                words.extend(["rollback"].into_iter().chain(reason.as_deref()));
            }
        }
        Some(once::Args {
            line: words.into_iter().map(str::to_owned).collect(),
            bare: true,
            target: self.target.clone(),
            ..once::Args::default()
        })
    }
}

#[derive(Clone, Debug, clap::Args)]
struct CheckArgs {
    /// The package's folder.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
struct MakeArgs {
    /// A model file; again for each further quantization of the same model.
    #[arg(long = "gguf", value_name = "FILE", required = true)]
    models: Vec<PathBuf>,
    /// The task file.
    #[arg(long, value_name = "FILE")]
    tasks: PathBuf,
    /// The folder that becomes the package.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The gate suite, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    gate: Option<PathBuf>,
    /// The package's name, if it is not the folder's.
    #[arg(long)]
    name: Option<String>,
    /// The sequence number, if it is not the next one.
    #[arg(long)]
    seq: Option<u64>,
    /// Take the place of the package that is there.
    #[arg(long)]
    replace: bool,
}

/// Runs the subcommand and returns the exit code.
pub fn command(args: &Args) -> io::Result<u8> {
    match &args.command {
        Command::Check(it) => check(it, args.target.config.as_deref(), args.target.json),
        Command::Make(it) => make_one(it, args.target.json),
        Command::List
        | Command::Show(_)
        | Command::Verify(_)
        | Command::Pin { .. }
        | Command::Unpin
        | Command::Rollback { .. } => Ok(EXIT_USAGE), // see `Args::asked`, which comes first
    }
}

fn check(args: &CheckArgs, config: Option<&Path>, as_json: bool) -> io::Result<u8> {
    match opened(args, config).and_then(verified) {
        Ok(package) => {
            let notes = package.notes();
            Ok(tell(&package, &notes, as_json))
        }
        Err(faults) => complain(&faults, as_json),
    }
}

/// The package; where it lies encrypted, with the key of this device. Else no configuration is looked
/// at: it may be another device's, or faulty.
fn opened(args: &CheckArgs, config: Option<&Path>) -> Result<Package, Faults> {
    let plain = Package::open(&args.folder);
    if plain.is_ok() || !package::lies_sealed(&args.folder) {
        return plain;
    }
    let settings = config::load(&Surroundings::of_process(config));
    match settings.ok().and_then(|it| it.at_rest.device_key) {
        Some(key) => Package::open_with(&args.folder, Some(&key)),
        None => plain,
    }
}

/// The package, every byte of it read; a person at a terminal sees how far that is.
pub(super) fn verified(package: Package) -> Result<Package, Faults> {
    let mut bar = Bar::new("reading the package", package.bytes());
    package.verify_aloud(&mut |bytes| bar.add(bytes))?;
    Ok(package)
}

fn make_one(args: &MakeArgs, as_json: bool) -> io::Result<u8> {
    let order = Order {
        models: args.models.clone(),
        tasks: args.tasks.clone(),
        gate: args.gate.clone(),
        out: args.out.clone(),
        name: args.name.clone(),
        seq: args.seq,
        existing: if args.replace {
            Existing::Replace
        } else {
            Existing::Keep
        },
    };
    let mut bar = Bar::new("making the package", bytes_to_read(&order));
    let made = make_aloud(&order, &mut |bytes| bar.add(bytes));
    drop(bar);
    match made {
        Ok(Made { package, notes }) => Ok(tell(&package, &notes, as_json)),
        Err(MakeError::Faults(faults)) => complain(&faults, as_json),
        Err(MakeError::Order(what)) => {
            refuse(as_json, USAGE, &what);
            Ok(EXIT_USAGE)
        }
        Err(error @ MakeError::Io { .. }) => Err(io::Error::other(error)),
    }
}

fn tell(package: &Package, notes: &[Note], as_json: bool) -> u8 {
    let text = if as_json {
        format!("{}\n", json(&PackageJson::of(package, notes)))
    } else {
        summary(package, notes)
    };
    // A reader that hung up is no fault of the package.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    0
}

pub(super) fn complain(faults: &Faults, as_json: bool) -> io::Result<u8> {
    if as_json {
        let faults = FaultsJson {
            ok: false,
            faults: faults.list.iter().map(FaultJson::of).collect(),
            left_out: faults.left_out,
        };
        writeln!(io::stdout(), "{}", json(&faults))?;
    } else {
        write!(io::stderr(), "{faults}")?;
    }
    Ok(EXIT_CODE)
}

/// What a package is, for people.
fn summary(package: &Package, notes: &[Note]) -> String {
    let manifest = package.manifest();
    let mut text = String::new();
    let mut line = |head: &str, rest: String| {
        let _ = writeln!(text, "{head:<10}  {rest}"); // a String takes all
    };
    line(
        "package",
        format!(
            "{} {}, number {}",
            manifest.name, manifest.version, manifest.seq
        ),
    );
    line("", manifest.description.clone());
    line("license", manifest.license.clone());
    if !manifest.languages.is_empty() {
        line("languages", manifest.languages.join(", "));
    }
    line(
        "runtime",
        format!(
            "{}, {} tokens of context, {} template",
            manifest.runtime.architecture,
            manifest.runtime.context_tokens,
            package.wording().name()
        ),
    );
    for (variant, header) in package.variants() {
        line(
            "model",
            format!(
                "{:<8} {:>9}  {} parameters, {} tokens known  {}",
                variant.quantization,
                size(variant.file.bytes),
                count(header.parameters),
                header.vocabulary,
                variant.file.path
            ),
        );
    }
    if let Some(adapter) = &manifest.adapter {
        line(
            "adapter",
            format!(
                "{} of {:>9}  {}",
                adapter.scale,
                size(adapter.file.bytes),
                adapter.file.path
            ),
        );
    }
    for task in &manifest.tasks {
        let items = package.gate().map_or(0, |gate| gate.count(&task.name));
        line(
            "task",
            format!(
                "{:<20} prompt {}, {}, up to {} tokens, threshold {}, {items} gate items",
                task.name,
                task.prompt_version,
                form(&task.answer),
                task.max_tokens,
                task.threshold
            ),
        );
    }
    if let Some(gate) = package.gate() {
        line("gate", format!("{} items", gate.items.len()));
    }
    for note in notes {
        line("note", note.what.clone());
        line("", format!("-> {}", note.cost));
    }
    line(
        "ok",
        format!(
            "{}: every file is what the manifest says",
            package.folder().display()
        ),
    );
    text
}

fn form(answer: &Answer) -> String {
    match answer {
        Answer::Grammar(path) => format!("grammar {path}"),
        Answer::Schema(path) => format!("schema {path}"),
        Answer::Choices(choices) => format!("{} choices", choices.len()),
        Answer::Text => "free text".into(),
    }
}

/// The one line about a package in `lineside check`.
pub(super) fn headline(package: &Package) -> String {
    let manifest = package.manifest();
    let variants = manifest.variants.iter();
    let variants = variants.map(|variant| variant.quantization.as_str());
    format!(
        "{} {}, number {}: {}, tasks {}",
        manifest.name,
        manifest.version,
        manifest.seq,
        variants.collect::<Vec<_>>().join(" "),
        tasks(package).join(" ")
    )
}

fn tasks(package: &Package) -> Vec<&str> {
    let tasks = package.manifest().tasks.iter();
    tasks.map(|task| task.name.as_str()).collect()
}

/// Bytes in the unit that leaves one to three digits before the point.
fn size(bytes: u64) -> String {
    scaled(bytes, 1024, &["B", "KiB", "MiB", "GiB"])
}

fn count(number: u64) -> String {
    scaled(number, 1000, &["", "thousand", "million", "billion"])
}

fn scaled(number: u64, base: u64, units: &[&str]) -> String {
    let mut unit = 1;
    let mut names = units.iter();
    let mut name = names.next();
    while number / unit >= base
        && let Some(next) = names.next()
    {
        unit *= base;
        name = Some(next);
    }
    let name = name.copied().unwrap_or_default();
    let text = if unit == 1 {
        format!("{number} {name}")
    } else {
        let tenths = number / (unit / 10).max(1);
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    };
    text.trim_end().to_owned()
}

/// The JSON of `--json`.
#[derive(Serialize)]
struct PackageJson<'a> {
    ok: bool,
    folder: String,
    name: &'a str,
    seq: u64,
    version: &'a str,
    architecture: &'a str,
    context_tokens: u64,
    template: &'a str,
    models: Vec<ModelJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<AdapterJson<'a>>,
    tasks: Vec<TaskJson<'a>>,
    gate_items: usize,
    notes: Vec<NoteJson<'a>>,
}

#[derive(Serialize)]
struct ModelJson<'a> {
    file: &'a str,
    quantization: &'a str,
    bytes: u64,
    sha256: String,
    parameters: u64,
    vocabulary: u64,
    trained_context_tokens: Option<u64>,
}

#[derive(Serialize)]
struct AdapterJson<'a> {
    file: &'a str,
    bytes: u64,
    sha256: String,
    scale: f64,
}

#[derive(Serialize)]
struct TaskJson<'a> {
    name: &'a str,
    prompt_version: &'a str,
    answer: &'a str,
    max_tokens: u32,
    threshold: f64,
    gate_items: usize,
}

#[derive(Serialize)]
struct NoteJson<'a> {
    what: &'a str,
    cost: &'a str,
}

#[derive(Serialize)]
struct FaultsJson<'a> {
    ok: bool,
    faults: Vec<FaultJson<'a>>,
    left_out: usize,
}

impl<'a> PackageJson<'a> {
    fn of(package: &'a Package, notes: &'a [Note]) -> Self {
        let manifest = package.manifest();
        let models = package.variants().map(|(variant, header)| ModelJson {
            file: variant.file.path.as_str(),
            quantization: &variant.quantization,
            bytes: variant.file.bytes,
            sha256: variant.file.sha256.to_string(),
            parameters: header.parameters,
            vocabulary: header.vocabulary,
            trained_context_tokens: header.context_tokens,
        });
        let tasks = manifest.tasks.iter().map(|task| TaskJson {
            name: &task.name,
            prompt_version: &task.prompt_version,
            answer: match task.answer {
                Answer::Grammar(_) => "grammar",
                Answer::Schema(_) => "schema",
                Answer::Choices(_) => "choices",
                Answer::Text => "text",
            },
            max_tokens: task.max_tokens,
            threshold: task.threshold,
            gate_items: package.gate().map_or(0, |gate| gate.count(&task.name)),
        });
        let notes = notes.iter().map(|note| NoteJson {
            what: &note.what,
            cost: &note.cost,
        });
        Self {
            ok: true,
            folder: path(package.folder()),
            name: &manifest.name,
            seq: manifest.seq,
            version: &manifest.version,
            architecture: &manifest.runtime.architecture,
            context_tokens: manifest.runtime.context_tokens,
            template: package.wording().name(),
            models: models.collect(),
            adapter: manifest.adapter.as_ref().map(|adapter| AdapterJson {
                file: adapter.file.path.as_str(),
                bytes: adapter.file.bytes,
                sha256: adapter.file.sha256.to_string(),
                scale: adapter.scale,
            }),
            tasks: tasks.collect(),
            gate_items: package.gate().map_or(0, |gate| gate.items.len()),
            notes: notes.collect(),
        }
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1024), "1.0 KiB");
        assert_eq!(size(5_300_000), "5.0 MiB");
        assert_eq!(size(1 << 40), "1024.0 GiB");
        assert_eq!(count(999), "999");
        assert_eq!(count(2_900_000), "2.9 million");
    }
}
