//! Passphrases that are typed: at a real terminal, without echo.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use crate::plant::Plant;

/// Runs a command at a terminal, answers each prompt, and prints what the terminal showed.
const AT_A_TERMINAL: &str = r"
import os, pty, signal, sys
signal.alarm(120)
answers = [pair.split('=', 1) for pair in sys.argv[1].split(';')]
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
shown, seen = b'', 0
def more():
    global shown
    try:
        piece = os.read(terminal, 4096)
    except OSError:
        piece = b''
    shown += piece
    return piece
for prompt, answer in answers:
    while prompt.encode() not in shown[seen:] and more():
        pass
    seen = len(shown)
    os.write(terminal, answer.encode().decode('unicode_escape').encode())
while more():
    pass
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

fn at_a_terminal(plant: &Plant, answers: &str, words: &[&str]) -> Option<(String, i32)> {
    let output = Command::new("python3")
        .args([
            "-c",
            AT_A_TERMINAL,
            answers,
            env!("CARGO_BIN_EXE_lineside-fleet"),
        ])
        .args(words)
        .current_dir(plant.at("."))
        .output();
    match output {
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                !told.contains("horse") && !told.contains("staple"),
                "echoed: {told}"
            );
            Some((told, output.status.code().unwrap()))
        }
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: no python3 to type with: {error}"
            );
            None
        }
    }
}

#[test]
fn passphrases_are_typed_twice_without_echo_and_corrected_while_typing() {
    let plant = Plant::new();
    let new = ["key", "new", "ann"];
    let typed = r"new passphrase=correct horsf\x7fe\r;once more=correct horse\r";
    let Some((told, code)) = at_a_terminal(&plant, typed, &new) else {
        return;
    };
    assert_eq!(code, 0, "{told}");
    let before = fs::read(plant.at("ann")).unwrap();
    let passwd = ["key", "passwd", "ann"];
    for (typed, code, wanted) in [
        (
            r"passphrase of=wrong horse\r;passphrase of=correct horse\r;new passphrase=battery staple\r;once more=battery stapl\r",
            64,
            "differ",
        ),
        (r"passphrase of=correct\x03", 69, "interrupted"),
        (
            r"passphrase of=correct horse\r;new passphrase=staple\r;once more=staple\r",
            64,
            "10 are the least",
        ),
    ] {
        let (told, ended) = at_a_terminal(&plant, typed, &passwd).unwrap();
        assert_eq!(ended, code, "{told}");
        assert!(told.contains(wanted), "{told}");
        assert_eq!(fs::read(plant.at("ann")).unwrap(), before);
    }
    let typed =
        r"passphrase of=correct horse\r;new passphrase=battery staple\r;once more=battery staple\r";
    let (told, code) = at_a_terminal(&plant, typed, &passwd).unwrap();
    assert_eq!(code, 0, "{told}");
    assert_ne!(fs::read(plant.at("ann")).unwrap(), before);
}

#[test]
fn whoever_says_no_signs_nothing() {
    let plant = Plant::simple();
    let before = plant.served();
    let renew = [
        "renew", "packages", "--repo", "repo", "--key", "ann", "--key", "online",
    ];
    let typed = r"sign packages=yes\r;passphrase of=correct horse\r;sign snapshot=no\r";
    let Some((told, code)) = at_a_terminal(&plant, typed, &renew) else {
        return;
    };
    assert_eq!(code, 69, "{told}");
    assert!(told.contains("not agreed to"), "{told}");
    assert_eq!(plant.served(), before);
    assert!(!plant.at("repo.desk/staged").exists());
    let typed = r"sign packages=yes\r;passphrase of=correct horse\r;sign snapshot=yes\r;sign timestamp=yes\r;publish in=yes\r";
    let (told, code) = at_a_terminal(&plant, typed, &renew).unwrap();
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("published: packages 2"), "{told}");
}
