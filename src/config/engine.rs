//! What the engine serves and how it is run: the rules about `[model]` and `[engine]`.

use std::path::PathBuf;
use std::time::Duration;

use super::check::Checker;
use super::file::{self, File, NumberOr};
use super::settings::{Engine, KvType};

/// The word for no draft model.
const OFF: &str = "off";

/// The folder of the model package: the site's, else the bundled one where it is installed.
pub(super) fn package(checker: &mut Checker<'_>, model: &file::Model) -> Option<PathBuf> {
    let key = "model.package";
    if let Some(given) = model.package.as_deref() {
        return Some(checker.beside(key, given));
    }
    let mut places = checker.around.packages.iter();
    let found = places.find(|folder| folder.is_dir())?.clone();
    let shown = found.display().to_string();
    checker.layers.derive(key, shown, "the bundled package");
    Some(found)
}

/// How it is run.
pub(super) fn check(checker: &mut Checker<'_>, file: &File) -> Engine {
    let engine = &file.engine;
    let kv_type = match engine.kv_type.as_str() {
        "f16" => Some(KvType::F16),
        "q8_0" => Some(KvType::Q8),
        "q4_0" => Some(KvType::Q4),
        // The table of keys let only one more word through.
        _ => None,
    };
    let flash_attention = match engine.flash_attention.as_str() {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    };
    let small_cache = matches!(kv_type, Some(KvType::Q8 | KvType::Q4));
    checker.rule(
        !(small_cache && flash_attention == Some(false)),
        ["engine.kv_type", "engine.flash_attention"],
        "\"f16\" or \"auto\": a smaller cache needs engine.flash_attention",
    );
    Engine {
        threads: small(&engine.threads),
        sequences: small(&engine.sequences),
        context_tokens: engine.context_tokens.number(),
        gpu_layers: engine.gpu_layers.number(),
        kv_type,
        flash_attention,
        draft_model: draft_model(checker, &engine.draft_model),
        unload_after_idle: engine
            .unload_after_idle_s
            .number()
            .map(|seconds| Duration::from_secs(seconds.into())),
    }
}

/// The ranges of these keys fit.
fn small(value: &NumberOr) -> Option<u16> {
    u16::try_from(value.number()?).ok()
}

fn draft_model(checker: &mut Checker<'_>, given: &str) -> Option<PathBuf> {
    if given == OFF {
        return None;
    }
    let key = "engine.draft_model";
    let path = checker.beside(key, given.as_ref());
    if !path.is_file() {
        let wanted = format!("\"{OFF}\", or a model file of the same vocabulary as the package's");
        checker.fault(key, wanted);
        return None;
    }
    Some(path)
}
