//! Which paths a delegation covers.

use ring::digest::{SHA256, digest};

use super::key::hex;

/// Whether a pattern covers a path. `*` stands for any signs and `?` for one, neither of them for
/// `/`. A pattern with `[` covers nothing: some clients read it as a class of signs, others as
/// itself, and what clients read differently is trusted to nobody.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    if pattern.contains('[') {
        return false;
    }
    let mut patterns = pattern.split('/');
    let mut parts = path.split('/');
    loop {
        match (patterns.next(), parts.next()) {
            (Some(pattern), Some(part)) if part_matches(pattern, part) => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// One part between slashes. On a mismatch only the last `*` takes one sign more, so the work is
/// bounded by the product of the lengths.
fn part_matches(pattern: &str, part: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let part: Vec<char> = part.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last `*` does not fit: behind it, one sign later.
    let mut again: Option<(usize, usize)> = None;
    while t < part.len() {
        match pattern.get(p) {
            Some('*') => {
                again = Some((p + 1, t));
                p += 1;
            }
            Some(&sign) if sign == '?' || sign == part[t] => {
                p += 1;
                t += 1;
            }
            _ => match again {
                Some((behind, from)) => {
                    again = Some((behind, from + 1));
                    p = behind;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&sign| sign == '*')
}

/// Whether the SHA-256 of a path begins with one of these, in lower-case hexadecimal.
pub(super) fn hash_begins_with(path: &str, prefixes: &[String]) -> bool {
    let hash = hex(digest(&SHA256, path.as_bytes()).as_ref());
    prefixes.iter().any(|prefix| hash.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_stay_between_slashes() {
        for (pattern, path) in [
            ("*", "a"),
            ("*", ""),
            ("a*c", "abbc"),
            ("a*b*c", "aXbYbZc"),
            ("foo-?.tgz", "foo-1.tgz"),
            ("foo-?.tgz", "foo-é.tgz"),
            ("releases/*/*", "releases/x/y"),
            ("a//b", "a//b"),
            ("***a", "ba"),
            ("/a", "/a"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("*", "a/b"),
            ("?", "/"),
            ("a?c", "a/c"),
            ("foo-?.tgz", "foo-alpha.tgz"),
            ("releases/*", "releases/x/y"),
            ("releases/*/*", "releases/x"),
            ("*.md", "README.MD"),
            ("a", "/a"),
            ("a*", "ba"),
            ("", "a"),
            ("a/*", "a"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_that_clients_read_differently_covers_nothing() {
        assert!(!matches("[ab]", "a"));
        assert!(!matches("[ab]", "[ab]"));
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let pattern = "*a".repeat(200) + "b";
        assert!(!matches(&pattern, &"a".repeat(4000)));
    }

    #[test]
    fn prefixes_are_those_of_the_paths_hash() {
        // SHA-256 of "a" begins with ca978112.
        let prefixes = |list: &[&str]| list.iter().map(|&p| p.to_owned()).collect::<Vec<_>>();
        assert!(hash_begins_with("a", &prefixes(&["00", "ca97"])));
        assert!(hash_begins_with("a", &prefixes(&[""])));
        assert!(!hash_begins_with("a", &prefixes(&["CA97", "cb"])));
        assert!(!hash_begins_with("a", &[]));
    }
}
