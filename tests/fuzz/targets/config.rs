//! Whatever stands in the files, loading them ends in settings or in faults that can be printed.
#![no_main]

use std::collections::BTreeMap;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use lineside::config::{Document, Surroundings, load_documents};

/// Between the main file and its fragments.
const NEXT_FILE: &str = "\n----\n";

fn around() -> Surroundings {
    Surroundings {
        config: None,
        env: BTreeMap::from([("HOME".into(), "/nonexistent/home".into())]),
        host_name: "line-3".into(),
        etc: PathBuf::from("/nonexistent/etc"),
        packages: Vec::new(),
    }
}

fuzz_target!(|text: &str| {
    let documents: Vec<_> = text
        .split(NEXT_FILE)
        .enumerate()
        .map(|(index, text)| Document {
            file: match index {
                0 => "/nonexistent/config.toml".into(),
                index => format!("/nonexistent/conf.d/{index:06}.toml").into(),
            },
            text: text.to_owned(),
        })
        .collect();
    match load_documents(&documents, &around()) {
        Ok(settings) => {
            let effective = Document {
                file: "/nonexistent/config.toml".into(),
                text: settings.effective_toml().to_owned(),
            };
            let again = load_documents(&[effective], &around());
            assert!(
                again.is_ok(),
                "{}\n{:?}",
                settings.effective_toml(),
                again.err()
            );
        }
        Err(faults) => {
            assert!(!faults.0.is_empty());
            assert!(!faults.to_string().is_empty());
        }
    }
});
