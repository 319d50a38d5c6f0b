use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::*;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("lineside-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn around(host: &str) -> Surroundings {
    Surroundings {
        config: None,
        env: BTreeMap::new(),
        host_name: host.into(),
        etc: "/nowhere".into(),
        packages: Vec::new(),
    }
}

fn home(state_dir: &Path) -> config::Home {
    config::Home {
        name: None,
        state_dir: state_dir.into(),
        sysfs: "/nowhere".into(),
        procfs: "/nowhere".into(),
        est: None,
    }
}

/// A board that is called like any other, with this number.
fn told(state: &Path, serial: &str) -> Result<Told, ProvisionError> {
    let args = Args {
        serial: Some(serial.into()),
        ..Args::default()
    };
    provision(&args, &around("debian"), &home(state), Wall(0))
}

#[test]
fn a_number_that_is_typed_becomes_one_that_a_name_may_hold() {
    for (number, (serial, name)) in [
        ("1424022042281", ("1424022042281", "lineside-22042281")),
        ("SN 12/34", ("SN-12-34", "lineside-SN-12-34")),
        (
            "ab\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
            ("ab-----", "lineside-ab-----"),
        ),
    ] {
        let state = folder("typed");
        let told = told(&state, number).unwrap();
        assert_eq!(told.serial.as_deref(), Some(serial), "{number}");
        assert_eq!(told.name, name);
        assert!(config::ApplianceName::parse(&told.name).is_some());
        fs::remove_dir_all(&state).unwrap();
    }
}

#[test]
fn a_number_that_says_nothing_is_refused_before_anything_is_named_after_it() {
    let state = folder("nothing");
    for number in ["", "0000", "??", "none"] {
        let error = told(&state, number).unwrap_err();
        assert_eq!(error.exit_code(), EXIT_USAGE, "{error}");
        assert!(error.to_string().starts_with("--serial "), "{error}");
    }
    assert!(!state.join("identity/name").exists());
    fs::remove_dir_all(&state).unwrap();
}

#[test]
fn a_number_that_nobody_tidied_names_nobody_wrong() {
    let state = folder("untidied");
    fs::create_dir_all(state.join("identity")).unwrap();
    fs::write(state.join("identity/serial"), "K\u{fc}che 7/\u{20ac}\n").unwrap();
    let told = told(&state, "4711").unwrap();
    assert_eq!(told.name, "lineside--che-7--");
    fs::remove_dir_all(&state).unwrap();
}
