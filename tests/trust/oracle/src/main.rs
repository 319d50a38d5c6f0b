//! What the crate sigstore-tuf says of repositories that the differential test makes up
//! (`tools/conformance differential`). One JSON object a line in, one line out, as
//! `tools/tuf_oracle.py` has it.

use std::collections::HashMap;
use std::io::{BufRead as _, Write as _};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use sigstore_tuf::{MetadataStore, Updater};
use sigstore_tuf::transport::{FetchFuture, Repository};

/// Files in memory.
struct Shelf(HashMap<String, Vec<u8>>);

impl Repository for Shelf {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move {
            match self.0.get(name) {
                Some(bytes) if bytes.len() as u64 > max_length => {
                    Err(sigstore_tuf::Error::transport("too long"))
                }
                other => Ok(other.cloned()),
            }
        })
    }

    fn fetch_target<'a>(&'a self, _: &'a str, _: u64) -> FetchFuture<'a> {
        Box::pin(async { Ok(None) })
    }
}

/// What the client keeps between its two looks.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<HashMap<String, Vec<u8>>>>);

impl MetadataStore for Kept {
    fn load(&self, name: &str) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().expect("one thread").get(name).cloned())
    }

    fn store(&self, name: &str, bytes: &[u8]) -> sigstore_tuf::Result<()> {
        let mut files = self.0.lock().expect("one thread");
        files.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }
}

fn unhex(text: &Value) -> Vec<u8> {
    let text = text.as_str().expect("bytes in hexadecimal").as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a digit");
    let pairs = text.chunks(2);
    pairs
        .map(|pair| u8::try_from(digit(pair[0]) * 16 + digit(pair[1])).expect("a byte"))
        .collect()
}

fn shelf(files: &Value) -> Shelf {
    let files = files.as_object().expect("files by their names");
    Shelf(
        files
            .iter()
            .map(|(name, bytes)| (name.clone(), unhex(bytes)))
            .collect(),
    )
}

async fn visit(case: &Value, files: &Value, kept: &Kept) -> sigstore_tuf::Result<String> {
    let now = case["now"].as_i64().expect("a time");
    let now = jiff::Timestamp::from_second(now).expect("a time");
    let updater = Updater::new(shelf(files), &unhex(&case["anchor"]))?;
    let mut updater = updater.with_store(kept.clone());
    updater.refresh(now).await?;
    let path = case["target"].as_str().expect("a path");
    let found = updater.get_target_info(path, now).await?;
    let trusted = updater.trusted();
    let hash = found.and_then(|target| target.hashes.get("sha256").cloned());
    Ok(format!(
        "ok {} {} {} {} {}",
        trusted.root().version,
        trusted.timestamp().map_or(0, |it| it.version),
        trusted.snapshot().map_or(0, |it| it.version),
        trusted.targets_role("targets").map_or(0, |it| it.version),
        hash.unwrap_or_else(|| "none".into()),
    ))
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers");
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("text");
        let case: Value = serde_json::from_str(&line).expect("a case");
        let kept = Kept::default();
        let answer = runtime.block_on(async {
            visit(&case, &case["before"], &kept)
                .await
                .expect("the first look is at a good repository");
            visit(&case, &case["after"], &kept).await
        });
        let answer = answer.unwrap_or_else(|error| format!("no {error:?}").replace('\n', " "));
        writeln!(out, "{answer}").expect("somebody listens");
        out.flush().expect("somebody listens");
    }
}
