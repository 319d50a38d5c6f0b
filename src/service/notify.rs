//! What the service manager hears: ready, a line of status, stopping, and the watchdog's food.
//!
//! The words come from sd-notify. The socket is our own, because it must not block: a service
//! manager that does not read would otherwise hold up the stage that reports to it.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;

/// What speaks to the service manager about *this* process. Whoever starts a child (the engine)
/// removes these from its environment, or the child would speak in our name.
pub const NOT_FOR_CHILDREN: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// Speaks to the service manager; does nothing where there is none. Clones share the socket.
#[derive(Clone, Debug)]
pub struct Notifier {
    line: Option<Arc<Line>>,
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct Line {
    socket: UnixDatagram,
    manager: SocketAddr,
}

impl Notifier {
    /// As the environment says (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`).
    pub fn from_env() -> io::Result<Self> {
        Self::new(
            std::env::var_os("NOTIFY_SOCKET").as_deref(),
            sd_notify::watchdog_enabled(),
        )
    }

    /// Speaks to the socket at `address` (a path, or `@name` in the abstract namespace).
    pub fn new(address: Option<&OsStr>, watchdog: Option<Duration>) -> io::Result<Self> {
        let line = match address {
            None => None,
            Some(address) => {
                let manager = match address.as_bytes() {
                    [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
                    _ => SocketAddr::from_pathname(address)?,
                };
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                Some(Arc::new(Line { socket, manager }))
            }
        };
        Ok(Self {
            line,
            watchdog: watchdog.filter(|span| !span.is_zero()),
        })
    }

    /// How long the service manager waits for food before it ends the process; none without a
    /// watchdog for this process.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The start is complete. Where this fails, the service manager still waits: say it again.
    pub fn ready(&self) -> io::Result<()> {
        self.send(&NotifyState::Ready)
    }

    /// One line for `systemctl status`. Never the content of a request.
    pub fn status(&self, line: &str) -> io::Result<()> {
        let line = line.replace(char::is_control, " ");
        self.send(&NotifyState::Status(&line))
    }

    /// The drain has begun.
    pub fn stopping(&self) -> io::Result<()> {
        self.send(&NotifyState::Stopping)
    }

    /// Every stage makes progress.
    pub(super) fn feed(&self) -> io::Result<()> {
        self.send(&NotifyState::Watchdog)
    }

    fn send(&self, state: &NotifyState<'_>) -> io::Result<()> {
        if let Some(line) = &self.line {
            line.socket
                .send_to_addr(format!("{state}\n").as_bytes(), &line.manager)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn heard(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn abstract_manager(name: &str) -> (UnixDatagram, Notifier) {
        let name = format!("lineside-{name}-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier::new(Some(OsStr::new(&format!("@{name}"))), None).unwrap();
        (manager, notifier)
    }

    #[test]
    fn the_manager_hears_each_state_on_one_line() {
        let (manager, notifier) = abstract_manager("states");
        notifier.ready().unwrap();
        assert_eq!(heard(&manager), "READY=1\n");
        notifier.status("serving\nREADY=0").unwrap();
        assert_eq!(heard(&manager), "STATUS=serving READY=0\n");
        notifier.feed().unwrap();
        assert_eq!(heard(&manager), "WATCHDOG=1\n");
        notifier.stopping().unwrap();
        assert_eq!(heard(&manager), "STOPPING=1\n");
    }

    #[test]
    fn a_manager_is_reached_by_path_too() {
        let path = std::env::temp_dir().join(format!("lineside-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(Some(path.as_os_str()), None).unwrap();
        notifier.ready().unwrap();
        assert_eq!(heard(&manager), "READY=1\n");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_manager_that_does_not_read_costs_an_error_but_no_time() {
        let (_manager, notifier) = abstract_manager("deaf");
        let refused = (0..100_000).find_map(|_| notifier.feed().err());
        assert_eq!(refused.unwrap().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn without_a_manager_everything_is_a_quiet_no_op() {
        let notifier = Notifier::new(None, Some(Duration::ZERO)).unwrap();
        notifier.ready().unwrap();
        notifier.feed().unwrap();
        assert_eq!(notifier.watchdog(), None);
    }

    /// The environment belongs to a process, so the question is put to child processes: each
    /// runs this very test, finds the marker, and prints what it reads.
    #[test]
    fn the_watchdog_counts_only_when_it_is_meant_for_this_process() {
        if std::env::var_os("LINESIDE_TEST_ASK").is_some() {
            println!("read {:?};", Notifier::from_env().unwrap().watchdog());
            return;
        }
        let ask = |pid: &str| {
            let script = format!("WATCHDOG_PID={pid} exec \"$0\" --exact \"$1\" --nocapture");
            let output = Command::new("sh")
                .args(["-c", &script])
                .arg(std::env::current_exe().unwrap())
                .arg("service::notify::tests::the_watchdog_counts_only_when_it_is_meant_for_this_process")
                .env("LINESIDE_TEST_ASK", "1")
                .env("WATCHDOG_USEC", "3000000")
                .env_remove("NOTIFY_SOCKET")
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert!(ask("$$").contains("read Some(3s);"));
        assert!(ask("1").contains("read None;"));
    }
}
