use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A model of some 550 million weights in 4 bit, as small boards serve them.
fn shape() -> Shape {
    Shape {
        weight_bytes: 372 * MIB,
        block_bytes: 340 * MIB,
        embedding_bytes: 16 * MIB,
        blocks: 28,
        shared_output: None,
        matrices: vec![Matrix {
            kind: 12,
            inputs: 3584,
            rows: 3584,
            bytes: 3 * MIB,
        }],
        tensors: 255,
        width: 1280,
        feed_forward: 3584,
        heads: 20,
        key_length: 64,
        value_length: 64,
        key_width: 28 * 5 * 64,
        value_width: 28 * 5 * 64,
        attending_blocks: 28,
        state_bytes: 0,
        vocabulary: 32_000,
        vocabulary_bytes: 200_000,
        merges: 31_000,
        trained_tokens: 8192,
    }
}

fn board(ram_bytes: u64) -> Board {
    Board {
        ram_bytes,
        vram_bytes: None,
        cores: 4,
        cpu: Cpu::Avx2,
    }
}

fn wishes() -> Wishes {
    Wishes {
        package_context_tokens: 2048,
        instructions: 6,
        ..Wishes::default()
    }
}

fn planned(ram_bytes: u64, wishes: &Wishes) -> Plan {
    plan(&shape(), &board(ram_bytes), wishes).unwrap_or_else(|refusal| panic!("{refusal}"))
}

fn refused(ram_bytes: u64, wishes: &Wishes) -> Refusal {
    plan(&shape(), &board(ram_bytes), wishes).expect_err("it fits")
}

#[test]
fn where_memory_is_ample_nothing_is_given_up() {
    let plan = planned(16 * GIB, &wishes());
    assert_eq!(plan.run.context_tokens, 2048);
    assert_eq!(plan.run.sequences, SEQUENCES);
    assert_eq!(plan.run.cache_tokens, MAX_CACHE_TOKENS);
    assert_eq!(
        (plan.run.kv, plan.run.batch_tokens),
        (Kv::F16, BATCH_TOKENS)
    );
    assert_eq!((plan.run.gpu_layers, plan.threads), (0, None));
    assert_eq!(plan, planned(u64::MAX, &wishes()).there(16 * GIB));
    let small = Wishes {
        package_context_tokens: 512,
        ..wishes()
    };
    let plan = planned(16 * GIB, &small);
    assert_eq!(plan.run.cache_tokens, 512 * (u32::from(SEQUENCES) + 1));
    let large = Wishes {
        package_context_tokens: 65_536,
        ..wishes()
    };
    let deep = Shape {
        trained_tokens: 131_072,
        ..shape()
    };
    let plan = super::plan(&deep, &board(64 * GIB), &large).unwrap();
    assert_eq!(plan.run.cache_tokens, 65_536);
}

impl Plan {
    fn there(mut self, there_bytes: u64) -> Self {
        self.there_bytes = there_bytes;
        self
    }
}

#[test]
fn what_the_site_has_fixed_is_never_changed() {
    let fixed = Wishes {
        context_tokens: Some(256),
        sequences: Some(2),
        kv: Some(Kv::Q4),
        threads: Some(3),
        gpu_layers: Some(5),
        ..wishes()
    };
    for mib in [500, 520, 600, 4096] {
        let Ok(plan) = plan(&shape(), &board(mib * MIB), &fixed) else {
            continue;
        };
        assert_eq!((plan.run.context_tokens, plan.run.sequences), (256, 2));
        assert_eq!((plan.run.kv, plan.threads), (Kv::Q4, Some(3)));
        assert_eq!(plan.run.gpu_layers, 5);
    }
    let plan = planned(4 * GIB, &fixed);
    assert_eq!(plan.run.cache_tokens, 768);
    let site = plan.reasons.iter().filter(|it| it.why.contains("site"));
    assert_eq!(site.count(), 5);
}

#[test]
fn short_memory_costs_conversations_first_then_context_then_exactness() {
    let mut seen: Vec<Run> = Vec::new();
    for mib in (400..1600).rev().step_by(4) {
        if let Ok(plan) = plan(&shape(), &board(mib * MIB), &wishes())
            && seen.last() != Some(&plan.run)
        {
            seen.push(plan.run);
        }
    }
    let before = |a: &Run, b: &Run| {
        let order = |run: &Run| {
            (
                std::cmp::Reverse(run.kv),
                run.batch_tokens,
                run.context_tokens,
                run.sequences,
                run.cache_tokens,
            )
        };
        order(a) > order(b)
    };
    assert!(seen.len() > 8, "{seen:?}");
    for pair in seen.windows(2) {
        assert!(before(&pair[0], &pair[1]), "{pair:?}");
    }
    let (first, last) = (seen[0], seen[seen.len() - 1]);
    assert_eq!((first.sequences, first.context_tokens), (8, 2048));
    assert_eq!(last.kv, Kv::Q8);
    assert_eq!(
        (last.sequences, last.context_tokens),
        (1, MIN_CONTEXT_TOKENS)
    );
}

#[test]
fn whatever_fits_needs_no_more_than_there_is_and_less_memory_never_gives_more() {
    let mut before: Option<Plan> = None;
    for mib in (0..1500).step_by(11) {
        let there = mib * MIB;
        match plan(&shape(), &board(there), &wishes()) {
            Ok(plan) => {
                assert!(plan.needs_bytes <= there);
                assert_eq!(plan.needs_bytes, needs(&plan.parts));
                let run = &plan.run;
                assert!(run.context_tokens <= run.cache_tokens);
                assert!(run.batch_tokens <= run.cache_tokens);
                before = Some(plan);
            }
            Err(refusal) => {
                assert!(before.is_none(), "{mib} MiB: less memory was enough");
                assert!(refusal.needs_bytes > there);
                for suggestion in &refusal.suggestions {
                    assert!(
                        suggestion.needs_bytes.is_none_or(|it| it <= there),
                        "{refusal}"
                    );
                }
            }
        }
    }
    assert!(before.is_some());
}

#[test]
fn a_refusal_has_the_numbers_and_what_would_fit() {
    let fixed = Wishes {
        context_tokens: Some(8192),
        sequences: Some(8),
        ..wishes()
    };
    let refusal = refused(600 * MIB, &fixed);
    let text = refusal.to_string();
    assert!(text.contains("600 MiB are there"), "{text}");
    assert!(text.contains("weights 372 MiB"), "{text}");
    assert!(text.contains("context_tokens = "), "{text}");
    let first = &refusal.suggestions[0];
    let tokens: u32 = first
        .what
        .split(" = ")
        .nth(1)
        .and_then(|it| it.split(',').next())
        .and_then(|it| it.parse().ok())
        .unwrap();
    let taken = Wishes {
        context_tokens: Some(tokens),
        ..fixed
    };
    assert!(plan(&shape(), &board(600 * MIB), &taken).is_ok(), "{text}");
}

#[test]
fn where_no_setting_helps_a_smaller_model_is_suggested() {
    let refusal = refused(300 * MIB, &wishes());
    assert_eq!(refusal.suggestions.len(), 1);
    let what = &refusal.suggestions[0].what;
    assert!(what.contains("weights take at most"), "{what}");
    let refusal = refused(8 * MIB, &wishes());
    let what = &refusal.suggestions[0].what;
    assert!(what.contains("a board with at least"), "{what}");
}

#[test]
fn a_cache_in_fewer_bits_needs_whole_blocks_and_flash_attention() {
    let odd = Shape {
        key_length: 48,
        value_length: 48,
        ..shape()
    };
    let small = Wishes {
        kv: Some(Kv::Q8),
        ..wishes()
    };
    assert!(plan(&odd, &board(4 * GIB), &small).is_err());
    let off = Wishes {
        flash: Some(false),
        ..small
    };
    let refusal = refused(4 * GIB, &off);
    assert_eq!(refusal.run, None);
    assert!(refusal.to_string().contains("contradict"), "{refusal}");
}

#[test]
fn each_kill_by_the_kernel_leads_to_a_lower_plan_until_there_is_none() {
    // Most of what it takes is the cache, so that all steps are wide.
    let shape = Shape {
        key_width: 28 * 20 * 64,
        value_width: 28 * 20 * 64,
        ..shape()
    };
    let mut learned = Learned::default();
    let mut plan = super::plan(&shape, &board(4 * GIB), &wishes()).unwrap();
    let mut kvs = vec![plan.run.kv];
    for kills in 1..100 {
        learned.on_oom(&plan);
        assert_eq!(learned.kills(), kills);
        let board = learned.lower(board(4 * GIB));
        match super::plan(&shape, &board, &wishes()) {
            Ok(lower) => {
                assert!(lower.needs_bytes < plan.needs_bytes, "{kills}");
                kvs.push(lower.run.kv);
                plan = lower;
            }
            Err(refusal) => {
                assert!(kills > 3, "{refusal}");
                assert!(kvs.contains(&Kv::Q8), "{kvs:?}");
                return;
            }
        }
    }
    panic!("it never ends");
}

#[test]
fn a_graphics_processor_takes_as_many_blocks_as_it_holds() {
    let with = |vram_bytes| {
        let board = Board {
            vram_bytes: Some(vram_bytes),
            ..board(4 * GIB)
        };
        plan(&shape(), &board, &wishes()).unwrap()
    };
    assert_eq!(with(0).run.gpu_layers, 0);
    assert_eq!(with(0).parts.graphics_bytes, 0);
    let all = with(8 * GIB);
    assert_eq!(all.run.gpu_layers, 29);
    assert!(
        all.parts.weight_bytes < 20 * MIB,
        "the table of tokens stays"
    );
    let some = with(600 * MIB);
    assert!((1..29).contains(&some.run.gpu_layers), "{:?}", some.run);
    assert!(some.parts.graphics_bytes <= 600 * MIB);
    assert!(some.parts.engine_bytes() < with(0).parts.engine_bytes());
}

#[test]
fn a_table_of_tokens_that_is_the_output_too_is_there_twice_where_it_is_laid_out_anew() {
    let table = |kind| Matrix {
        kind,
        inputs: 1280,
        rows: 32_000,
        bytes: 23 * MIB,
    };
    let copied = |kind, cpu| {
        let shape = Shape {
            shared_output: Some(table(kind)),
            ..shape()
        };
        let board = Board {
            cpu,
            ..board(4 * GIB)
        };
        plan(&shape, &board, &wishes())
            .unwrap()
            .parts
            .output_copy_bytes
    };
    assert_eq!(copied(12, Cpu::Avx2), 23 * MIB);
    assert_eq!(copied(14, Cpu::Avx2), 0);
    assert_eq!(copied(14, Cpu::Dotprod), 23 * MIB);
    assert_eq!(copied(8, Cpu::Dotprod), 23 * MIB);
    assert_eq!(copied(12, Cpu::Plain), 0);
}

#[test]
fn a_draft_model_and_an_adapter_count() {
    let alone = planned(4 * GIB, &wishes()).parts;
    let more = Wishes {
        adapter_bytes: 5 * MIB,
        draft: Some(Shape {
            weight_bytes: 30 * MIB,
            blocks: 4,
            tensors: 40,
            key_width: 256,
            value_width: 256,
            ..shape()
        }),
        ..wishes()
    };
    let parts = planned(4 * GIB, &more).parts;
    assert_eq!(parts.beside_bytes, 5 * MIB);
    assert!(parts.draft_bytes > 30 * MIB);
    let both = parts.beside_bytes + parts.draft_bytes;
    assert_eq!(parts.engine_bytes(), alone.engine_bytes() + both);
}

#[test]
fn a_sealed_model_has_room_as_a_file_while_it_is_loaded() {
    let sealed = Wishes {
        sealed: true,
        ..wishes()
    };
    let least = |wishes: &Wishes| {
        let fits = |mib: &u64| plan(&shape(), &board(mib * MIB), wishes).is_ok();
        (1..4096).find(fits).unwrap()
    };
    // On the least board the cache is small, and weights and file are there at once.
    let (plain, twice) = (least(&wishes()), least(&sealed));
    assert!(plain < twice, "{plain} {twice}");
    assert!(twice * MIB > 2 * shape().weight_bytes, "{twice}");
    let parts = planned(twice * MIB, &sealed).parts;
    let file = shape().weight_bytes + shape().vocabulary_bytes;
    let later = parts.cache_bytes + parts.compute_bytes + parts.scratch_bytes + parts.rules_bytes;
    assert!(parts.sealed_bytes + later >= file, "{parts:?}");
    // On a large one the cache takes the room that the file had.
    let parts = planned(64 * GIB, &sealed).parts;
    let whole = planned(64 * GIB, &wishes()).parts;
    assert_eq!(
        parts.engine_bytes() - parts.sealed_bytes,
        whole.engine_bytes()
    );
}
