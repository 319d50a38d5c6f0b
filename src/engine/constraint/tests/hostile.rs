//! Rules that were made to hurt: each is refused, or compiled and followed within the limits.

use proptest::prelude::*;

use super::*;
use super::{automaton, cache, gbnf, program, regex, schema};

/// Compiles a rule and goes some steps under it. Every limit counts work, not time, so that this
/// ends is the test; a fault is as good as an answer, a panic is not.
fn try_out(rule: &Rule) -> Option<RuleFault> {
    let mut compiler = Compiler::new(vocabulary());
    let mut constraint = match compiler.compile(rule) {
        Ok(constraint) => constraint,
        Err(fault) => {
            assert!(!fault.to_string().is_empty());
            return Some(fault);
        }
    };
    for step in 0..40 {
        let forced = constraint.forced();
        assert_eq!(constraint.allowed_ahead(&forced), forced.len());
        let all: Vec<u32> = match constraint.mask() {
            Ok(mask) => mask.iter().filter(|&token| token != END).collect(),
            Err(fault) => return Some(fault),
        };
        let Some(&token) = all.get(step % all.len().max(1)) else {
            return None;
        };
        if let Err(fault) = constraint.advance(token) {
            return Some(fault);
        }
    }
    let bytes = constraint.rule.unwrap().automaton().bytes();
    assert!(bytes <= automaton::MAX_BYTES, "{bytes}");
    None
}

fn schema(text: impl Into<String>) -> Rule {
    Rule::Schema(text.into())
}

fn pattern(text: impl Into<String>) -> Rule {
    Rule::Regex(text.into())
}

#[test]
fn repetitions_of_repetitions_are_refused_where_they_are_too_many() {
    let excess = RuleFault::Excess(Excess::Program(program::MAX_NODES));
    assert_eq!(refusal(&pattern("((a{1,100}){1,100}){1,100}")), excess);
    let nested = r#"root ::= ((("a"{1,100}){1,100}){1,100}){1,100}"#;
    assert_eq!(refusal(&grammar(nested)), excess);
    assert_eq!(try_out(&pattern("((a?){0,50}){0,50}")), None);
    let arrays = |depth: usize| {
        let open = r#"{"type":"array","minItems":50,"maxItems":60,"items":"#.repeat(depth);
        format!("{open}{{\"type\":\"null\"}}{}", "}".repeat(depth))
    };
    assert_eq!(try_out(&schema(arrays(2))), None);
    assert_eq!(refusal(&schema(arrays(5))), excess);
    for (text, most) in [
        ("a{2001}", regex::MAX_REPETITIONS),
        ("a{1,4000000000}", regex::MAX_REPETITIONS),
    ] {
        assert_eq!(
            refusal(&pattern(text)),
            RuleFault::Excess(Excess::Repetitions(most))
        );
    }
    let most = gbnf::MAX_REPETITIONS;
    let repeated = |count: u32| grammar(&format!("root ::= \"a\"{{1,{count}}}"));
    assert_eq!(try_out(&repeated(most)), None);
    assert_eq!(
        refusal(&repeated(most + 1)),
        RuleFault::Excess(Excess::Repetitions(most))
    );
    let length = |count: u32| schema(format!(r#"{{"type":"string","maxLength":{count}}}"#));
    assert_eq!(try_out(&length(schema::MAX_COUNT)), None);
    assert!(matches!(
        refusal(&length(schema::MAX_COUNT + 1)),
        RuleFault::Schema { .. }
    ));
}

#[test]
fn rules_that_double_each_other_cost_nothing_until_they_are_followed() {
    let mut text = String::new();
    for rule in 0..60 {
        let name = if rule == 0 {
            "root".to_owned()
        } else {
            format!("r{rule}")
        };
        text += &format!("{name} ::= r{} r{}\n", rule + 1, rule + 1);
    }
    text += "r60 ::= \"a\"";
    assert_eq!(try_out(&grammar(&text)), None);
    // Two to the sixtieth ways to read the empty text before the first letter.
    let mut text = String::new();
    for rule in 0..60 {
        let name = if rule == 0 {
            "root".to_owned()
        } else {
            format!("r{rule}")
        };
        text += &format!("{name} ::= r{} \"x\" | r{} \"y\"\n", rule + 1, rule + 1);
    }
    text += "r60 ::= \"a\"";
    assert!(matches!(refusal(&grammar(&text)), RuleFault::Excess(_)));
}

#[test]
fn a_text_that_can_be_read_in_too_many_ways_ends_in_a_fault_and_not_in_a_hang() {
    let ambiguous = r#"root ::= | "a" root x | "a" root y | "a" root z
        x ::= "b"
        y ::= "b" "c"?
        z ::= "b" "d"?"#;
    let fault = try_out(&grammar(ambiguous));
    assert!(fault.is_none_or(|fault| matches!(fault, RuleFault::Excess(_))));
    for text in [
        "(.*a){0,30}.{30}",
        "(a|aa)*(a|aaa)*b",
        "(.{0,60}a.{0,60}){1,6}",
        r"(\w+\s?){1,50}",
    ] {
        let fault = try_out(&pattern(text));
        assert!(
            fault.is_none_or(|fault| matches!(fault, RuleFault::Excess(_))),
            "{text}"
        );
    }
}

#[test]
fn depth_is_limited_before_the_stack_ends() {
    let depth = gbnf::MAX_GROUP_DEPTH;
    let groups = |depth: usize| {
        grammar(&format!(
            "root ::= {}\"a\"{}",
            "(".repeat(depth),
            ")".repeat(depth)
        ))
    };
    assert_eq!(try_out(&groups(depth)), None);
    assert_eq!(
        refusal(&groups(depth + 1)),
        RuleFault::Excess(Excess::Depth(depth))
    );
    assert!(matches!(refusal(&groups(30_000)), RuleFault::Excess(_)));

    let groups = |depth: usize| pattern(format!("{}a{}", "(".repeat(depth), ")".repeat(depth)));
    assert_eq!(try_out(&groups(regex::MAX_DEPTH as usize - 1)), None);
    assert!(matches!(refusal(&groups(4000)), RuleFault::Regex(_)));

    let arrays = |depth: usize| {
        let open = r#"{"type":"array","items":"#.repeat(depth);
        schema(format!("{open}{{}}{}", "}".repeat(depth)))
    };
    assert_eq!(try_out(&arrays(schema::MAX_DEPTH)), None);
    assert!(matches!(
        refusal(&arrays(2 * schema::MAX_DEPTH + 1)),
        RuleFault::Excess(Excess::Depth(_))
    ));
    assert!(matches!(refusal(&arrays(2000)), RuleFault::Schema { .. }));
    assert!(matches!(
        refusal(&schema("[".repeat(60_000))),
        RuleFault::Schema { .. }
    ));
}

#[test]
fn sizes_are_limited() {
    let max = usize::try_from(crate::package::MAX_RULE_BYTES).unwrap();
    let long = format!("root ::= \"{}\"", "a".repeat(max - 11));
    assert_eq!(try_out(&grammar(&long)), None);
    let longer = format!("{long} ");
    assert_eq!(
        refusal(&grammar(&longer)),
        RuleFault::Excess(Excess::Bytes(max))
    );

    let choices = |count: usize| Rule::Choices((0..count).map(|it| it.to_string()).collect());
    assert_eq!(try_out(&choices(cache::MAX_CHOICES)), None);
    let excess = RuleFault::Excess(Excess::Choices(cache::MAX_CHOICES));
    assert_eq!(refusal(&choices(cache::MAX_CHOICES + 1)), excess);
    assert!(matches!(
        refusal(&Rule::Choices(vec![])),
        RuleFault::Choices(_)
    ));
    assert!(matches!(
        refusal(&Rule::Choices(vec![String::new()])),
        RuleFault::Choices(_)
    ));

    let values = |count: usize| {
        let list: Vec<String> = (0..count).map(|it| it.to_string()).collect();
        schema(format!(r#"{{"enum":[{}]}}"#, list.join(",")))
    };
    assert_eq!(try_out(&values(schema::MAX_VALUES)), None);
    let excess = RuleFault::Excess(Excess::Values(schema::MAX_VALUES));
    assert_eq!(refusal(&values(schema::MAX_VALUES + 1)), excess);

    let any_of = |count: usize| schema(format!(r#"{{"anyOf":[{}{{}}]}}"#, "{},".repeat(count - 2)));
    assert_eq!(try_out(&any_of(schema::MAX_SCHEMAS)), None);
    let excess = RuleFault::Excess(Excess::Schemas(schema::MAX_SCHEMAS));
    assert_eq!(refusal(&any_of(schema::MAX_SCHEMAS + 1)), excess);

    let places = |count: usize| {
        let list = vec![r#"{"type":"null"}"#; count].join(",");
        schema(format!(r#"{{"type":"array","prefixItems":[{list}]}}"#))
    };
    assert_eq!(try_out(&places(schema::MAX_PLACES)), None);
    assert!(matches!(
        refusal(&places(schema::MAX_PLACES + 1)),
        RuleFault::Schema { .. }
    ));

    let bytes = |count: usize| pattern("a".repeat(count));
    assert_eq!(try_out(&bytes(regex::MAX_PATTERN_BYTES)), None);
    let excess = RuleFault::Excess(Excess::Pattern(regex::MAX_PATTERN_BYTES));
    assert_eq!(refusal(&bytes(regex::MAX_PATTERN_BYTES + 1)), excess);
    let excess = RuleFault::Excess(Excess::Ranges(regex::MAX_RANGES));
    assert_eq!(refusal(&pattern(r"\w".repeat(400))), excess);
    assert_eq!(try_out(&pattern(r"\w".repeat(100))), None);

    let rules = |count: usize| {
        let names: Vec<String> = (1..count).map(|it| format!("r{it} ::= \"a\"\n")).collect();
        grammar(&format!("root ::= \"a\"\n{}", names.concat()))
    };
    assert_eq!(try_out(&rules(gbnf::MAX_RULES)), None);
    let excess = RuleFault::Excess(Excess::Rules(gbnf::MAX_RULES));
    assert_eq!(refusal(&rules(gbnf::MAX_RULES + 1)), excess);
}

#[test]
fn a_long_chain_of_rules_is_no_depth() {
    let chain: String = (1..1500)
        .map(|it| format!("r{it} ::= r{} | \"b\"\n", it + 1))
        .collect();
    assert_eq!(
        try_out(&grammar(&format!("root ::= r1\n{chain}r1500 ::= \"a\""))),
        None
    );
    let chain: Vec<String> = (0..1200)
        .map(|it| format!(r##""{it}":{{"$ref":"#/$defs/{}"}}"##, it + 1))
        .collect();
    let text = format!(
        r##"{{"$ref":"#/$defs/0","$defs":{{{},"1200":{{"type":"null"}}}}}}"##,
        chain.join(",")
    );
    assert_eq!(try_out(&schema(text)), None);
}

#[test]
fn references_that_never_end_are_refused_by_name() {
    for text in [
        r##"{"$ref":"#"}"##,
        r##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}"##,
        r##"{"type":"object","properties":{"next":{"$ref":"#"}},"required":["next"]}"##,
        r##"{"type":"array","minItems":1,"items":{"$ref":"#"}}"##,
    ] {
        let fault = refusal(&schema(text));
        assert!(
            matches!(fault, RuleFault::Endless(_) | RuleFault::LeftRecursion(_)),
            "{text}: {fault}"
        );
    }
    let tree =
        r##"{"type":"object","properties":{"next":{"$ref":"#"}},"additionalProperties":false}"##;
    let constraint = under(&vocabulary(), &schema(tree));
    assert!(accepts(&constraint, r#"{"next":{"next":{"next":{}}}}"#));
    assert!(!accepts(&constraint, r#"{"next":{"next":{}}"#));
}

#[test]
fn an_answer_that_nests_without_end_is_held_at_the_limit() {
    let mut constraint = under(
        &byte_vocabulary(),
        &grammar(r#"root ::= "(" root ")" | "x""#),
    );
    let open = u32::try_from(CONTROLS).unwrap() + u32::from(b'(');
    let mut depth = 0;
    while constraint.advance(open).is_ok() {
        depth += 1;
    }
    assert!(
        (100..=automaton::MAX_CALL_DEPTH).contains(&depth),
        "{depth}"
    );
    let rest = format!("x{}", ")".repeat(depth as usize));
    assert!(accepts(&constraint, &rest));
}

#[test]
fn an_answer_goes_on_when_the_states_of_its_rule_were_forgotten() {
    let rule = grammar(r#"root ::= "[" (root ("," root)*)? "]" | "ab" | "abc""#);
    let mut compiler = Compiler::new(vocabulary());
    let mut one = compiler.compile(&rule).unwrap();
    let mut same = compiler.compile(&rule).unwrap();
    for seed in 0..20 {
        let Some(tokens) = walk(&one, seed, 60) else {
            continue;
        };
        for &token in &tokens {
            assert_eq!(one.mask().unwrap(), same.mask().unwrap());
            assert_eq!(one.forced(), same.forced());
            one.advance(token).unwrap();
            one.rule.as_ref().unwrap().automaton().forget();
            assert_eq!(
                one.is_over(),
                same.clone().advance(token).is_ok() && one.is_over()
            );
            same.advance(token).unwrap();
        }
        one.rollback(tokens.len()).unwrap();
        same.rollback(tokens.len()).unwrap();
    }
}

#[test]
fn what_was_compiled_is_kept_and_let_go_of_within_the_limits() {
    let mut compiler = Compiler::new(vocabulary());
    let rule = |number: usize| pattern(format!("a{{{number}}}"));
    let first = compiler.compile(&rule(1)).unwrap();
    let again = compiler.compile(&rule(1)).unwrap();
    assert!(Arc::ptr_eq(
        first.rule.as_ref().unwrap(),
        again.rule.as_ref().unwrap()
    ));
    assert!(compiler.compile(&pattern("(")).is_err());
    assert_eq!(compiler.kept.len(), 2);
    for number in 2..=2 * cache::MAX_KEPT {
        compiler.compile(&rule(number)).unwrap();
        // Used again and again, so never the oldest.
        compiler.compile(&rule(1)).unwrap();
    }
    assert_eq!(compiler.kept.len(), cache::MAX_KEPT);
    let kept = compiler.compile(&rule(1)).unwrap();
    assert!(Arc::ptr_eq(
        first.rule.as_ref().unwrap(),
        kept.rule.as_ref().unwrap()
    ));
    let long = "a".repeat(200);
    for number in 0..cache::MAX_KEPT {
        let values: Vec<String> = (0..300).map(|it| format!("{long}{it}")).collect();
        let mut rule = compiler
            .compile(&Rule::Choices(values[number..number + 100].to_vec()))
            .unwrap();
        for &token in &vocabulary().tokenize(long.as_bytes()).unwrap() {
            rule.advance(token).unwrap();
        }
    }
    let bytes: usize = compiler
        .kept
        .values()
        .filter_map(|it| it.result.as_ref().ok())
        .map(|it| it.program.bytes() + it.automaton().bytes())
        .sum();
    assert!(
        bytes <= cache::MAX_KEPT_BYTES + automaton::MAX_BYTES,
        "{bytes}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn no_text_is_too_odd(text in "\\PC{0,60}") {
        try_out(&grammar(&text));
        try_out(&schema(&text));
        try_out(&pattern(&text));
        try_out(&Rule::Choices(text.split(' ').map(str::to_owned).collect()));
    }

    /// Made of what these languages are made of, more get far.
    #[test]
    fn no_arrangement_of_signs_is_too_odd(signs in proptest::collection::vec(proptest::sample::select(vec![
        "root ::= ", "\nx ::= ", "root ", "x ", "\"a\" ", "[a-z]", "[^\"]", "(", ")", "| ", "*", "+", "?",
        "{2}", "{0,50}", "{3,}", ".", "\\", "\\d", "\\w", "^", "$", "ä", "# c\n", "\n",
    ]), 0..40)) {
        let text = signs.concat();
        try_out(&grammar(&format!("root ::= {text}")));
        try_out(&grammar(&text));
        try_out(&pattern(&text));
        try_out(&schema(format!("{{\"type\":\"string\",\"pattern\":{:?}}}", text)));
    }
}
