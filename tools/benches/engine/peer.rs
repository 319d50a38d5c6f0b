//! What a plant would write itself: the script `peer.py` between the broker and `llama-server`.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::appliance::fresh_dir;
use crate::process::SEQUENCES;
use crate::server::{Server, grammar};
use crate::tasks::{TRIAGE, Tasks};

/// Tokens of the server's cache: what the service gives its engine for the bundled package.
const SERVER_CONTEXT_TOKENS: u32 = 4608;

/// The script and its server; both are killed when dropped.
pub(crate) struct Peer {
    server: Server,
    script: Child,
    dir: PathBuf,
}

impl Peer {
    /// Subscribed, its model loaded.
    pub(crate) fn start(
        program: &Path,
        model: &Path,
        tasks: &Tasks,
        threads: u16,
        broker_port: u16,
    ) -> Result<Self> {
        let server = Server::start(program, model, threads, SERVER_CONTEXT_TOKENS)?;
        let instruction = tasks.instruction(TRIAGE);
        let settings = json!({
            "broker_port": broker_port,
            "server_port": server.port,
            "workers": SEQUENCES,
            "head": instruction.head,
            "tail": instruction.tail,
            "grammar": grammar(&instruction.rule)?,
            "max_tokens": instruction.max_tokens,
        });
        let dir = fresh_dir();
        let file = dir.join("settings.json");
        std::fs::write(&file, settings.to_string())?;
        let python = std::env::var_os("LINESIDE_BENCH_PYTHON");
        let python = python.context("tools/bench sets LINESIDE_BENCH_PYTHON")?;
        let mut script = Command::new(python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/benches/peer.py"))
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = script.stdout.take().context("it has an output")?;
        let peer = Self {
            server,
            script,
            dir,
        };
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        ensure!(line.trim() == "ready", "the script is not ready: {line:?}");
        Ok(peer)
    }

    /// What runs for an answer.
    pub(crate) fn pids(&self) -> [(&'static str, u32); 2] {
        [
            ("script", self.script.id()),
            ("llama-server", self.server.pid()),
        ]
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.script.kill(); // it may have ended
        let _ = self.script.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
