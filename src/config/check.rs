//! From the mirror of the TOML to [`Settings`]: what a value means, and what values mean
//! together.
//!
//! Each part returns its setting, or `None` after it noted a fault; so the next part is looked
//! at in any case. Rules about two keys are silent about a key that is faulty already.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fault::{Fault, NOT_SET};
use crate::intake::{Topics, is_topic_name};
use crate::service::{Destination, Levels};

use super::fault::Faults;
use super::file::{self, File};
use super::layers::Layers;
use super::pin::Pin;
use super::settings::{
    ApplianceName, Console, Entry, Flow, HeatLimit, Log, Parity, Roots, Settings, SpoolLimits,
    is_level,
};
use super::{
    Enrol, Home, IDENTITY, Surroundings, admission, engine, keys, link, ota, panel, provision,
    route, secret, telemetry, tiers,
};

/// Bytes of a topic prefix: most of a topic belongs to what follows it.
const MAX_PREFIX_BYTES: usize = 64;

/// The rates of serial ports.
const BAUD_RATES: [u32; 8] = [
    9600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600,
];

/// Checks all layers together.
pub(super) fn check(
    layers: Layers,
    around: &Surroundings,
    mut faults: Faults,
) -> Result<Settings, Faults> {
    let file = match layers.file() {
        Ok(file) => file,
        Err(error) => {
            // The table of keys let something through that the mirror does not know.
            faults.add(layers.fault("", error.message()));
            return Err(faults.sorted());
        }
    };
    let mut checker = Checker {
        layers,
        around,
        faults,
    };
    let settings = checker.settings(&file);
    match settings {
        Some(mut settings) if checker.faults.0.is_empty() => {
            settings.effective = checker.layers.effective_toml();
            Ok(settings)
        }
        Some(_) | None => Err(checker.faults.sorted()),
    }
}

/// Only where the command line reaches the running service. Looks at nothing else, and opens no
/// secret: whoever may use the socket need not be able to read the service's passwords.
pub(super) fn control_socket(
    layers: Layers,
    around: &Surroundings,
    faults: Faults,
) -> Result<PathBuf, Faults> {
    let given = layers.text("appliance.state_dir").map(PathBuf::from);
    let mut checker = Checker {
        layers,
        around,
        faults,
    };
    let state_dir = checker.state_dir(given.as_deref());
    match state_dir {
        Some(state_dir) if checker.faults.0.is_empty() => Ok(checker.control_socket(&state_dir)),
        Some(_) | None => Err(checker.faults.sorted()),
    }
}

/// Only what `lineside provision` needs: it runs before there is anything else to check.
pub(super) fn home(
    layers: Layers,
    around: &Surroundings,
    faults: Faults,
    enrol: Enrol,
) -> Result<Home, Faults> {
    let given = |key| layers.text(key).map(PathBuf::from);
    let (state, sysfs, procfs) = (
        given("appliance.state_dir"),
        given("governor.sysfs_root"),
        given("governor.procfs_root"),
    );
    let name = layers.text("appliance.name");
    let section = provision::Section::of(&layers);
    let mut checker = Checker {
        layers,
        around,
        faults,
    };
    let name = name.and_then(|name| checker.given_name(&name));
    let state_dir = checker.state_dir(state.as_deref());
    let est = match enrol {
        Enrol::Yes => provision::est(&mut checker, &section),
        Enrol::No => None,
    };
    match state_dir {
        Some(state_dir) if checker.faults.0.is_empty() => Ok(Home {
            name,
            est,
            state_dir,
            sysfs: sysfs.unwrap_or_else(|| "/sys".into()),
            procfs: procfs.unwrap_or_else(|| "/proc".into()),
        }),
        Some(_) | None => Err(checker.faults.sorted()),
    }
}

/// The layers, and the faults so far.
pub(super) struct Checker<'a> {
    pub(super) layers: Layers,
    pub(super) around: &'a Surroundings,
    pub(super) faults: Faults,
}

impl Checker<'_> {
    fn settings(&mut self, file: &File) -> Option<Settings> {
        let state_dir = self.state_dir(file.appliance.state_dir.as_deref());
        let name = self.name(&file.appliance, state_dir.as_deref());
        let prefix = self.prefix(&file.broker.prefix);
        let pool = self.pool(file.broker.pool.as_deref());
        // Rules about topics need a name even where the given one is faulty.
        let topics = Topics {
            prefix: prefix.clone().unwrap_or_else(|| "lineside".into()),
            appliance: name.as_ref().map_or("x", ApplianceName::as_str).to_owned(),
            pool: pool.clone().flatten(),
        };
        let link = link::check(self, &file.broker, &topics.appliance);
        let intake = admission::limits(self, file, &topics);
        let gate = admission::gate(self, &file.intake);
        let spool = Self::spool(&file.spool);
        let console = self.console(&file.console);
        let model_package = engine::package(self, &file.model);
        let engine = engine::check(self, file);
        let log = self.log(&file.log);
        let clouds = tiers::clouds(self, file);
        let review = tiers::review(self, &file.review);
        let confidence = tiers::confidence(self, &file.confidence);
        let ota = ota::check(self, &file.ota);
        let at_rest = ota::at_rest(self, &file.ota);
        let panel = panel::check(self, &file.panel);
        // Of no use here, but a slip is told before the certificate runs out.
        let _ = provision::check(self, &file.provision);
        let telemetry = telemetry::check(self, &file.telemetry);
        let policy = route::policy(self, file, clouds.as_deref(), review.as_ref(), &topics);
        let roots = Roots {
            sysfs: self.beside("governor.sysfs_root", &file.governor.sysfs_root),
            procfs: self.beside("governor.procfs_root", &file.governor.procfs_root),
        };
        let (name, _, _) = (name?, prefix?, pool?);
        let state_dir = state_dir?;
        let control_socket = self.control_socket(&state_dir);
        Some(Settings {
            name,
            state_dir,
            control_socket,
            topics,
            link: link?,
            intake: intake?,
            gate,
            spool,
            model_package,
            engine,
            policy: policy?,
            utc_offset_minutes: file.appliance.utc_offset_minutes,
            clouds: clouds?,
            cloud_threshold: file.cloud.threshold,
            cloud_keep: Duration::from_secs(u64::from(file.cloud.keep_hours) * 3600),
            review: review?,
            confidence,
            ota: ota?,
            at_rest: at_rest?,
            console: console?,
            panel: panel?,
            telemetry: telemetry?,
            memory_budget_bytes: file.governor.memory_budget_bytes.wide(),
            roots,
            heat: HeatLimit {
                celsius: file.governor.limit_celsius,
                sensors: file.governor.sensors.clone(),
            },
            log: log?,
            drain_timeout: Duration::from_millis(file.service.drain_timeout_ms),
            config_file: self.around.config.clone(),
            files: self.layers.files.clone(),
            effective: String::new(),
        })
    }

    /// Notes a fault about a key as it stands.
    pub(super) fn fault(&mut self, key: &str, wanted: impl Into<String>) {
        self.faults.add(self.layers.fault(key, wanted));
    }

    /// Notes a fault about one entry of a list: `key[n].below`.
    pub(super) fn entry_fault(
        &mut self,
        key: &str,
        index: usize,
        below: &str,
        value: &str,
        wanted: impl Into<String>,
    ) {
        let value = if value.is_empty() {
            NOT_SET.to_owned()
        } else {
            value.to_owned()
        };
        self.faults.add(Fault {
            key: format!("{key}[{}].{below}", index + 1),
            value,
            wanted: wanted.into(),
            place: self.layers.entry_place(key, index).cloned(),
        });
    }

    /// Notes a fault about a key, unless one of the keys it is about is faulty already.
    pub(super) fn rule(&mut self, holds: bool, keys: [&str; 2], wanted: impl Into<String>) {
        if !holds && !keys.iter().any(|key| self.faults.touch(key)) {
            self.fault(keys[0], wanted);
        }
    }

    /// The folder of the file that set `key`.
    pub(super) fn folder_of(&self, key: &str) -> Option<PathBuf> {
        self.layers.place(key)?.file.parent().map(Path::to_owned)
    }

    /// A path; a relative one counts from the file that names it.
    pub(super) fn beside(&self, key: &str, path: &Path) -> PathBuf {
        self.folder_of(key)
            .map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }

    /// The path that a `*_file` key names.
    pub(super) fn file_path(&mut self, key: &str, value: Option<&str>) -> Option<PathBuf> {
        match self.resolved(key, value?) {
            Ok(path) => Some(path),
            Err(wanted) => {
                self.fault(key, wanted);
                None
            }
        }
    }

    /// The same, and the fault is for the caller to note.
    pub(super) fn resolved(&self, key: &str, value: &str) -> Result<PathBuf, String> {
        let folder = self.folder_of(key);
        let credentials = self.around.env.get("CREDENTIALS_DIRECTORY");
        secret::resolve(value, folder.as_deref(), credentials.map(AsRef::as_ref))
    }

    /// The secret in the file that a key names.
    pub(super) fn secret(&mut self, key: &str, value: Option<&str>) -> Option<secret::Secret> {
        match secret::read(self.file_path(key, value)?) {
            Ok(secret) => Some(secret),
            Err(wanted) => {
                self.fault(key, wanted);
                None
            }
        }
    }

    fn name(
        &mut self,
        appliance: &file::Appliance,
        state_dir: Option<&Path>,
    ) -> Option<ApplianceName> {
        let Some(given) = &appliance.name else {
            let provided = state_dir.and_then(|folder| {
                let text = std::fs::read_to_string(folder.join(IDENTITY).join("name")).ok()?;
                ApplianceName::parse(text.trim())
            });
            let (name, how) = match provided {
                Some(name) => (name, "from lineside provision"),
                None => (
                    ApplianceName::of_host(&self.around.host_name),
                    "from the host name",
                ),
            };
            self.layers.derive("appliance.name", name.as_str(), how);
            return Some(name);
        };
        self.given_name(given)
    }

    fn given_name(&mut self, given: &str) -> Option<ApplianceName> {
        let name = ApplianceName::parse(given);
        if name.is_none() {
            let max = ApplianceName::MAX_BYTES;
            self.fault(
                "appliance.name",
                format!("1 to {max} letters, digits, '-', '_' or '.', and not \"pool\""),
            );
        }
        name
    }

    fn prefix(&mut self, prefix: &str) -> Option<String> {
        let levels_named = prefix.split('/').all(|level| !level.is_empty());
        if is_topic_name(prefix) && levels_named && prefix.len() <= MAX_PREFIX_BYTES {
            return Some(prefix.to_owned());
        }
        self.fault(
            "broker.prefix",
            format!(
                "levels of a topic, at most {MAX_PREFIX_BYTES} bytes: no wildcard, no empty level, \
                 no '$' in front"
            ),
        );
        None
    }

    /// The outer `None` is a fault, the inner one is no pool.
    #[allow(clippy::option_option, reason = "as every part: none after a fault")]
    fn pool(&mut self, pool: Option<&str>) -> Option<Option<String>> {
        if pool.is_none_or(is_level) {
            return Some(pool.map(str::to_owned));
        }
        let max = ApplianceName::MAX_BYTES;
        self.fault(
            "broker.pool",
            format!("1 to {max} letters, digits, '-', '_' or '.'"),
        );
        None
    }

    fn state_dir(&mut self, given: Option<&Path>) -> Option<PathBuf> {
        let key = "appliance.state_dir";
        if let Some(given) = given {
            let path = self.beside(key, given);
            if !path.is_absolute() {
                self.fault(key, "an absolute path");
                return None;
            }
            return Some(path);
        }
        let around = self.around;
        let found = if let Some(folder) = around.folder("STATE_DIRECTORY") {
            Some((folder, "from $STATE_DIRECTORY"))
        } else if let Some(folder) = around.folder("XDG_STATE_HOME") {
            Some((folder.join("lineside"), "from $XDG_STATE_HOME"))
        } else {
            let home = around.folder("HOME");
            home.map(|home| (home.join(".local/state/lineside"), "from $HOME"))
        };
        if let Some((path, from)) = found {
            self.layers.derive(key, path.display().to_string(), from);
            Some(path)
        } else {
            self.fault(
                key,
                "an absolute path (neither systemd nor $HOME gives one)",
            );
            None
        }
    }

    fn control_socket(&self, state_dir: &Path) -> PathBuf {
        match self.around.folder("RUNTIME_DIRECTORY") {
            Some(folder) => folder.join("control.sock"),
            None => state_dir.join("control.sock"),
        }
    }

    fn spool(spool: &file::Spool) -> SpoolLimits {
        SpoolLimits {
            telemetry_bytes: spool.telemetry_max_bytes,
            outcomes_kept: spool.outcomes_kept,
            outcomes_kept_for: Duration::from_secs(spool.outcomes_kept_hours * 3600),
            ballast_bytes: spool.ballast_bytes,
            headroom_bytes: spool.headroom_bytes,
            ..SpoolLimits::shared_out(spool.max_bytes)
        }
    }

    #[allow(clippy::option_option, reason = "as every part: none after a fault")]
    fn console(&mut self, console: &file::Console) -> Option<Option<Console>> {
        if !BAUD_RATES.contains(&console.baud) {
            let rates = BAUD_RATES.map(|rate| rate.to_string()).join(", ");
            self.fault("console.baud", format!("one of {rates}"));
        }
        let given = self.secret("console.pin_file", console.pin_file.as_deref());
        let pin = given.and_then(|secret| match Pin::read(secret.reveal()) {
            Ok(pin) => Some(pin),
            Err(wanted) => {
                self.fault("console.pin_file", wanted);
                None
            }
        });
        self.rule(
            console.pin_file.is_none() || console.pin == "file",
            ["console.pin", "console.pin_file"],
            "\"file\" beside console.pin_file: it opens with a PIN or without, not both",
        );
        let Some(device) = &console.device else {
            self.rule(
                console.pin_file.is_none(),
                ["console.pin_file", "console.device"],
                "console.device beside it: without a port there is no console",
            );
            return Some(None);
        };
        if !device.is_absolute() {
            self.fault("console.device", "an absolute path, such as /dev/ttyUSB0");
            return None;
        }
        Some(Some(Console {
            device: device.clone(),
            baud: console.baud,
            parity: match console.parity.as_str() {
                "even" => Parity::Even,
                "odd" => Parity::Odd,
                _ => Parity::None,
            },
            flow_control: match console.flow_control.as_str() {
                "hardware" => Flow::Hardware,
                "software" => Flow::Software,
                _ => Flow::None,
            },
            entry: match (pin, console.pin.as_str()) {
                (Some(pin), _) => Entry::Pin(pin),
                (None, "none") => Entry::Open,
                (None, _) => Entry::Shut,
            },
            idle_timeout: Duration::from_secs(console.idle_timeout_s),
        }))
    }

    fn log(&mut self, log: &file::Log) -> Option<Log> {
        let to = match log.to.as_str() {
            "journald" => Destination::Journald,
            "stderr" => Destination::Stderr,
            // The table of keys let only one more word through.
            _ => Destination::Auto,
        };
        match log.level.parse::<Levels>() {
            Ok(levels) => Some(Log { levels, to }),
            Err(fault) => {
                let part = keys::short(&toml::Value::String(fault.directive));
                let wanted = format!(
                    "off, error, warn, info, debug or trace, or directives such as \
                     \"lineside=debug,rumqttc=warn\" ({part} is neither)"
                );
                self.fault("log.level", wanted);
                None
            }
        }
    }
}
