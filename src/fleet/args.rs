//! The command line. Its help is meant to be learnt from.

use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand};

use super::rings;
use crate::ota::tuf::Expiry;

/// What the help ends with.
const TOUR: &str = "\
A first repository, by one person:

  lineside-fleet key new safe-1.key --comment 'first safe: root, packages, rings'
  lineside-fleet key new online.key --comment 'the machine that signs timestamps'
  lineside-fleet init plant --keys root,targets,packages,rollout,offline=safe-1.key \\
      --keys snapshot,timestamp=online.key --key safe-1.key --key online.key
  lineside-fleet package add models/factory-triage --repo plant --key safe-1.key --key online.key
  lineside-fleet ring open canary --package factory-triage-2 --share 10% --repo plant \\
      --key safe-1.key --key online.key

Serve the folder `plant` by any web server, or copy it; give devices plant/metadata/1.root.json.
`plant.desk`, beside it, is not served: changes that lack signatures wait there. Who has a key
elsewhere signs a slip:

  lineside-fleet export-unsigned --to /media/stick --repo plant
  lineside-fleet sign /media/stick/root-2.slip.json --key safe-2.key      (where that key is)
  lineside-fleet merge /media/stick/root-2.slip.json --repo plant

Every command that changes something shows what would be signed and asks; --yes does not ask,
--dry-run does nothing. Exit codes: 64 usage, 69 something needed is not at hand (a key, a
passphrase, a signature), 70 the disk, 78 what is there is wrong or would be.";

/// Signed packages over the air: the operator's tool.
#[derive(Debug, Parser)]
#[command(name = "lineside-fleet", version, about, after_long_help = TOUR)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new repository: who signs what, and nothing to fetch yet.
    Init(Init),
    /// Make keys, look at them, change their passphrases.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Put packages into the repository, or take them out.
    #[command(subcommand)]
    Package(PackageCommand),
    /// Say what rings of devices are to run.
    #[command(subcommand)]
    Ring(RingCommand),
    /// Halt rings: no download and no trial begins there any more. All rings where none is named.
    Halt(Halt),
    /// Let halted rings go on.
    Resume(Halt),
    /// Change who signs.
    #[command(subcommand)]
    Root(RootCommand),
    /// Have roles say again what they say, for their full term: once a year for those in a safe.
    Renew(Renew),
    /// Sign timestamp (and snapshot, when it is due) anew. Meant for cron; says what expires soon.
    Refresh(Refresh),
    /// Show what waits on the desk, and whose signatures it lacks.
    Status(Status),
    /// Write a slip for each document that lacks signatures, to be carried to those who sign.
    ExportUnsigned(ExportUnsigned),
    /// Sign slips where they lie. Needs no repository.
    Sign(Sign),
    /// Take the signatures on slips back to the desk; publish if nothing is missing any more.
    Merge(Merge),
    /// Check what is on the desk as devices would, and make it visible.
    Publish(Publish),
    /// Throw away what is on the desk. What is published stays.
    Discard(Discard),
    /// Copy the repository to a stick, with the objects of some packages only.
    Export(Export),
    /// Check everything: all signatures, all hashes, expiry, and what a device finds.
    Verify(Verify),
    /// Show roles, keys, terms, packages and rings.
    List(List),
    /// The engine process, for the gate. Started by `package add`.
    #[command(hide = true)]
    Engine,
}

/// Which repository.
#[derive(Clone, Debug, Group)]
pub struct Place {
    /// The repository's folder.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub repo: PathBuf,
    /// Its desk, if that is not the folder beside it that ends in `.desk`.
    #[arg(long, value_name = "DIR")]
    pub desk: Option<PathBuf>,
}

/// Which keys sign.
#[derive(Clone, Debug, Group)]
pub struct Hands {
    /// A key that signs; again for each further one.
    #[arg(long = "key", value_name = "FILE")]
    pub keys: Vec<PathBuf>,
    /// A file with a passphrase; again for each further one. Each is tried on each key.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Vec<PathBuf>,
    /// An environment variable with a passphrase.
    #[arg(long, value_name = "NAME")]
    pub passphrase_env: Vec<String>,
    /// Do not ask before a signature.
    #[arg(long)]
    pub yes: bool,
}

/// How a change is carried out.
#[derive(Clone, Debug, Group)]
pub struct Change {
    /// Which repository.
    #[command(flatten)]
    pub place: Place,
    /// Which keys.
    #[command(flatten)]
    pub hands: Hands,
    /// How far.
    #[command(flatten)]
    pub ways: Ways,
}

/// How far a change goes.
#[derive(Clone, Debug, Group)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of the command line"
)]
pub struct Ways {
    /// Show what would be signed; sign and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Leave it on the desk, even if all signatures are there.
    #[arg(long)]
    pub propose: bool,
    /// Bear that devices are refused in the moment between two writes: where the old key of
    /// timestamp, snapshot or targets is lost or stolen.
    #[arg(long)]
    pub accept_gap: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `init`.
#[derive(Clone, Debug, Group)]
pub struct Init {
    /// The folder that becomes the repository.
    #[arg(value_name = "REPO")]
    pub repository: PathBuf,
    /// Who signs for which roles: `root,targets=safe-1.key`. The public half is enough. Again for each
    /// further key.
    #[arg(long = "keys", value_name = "ROLE[,ROLE…]=FILE", required = true)]
    pub appointed: Vec<String>,
    /// How many of a role's keys must sign: `root=2`. One, if nothing is said.
    #[arg(long, value_name = "ROLE=N")]
    pub threshold: Vec<String>,
    /// How many days a role's word is good: `timestamp=3`. Usual: root, targets, packages and
    /// offline 365, rollout 90, snapshot 30, timestamp 7.
    #[arg(long, value_name = "ROLE=N")]
    pub days: Vec<String>,
    /// Its desk, if that is not the folder beside it that ends in `.desk`.
    #[arg(long, value_name = "DIR")]
    pub desk: Option<PathBuf>,
    /// Which keys.
    #[command(flatten)]
    pub hands: Hands,
    /// How far.
    #[command(flatten)]
    pub ways: Ways,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a new key, sealed under a passphrase.
    New {
        /// Its file.
        file: PathBuf,
        /// ECDSA on P-256 instead of Ed25519.
        #[arg(long)]
        p256: bool,
        /// Whose it is.
        #[arg(long, default_value = "")]
        comment: String,
        /// A file with the passphrase.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Vec<PathBuf>,
        /// An environment variable with the passphrase.
        #[arg(long, value_name = "NAME")]
        passphrase_env: Vec<String>,
    },
    /// Note a key that signs by a command: a token, a service. The command gets the bytes as its
    /// input and writes the signature, raw or in hexadecimal.
    External {
        /// Its file.
        file: PathBuf,
        /// The public key: a PEM's file, or the 64 hexadecimal digits of an Ed25519 key.
        #[arg(long, value_name = "PEM|HEX")]
        public: String,
        /// Whose it is.
        #[arg(long, default_value = "")]
        comment: String,
        /// The command, after `--`.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Show a key, or print its public half as a file of its own.
    Show {
        /// Its file.
        file: PathBuf,
        /// Print the file of its public half.
        #[arg(long)]
        public: bool,
        /// Print JSON.
        #[arg(long, conflicts_with = "public")]
        json: bool,
    },
    /// Change a key's passphrase.
    Passwd {
        /// Its file.
        file: PathBuf,
        /// A file with the passphrase that it has.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Vec<PathBuf>,
        /// An environment variable with the passphrase that it has.
        #[arg(long, value_name = "NAME")]
        passphrase_env: Vec<String>,
        /// A file with the new passphrase.
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Vec<PathBuf>,
        /// An environment variable with the new passphrase.
        #[arg(long, value_name = "NAME")]
        new_passphrase_env: Vec<String>,
    },
}

/// What can be done with packages.
#[derive(Debug, Subcommand)]
pub enum PackageCommand {
    /// Verify a package's folder, run its gate for each variant, and propose it.
    #[command(visible_alias = "build")]
    Add {
        /// The package's folder, as `lineside models make` makes it.
        folder: PathBuf,
        /// Propose it without its gate, for this reason, which is signed with it.
        #[arg(long, value_name = "WHY")]
        without_gate: Option<String>,
        /// How it is carried out.
        #[command(flatten)]
        change: Change,
    },
    /// Take a package out of the targets.
    Remove {
        /// Which, as NAME-SEQ.
        package: String,
        /// How it is carried out.
        #[command(flatten)]
        change: Change,
    },
    /// Quantize one F16 file into several tiers, make a package of them, calibrate each and run its
    /// gate. Nothing is signed.
    Tiers(Tiers),
}

/// Arguments of `package tiers`.
#[derive(Clone, Debug, Group)]
pub struct Tiers {
    /// The model, in F16 (or F32, BF16).
    pub gguf: PathBuf,
    /// A tier; again for each further one. Usual: `Q8_0` and `Q4_K_M`.
    #[arg(long = "tier", value_name = "QUANTIZATION")]
    pub tiers: Vec<String>,
    /// The task file.
    #[arg(long, value_name = "FILE")]
    pub tasks: PathBuf,
    /// The gate suite.
    #[arg(long, value_name = "FILE")]
    pub gate: PathBuf,
    /// The folder that becomes the package.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The package's name, if it is not the folder's.
    #[arg(long)]
    pub name: Option<String>,
    /// The sequence number, if it is not the next one.
    #[arg(long)]
    pub seq: Option<u64>,
    /// Take the place of the package that is there.
    #[arg(long)]
    pub replace: bool,
    /// Keep the F16 file as the best tier.
    #[arg(long)]
    pub keep_source: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What can be done with rings.
#[derive(Debug, Subcommand)]
pub enum RingCommand {
    /// Have a ring run a package, or open it for more of its devices.
    Open {
        /// The ring. One whose name begins with `offline` is signed by the role `offline`.
        ring: String,
        /// The package, as NAME-SEQ.
        #[arg(long, value_name = "NAME-SEQ")]
        package: String,
        /// For which share of its devices: 10%, 0.5% or 100‰.
        #[arg(long, value_name = "SHARE", default_value = "100%", value_parser = rings::share)]
        share: u16,
        /// Nobody begins before this moment, such as 2030-01-31T12:00:00Z.
        #[arg(long, value_name = "MOMENT", value_parser = rings::moment)]
        not_before: Option<Expiry>,
        /// How it is carried out.
        #[command(flatten)]
        change: Change,
    },
    /// Show all rings.
    Show {
        /// Which repository.
        #[command(flatten)]
        place: Place,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of `halt` and `resume`.
#[derive(Clone, Debug, Group)]
pub struct Halt {
    /// Which rings.
    pub rings: Vec<String>,
    /// How it is carried out.
    #[command(flatten)]
    pub change: Change,
}

/// What can be done with who signs.
#[derive(Debug, Subcommand)]
pub enum RootCommand {
    /// Add, remove or replace keys of a role, or change how many must sign. A new root is signed by
    /// the old keys and by the new ones.
    Rotate(Rotate),
}

/// Arguments of `root rotate`.
#[derive(Clone, Debug, Group)]
pub struct Rotate {
    /// Whose keys change.
    #[arg(long, value_name = "ROLE", default_value = "root")]
    pub role: String,
    /// A key that comes; its public half is enough.
    #[arg(long, value_name = "FILE")]
    pub add: Vec<PathBuf>,
    /// A key that goes: the beginning of its id.
    #[arg(long, value_name = "ID")]
    pub remove: Vec<String>,
    /// A key that goes and one that comes in its place.
    #[arg(long, value_name = "ID=FILE")]
    pub replace: Vec<String>,
    /// How many must sign from now on.
    #[arg(long, value_name = "N")]
    pub new_threshold: Option<u64>,
    /// How it is carried out.
    #[command(flatten)]
    pub change: Change,
}

/// Arguments of `renew`.
#[derive(Clone, Debug, Group)]
pub struct Renew {
    /// Which roles.
    #[arg(required = true)]
    pub roles: Vec<String>,
    /// From now on so many days: `rollout=120`.
    #[arg(long, value_name = "ROLE=N")]
    pub days: Vec<String>,
    /// How it is carried out.
    #[command(flatten)]
    pub change: Change,
}

/// Arguments of `refresh`.
#[derive(Clone, Debug, Group)]
pub struct Refresh {
    /// The snapshot, too, although half of its term is not over yet.
    #[arg(long)]
    pub snapshot: bool,
    /// How it is carried out.
    #[command(flatten)]
    pub change: Change,
}

/// Arguments of `status`.
#[derive(Clone, Debug, Group)]
pub struct Status {
    /// Which repository.
    #[command(flatten)]
    pub place: Place,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `export-unsigned`.
#[derive(Clone, Debug, Group)]
pub struct ExportUnsigned {
    /// The folder for the slips.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Which repository.
    #[command(flatten)]
    pub place: Place,
    /// Tell which slips there would be; write none.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `sign`.
#[derive(Clone, Debug, Group)]
pub struct Sign {
    /// The slips.
    #[arg(required = true)]
    pub slips: Vec<PathBuf>,
    /// Which keys.
    #[command(flatten)]
    pub hands: Hands,
    /// Show what would be signed; sign nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `merge`.
#[derive(Clone, Debug, Group)]
pub struct Merge {
    /// The slips.
    #[arg(required = true)]
    pub slips: Vec<PathBuf>,
    /// How it is carried out.
    #[command(flatten)]
    pub change: Change,
}

/// Arguments of `publish`.
#[derive(Clone, Debug, Group)]
pub struct Publish {
    /// How it is carried out.
    #[command(flatten)]
    pub change: Change,
}

/// Arguments of `discard`.
#[derive(Clone, Debug, Group)]
pub struct Discard {
    /// Which repository.
    #[command(flatten)]
    pub place: Place,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Tell what would be thrown away; keep it.
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `export`.
#[derive(Clone, Debug, Group)]
pub struct Export {
    /// The folder on the stick.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Devices are to accept it for so many days; else as long as the repository as it is.
    #[arg(long, value_name = "N")]
    pub for_days: Option<u32>,
    /// A package that goes along, as NAME-SEQ; else those that the rings run.
    #[arg(long, value_name = "NAME-SEQ")]
    pub package: Vec<String>,
    /// Which repository.
    #[command(flatten)]
    pub place: Place,
    /// Which keys.
    #[command(flatten)]
    pub hands: Hands,
    /// Tell what would be copied; copy nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `verify`.
#[derive(Clone, Debug, Group)]
pub struct Verify {
    /// The repository's folder.
    #[arg(value_name = "REPO", default_value = ".")]
    pub repository: PathBuf,
    /// The root that devices were given, if it is not the repository's first.
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
    /// As of another moment, such as 2027-01-31T00:00:00Z.
    #[arg(long, value_name = "MOMENT")]
    pub at: Option<String>,
    /// It is a stick: packages may be missing altogether. They are named.
    #[arg(long)]
    pub partial: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `list`.
#[derive(Clone, Debug, Group)]
pub struct List {
    /// Which repository.
    #[command(flatten)]
    pub place: Place,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What `ROLE=N` says.
pub(super) fn numbers(said: &[String]) -> super::fault::Done<Vec<(super::post::Post, u64)>> {
    let one = |said: &String| {
        let wrong = || super::fault::FleetError::Usage(format!("{said}: ROLE=N is wanted"));
        let (role, number) = said.split_once('=').ok_or_else(wrong)?;
        Ok((
            super::init::post(role)?,
            number.parse().map_err(|_| wrong())?,
        ))
    };
    said.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_agrees_with_itself() {
        Args::command().debug_assert();
    }

    #[test]
    fn numbers_are_said_of_roles() {
        let said = |text: &str| numbers(&[text.to_owned()]);
        assert_eq!(said("root=2").unwrap()[0].1, 2);
        for text in ["root", "root=", "root=x", "boss=1", "=1"] {
            assert!(said(text).is_err(), "{text}");
        }
    }
}
