//! What templates may do, and what is taken from them.

use super::*;

const LIMITS: Limits = Limits {
    steps: 20_000,
    work_bytes: 1 << 20,
    output_bytes: 1 << 16,
};

#[track_caller]
fn rendered(source: &str) -> String {
    let messages = Value::from(vec![
        context! { role => "system", content => "  Be brief. " },
        context! { role => "user", content => "It hums" },
    ]);
    let values = context! { messages, bos_token => "<s>", none_here => Value::from(()) };
    render(source, values, LIMITS).unwrap()
}

#[track_caller]
fn refused(source: &str) -> JinjaError {
    render(source, context! { word => "word" }, LIMITS).unwrap_err()
}

#[test]
fn a_template_reads_like_the_one_that_its_author_tried() {
    for (source, text) in [
        (
            "{{ bos_token }}{{ messages[0].content | trim }}",
            "<s>Be brief.",
        ),
        (
            "{{ messages[0]['content'].strip() ~ 1 ~ true ~ none }}",
            "Be brief.1TrueNone",
        ),
        (
            "{% for m in messages %}{{ loop.index0 }}{{ m.role }},{% endfor %}",
            "0system,1user,",
        ),
        (
            "{% for m in messages[1:] %}{{ m.role }}{% endfor %}",
            "user",
        ),
        (
            "{% for m in messages[::-1] %}{{ m.role }},{% endfor %}",
            "user,system,",
        ),
        (
            "{{ 'abcdef'[1:3] }}{{ 'abcdef'[-2:] }}{{ 'abcdef'[:-4] }}",
            "bcefab",
        ),
        (
            "{{ 'a,b,c'.split(',')[-1] }}{{ 'a-b-c'.rsplit('-', 1)[0] }}",
            "ca-b",
        ),
        (
            "{{ ['a', 'b'] | join('-') }}{{ '+'.join(['c', 'd']) }}",
            "a-bc+d",
        ),
        (
            "{{ 'Hello'.startswith('He') }}{{ 'lo' in 'Hello' }}{{ 'x' not in ['y'] }}",
            "TrueTrueTrue",
        ),
        (
            "{{ 'a' + 'b' }}{{ 1 + 2 }}{{ 7 % 2 }}{{ (['a'] + ['b']) | length }}",
            "ab312",
        ),
        (
            "{{ {'role': [messages[0].role, 1.5, none, true]} | tojson }}",
            r#"{"role": ["system", 1.5, null, true]}"#,
        ),
        (
            "{{ {'a': 1}['a'] }}{{ {'a': 1}.get('b', 2) }}{% for k, v in {'x': 'y'}.items() %}{{ k }}{{ v }}{% endfor %}",
            "12xy",
        ),
        ("{{ 'é<&>\"' | tojson }}", r#""é<&>\"""#),
        (
            "{{ nowhere }}{{ nowhere is defined }}{{ none_here is none }}{{ nowhere | default('d') }}",
            "FalseTrued",
        ),
        (
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
            "2",
        ),
        (
            "{% macro greet(who, mark='!') %}hi {{ who }}{{ mark }}{% endmacro %}{{ greet('you') }}",
            "hi you!",
        ),
        (
            "{% for m in messages %}{% if m.role == 'user' %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
            "system",
        ),
        (
            "{{ (messages | selectattr('role', 'equalto', 'user') | list | first).content }}",
            "It hums",
        ),
        (
            "{{ messages[0].role != 'user' and messages | length > 1 }}",
            "True",
        ),
        ("{%- set x %}a{{ bos_token }}{% endset -%}\n{{ x }}", "a<s>"),
        // A block takes its line with it, as the templates' authors expect.
        ("a\n  {% if true %}\nb\n  {% endif %}\nc", "a\nb\nc"),
        (
            "{{ 'one two'.title() }}{{ 'aXa'.replace('X', '-') }}{{ 'ab'.find('b') }}",
            "One Twoa-a1",
        ),
    ] {
        assert_eq!(rendered(source), text, "{source}");
    }
}

#[test]
fn a_template_sees_what_it_is_given_and_nothing_else() {
    for source in [
        "{% include 'template' %}",
        "{% extends 'template' %}",
        "{% import '/etc/passwd' as x %}",
        "{{ strftime_now('%Y') }}",
        "{{ debug() }}",
        "{{ self.__class__() }}",
        "{{ word.format(1) }}",
        "{{ word | pprint }}",
        "{{ open('/etc/passwd') }}",
    ] {
        assert!(
            matches!(refused(source), JinjaError::Wrong { .. }),
            "{source}"
        );
    }
    assert_eq!(
        refused("{{ raise_exception('no ' ~ word) }}"),
        JinjaError::Raised("no word".into())
    );
    let JinjaError::Wrong { line, .. } = refused("a\n\n{{ word.nothing() }}") else {
        panic!("another error");
    };
    assert_eq!(line, 3);
}

#[test]
fn whatever_a_template_says_it_ends_within_its_limits() {
    let loops = |body: &str| {
        format!(
            "{{% set ns = namespace(s=word, l=[word]) %}}{{% for i in range(1000) %}}\
             {{% for j in range(1000) %}}{body}{{% endfor %}}{{% endfor %}}"
        )
    };
    for body in [
        "{% set ns.s = ns.s ~ ns.s %}",
        "{% set ns.s = ns.s + ns.s %}",
        "{% set ns.l = ns.l + ns.l %}",
        "{% set ns.l = [ns.l, ns.l] %}",
        "{% set ns.l = {'a': ns.l, 'b': ns.l} %}",
        "{% set ns.s = [ns.s, ns.s] | join(ns.s) %}",
        "{% set ns.s = ns.s.replace('w', ns.s) %}",
        "{% set ns.s = ns.s | replace('w', ns.s) %}",
        "{% set ns.s = ns.s | tojson %}{% set ns.s = ns.s ~ ns.s %}",
        "{% set x %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = x %}",
        "{% set ns.l = ns.l + [ns.s[0:]] %}{% set ns.s = ns.s ~ 'x' %}",
        "{% set ns.l = ns.s.split('') %}",
        "{% set ns.s = ns %}{% if ns.s == ns %}x{% endif %}",
        "{% set ns.s = ns %}{{ ns }}",
        "{% set ns.s = ns %}{{ ns | tojson }}",
        "{% set ns.s = ns %}{% set ns.l = [ns] %}",
        "{% set ns.l = namespace(l=ns.l) %}",
        "{% set a = namespace() %}{% set a.x = a %}{% if loop.changed(a) %}{% endif %}",
        "{{ word }}",
        "",
    ] {
        let told = refused(&loops(body));
        assert!(!matches!(told, JinjaError::Raised(_)), "{body}: {told}");
    }
    let raw = "x".repeat(32 << 10);
    let many = loops(&raw);
    assert_eq!(
        refused(&many),
        JinjaError::Endless("the steps that it may take")
    );
    for source in [
        "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        &format!(
            "{}1{}",
            "{{ (".to_owned() + &"(".repeat(1000),
            ")".repeat(1001) + " }}"
        ),
        &"{% if x %}".repeat(1000),
        &"a".repeat(MAX_SOURCE_BYTES + 1),
        "{{ 'a' * 100000000 }}",
        "{{ 2 ** 100 }}",
        "{{ range(100000000) }}",
        "{{ word < word < word }}",
    ] {
        refused(source);
    }
    let wide = Limits {
        output_bytes: 3,
        ..LIMITS
    };
    let told = render("four", context! {}, wide).unwrap_err();
    assert_eq!(
        told,
        JinjaError::Endless("the bytes that a result may have")
    );
}

#[test]
fn a_template_tells_which_names_it_takes_from_outside() {
    let found = names("{% set a = b %}{{ a }}{% for c in d %}{{ c.e }}{% endfor %}").unwrap();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["b", "d"]);
    assert!(names("{{ a").is_err());
    assert!(names("{{ 'a' * 9 }}").is_err());
}

proptest::proptest! {
    #[test]
    fn no_template_makes_the_renderer_panic(
        source in "(\\{%|%\\}|\\{\\{|\\}\\}| |set |for |in |if |endif|endfor|x|y|=|~|\\+|\\[|\\]|:|1|'a'|\\||trim|\\.|\\(|\\)|,|-){0,40}"
    ) {
        let _ = render(&source, context! { x => "x", y => vec![1, 2] }, LIMITS);
    }
}
