"""The service alone, on this machine: no board and no system, a minute instead of an hour.

It is for who changes a scenario, and for a CI: SIGKILL of all its processes stands for the power cut, a
folder for sysfs, a pseudo terminal for the serial cable. What needs a system under the service is
skipped.
"""

import os
import pty
import select
import shutil
import signal
import subprocess
import termios
import tty
from pathlib import Path

from .board import CannotDo, Hosted, Lost
from .packages import RING, Repository
from .plant import Broker, Cloud

ROOT = Path(__file__).resolve().parent.parent.parent
PIN = "2718"
# Words of a system that is not there.
SYSTEM = ("systemctl", "findmnt", "fallocate", "date -s", "kill -9")


class Cable:
    """The rig's end of the serial cable."""

    def __init__(self, master):
        self.master = master

    def read(self, patience_s):
        ready, _, _ = select.select([self.master], [], [], patience_s)
        try:
            return os.read(self.master, 65536) if ready else b""
        except OSError:
            return b""  # the service is not there

    def drain(self):
        while self.read(0):
            pass

    def write(self, data):
        os.write(self.master, data)


class Process(Hosted):
    kind = "the service on this machine, without a board"
    label = "no board: SIGKILL stands for the power cut, a file for the sensor; nothing under the service was tried"
    has_system = False
    boot_s = 60
    answer_s = 60

    def __init__(self, program, folder, port, fleet=None):
        self.program = Path(program).resolve()
        self.folder = Path(folder).resolve() / "process"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.broker = Broker(self.folder / "broker", port)
        self.cloud = Cloud(self.folder / "cloud", port + self.CLOUD, "127.0.0.1")
        self.repository = Repository(fleet, self.folder / "repository") if fleet else None
        self.zone = self.folder / "sys/class/thermal/thermal_zone0"
        self.zone.mkdir(parents=True)
        (self.zone / "type").write_text("cpu-thermal\n")
        self.heat(45)
        self.master, self.slave = pty.openpty()
        for end in (self.master, self.slave):
            tty.setraw(end, termios.TCSANOW)
        self.process = None
        self.configure()

    def configure(self):
        home = self.folder / "config/lineside"
        home.mkdir(parents=True)
        told = subprocess.run([self.program, "pin", "--iterations", "1000"], input=PIN + "\n",
                              capture_output=True, text=True, check=True)
        pin = self.folder / "pin"
        pin.write_text(told.stdout)
        pin.chmod(0o600)
        air = ""
        if self.repository:
            air = (f'[ota]\nrepository = "{self.repository.plant}"\nroot_file = "{self.repository.anchor()}"\n'
                   f'ring = "{RING}"\ncheck_every_s = 86400\ntrial_requests = 5\ntrial_s = 2\nwatch_every_s = "never"\n')
        (home / "config.toml").write_text(
            f'[appliance]\nname = "board-1"\nstate_dir = "{self.folder}/state"\n'
            f'[broker]\nurl = "mqtt://127.0.0.1:{self.broker.port}"\n'
            f'[model]\npackage = "{ROOT}/models/factory-triage"\n'
            f'[console]\ndevice = "{os.ttyname(self.slave)}"\npin_file = "{pin}"\n'
            f'[governor]\nlimit_celsius = 85.0\nsysfs_root = "{self.folder}/sys"\n'
            f'[panel]\nlisten = "off"\n[log]\nto = "stderr"\n{self.cloud.settings(self.cloud.authority)}{air}'
        )
        commands = self.folder / "bin"
        commands.mkdir()
        (commands / "lineside").symlink_to(self.program)
        self.around = os.environ | {
            "PATH": f"{commands}:{os.environ['PATH']}", "HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
        }

    def done_here(self, command):
        """A command in its folder while it is off."""
        assert self.process is None, "it is on"
        subprocess.run(command, shell=True, cwd=self.folder, check=True)

    def new(self):
        self.power_cut()
        self.done_here("rm -rf state")
        self.heat(45)
        if self.repository:
            self.repository.make()

    def power_on(self):
        assert self.process is None, "it is on"
        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(
            [self.program, "run"], env=self.around, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )

    def power_cut(self):
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def shell(self, command, patience_s=60):
        if self.process is None or self.process.poll() is not None:
            raise Lost("it is off")
        if any(word in command for word in SYSTEM):
            raise CannotDo("a system under the service")
        try:
            told = subprocess.run(command, shell=True, env=self.around, capture_output=True, text=True,
                                  timeout=patience_s)
        except subprocess.TimeoutExpired:
            raise Lost(f"no answer within {patience_s} s: {command}") from None
        return told.returncode, (told.stdout + told.stderr).rstrip("\n")

    def console(self):
        return Cable(self.master)

    def heat(self, celsius):
        # As a whole, or the service reads half a number.
        new = self.zone / "new"
        new.write_text(f"{round(celsius * 1000)}\n")
        new.rename(self.zone / "temp")

    def close(self):
        self.power_cut()
        self.broker.stop()
        self.cloud.close()
