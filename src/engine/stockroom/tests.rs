//! What lies on the disk is right, or it is as if it were not there.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::atomic::{AtomicU32, Ordering};

use super::folder::Fault;
use super::*;
use crate::engine::protocol::{
    Flash, Instruction, KvType, MAX_PIECE_BYTES, Mapping, Options, Rule, Without,
};

const PLENTY: u64 = 64 << 20;

/// A folder that goes with the test.
struct Room(Folder);

impl Room {
    fn new() -> Self {
        Self::of(PLENTY)
    }

    fn of(limit_bytes: u64) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lineside-stockroom-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path); // of a process that had this number before
        Self(Folder::open(path.join("prefixes"), limit_bytes, 0).unwrap())
    }

    fn put(&mut self, key: Key, state: &[u8]) -> Result<(), Fault> {
        pieces(state).iter().try_for_each(|it| self.0.put(key, it))
    }

    /// The state that is given to an engine, and whether all of it was.
    fn read(&self, key: Key) -> (Vec<u8>, Result<bool, Fault>) {
        let mut given = Vec::new();
        let result = self.0.read(key, 7, &mut |piece| {
            assert_eq!((piece.instruction, piece.offset), (7, given.len() as u64));
            given.extend(piece.bytes);
            true
        });
        (given, result)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap().flatten();
        let mut names: Vec<_> = entries
            .map(|it| it.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn only_file(&self) -> PathBuf {
        let names = self.names();
        assert_eq!(names.len(), 1, "{names:?}");
        self.0.path().join(&names[0])
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.path().parent().unwrap());
    }
}

fn key(number: u8) -> Key {
    Key::of(&[&[number]])
}

/// Of two pieces and a bit.
fn state() -> Vec<u8> {
    let bytes = (0..MAX_PIECE_BYTES * 2 + 1000).map(|at| u8::try_from(at % 251).unwrap());
    bytes.collect()
}

fn pieces(state: &[u8]) -> Vec<Piece> {
    let total = state.len() as u64;
    let chunks = state.chunks(MAX_PIECE_BYTES).enumerate();
    let piece = |(index, bytes): (usize, &[u8])| Piece {
        instruction: 7,
        offset: (index * MAX_PIECE_BYTES) as u64,
        total,
        bytes: bytes.to_vec(),
    };
    chunks.map(piece).collect()
}

#[test]
fn what_was_put_in_comes_out_and_only_its_owner_may_look() {
    let mut room = Room::new();
    room.put(key(1), &state()).unwrap();
    let (given, result) = room.read(key(1));
    assert!(result.unwrap());
    assert_eq!(given, state());
    assert!(!room.read(key(2)).1.unwrap(), "there is no such file");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&room.only_file()), 0o600);
    assert_eq!(mode(room.0.path()), 0o700);
}

/// The last piece is what an engine needs to believe that it has a state.
#[test]
fn of_a_file_that_is_not_as_it_was_the_last_piece_is_never_given() {
    type Spoil = fn(&mut Vec<u8>);
    let spoils: [(&str, Spoil); 12] = [
        ("first byte", |file| file[0] ^= 1),
        ("version", |file| file[8] += 1),
        ("key", |file| file[9] ^= 1),
        ("length", |file| file[41] ^= 1),
        ("great length", |file| file[48] = 0xff),
        ("digest", |file| file[49] ^= 0x80),
        ("start of the state", |file| file[81] ^= 1),
        ("middle", |file| file[300_000] ^= 4),
        ("end", |file| *file.last_mut().unwrap() ^= 1),
        ("cut", |file| file.truncate(file.len() / 2)),
        ("too long", |file| file.push(0)),
        ("header alone", |file| file.truncate(40)),
    ];
    for (name, spoil) in spoils {
        let mut room = Room::new();
        room.put(key(1), &state()).unwrap();
        let path = room.only_file();
        let mut bytes = fs::read(&path).unwrap();
        spoil(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let (given, result) = room.read(key(1));
        let fault = result.expect_err(name);
        assert!(given.len() < state().len(), "{name}");
        room.0.remove(key(1), &fault);
        assert_eq!(room.names(), [""; 0], "{name}");
    }
}

#[test]
fn the_state_of_another_model_is_not_taken_for_this_ones() {
    let mut room = Room::new();
    room.put(key(1), &state()).unwrap();
    let path = room.only_file();
    room.put(key(2), &state()).unwrap();
    let mut names = room.names();
    names.retain(|name| !path.ends_with(name));
    fs::rename(&path, room.0.path().join(&names[0])).unwrap();
    let (given, result) = room.read(key(2));
    assert!(matches!(result, Err(Fault::Misplaced)));
    assert!(given.is_empty());
}

#[test]
fn a_link_is_not_followed() {
    let mut room = Room::new();
    room.put(key(1), &state()).unwrap();
    let path = room.only_file();
    let elsewhere = room.0.path().with_file_name("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    symlink(&elsewhere, &path).unwrap();
    assert!(room.read(key(1)).1.is_err());
}

#[test]
fn what_was_being_written_when_the_power_failed_is_gone_at_the_next_start() {
    let mut room = Room::new();
    let pieces = pieces(&state());
    room.put(key(1), &state()).unwrap();
    room.0.put(key(2), &pieces[0]).unwrap();
    assert_eq!(room.names().len(), 2);
    let again = Folder::open(room.0.path().to_owned(), PLENTY, 0).unwrap();
    assert_eq!(room.names().len(), 1);
    let found = |key| again.read(key, 0, &mut |_| true).unwrap();
    assert!(found(key(1)) && !found(key(2)));
}

#[test]
fn pieces_out_of_order_make_no_file() {
    let pieces = pieces(&state());
    let shifted = |change: fn(&mut Piece)| {
        let mut piece = pieces[1].clone();
        change(&mut piece);
        piece
    };
    let cases = [
        shifted(|piece| piece.offset += 1),
        shifted(|piece| piece.total += 1),
        shifted(|piece| piece.bytes.clear()),
        shifted(|piece| piece.bytes = vec![0; MAX_PIECE_BYTES * 2]),
        Piece::void(7),
    ];
    for case in cases {
        let mut room = Room::new();
        room.0.put(key(1), &pieces[0]).unwrap();
        assert!(matches!(room.0.put(key(1), &case), Err(Fault::Disorder)));
        assert_eq!(room.names(), [""; 0], "{case:?}");
        assert!(room.put(key(1), &state()).is_ok(), "the next one is");
    }
    let mut room = Room::new();
    room.0.put(key(1), &pieces[0]).unwrap();
    let other = room.0.put(key(2), &pieces[1]);
    assert!(matches!(other, Err(Fault::Disorder)));
}

#[test]
fn all_files_together_keep_to_their_limit() {
    let mut room = Room::of(2 * state().len() as u64);
    room.put(key(1), &state()).unwrap();
    let full = room.put(key(2), &state());
    assert!(matches!(full, Err(Fault::Full { .. })), "{full:?}");
    room.0.keep(&[]);
    room.put(key(2), &state()).unwrap();
    let scarce = Folder::open(room.0.path().to_owned(), PLENTY, u64::MAX / 2);
    let result = scarce.unwrap().put(key(3), &pieces(&state())[0]);
    assert!(matches!(result, Err(Fault::Scarce { .. })), "{result:?}");
}

#[test]
fn what_no_model_needs_is_let_go_of() {
    let mut room = Room::new();
    for number in 1..=3 {
        room.put(key(number), &[number; 100]).unwrap();
    }
    fs::write(room.0.path().join("notes.txt"), "of somebody else").unwrap();
    room.0.keep(&[key(2), key(9)]);
    assert_eq!(room.names().len(), 1);
    assert_eq!(room.read(key(2)).0, [2; 100]);
}

fn load() -> Load {
    let instruction = |head: &str| Instruction {
        head: head.into(),
        tail: "</s>".into(),
        rule: Rule::Text,
        max_tokens: 8,
    };
    Load {
        model: "model.gguf".into(),
        adapter: None,
        draft: None,
        options: Options {
            context_tokens: 512,
            cache_tokens: 4096,
            sequences: 4,
            queue: 8,
            threads: None,
            batch_tokens: 512,
            pass_ms: 25,
            gpu_layers: 0,
            kv_type: KvType::F16,
            flash_attention: Flash::Auto,
            mapping: Mapping::Read,
            without: Without::default(),
        },
        instructions: vec![instruction("one"), instruction("two"), instruction("one")],
    }
}

#[test]
fn a_key_tells_apart_what_a_state_depends_on_and_nothing_else() {
    let given = keys("sha256:a", &load());
    assert_eq!(given.len(), 3);
    assert_ne!(given[0], given[1]);
    assert_eq!(given[0], given[2], "the same beginning");
    let mut same = load();
    same.instructions[0].max_tokens = 9;
    same.instructions[0].tail = "other".into();
    same.model = "elsewhere/model.gguf".into();
    assert_eq!(keys("sha256:a", &same), given);
    let mut others = vec![keys("sha256:b", &load())];
    let mut changed = |change: fn(&mut Load)| {
        let mut load = load();
        change(&mut load);
        others.push(keys("sha256:a", &load));
    };
    changed(|load| load.instructions[0].head.push('!'));
    changed(|load| load.options.kv_type = KvType::Q8_0);
    changed(|load| load.options.flash_attention = Flash::On);
    changed(|load| load.options.cache_tokens = 2048);
    changed(|load| load.options.gpu_layers = 1);
    for other in others {
        assert!(!given.contains(&other[0]));
    }
    let mut adapted = load();
    adapted.adapter = Some(("adapter.gguf".into(), 1.0));
    assert_eq!(keys("sha256:a", &adapted), []);
}

/// The version of the runtime is a part of each key, so it must be the one that is built in.
#[test]
fn the_runtime_that_the_keys_name_is_the_one_that_is_pinned() {
    let manifest = include_str!("../../../Cargo.toml");
    let (name, version) = RUNTIME.split_once(' ').unwrap();
    let line = format!("{name} = {{ version = \"={version}\"");
    assert!(manifest.contains(&line), "{line}");
}

#[test]
fn a_damaged_file_reaches_no_engine_and_what_it_was_given_is_taken_back() {
    let mut room = Room::new();
    room.put(key(1), &state()).unwrap();
    let path = room.only_file();
    room.put(key(2), &state()).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let (to, mut process) = mpsc::channel(64);
    let found = fetch(&mut room.0, &[key(1), key(2), key(3), key(2)], &to);
    assert_eq!(found, [key(2)]);
    drop(to);
    let mut states = std::collections::BTreeMap::<u16, Vec<u8>>::new();
    let mut voids = Vec::new();
    while let Ok(ToEngine::RestorePrefix(piece)) = process.try_recv() {
        if piece == Piece::void(piece.instruction) {
            voids.push(piece.instruction);
            states.remove(&piece.instruction);
        } else {
            states
                .entry(piece.instruction)
                .or_default()
                .extend(piece.bytes);
        }
    }
    assert_eq!(voids, [0]);
    assert_eq!(states.into_iter().collect::<Vec<_>>(), [(1, state())]);
}
