//! Grammars against a reference that knows nothing of programs: sets of positions, found by
//! looking again until nothing new is found.

use std::collections::BTreeSet;
use std::fmt::Write;

use proptest::prelude::*;

use super::*;

/// A grammar as a test makes it up.
#[derive(Clone, Debug)]
enum Tree {
    Text(String),
    OneOf(Vec<char>),
    Seq(Vec<Tree>),
    Alt(Vec<Tree>),
    Repeat(Box<Tree>, u32, Option<u32>),
    Call(usize),
}

impl Tree {
    fn print(&self, out: &mut String) {
        match self {
            Self::Text(text) => write!(out, "{text:?} ").unwrap(),
            Self::OneOf(all) => write!(out, "[{}] ", all.iter().collect::<String>()).unwrap(),
            Self::Seq(all) => all.iter().for_each(|it| it.print(out)),
            Self::Alt(all) => {
                out.push('(');
                for (place, tree) in all.iter().enumerate() {
                    out.push_str(if place == 0 { "" } else { "| " });
                    tree.print(out);
                }
                out.push_str(") ");
            }
            Self::Repeat(tree, min, max) => {
                out.push('(');
                tree.print(out);
                match (min, max) {
                    (0, None) => out.push_str(")* "),
                    (1, None) => out.push_str(")+ "),
                    (0, Some(1)) => out.push_str(")? "),
                    (min, None) => write!(out, "){{{min},}} ").unwrap(),
                    (min, Some(max)) if min == max => write!(out, "){{{min}}} ").unwrap(),
                    (min, Some(max)) => write!(out, "){{{min},{max}}} ").unwrap(),
                }
            }
            Self::Call(rule) => write!(out, "{} ", name(*rule)).unwrap(),
        }
    }

    /// Where the tree can end in the text, if it begins here.
    fn ends(&self, text: &[char], at: usize, known: &Ends) -> BTreeSet<usize> {
        match self {
            Self::Text(wanted) => {
                let wanted: Vec<char> = wanted.chars().collect();
                let fits = text[at..].starts_with(&wanted);
                fits.then_some(at + wanted.len()).into_iter().collect()
            }
            Self::OneOf(all) => {
                let fits = text.get(at).is_some_and(|c| all.contains(c));
                fits.then_some(at + 1).into_iter().collect()
            }
            Self::Seq(all) => all.iter().fold(BTreeSet::from([at]), |from, tree| {
                from.iter()
                    .flat_map(|&at| tree.ends(text, at, known))
                    .collect()
            }),
            Self::Alt(all) => all.iter().flat_map(|it| it.ends(text, at, known)).collect(),
            Self::Repeat(tree, min, max) => {
                let mut now = BTreeSet::from([at]);
                let mut found = BTreeSet::new();
                // Beyond so many rounds nothing new can come: each takes a character or changes
                // nothing.
                for round in 0..=max.unwrap_or(min + u32::try_from(text.len()).unwrap() + 1) {
                    if round >= *min {
                        found.extend(&now);
                    }
                    now = now
                        .iter()
                        .flat_map(|&at| tree.ends(text, at, known))
                        .collect();
                }
                found
            }
            Self::Call(rule) => known[*rule][at].clone(),
        }
    }
}

type Ends = Vec<Vec<BTreeSet<usize>>>;

fn name(rule: usize) -> String {
    ["root", "one", "two-2"][rule].to_owned()
}

fn printed(rules: &[Tree]) -> String {
    let mut text = String::from("# made up\n");
    for (rule, tree) in rules.iter().enumerate() {
        write!(text, "{} ::= ", name(rule)).unwrap();
        tree.print(&mut text);
        text.push('\n');
    }
    text
}

/// Whether the first rule matches the whole text.
fn reference(rules: &[Tree], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut known: Ends = vec![vec![BTreeSet::new(); text.len() + 1]; rules.len()];
    loop {
        let found: Ends = rules
            .iter()
            .map(|tree| {
                (0..=text.len())
                    .map(|at| tree.ends(&text, at, &known))
                    .collect()
            })
            .collect();
        if found == known {
            return known[0][0].contains(&text.len());
        }
        known = found;
    }
}

/// All texts of these letters up to a length, the empty one first.
fn texts(letters: &str, length: usize) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut first = 0;
    for _ in 0..length {
        let last = all.len();
        for place in first..last {
            for letter in letters.chars() {
                all.push(format!("{}{letter}", all[place]));
            }
        }
        first = last;
    }
    all
}

fn trees(calls: usize, stars: bool) -> impl Strategy<Value = Tree> {
    let letters = proptest::sample::select(vec!['a', 'b', 'ä']);
    let text = proptest::collection::vec(letters.clone(), 0..3);
    let leaf = prop_oneof![
        4 => text.prop_map(|all| Tree::Text(all.into_iter().collect())),
        2 => proptest::collection::vec(letters, 1..3).prop_map(Tree::OneOf),
        if calls > 0 { 4 } else { 0 } => (0..calls.max(1)).prop_map(Tree::Call),
    ];
    leaf.prop_recursive(3, 10, 3, move |inner| {
        let all = proptest::collection::vec(inner.clone(), 1..3);
        let bounds = (0..3_u32, proptest::option::of(0..2_u32));
        prop_oneof![
            all.clone().prop_map(Tree::Seq),
            all.prop_map(Tree::Alt),
            (inner, bounds).prop_map(move |(tree, (min, more))| {
                let more = more.or((!stars).then_some(1));
                Tree::Repeat(Box::new(tree), min, more.map(|more| min + more))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Recursive or not: what the reference takes is taken, and nothing else is.
    #[test]
    fn a_grammar_takes_what_the_reference_takes(rules in proptest::collection::vec(trees(3, true), 3)) {
        let text = printed(&rules);
        match Compiler::new(byte_vocabulary()).compile(&grammar(&text)) {
            Ok(constraint) => {
                for answer in texts("abä", 4) {
                    let wanted = reference(&rules, &answer);
                    prop_assert_eq!(accepts(&constraint, &answer), wanted, "{:?} by\n{}", answer, text);
                }
            }
            Err(RuleFault::Endless(_)) => {
                for answer in texts("abä", 4) {
                    prop_assert!(!reference(&rules, &answer), "{:?} by\n{}", answer, text);
                }
            }
            Err(RuleFault::LeftRecursion(_)) => prop_assert!(text.matches("root").count() > 1
                || text.matches("one").count() > 1 || text.matches("two-2").count() > 1),
            Err(fault) => prop_assert!(false, "{fault}\n{text}"),
        }
    }

    /// Where all texts of a language can be listed, a token is allowed exactly where some text of
    /// the list goes on with it.
    #[test]
    fn a_mask_is_exact(tree in trees(0, false)) {
        let rules = [tree];
        let language: Vec<String> =
            texts("abä", 5).into_iter().filter(|it| reference(&rules, it)).collect();
        // Only where the list is whole: nothing longer can be said.
        let longer = texts("abä", 6).into_iter().filter(|it| it.chars().count() == 6);
        prop_assume!(!language.is_empty());
        prop_assume!(!longer.into_iter().any(|it| reference(&rules, &it)) && longest(&rules[0]) <= 6);
        let vocabulary = Merges::learned(&["ab aab aba bä äa aä ää abab"], 30).vocabulary();
        let constraint = under(&vocabulary, &grammar(&printed(&rules)));
        let prefixes: BTreeSet<&[u8]> = language
            .iter()
            .flat_map(|text| (0..=text.len()).map(|end| &text.as_bytes()[..end]))
            .collect();
        for prefix in prefixes {
            let mut constraint = constraint.clone();
            for &byte in prefix {
                constraint.advance(u32::try_from(CONTROLS).unwrap() + u32::from(byte)).unwrap();
            }
            let mask = constraint.mask().unwrap();
            for token in 0..300 {
                let text = [prefix, vocabulary.bytes(token)].concat();
                let wanted = match vocabulary.bytes(token) {
                    [] => token == END && language.iter().any(|it| it.as_bytes() == prefix),
                    _ => language.iter().any(|it| it.as_bytes().starts_with(&text)),
                };
                prop_assert_eq!(mask.allows(token), wanted, "{:?} {:?}", prefix, text);
            }
        }
    }
}

/// Characters of the longest text.
fn longest(tree: &Tree) -> usize {
    match tree {
        Tree::Text(text) => text.chars().count(),
        Tree::OneOf(_) => 1,
        Tree::Seq(all) => all.iter().map(longest).sum(),
        Tree::Alt(all) => all.iter().map(longest).max().unwrap_or(0),
        Tree::Repeat(tree, _, max) => longest(tree) * max.map_or(99, |max| max as usize),
        Tree::Call(_) => 99,
    }
}

#[test]
fn what_needs_a_memory_of_any_depth_is_followed_exactly() {
    let palindromes = r#"root ::= "a" root "a" | "b" root "b" | "c" |"#;
    let constraint = under(&byte_vocabulary(), &grammar(palindromes));
    for text in texts("abc", 7) {
        let middle = text.matches('c').count();
        let is_palindrome = text.chars().eq(text.chars().rev());
        let centred = match middle {
            0 => text.len() % 2 == 0,
            1 => text.as_bytes()[text.len() / 2] == b'c',
            _ => false,
        };
        assert_eq!(
            accepts(&constraint, &text),
            is_palindrome && centred,
            "{text}"
        );
    }
}

#[test]
fn every_way_through_a_recursive_grammar_of_json_ends_in_json() {
    // With a bias to brackets, as the walk would otherwise stay in strings.
    let json = r#"
        root   ::= object | array
        value  ::= object | array | string | number | "true" | "false" | "null"
        object ::= "{" ( member ("," member)* )? "}"
        member ::= string ":" value
        array  ::= "[" ( value ("," value)* )? "]"
        string ::= "\"" ( [^"\\\x00-\x1f] | "\\" ( ["\\/bfnrt] | "u" [0-9a-fA-F]{4} ) ){0,6} "\""
        number ::= "-"? ( "0" | [1-9] [0-9]{0,5} ) ( "." [0-9]{1,3} )?
    "#;
    let vocabulary = vocabulary();
    let constraint = under(&vocabulary, &grammar(json));
    let mut whole = 0;
    for seed in 0..300 {
        let Some(tokens) = walk(&constraint, seed, 120) else {
            continue;
        };
        let text = String::from_utf8(text_of(&vocabulary, &tokens)).unwrap();
        // Half a pair of escaped surrogates is JSON to the grammar only.
        if !text.contains("\\u") {
            whole += 1;
            let parsed = serde_json::from_str::<serde_json::Value>(&text);
            assert!(parsed.is_ok(), "{text}");
        }
    }
    assert!(whole > 50, "{whole}");
}

#[test]
fn a_grammar_is_read_as_llama_cpp_reads_it() {
    let cases = [
        (
            r#"root ::= "a" "b"? # comment"#,
            &["a", "ab"][..],
            &["b", "abb", ""][..],
        ),
        ("root ::= x |\n  \"b\"\nx ::= \"a\"", &["a", "b"], &["ab"]),
        ("root ::= (\n\"a\"\n|\n\"b\"\n)+", &["a", "bab"], &[""]),
        (
            r#"root ::= "\x41\u00e4\U0001F600\n\t\r\\\"\[\]""#,
            &["Aä😀\n\t\r\\\"[]"],
            &["A"],
        ),
        (
            r"root ::= [a-c\]^-]",
            &["a", "b", "c", "]", "^", "-"],
            &["d", "\\"],
        ),
        (
            r"root ::= [^a-c\n]",
            &["d", "ä", "\t", "𝄞"],
            &["a", "c", "\n", "", "dd"],
        ),
        (
            "root ::= .",
            &["\n", "x", "é", "\u{7f}", "\u{10ffff}"],
            &["", "xx"],
        ),
        (r#"root ::= "ab"{2}"#, &["abab"], &["ab", "abb"]),
        (
            r#"root ::= "a"{2,} "b"{0,1}"#,
            &["aa", "aaab"],
            &["a", "abb"],
        ),
        (
            r#"root ::= ("a" "b"){1,2}{2}"#,
            &["abab", "abababab"],
            &["ab", "ababababab"],
        ),
        (r#"root ::= "a" | "#, &["", "a"], &["aa"]),
        ("root ::= \"a\"\r\n# end\r\n", &["a"], &[""]),
    ];
    for (text, right, wrong) in cases {
        let constraint = under(&byte_vocabulary(), &grammar(text));
        for answer in right {
            assert!(accepts(&constraint, answer), "{answer:?} by {text}");
        }
        for answer in wrong {
            assert!(!accepts(&constraint, answer), "{answer:?} by {text}");
        }
    }
}

#[test]
fn what_is_no_grammar_is_refused_with_its_line() {
    let cases = [
        ("", 0, "no rule `root`"),
        ("a ::= \"b\"", 0, "no rule `root`"),
        ("root ::= \"a\"\nroot ::= \"b\"", 2, "defined twice"),
        ("root ::= a", 0, "`a` is called but not defined"),
        ("root = \"a\"", 1, "expected `::=`"),
        ("root ::= \"a", 1, "in the middle"),
        ("root ::= [a", 1, "in the middle"),
        ("root ::= []", 1, "without characters"),
        ("root ::= [z-a]", 1, "backwards"),
        ("root ::= \"\\q\"", 1, "unknown escape"),
        ("root ::= \"\\xg0\"", 1, "hex digits"),
        ("root ::= \"\\ud800\"", 1, "hex digits"),
        ("root ::= *", 1, "repetition of nothing"),
        ("root ::= \"a\"{2,1}", 1, "more repetitions at least"),
        ("root ::= \"a\"{x}", 1, "expected a number"),
        ("root ::= \"a\"{1", 1, "expected `}`"),
        ("root ::= (\"a\"", 1, "expected `)`"),
        ("root ::= \"a\"\n\n ) ", 3, "name of a rule"),
        ("root ::= \"a\" )", 1, "end of the rule"),
        ("root ::= <end>", 1, "single tokens"),
        ("root ::= ä", 1, "end of the rule"),
    ];
    for (text, wanted, why) in cases {
        match refusal(&grammar(text)) {
            RuleFault::Grammar { line, why: told } => {
                assert!(
                    line == wanted && told.contains(why),
                    "{text}: {line} {told}"
                );
            }
            other => panic!("{text}: {other}"),
        }
    }
    let names = |text: &str, rule: &str| {
        let fault = refusal(&grammar(text));
        assert!(fault.to_string().contains(&format!("`{rule}`")), "{fault}");
    };
    names("root ::= root \"a\" | \"b\"", "root");
    names(
        "root ::= \"x\" a\na ::= b? a \"y\" | \"c\"\nb ::= \"b\"",
        "a",
    );
    names("root ::= \"a\" root", "root");
}
