//! `key`: keys are made, noted, shown, and get other passphrases.

use serde_json::json;

use super::args::KeyCommand;
use super::disk;
use super::fault::Done;
use super::key::{Algorithm, KeyFile, Passphrases};
use super::run::tell;

/// Bytes of a PEM.
const MAX_PEM_BYTES: u64 = 16 << 10;

/// Runs a subcommand of `key`.
pub(super) fn run(command: KeyCommand) -> Done<()> {
    match command {
        KeyCommand::New {
            file,
            p256,
            comment,
            passphrase_file,
            passphrase_env,
        } => {
            let algorithm = if p256 {
                Algorithm::P256
            } else {
                Algorithm::Ed25519
            };
            let mut passphrases = Passphrases::read(&passphrase_file, &passphrase_env)?;
            let made = KeyFile::create(&file, algorithm, &comment, &mut passphrases)?;
            show(&made, false)
        }
        KeyCommand::External {
            file,
            public,
            comment,
            command,
        } => {
            let path = std::path::Path::new(&public);
            let public = if path.exists() {
                disk::text(path, MAX_PEM_BYTES)?
            } else {
                public
            };
            show(
                &KeyFile::external(&file, &public, &comment, &command)?,
                false,
            )
        }
        KeyCommand::Show { file, public, json } => {
            let file = KeyFile::read(&file)?;
            if public {
                tell(false, || file.public_text(), &())
            } else {
                show(&file, json)
            }
        }
        KeyCommand::Passwd {
            file,
            passphrase_file,
            passphrase_env,
            new_passphrase_file,
            new_passphrase_env,
        } => {
            let file = KeyFile::read(&file)?;
            let mut old = Passphrases::read(&passphrase_file, &passphrase_env)?;
            let mut new = Passphrases::read(&new_passphrase_file, &new_passphrase_env)?;
            file.change_passphrase(&mut old, &mut new)?;
            show(&file, false)
        }
    }
}

fn show(file: &KeyFile, as_json: bool) -> Done<()> {
    let comment = super::diff::clean(&file.comment);
    let words = || {
        format!(
            "{}\n  id      {}\n  kind    {}, {}\n  comment {comment}\n",
            file.path.display(),
            file.id,
            file.key.scheme,
            file.hidden(),
        )
    };
    let value = json!({
        "file": file.path.display().to_string(),
        "id": file.id,
        "scheme": file.key.scheme,
        "public": file.key.keyval.public,
        "secret": file.hidden(),
        "comment": file.comment,
    });
    tell(as_json, words, &value)
}
