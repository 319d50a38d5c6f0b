//! What kind of board this is, in its maker's words: what makes devices of a fleet alike.

use std::path::Path;

use super::file;

/// Signs of it that are told; makers write some thirty.
const MAX_SIGNS: usize = 48;
/// Below sysfs: the device tree of ARM boards, then what a PC's firmware says.
const PLACES: [&str; 2] = [
    "firmware/devicetree/base/model",
    "class/dmi/id/product_name",
];

/// The board's make, or the kind of its processor where nobody wrote one down.
pub fn make(sysfs: &Path) -> String {
    let written = PLACES.iter().find_map(|place| {
        let mut buffer = [0; file::MAX_TABLE_BYTES];
        tidy(file::read(&sysfs.join(place), &mut buffer).ok()?)
    });
    written.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// One line of plain signs; none where it says nothing.
fn tidy(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split(|c: char| c == '\0' || c.is_whitespace() || c.is_control());
    let words: Vec<_> = words.filter(|it| !it.is_empty()).collect();
    let text: String = words.join(" ").chars().take(MAX_SIGNS).collect();
    let text = text.trim_end();
    // Makers of PCs leave their own instructions standing: "To Be Filled By O.E.M.".
    let says =
        text.chars().any(char::is_alphanumeric) && !text.to_lowercase().starts_with("to be filled");
    says.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_is_no_make() {
        for blank in ["", "\0", " \n", "----", "To Be Filled By O.E.M.\n"] {
            assert_eq!(tidy(blank.as_bytes()), None, "{blank:?}");
        }
        let jetson = tidy(b"NVIDIA Jetson Orin Nano\tDeveloper  Kit\0");
        assert_eq!(
            jetson.as_deref(),
            Some("NVIDIA Jetson Orin Nano Developer Kit")
        );
        let long = tidy("x".repeat(500).as_bytes());
        assert_eq!(long.map(|it| it.len()), Some(MAX_SIGNS));
    }

    #[test]
    fn a_board_without_a_make_is_known_by_its_processor() {
        assert_eq!(make(Path::new("/nowhere")), std::env::consts::ARCH);
    }
}
