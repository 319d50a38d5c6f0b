//! The number that the board's maker gave it, from where boards keep it.

use std::fs;
use std::path::Path;

/// Below sysfs and procfs, the best first: the device tree of ARM boards, then what a PC's firmware
/// says (which root alone may read).
const IN_SYSFS: [&str; 3] = [
    "firmware/devicetree/base/serial-number",
    "class/dmi/id/product_serial",
    "class/dmi/id/board_serial",
];
const IN_PROCFS: &str = "device-tree/serial-number";
/// What makers write who write nothing.
const BLANKS: [&str; 9] = [
    "none",
    "default string",
    "system serial number",
    "to be filled by o.e.m.",
    "to be filled by oem",
    "not specified",
    "not applicable",
    "0123456789",
    "unknown",
];
/// Signs of a number; makers have some thirty at most.
const MAX_SIGNS: usize = 48;

/// The board's number and where it stands. Where the board has none, one of this installation's:
/// a digest of the machine id, which must not be shown itself.
pub(super) fn find(sysfs: &Path, procfs: &Path, etc: &Path) -> Option<(String, String)> {
    let places = IN_SYSFS.map(|place| sysfs.join(place));
    let board = places
        .into_iter()
        .chain([procfs.join(IN_PROCFS)])
        .find_map(|path| {
            let number = tidy(&fs::read(&path).ok()?)?;
            Some((number, path.display().to_string()))
        });
    board.or_else(|| {
        let path = etc.join("machine-id");
        let id = tidy(&fs::read(&path).ok()?)?;
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, id.as_bytes());
        let digest = ring::hmac::sign(&key, b"lineside serial");
        let (head, _) = digest.as_ref().split_first_chunk().expect("32 bytes");
        let number = format!("m{:012x}", u64::from_be_bytes(*head) >> 16);
        Some((number, format!("a digest of {}", path.display())))
    })
}

/// As a name may hold it; none where nothing is said.
pub(super) fn tidy(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    let number: String = text
        .chars()
        .take(MAX_SIGNS)
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let says_nothing = BLANKS.contains(&text.to_lowercase().as_str())
        || number.chars().all(|c| matches!(c, '0' | '-'))
        || number.len() < 3;
    (!says_nothing).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_is_no_number() {
        for blank in [
            "",
            "\0",
            "0000000",
            "To Be Filled By O.E.M.\n",
            "None",
            "ab",
        ] {
            assert_eq!(tidy(blank.as_bytes()), None, "{blank:?}");
        }
        assert_eq!(tidy(b"1424022042281\0").unwrap(), "1424022042281");
        assert_eq!(tidy(b"  AB/12 34\n").unwrap(), "AB-12-34");
        assert_eq!(tidy(&[b'7'; 200]).unwrap().len(), MAX_SIGNS);
    }

    #[test]
    fn a_board_says_its_own_and_an_installation_without_one_has_a_digest() {
        let root = std::env::temp_dir().join(format!("lineside-serial-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let of = |folder: &str| root.join(folder);
        let find = || find(&of("sys"), &of("proc"), &of("etc"));
        fs::create_dir_all(of("proc/device-tree")).unwrap();
        fs::create_dir_all(of("etc")).unwrap();
        assert_eq!(find(), None);
        fs::write(of("etc/machine-id"), "5f6b2a0c9d8e4f7fa1b2c3d4e5f60718\n").unwrap();
        let (number, place) = find().unwrap();
        assert!(number.starts_with('m') && number.len() == 13, "{number}");
        assert!(!number.contains("5f6b2a") && place.contains("machine-id"));
        assert_eq!(find().unwrap().0, number);
        fs::write(of("proc/device-tree/serial-number"), "1424022042281\0").unwrap();
        assert_eq!(find().unwrap().0, "1424022042281");
        fs::remove_dir_all(&root).unwrap();
    }
}
