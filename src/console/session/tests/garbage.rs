//! Whatever comes over the line.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_comes_the_right_pin_and_a_command_still_work(
        before: Vec<u8>, inside: Vec<u8>,
    ) {
        let mut desk = Desk::new(Door::Pin);
        desk.bytes(&before);
        desk.pass(LONGEST_WAIT);
        desk.type_(&format!("\x15{PIN}\r"));
        desk.pass(LONGEST_WAIT);
        if !desk.session.is_in() {
            desk.type_(&format!("{PIN}\r"));
        }
        prop_assert!(desk.session.is_in());
        desk.bytes(&inside);
        desk.type_("\x03\x03");
        prop_assert!(!desk.ended);
    }
}
