//! Downloads from servers that fail.

use std::time::Duration;

use lineside::broker::Tls;
use lineside::ota::fetch::{Stop, Terms};
use lineside::ota::source::{Fault, Http, HttpSettings, Source};
use lineside::ota::update::{Staged, State, UpdateError};

use crate::cloud::make_certificates;
use crate::plant::{CHUNK, Device, Release, Repository, TERMS, sound};
use crate::server::{Mode, Server};

fn client(server: &Server) -> Box<dyn Source> {
    Box::new(Http::new(&server.url(), &HttpSettings::default()).unwrap())
}

/// A repository with one release, served like this.
struct World {
    repository: Repository,
    release: Release,
    server: Server,
    device: Device,
}

impl World {
    fn new(modes: impl IntoIterator<Item = Mode>) -> Self {
        let repository = Repository::new();
        let release = repository.release(1, "a");
        let server = Server::start(&repository.root(), modes);
        Self {
            repository,
            release,
            server,
            device: Device::new(),
        }
    }

    fn update(&mut self) -> Result<Staged, UpdateError> {
        let source = client(&self.server);
        self.device.update(&self.release, vec![source])
    }

    /// The only source fails like this, says so, and the store works all the same.
    fn fails_with(mut self, wanted: &Fault) {
        let error = self.update().unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&wanted.to_string()), "{said}");
        assert!(said.contains(&self.server.url()), "{said}");
        assert!(!error.is_final());
        let UpdateError::Stop(Stop::Sources { troubles }) = error else {
            panic!("{said}");
        };
        assert!(
            troubles.iter().any(|it| it.fault == *wanted),
            "{troubles:?}"
        );
        self.device.recovers(&self.release, &self.repository);
    }

    /// The first source fails like this, the second helps out, and the first is told of. The second
    /// is busy at first, so that the first gets all of its turns.
    fn helped_out_of(mut self, wanted: &Fault) {
        let mirror = Server::start(&self.repository.root(), [Mode::Status(503), Mode::Good]);
        let sources = vec![client(&self.server), client(&mirror)];
        let staged = self.device.update(&self.release, sources).unwrap();
        sound(&staged);
        let told = (staged.troubles.iter())
            .any(|it| it.source == self.server.url() && it.fault == *wanted);
        assert!(told, "{:?}", staged.troubles);
    }
}

#[test]
fn a_package_comes_over_http_through_all_states() {
    let mut world = World::new([Mode::Good]);
    let staged = world.update().unwrap();
    sound(&staged);
    assert_eq!(staged.quantization, "F16");
    let states = &world.device.states;
    assert_eq!(states.first(), Some(&State::Offered));
    assert!(matches!(states[1], State::Downloading(_)));
    let last = [State::Verified, State::Staged];
    assert_eq!(states[states.len() - 2..], last);
    let State::Downloading(tally) = states[states.len() - 3] else {
        panic!("{states:?}");
    };
    assert_eq!(tally.there_bytes, tally.needed_bytes);
    // Again: nothing is fetched but what tells that it is here.
    let again = world.update().unwrap();
    assert_eq!(again.tally.fetched_bytes, 0);
    assert_eq!(world.server.seen(&world.release.best()).len(), 1);
}

#[test]
fn a_package_comes_over_https_from_a_server_that_is_believed_and_from_no_other() {
    let mut world = World::new([Mode::Good]);
    let dir = world.repository.dir.path();
    make_certificates(dir);
    let serve = |name: &str| {
        let file = |kind: &str| dir.join(format!("{name}.{kind}"));
        Server::secure(&world.repository.root(), &file("pem"), &file("key"))
    };
    let believe = |server: &Server, ca: &str| {
        let url = format!("https://localhost:{}/", server.address.port());
        let tls = Tls {
            ca_file: Some(dir.join(ca)),
            identity: None,
        };
        Box::new(Http::new(&url, &HttpSettings { tls }).unwrap()) as Box<dyn Source>
    };
    let (good, expired, stranger) = (serve("good"), serve("expired"), serve("stranger"));
    let sources = vec![
        believe(&expired, "ca.pem"),
        believe(&stranger, "ca.pem"),
        believe(&good, "other-ca.pem"),
        believe(&good, "ca.pem"),
    ];
    let staged = world.device.update(&world.release, sources).unwrap();
    sound(&staged);
    let distrusted = staged
        .troubles
        .iter()
        .map(|it| it.fault == Fault::Untrusted);
    assert_eq!(distrusted.collect::<Vec<_>>(), [true, true, true]);
}

#[test]
fn a_broken_connection_goes_on_where_it_broke_off() {
    let mut world = World::new([Mode::Cut(100_000), Mode::Cut(70_000), Mode::Good]);
    world.server.mark("\"v1\"");
    let staged = world.update().unwrap();
    sound(&staged);
    let seen = world.server.seen(&world.release.best());
    let total = world.release.manifest.variants[0].file.object.bytes();
    let last = total - 1;
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].range, None);
    assert_eq!(seen[1].range, Some(format!("bytes=100000-{last}")));
    assert_eq!(seen[2].range, Some(format!("bytes=170000-{last}")));
    assert_eq!(seen[1].if_range.as_deref(), Some("\"v1\""));
    assert_eq!(staged.troubles.len(), 1);
    assert_eq!(staged.troubles[0].fault, Fault::Cut);
    // Nothing came twice.
    assert_eq!(
        staged.tally.fetched_bytes,
        staged.tally.needed_bytes + world.release.target.length
    );
}

#[test]
fn a_file_that_was_changed_under_a_download_is_given_whole_and_read_from_its_place() {
    let mut world = World::new([Mode::Cut(100_000), Mode::Good]);
    world.server.mark("\"v1\"");
    let (server, release) = (&world.server, world.release.clone());
    // The mark changes between the two requests: the server answers with the whole file.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while server.seen(&release.best()).is_empty() {
                std::thread::sleep(Duration::from_millis(1));
            }
            server.mark("\"v2\"");
        });
        let sources = vec![client(server)];
        let staged = world.device.update(&release, sources).unwrap();
        sound(&staged);
    });
}

#[test]
fn a_break_and_a_restart_cost_no_more_than_a_chunk() {
    let mut world = World::new([Mode::Cut(150_000), Mode::Status(404)]);
    world.update().unwrap_err();
    world.server.then(Mode::Good);
    let staged = world.update().unwrap();
    sound(&staged);
    assert_eq!(staged.tally.reread_bytes, 150_000 % CHUNK);
    let seen = world.server.seen(&world.release.best());
    let range = seen.last().unwrap().range.as_deref().unwrap();
    assert!(range.starts_with("bytes=150000-"), "{range}");
}

#[test]
fn a_server_without_ranges_serves_too() {
    let mut world = World::new([Mode::Cut(150_000), Mode::Whole]);
    let staged = world.update().unwrap();
    sound(&staged);
    assert!(staged.tally.fetched_bytes > staged.tally.needed_bytes + 149_000);
}

#[test]
fn another_range_than_the_one_asked_for_is_told() {
    for said in [
        "bytes 0-99/100",
        "bytes 5-9",
        "pages 1-2/3",
        "bytes 150001-150009/*",
    ] {
        World::new([Mode::Cut(150_000), Mode::Range(said)]).helped_out_of(&match said {
            "bytes 0-99/100" => {
                let repository = Repository::new();
                let wanted = repository.release(1, "a").manifest.variants[0]
                    .file
                    .object
                    .bytes();
                Fault::Length { said: 100, wanted }
            }
            _ => Fault::Range,
        });
    }
    World::new([Mode::Cut(150_000), Mode::Range("bytes 5-9")]).fails_with(&Fault::Range);
}

#[test]
fn a_range_behind_the_end_is_told() {
    World::new([Mode::Cut(150_000), Mode::Status(416)]).fails_with(&Fault::BehindEnd);
    World::new([Mode::Cut(150_000), Mode::Status(416)]).helped_out_of(&Fault::BehindEnd);
}

#[test]
fn a_chunk_that_a_mirror_spoiled_is_fetched_from_another_and_the_mirror_is_told_of() {
    let at = usize::try_from(2 * CHUNK + 77).unwrap();
    let corrupt = Fault::Corrupt { from: 2 * CHUNK };
    World::new([Mode::Flip(at)]).helped_out_of(&corrupt);
    // Alone, it is asked once, and never again for this package.
    World::new([Mode::Flip(at)]).fails_with(&corrupt);
    // What was good of it counts.
    let mut world = World::new([Mode::Flip(at)]);
    world.update().unwrap_err();
    world.server.then(Mode::Good);
    let staged = world.update().unwrap();
    sound(&staged);
    let seen = world.server.seen(&world.release.best());
    let range = seen.last().unwrap().range.as_deref().unwrap();
    assert!(
        range.starts_with(&format!("bytes={}-", 2 * CHUNK)),
        "{range}"
    );
}

#[test]
fn a_slow_drip_is_left_for_another_source() {
    let rush = Terms {
        // Far above what drips: the window is judged by the real time that is waited.
        min_bytes_per_s: 1 << 40,
        ..TERMS
    };
    let mut world = World::new([Mode::Drip]);
    world.device.terms = rush;
    world.device.pulse.speed = 2000;
    let error = world.update().unwrap_err();
    assert!(error.to_string().contains("too slow"), "{error}");
    world.device.pulse.speed = 1;
    world.device.terms = TERMS;
    world.device.recovers(&world.release, &world.repository);
}

#[test]
fn a_server_that_says_nothing_is_too_slow() {
    let mut world = World::new([Mode::BlackHole]);
    // Whoever waits may change their mind, and is heard.
    world.device.pulse.patience = 1;
    let mirror = Server::start(&world.repository.root(), [Mode::Good]);
    world.server.then(Mode::Status(503));
    let sources = vec![client(&world.server)];
    let error = world.device.update(&world.release, sources).unwrap_err();
    assert!(
        matches!(error, UpdateError::Stop(Stop::Unwanted)),
        "{error}"
    );
    world.device.pulse.patience = u64::MAX;
    let sources = vec![client(&world.server), client(&mirror)];
    let staged = world.device.update(&world.release, sources).unwrap();
    sound(&staged);
    assert_eq!(staged.troubles[0].fault, Fault::Status(503));
}

#[test]
fn a_body_without_an_end_is_read_no_further_than_the_object_and_is_found_out() {
    let mut world = World::new([Mode::Endless]);
    let error = world.update().unwrap_err();
    let corrupt = Fault::Corrupt { from: 0 };
    assert!(error.to_string().contains(&corrupt.to_string()), "{error}");
    let begun = world.device.root().join("incoming");
    let bytes = std::fs::read_dir(begun).unwrap();
    let bytes: u64 = bytes.map(|it| it.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(bytes, 0, "the bad chunk is gone");
    World::new([Mode::Endless]).helped_out_of(&corrupt);
}

#[test]
fn a_length_that_is_not_the_signed_one_is_told_before_anything_is_read() {
    let repository = Repository::new();
    let wanted = repository.release(1, "a").manifest.variants[0]
        .file
        .object
        .bytes();
    let said = wanted + 5;
    World::new([Mode::Longer(5)]).fails_with(&Fault::Length { said, wanted });
    World::new([Mode::Encoded]).fails_with(&Fault::Encoded);
}

#[test]
fn redirects_are_few_and_never_lead_into_the_clear() {
    let repository = Repository::new();
    let storage = Server::start(&repository.root(), [Mode::Good]);
    repository.release(1, "a");
    let to = format!("http://{}{{}}", storage.address);
    let mut world = World::new([Mode::Redirect(to)]);
    sound(&world.update().unwrap());
    let around = World::new([Mode::Good]);
    around.server.then(Mode::Redirect(format!(
        "http://{}{{}}",
        around.server.address
    )));
    around.fails_with(&Fault::Elsewhere);
}

#[test]
fn a_source_that_is_not_there_is_told_and_tried_again() {
    let mut world = World::new([Mode::Good]);
    // A port that nobody listens on.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", gone.local_addr().unwrap());
    drop(gone);
    let nobody = || Box::new(Http::new(&url, &HttpSettings::default()).unwrap()) as Box<dyn Source>;
    let error = world
        .device
        .update(&world.release, vec![nobody()])
        .unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    let sources = vec![nobody(), client(&world.server)];
    let staged = world.device.update(&world.release, sources).unwrap();
    assert_eq!(staged.troubles[0].fault, Fault::Unreachable);
    sound(&staged);
}
