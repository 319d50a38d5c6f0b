use std::collections::BTreeMap;

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

#[test]
fn what_the_super_user_makes_belongs_to_whom_the_state_belongs_to() {
    let state = folder("owner");
    let identity = state.join("identity");
    // A run of an earlier version left it so.
    fs::create_dir(&identity).unwrap();
    fs::write(identity.join(AUTHORITY), "").unwrap();
    if std::os::unix::fs::chown(&state, Some(65534), Some(65533)).is_err() {
        fs::remove_dir_all(&state).unwrap();
        return; // only the super-user can give things away
    }
    let linked = state.join("linked");
    fs::write(&linked, "").unwrap();
    fs::hard_link(&linked, identity.join(CERTIFICATE)).unwrap();
    told(&state, "4711").unwrap();
    for name in [".", DROP, NAME, SERIAL, KEY, REQUEST, AUTHORITY] {
        let about = fs::metadata(identity.join(name)).unwrap();
        assert_eq!((about.uid(), about.gid()), (65534, 65533), "{name}");
    }
    assert_eq!(fs::metadata(&linked).unwrap().uid(), 0, "it lies elsewhere");
    fs::remove_dir_all(&state).unwrap();
}

#[test]
fn a_key_of_another_user_is_no_broken_key() {
    if !geteuid().is_root() {
        return; // there is no other user to be
    }
    let state = folder("foreign-key");
    told(&state, "4711").unwrap();
    let owned = [".", "identity", "identity/drop", "identity/serial"];
    for name in owned.into_iter().chain(["identity/name"]) {
        std::os::unix::fs::chown(state.join(name), Some(65534), None).unwrap();
    }
    let tried = std::thread::scope(|scope| {
        let tried = scope.spawn(|| {
            let nobody = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            told(&state, "4711")
        });
        tried.join().unwrap()
    });
    let error = tried.unwrap_err();
    let ProvisionError::File { path, error } = error else {
        panic!("{error}");
    };
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(path, state.join("identity").join(KEY));
    fs::remove_dir_all(&state).unwrap();
}

#[test]
fn by_hand_the_folder_of_the_service_is_found() {
    let state = folder("system");
    let chosen = |around: Surroundings, state: &Path| {
        let chosen = in_system(around, state);
        chosen.env.get(STATE_DIRECTORY).map(PathBuf::from)
    };
    assert_eq!(chosen(around("debian"), &state), Some(state.clone()));
    assert_eq!(chosen(around("debian"), &state.join("none")), None);
    let mut given = around("debian");
    given.env.insert(STATE_DIRECTORY.into(), "/given".into());
    assert_eq!(chosen(given, &state), Some("/given".into()));
    fs::remove_dir_all(&state).unwrap();
}
