//! The plan as people read it: 80 columns, no colours.

use std::fmt::{self, Write as _};

use super::{Told, VariantPlan};
use crate::governor::memory::parts::shown;
use crate::governor::memory::{Kv, Plan, Refusal, Run, SERVICE_BYTES, needs};

/// Columns of a terminal that nobody has widened.
const COLUMNS: usize = 80;
/// Columns of names, and of sizes.
const NAME: usize = 16;
const SIZE: usize = 10;

/// The whole page.
pub(super) fn text(told: &Told) -> String {
    let mut page = String::new();
    write(&mut page, told).expect("a String takes all");
    page
}

fn write(page: &mut String, told: &Told) -> fmt::Result {
    writeln!(page, "{}", told.name)?;
    let vram = match told.board.vram_bytes {
        Some(bytes) => format!(", {} of graphics memory", shown(bytes)),
        None => String::new(),
    };
    let board = format!(
        "board: {} ({}), {} cores{vram}",
        shown(told.board.ram_bytes),
        told.limited_by,
        told.board.cores
    );
    wrapped(page, 0, &board)?;
    if told.variants.len() > 1 {
        variants(page, told)?;
    }
    if let Some(served) = told.served() {
        return chosen(page, served);
    }
    for variant in &told.variants {
        if let Err(refusal) = &variant.result {
            refused(page, variant, refusal)?;
        }
    }
    Ok(())
}

fn variants(page: &mut String, told: &Told) -> fmt::Result {
    writeln!(page)?;
    writeln!(
        page,
        "{:<NAME$}{:>SIZE$}{:>SIZE$}",
        "variant", "weights", "needs"
    )?;
    let served = told.served().map(|it| &it.name);
    for variant in &told.variants {
        let fits = match &variant.result {
            Err(_) => "does not fit",
            Ok(_) if Some(&variant.name) == served => "fits, and is the best that does",
            Ok(_) => "fits",
        };
        writeln!(
            page,
            "{:<NAME$}{:>SIZE$}{:>SIZE$}  {fits}",
            variant.name,
            shown(variant.shape.weight_bytes),
            variant.needs()
        )?;
    }
    Ok(())
}

fn chosen(page: &mut String, variant: &VariantPlan) -> fmt::Result {
    let Ok(plan) = &variant.result else {
        return Ok(());
    };
    writeln!(page)?;
    headline(page, variant)?;
    parts(page, plan)?;
    writeln!(page)?;
    writeln!(page, "how it is run")?;
    for reason in &plan.reasons {
        writeln!(
            page,
            "  {:<NAME$}{:>8}  {}",
            reason.setting.word(),
            reason.value,
            reason.why
        )?;
    }
    writeln!(page)?;
    cache(page, variant, &plan.run)
}

fn headline(page: &mut String, variant: &VariantPlan) -> fmt::Result {
    let header = &variant.header;
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let millions = header.parameters as f64 / 1e6;
    let line = format!(
        "{}: {}, {millions:.1} million weights in {} blocks, {} tokens known",
        variant.name, header.architecture, variant.shape.blocks, header.vocabulary
    );
    wrapped(page, 0, &line)
}

fn parts(page: &mut String, plan: &Plan) -> fmt::Result {
    let run = &plan.run;
    let row = |page: &mut String, name: &str, bytes: u64, what: &str| {
        writeln!(page, "  {name:<NAME$}{:>SIZE$}  {what}", shown(bytes))
    };
    for (name, bytes) in plan.parts.list() {
        if bytes > 0 {
            row(page, name, bytes, &what(name, run))?;
        }
    }
    let engine = plan.parts.engine_bytes();
    row(page, "engine", engine, "all of it, at its fullest")?;
    row(
        page,
        "service",
        SERVICE_BYTES,
        "with its queues and its store",
    )?;
    let margin = needs(&plan.parts).saturating_sub(engine.saturating_add(SERVICE_BYTES));
    row(page, "margin", margin, "what a prediction may err")?;
    let there = format!("of {}: it fits", shown(plan.there_bytes));
    row(page, "needs", plan.needs_bytes, &there)?;
    if plan.parts.graphics_bytes > 0 {
        row(
            page,
            "graphics",
            plan.parts.graphics_bytes,
            "on the graphics processor",
        )?;
    }
    Ok(())
}

/// What a part is.
fn what(part: &str, run: &Run) -> String {
    match part {
        "weights" => "read into memory, not mapped".into(),
        "output" => "the table of tokens once more, laid out for the output".into(),
        "cache" => format!(
            "keys and values of {} tokens in {}",
            run.cache_tokens,
            run.kv.word()
        ),
        "cells" => "which request's token lies where in it".into(),
        "compute" => format!(
            "{} tokens between layers, {}",
            run.batch_tokens,
            if run.flash {
                "with flash attention"
            } else {
                "without flash attention"
            }
        ),
        "logits" => "how likely each token is, for all that is asked".into(),
        "scratch" => format!("of up to {} threads", run.threads),
        "vocabulary" => "tokens, merges, and the tree that masks come from".into(),
        "rules" => format!("grammars and masks of {} instructions", run.instructions),
        "base" => "the process and its graphs".into(),
        "adapter" => "low-rank, beside the weights".into(),
        "draft" => "the small model that guesses ahead, with its cache".into(),
        _ => String::new(),
    }
}

/// What the cache takes in each way.
fn cache(page: &mut String, variant: &VariantPlan, run: &Run) -> fmt::Result {
    let shape = &variant.shape;
    let row = |page: &mut String, name: String, tokens: u64| {
        write!(page, "  {name:<26}")?;
        for kv in Kv::ALL {
            let bytes = if shape.can_store(kv) {
                small(shape.token_bytes(kv).saturating_mul(tokens))
            } else {
                "-".into()
            };
            write!(page, "{bytes:>12}")?;
        }
        writeln!(page)
    };
    write!(page, "{:<28}", "the cache by its type")?;
    for kv in Kv::ALL {
        write!(page, "{:>12}", kv.word())?;
    }
    writeln!(page)?;
    row(page, "one token".into(), 1)?;
    let (context, all) = (run.context_tokens, run.cache_tokens);
    row(page, format!("one request, {context}"), context.into())?;
    row(page, format!("all of it, {all}"), all.into())
}

/// As [`shown`], for what is below a megabyte too.
#[expect(clippy::cast_precision_loss, reason = "for people")]
fn small(bytes: u64) -> String {
    if bytes < 1 << 10 {
        format!("{bytes} B")
    } else if bytes < 1 << 20 {
        format!("{:.1} KiB", bytes as f64 / 1024.0)
    } else {
        shown(bytes)
    }
}

fn refused(page: &mut String, variant: &VariantPlan, refusal: &Refusal) -> fmt::Result {
    writeln!(page)?;
    headline(page, variant)?;
    for (at, line) in refusal.to_string().split("; ").enumerate() {
        wrapped(page, 2, if at == 0 { line } else { line.trim() })?;
    }
    Ok(())
}

/// A text in lines of the page's width.
fn wrapped(page: &mut String, indent: usize, text: &str) -> fmt::Result {
    let mut line = " ".repeat(indent);
    for word in text.split(' ') {
        if line.len() + word.len() + 1 > COLUMNS && line.trim() != "" {
            writeln!(page, "{}", line.trim_end())?;
            line = " ".repeat(indent + 2);
        }
        line.push_str(word);
        line.push(' ');
    }
    writeln!(page, "{}", line.trim_end())
}
