//! A source file as the rules see it.

use std::fs;
use std::path::{Path, PathBuf};

/// A file, in two views of equal length: the text, and the code in it.
pub(crate) struct Source {
    /// From the repository's root.
    pub(crate) path: String,
    /// As it is written.
    pub(crate) text: String,
    /// With comments and the insides of literals blanked.
    pub(crate) code: String,
    /// Where the tests begin.
    production: usize,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        // Blanking works on bytes, so that places agree between the views.
        let text: String = text
            .chars()
            .map(|c| if c.is_ascii() { c } else { '?' })
            .collect();
        let code = code_of(&text);
        let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
        let production = if is_test { 0 } else { tests_begin(&code) };
        Self {
            path: path.to_owned(),
            text,
            code,
            production,
        }
    }

    /// The code without its tests.
    pub(crate) fn production(&self) -> &str {
        &self.code[..self.production]
    }

    pub(crate) fn fault(&self, at: usize, what: &str) -> String {
        let line = self.text[..at].matches('\n').count() + 1;
        format!("{}:{line}: {what}", self.path)
    }

    /// One fault for each place in `view` where `pattern` stands.
    pub(crate) fn faults_at(&self, view: &str, pattern: &str, what: &str) -> Vec<String> {
        view.match_indices(pattern)
            .map(|(at, _)| self.fault(at, what))
            .collect()
    }
}

/// Where `word` stands in `view` as a whole identifier.
pub(crate) fn words<'a>(view: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    view.match_indices(word).filter_map(move |(at, _)| {
        let before = view[..at].chars().next_back();
        let after = view[at + word.len()..].chars().next();
        let inside = |c: Option<char>| c.is_some_and(is_ident);
        (!inside(before) && !inside(after)).then_some(at)
    })
}

pub(crate) fn is_ident(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The identifier at the start of `text`.
pub(crate) fn ident(text: &str) -> &str {
    &text[..text.find(|c| !is_ident(c)).unwrap_or(text.len())]
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`.
pub(crate) fn read_tree(folder: &str) -> Vec<Source> {
    let mut folders = vec![root().join(folder)];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                sources.push(Source::new(&relative(&path), &text));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn relative(path: &Path) -> String {
    let path = path.strip_prefix(root()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Tests stand last: a `#[cfg(test)]` before a `mod` begins them.
fn tests_begin(code: &str) -> usize {
    code.match_indices("#[cfg(test)]")
        .find(|(at, marker)| {
            let rest = &code[at + marker.len()..];
            let mut rest = rest.trim_start();
            while rest.starts_with("#[") {
                rest = rest
                    .split_once(']')
                    .map_or("", |(_, after)| after.trim_start());
            }
            rest.starts_with("mod ")
        })
        .map_or(code.len(), |(at, _)| at)
}

/// Blanks comments and the insides of string and character literals.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let after_ident = at > 0 && is_ident(char::from(bytes[at - 1]));
        let (from, to) = if rest.starts_with("//") {
            (at, at + rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            (at, at + block_comment(rest))
        } else if let Some(hashes) =
            raw_string(rest).filter(|_| !after_ident || bytes[at - 1] == b'b')
        {
            let open = 2 + hashes;
            let close = format!("\"{}", "#".repeat(hashes));
            let body = rest[open..].find(&close).unwrap_or(rest.len() - open);
            (at + open, at + open + body)
        } else if let Some(body) = rest.strip_prefix('"') {
            (at + 1, at + 1 + quoted(body, b'"'))
        } else if let Some(length) = character(rest) {
            (at + 1, at + 1 + length)
        } else {
            at += 1;
            continue;
        };
        for byte in &mut out[from..to] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = match rest.as_bytes()[0] {
            b'/' => to,
            b'r' => to + 1 + from - at - 2, // the quote and its hashes
            _ => to + 1,
        };
    }
    String::from_utf8(out).unwrap()
}

/// The length of the block comment that begins here; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The number of hashes of the raw string that begins here.
fn raw_string(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('r')?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    rest[hashes..].starts_with('"').then_some(hashes)
}

/// How far it is to the closing quote.
fn quoted(text: &str, quote: u8) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            byte if byte == quote => return at,
            _ => {}
        }
    }
    text.len()
}

/// The length inside a character literal, which a lifetime is not.
fn character(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('\'')?;
    if rest.starts_with('\\') {
        Some(quoted(rest, b'\''))
    } else {
        (rest.as_bytes().get(1) == Some(&b'\'')).then_some(1)
    }
}

#[test]
fn comments_and_literals_are_no_code() {
    let text = concat!(
        "a(\"b // c\", 'd', '\\'', \"\\\"e\"); // f\n",
        "g(r#\"h\"i\"#, br\"j\") /* k /* l */ m */ n<'o>(b\"p\")"
    );
    let code = Source::new("src/a.rs", text).code;
    assert_eq!(code.len(), text.len());
    let letters: String = code.chars().filter(char::is_ascii_alphabetic).collect();
    assert_eq!(letters, "agrbrnob");
}

#[test]
fn tests_are_no_production_code() {
    let source = Source::new(
        "src/a.rs",
        "fn a() {}\n#[cfg(test)]\n#[path = \"b.rs\"]\nmod tests;\n",
    );
    assert_eq!(source.production(), "fn a() {}\n");
    let only_one_item = Source::new("src/a.rs", "#[cfg(test)]\nfn a() {}\nfn b() {}\n");
    assert!(only_one_item.production().contains("fn b"));
}
