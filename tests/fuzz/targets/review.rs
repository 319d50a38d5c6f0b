//! Whatever a reviewer elsewhere publishes, and whatever stands in a file from Label Studio, it
//! becomes verdicts within their limits, or faults that can be printed. So is whatever a SCADA host
//! sends as a command.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lineside::review::{Cursor, Named, label_studio, remote};
use lineside::telemetry::sparkplug::payload::wants_rebirth;

fuzz_target!(|bytes: &[u8]| {
    let _ = wants_rebirth(bytes);
    match remote::read(bytes) {
        Ok(told) => assert!(told.verdict.check().is_ok()),
        Err(garble) => assert!(!garble.to_string().is_empty() && !garble.code().is_empty()),
    }
    match label_studio::import(bytes) {
        Ok(import) => {
            for (id, verdict) in &import.verdicts {
                assert!(id.whole().is_some() && verdict.check().is_ok());
            }
            for (place, unclear) in &import.unclear {
                assert!(*place > 0 && !unclear.to_string().is_empty());
            }
        }
        Err(fault) => assert!(!fault.to_string().is_empty()),
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(named) = text.parse::<Named>() {
        assert_eq!(named.to_string().parse(), Ok(named));
    }
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }
});
