//! The editor against a model of a line and a dumb terminal's screen.

use proptest::prelude::*;

use super::*;

/// What a terminal shows that knows printable characters, CR, LF, backspace and bell.
#[derive(Debug, Default)]
struct Screen {
    row: Vec<char>,
    column: usize,
    widest: usize,
    bells: usize,
}

impl Screen {
    fn show(&mut self, bytes: &[u8]) {
        for c in std::str::from_utf8(bytes)
            .expect("whole characters")
            .chars()
        {
            match c {
                '\r' => self.column = 0,
                '\n' => self.row.clear(),
                '\u{8}' => self.column = self.column.checked_sub(1).expect("not over the edge"),
                '\u{7}' => self.bells += 1,
                c => {
                    assert!(!c.is_control(), "{c:?} to a dumb terminal");
                    self.row.resize(self.row.len().max(self.column + 1), ' ');
                    self.row[self.column] = c;
                    self.column += 1;
                    self.widest = self.widest.max(self.column);
                }
            }
        }
    }

    fn text(&self) -> String {
        let text: String = self.row.iter().collect();
        text.trim_end().to_owned()
    }
}

struct Desk {
    editor: Editor,
    screen: Screen,
    typed: Vec<Typed>,
}

impl Desk {
    fn new() -> Self {
        Self::with(Echo::Shown)
    }

    fn with(echo: Echo) -> Self {
        let mut out = Vec::new();
        let mut editor = Editor::new(80);
        editor.begin("> ", echo, &mut out);
        let mut screen = Screen::default();
        screen.show(&out);
        Self {
            editor,
            screen,
            typed: Vec::new(),
        }
    }

    fn type_(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let mut out = Vec::new();
            self.typed.extend(self.editor.on_byte(*byte, &mut out));
            self.screen.show(&out);
            if self.typed.last().is_some_and(|it| *it == Typed::Interrupt) {
                out.clear();
                self.editor.redraw(&mut out);
            }
        }
    }

    fn lines(&self) -> Vec<String> {
        let line = |typed: &Typed| match typed {
            Typed::Line(line) => Some(line.clone()),
            Typed::Overlong | Typed::Interrupt | Typed::End | Typed::Complete => None,
        };
        self.typed.iter().filter_map(line).collect()
    }
}

fn lines(bytes: &[u8]) -> Vec<String> {
    let mut desk = Desk::new();
    desk.type_(bytes);
    desk.lines()
}

#[test]
fn the_keys_of_a_shell_work() {
    for (typed, line) in [
        (&b"statsu\x08\x7fus\r"[..], "status"),
        (b"nonsense\x15help\r", "help"),
        (b"ask  old words \x17\x17new\r", "ask  new"),
        (b"tatus\x1b[Hs\r", "status"),
        (b"tatus\x1bOHs\x1bOF!\r", "status!"),
        (b"tatus\x1b[1~s\x1b[4~!\r", "status!"),
        (b"sttus\x1b[D\x1b[D\x1b[Da\r", "status"),
        (b"sxtatus\x1b[H\x1b[C\x1b[3~\r", "status"),
        (b"sxtatus\x01\x06\x04\r", "status"),
        (b"status now\x02\x02\x02\x02\x0b\r", "status"),
        (b"\xc3\xa4\xe2\x82\xac\r", "\u{e4}\u{20ac}"),
    ] {
        assert_eq!(lines(typed), [line], "{typed:?}");
    }
}

#[test]
fn every_kind_of_line_end_ends_one_line() {
    assert_eq!(lines(b"a\rb\nc\r\nd\r"), ["a", "b", "c", "d"]);
    assert_eq!(lines(b"a\r\n\r\nb\r"), ["a", "", "b"]);
}

#[test]
fn control_c_throws_the_line_away_and_control_d_ends_only_an_empty_one() {
    let mut desk = Desk::new();
    desk.type_(b"abc\x03\x04");
    assert_eq!(desk.typed, [Typed::Interrupt, Typed::End]);
    let mut desk = Desk::new();
    desk.type_(b"abc\x04\r");
    assert_eq!(desk.lines(), ["abc"]);
}

#[test]
fn noise_and_broken_characters_never_eat_an_enter() {
    for noise in [
        &b"\xff\xfe"[..],
        b"\xe2\x82",
        b"\xc3",
        b"\x1b",
        b"\x1b[",
        b"\x1b[12;",
        b"\x1bO",
        b"\x00\x00",
        b"\x80\x80\x80",
        b"\xc2\x9b",
    ] {
        let bytes = [b"help", noise, b"\r"].concat();
        assert_eq!(lines(&bytes), ["help"], "{noise:?}");
    }
}

#[test]
fn the_arrows_bring_lines_back_and_keep_the_one_being_typed() {
    let up = b"\x1b[A";
    let mut desk = Desk::new();
    desk.type_(b"one\rtwo\rtwo\r\rthr");
    desk.type_(&[&up[..], up, up, b"\r"].concat());
    assert_eq!(desk.lines().last().unwrap(), "one");
    desk.type_(b"thr\x1b[A\x1b[A\x1b[B\x1b[Bee\r");
    assert_eq!(desk.lines().last().unwrap(), "three");
}

#[test]
fn history_is_bounded_and_forgotten_on_demand() {
    let mut desk = Desk::new();
    for n in 0..MAX_HISTORY + 50 {
        desk.type_(format!("line {n}\r").as_bytes());
    }
    assert_eq!(desk.editor.history.len(), MAX_HISTORY);
    desk.editor.forget();
    desk.type_(b"\x1b[Ax\r");
    assert_eq!(desk.lines().last().unwrap(), "x");
}

#[test]
fn what_is_hidden_is_neither_shown_nor_remembered() {
    let mut desk = Desk::with(Echo::Hidden);
    desk.type_(b"4711\x1b[D\x7f\x7f\x0c\t11");
    assert_eq!(desk.screen.text(), ">");
    desk.type_(b"\r");
    assert_eq!(
        desk.lines(),
        ["4711"],
        "the cursor does not move where nothing is seen"
    );
    assert!(desk.editor.history.is_empty());
    assert!(!format!("{:?} {:?}", desk.editor, desk.typed).contains("4711"));
}

#[test]
fn a_program_gets_no_echo_at_all() {
    let mut out = Vec::new();
    let mut editor = Editor::new(80);
    editor.begin("> ", Echo::Machine, &mut out);
    for byte in b"{\"cmd\":\t\"status\"}\x0c\n" {
        editor.on_byte(*byte, &mut out);
    }
    assert_eq!(out, b"");
}

#[test]
fn a_paste_of_a_hundred_kilobytes_is_bounded_and_told_once() {
    let mut desk = Desk::new();
    desk.type_(&vec![b'x'; 100_000]);
    assert_eq!(desk.editor.bytes, MAX_LINE_BYTES);
    assert_eq!(desk.screen.bells, 1);
    desk.type_(b"\rhelp\r");
    assert_eq!(desk.typed, [Typed::Overlong, Typed::Line("help".into())]);
}

#[test]
fn a_line_that_was_too_long_can_be_shortened() {
    let mut desk = Desk::new();
    desk.type_(&vec![b'x'; MAX_LINE_BYTES + 1]);
    desk.type_(b"\x7f\r");
    assert_eq!(desk.lines()[0].len(), MAX_LINE_BYTES - 1);
}

#[test]
fn a_long_line_scrolls_within_the_screen() {
    let mut desk = Desk::new();
    let line: String = ('a'..='z').cycle().take(300).collect();
    desk.type_(line.as_bytes());
    assert!(desk.screen.widest < 80, "{}", desk.screen.widest);
    assert!(desk.screen.text().ends_with('n'), "{}", desk.screen.text());
    desk.type_(b"\x01");
    assert!(desk.screen.text().starts_with("> abcdef"));
    assert_eq!(desk.screen.column, 2);
}

/// One thing that a person does.
#[derive(Clone, Debug)]
enum Do {
    Type(char),
    Back,
    Delete,
    Left,
    Right,
    Home,
    End,
    KillBefore,
    KillAfter,
    Redraw,
}

fn doings() -> impl Strategy<Value = Vec<Do>> {
    let one = prop_oneof![
        6 => prop_oneof![Just('a'), Just(' '), Just('\u{fc}'), Just('z')].prop_map(Do::Type),
        2 => Just(Do::Back),
        1 => Just(Do::Delete),
        2 => Just(Do::Left),
        1 => Just(Do::Right),
        1 => Just(Do::Home),
        1 => Just(Do::End),
        1 => Just(Do::KillBefore),
        1 => Just(Do::KillAfter),
        1 => Just(Do::Redraw),
    ];
    prop::collection::vec(one, 0..250)
}

/// A line and a cursor, the simplest way.
#[derive(Default)]
struct Model {
    before: Vec<char>,
    after: Vec<char>,
}

impl Model {
    fn act(&mut self, what: &Do) -> Vec<u8> {
        match what {
            Do::Type(c) => {
                self.before.push(*c);
                return c.to_string().into_bytes();
            }
            Do::Back => {
                self.before.pop();
                return b"\x7f".to_vec();
            }
            Do::Delete if self.after.is_empty() && self.before.is_empty() => return Vec::new(),
            Do::Delete => {
                if !self.after.is_empty() {
                    self.after.remove(0);
                }
                return b"\x1b[3~".to_vec();
            }
            Do::Left => {
                if let Some(c) = self.before.pop() {
                    self.after.insert(0, c);
                }
                return b"\x1b[D".to_vec();
            }
            Do::Right => {
                if !self.after.is_empty() {
                    self.before.push(self.after.remove(0));
                }
                return b"\x1bOC".to_vec();
            }
            Do::Home => {
                self.before.append(&mut self.after);
                self.after = std::mem::take(&mut self.before);
                return b"\x01".to_vec();
            }
            Do::End => self.before.append(&mut self.after),
            Do::KillBefore => {
                self.before.clear();
                return b"\x15".to_vec();
            }
            Do::KillAfter => {
                self.after.clear();
                return b"\x0b".to_vec();
            }
            Do::Redraw => return b"\x0c".to_vec(),
        }
        b"\x05".to_vec()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_line_is_as_the_model_says_and_the_screen_shows_it(doings in doings()) {
        let mut desk = Desk::new();
        let mut model = Model::default();
        for what in &doings {
            let bytes = model.act(what);
            desk.type_(&bytes);
            let line: String = model.before.iter().chain(&model.after).collect();
            prop_assert_eq!(desk.editor.line.iter().collect::<String>(), line.clone());
            prop_assert_eq!(desk.editor.cursor, model.before.len());
            let from = desk.editor.shown.from;
            let room = desk.editor.room() - 1;
            let window: String = line.chars().skip(from).take(room).collect();
            let wanted = format!("> {window}");
            prop_assert_eq!(desk.screen.text(), wanted.trim_end());
            prop_assert_eq!(desk.screen.column, 2 + model.before.len() - from);
            prop_assert!(desk.screen.widest < 80);
        }
    }

    #[test]
    fn garbage_never_gets_a_control_character_into_a_line(bytes: Vec<u8>) {
        for line in lines(&bytes) {
            prop_assert!(line.chars().all(|c| !c.is_control()), "{line:?}");
        }
    }
}

#[test]
fn a_break_in_the_middle_of_a_letter_or_of_an_arrow_key_costs_nothing() {
    assert_eq!(lines(b"\0a\xc3\0\xa4c\x1b\0[\0Db\0\r\0"), ["a\u{e4}bc"]);
}
