//! The real binary in a directory of its own: start, kill, stop, start again, ask.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Far longer than anything here takes on a crowded machine; only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes of the log that a failed test shows.
const SHOWN_BYTES: usize = 8192;
/// What a service manager or a login shell leaves in the environment.
const NOT_OURS: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "STATE_DIRECTORY",
    "RUNTIME_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
    "XDG_CONFIG_HOME",
];

/// An appliance; killed when dropped.
#[derive(Debug)]
pub struct Appliance {
    /// Configuration, state and log.
    pub dir: PathBuf,
    /// The configuration file; none runs without one.
    pub config: Option<PathBuf>,
    /// What else stands in its environment.
    pub env: Vec<(String, String)>,
    /// Address space that it may take, and each of its processes.
    pub memory_bytes: Option<u64>,
    /// The control group that it runs in, if it is to be another.
    pub control_group: Option<PathBuf>,
    /// A copy of the program that it runs from as a user without any rights, in a place where the
    /// processes of others are hidden. Takes a super-user.
    pub hidden: Option<PathBuf>,
    child: Option<Child>,
}

impl Appliance {
    /// An appliance named `line-3` at this broker, with further lines of configuration; not
    /// started yet.
    pub fn at(port: u16, more: &str) -> Self {
        let dir = fresh_dir();
        let state = dir.join("state");
        Self::with_state(dir, &state, port, more)
    }

    /// The same, with its state somewhere else.
    pub fn with_state(dir: PathBuf, state: &Path, port: u16, more: &str) -> Self {
        let appliance = Self::configured(
            dir,
            &format!(
                "[appliance]\nname = \"line-3\"\nstate_dir = \"{}\"\n\
                 [broker]\nurl = \"mqtt://127.0.0.1:{port}\"\n[log]\nto = \"stderr\"\n\
                 [panel]\nlisten = \"off\"\n",
                state.display()
            ),
        );
        let fragments = appliance.dir.join("conf.d");
        fs::create_dir_all(&fragments).unwrap();
        fs::write(fragments.join("more.toml"), more).unwrap();
        appliance
    }

    /// An appliance with exactly this configuration.
    pub fn configured(dir: PathBuf, text: &str) -> Self {
        let config = dir.join("config.toml");
        fs::write(&config, text).unwrap();
        let mut appliance = Self::bare(dir);
        appliance.config = Some(config);
        appliance
    }

    /// An appliance without any configuration: its home is the directory.
    pub fn bare(dir: PathBuf) -> Self {
        let home = dir.display().to_string();
        Self {
            env: vec![
                ("XDG_STATE_HOME".into(), format!("{home}/state-home")),
                ("HOME".into(), home),
            ],
            dir,
            config: None,
            memory_bytes: None,
            control_group: None,
            hidden: None,
            child: None,
        }
    }

    /// Starts it and waits until it has its broker.
    pub fn start(&mut self) {
        self.launch();
        self.until(|status| status["state"] == "online");
    }

    /// Starts it and waits for nothing.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .unwrap();
        let child = self
            .subcommand("run")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, and how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it was started");
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if begun.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("it does not end");
            }
            sleep(LOOK);
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it was started"))
    }

    /// Its engine's process, once there is one.
    pub fn engine_pid(&self) -> Pid {
        let begun = Instant::now();
        loop {
            if let Some(pid) = self.any_engine() {
                return pid;
            }
            assert!(begun.elapsed() < PATIENCE, "no engine");
            sleep(LOOK);
        }
    }

    /// Its engine's process; none while there is none.
    pub fn any_engine(&self) -> Option<Pid> {
        let service = self.pid().as_raw_nonzero();
        let is_engine = |pid: &Pid| {
            let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
            let line = line.unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == b"engine")
        };
        let tasks = fs::read_dir(format!("/proc/{service}/task")).unwrap();
        let of_task = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).ok();
        let all: Vec<_> = tasks.flatten().filter_map(of_task).collect();
        let all = all.join(" ");
        let pids = all.split_whitespace().filter_map(|it| it.parse().ok());
        pids.filter_map(Pid::from_raw).find(is_engine)
    }

    /// What it has logged since the first start.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// A subcommand with this appliance's configuration and environment.
    pub fn subcommand(&self, name: &str) -> Command {
        let program = env!("CARGO_BIN_EXE_lineside");
        let limit = self
            .memory_bytes
            .map(|bytes| format!("ulimit -v {}", bytes >> 10));
        let group = self.control_group.as_ref().filter(|_| name == "run");
        let group = group.map(|folder| format!("echo $$ > {}/cgroup.procs", folder.display()));
        let before: Vec<_> = limit.into_iter().chain(group).collect();
        let mut command = if let Some(copy) = self.hidden.as_ref().filter(|_| name == "run") {
            let line = "mount -t proc -o hidepid=invisible proc /proc && exec setpriv \
                        --clear-groups --reuid 65534 --regid 65534 \"$0\" \"$@\"";
            let mut command = Command::new("unshare");
            command.args(["--mount", "/bin/sh", "-c", line]).arg(copy);
            command
        } else if before.is_empty() {
            Command::new(program)
        } else {
            let line = format!("{} && exec \"$0\" \"$@\"", before.join(" && "));
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", &line, program]);
            shell
        };
        command.arg(name).current_dir(&self.dir);
        for name in NOT_OURS {
            command.env_remove(name);
        }
        command.envs(self.env.iter().cloned());
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command
    }

    /// What a subcommand said.
    pub fn told(&self, name: &str, args: &[&str]) -> Output {
        self.subcommand(name).args(args).output().unwrap()
    }

    /// The JSON that a subcommand printed.
    pub fn told_json(&self, name: &str, args: &[&str]) -> Value {
        let output = self.subcommand(name).arg("--json").args(args).output();
        let output = output.unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{name}: {error}: {output:?}"))
    }

    pub fn status(&self) -> Value {
        self.told_json("status", &[])
    }

    pub fn trace(&self, id: &str) -> Value {
        self.told_json("trace", &[id])
    }

    /// Where it takes commands.
    pub fn socket(&self) -> PathBuf {
        let state = if self.config.is_some() {
            "state"
        } else {
            "state-home/lineside"
        };
        self.dir.join(state).join("control.sock")
    }

    /// A command straight over the control socket: for what is asked a thousand times.
    pub fn command(&self, line: &Value) -> Option<Value> {
        command_at(&self.socket(), line)
    }

    /// Waits until its status is as wanted.
    pub fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.until_looking(LOOK, PATIENCE, wanted)
    }

    /// The same for what takes its time.
    pub fn until_within(&mut self, patience: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        self.until_looking(LOOK, patience, wanted)
    }

    /// The same for a stopwatch: looks so often that the looking does not show.
    pub fn until_often(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.until_looking(Duration::from_millis(1), PATIENCE, wanted)
    }

    fn until_looking(
        &mut self,
        look: Duration,
        patience: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let begun = Instant::now();
        let mut last = Value::Null;
        loop {
            if let Some(status) = self.command(&json!({ "cmd": "status" })) {
                if wanted(&status) {
                    return status;
                }
                last = status;
            }
            let ended = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "it ended: {ended:?}");
            assert!(begun.elapsed() < patience, "still {last}");
            sleep(look);
        }
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let mut from = log.len().saturating_sub(SHOWN_BYTES);
            while !log.is_char_boundary(from) {
                from += 1;
            }
            eprintln!("--- {}\n{}", self.log_file().display(), &log[from..]);
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// A command over a control socket; none if nobody answers.
pub fn command_at(socket: &Path, line: &Value) -> Option<Value> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    writeln!(stream, "{line}").ok()?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).ok()?;
    let answer: Value = serde_json::from_str(&answer).ok()?;
    answer.get("data").cloned()
}

/// A number that the status counts.
pub fn count(status: &Value, what: &str, why: &str) -> u64 {
    let counts = status["counts"].as_array().unwrap();
    let found = counts
        .iter()
        .find(|line| line[0] == what && line[1] == why)
        .and_then(|line| line[2].as_u64());
    found.unwrap_or_default()
}

pub fn fresh_dir() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("lineside-appliance-{}-{count}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    let _ = fs::remove_dir_all(&dir); // of a process that had this number before
    fs::create_dir_all(&dir).unwrap();
    dir
}
