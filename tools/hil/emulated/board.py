"""The emulated board: an i.MX 8M Plus in QEMU, with a sensor that can be heated.

SIGKILL of the emulator is the power cut. What the guest had told its card to write is then in this
machine's memory and is not lost, so a cut here shows that the appliance honours its own order of
writes and recovers; that a card keeps what it promised, only a real one can show.
"""

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from ..board import Hosted, Lost, SerialShell, until
from ..packages import RING, Repository
from ..plant import Broker, Cloud, Files

HERE = Path(__file__).resolve().parent
EMULATOR = "qemu-system-aarch64"
MEMORY = "1G"
# This machine, as the emulator's network shows it.
HOST = "10.0.2.2"


class Line:
    """A serial port of the guest: a socket on which the emulator is served.

    Somebody always reads. The emulator writes each byte by itself and waits, with the whole guest, for
    room in the socket, and a socket has room for some 270 such writes."""

    def __init__(self, path):
        self.listening = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        self.listening.bind(str(path))
        self.listening.listen(1)
        self.at = None
        self.heard = queue.Queue()

    def accept(self, patience_s=20):
        self.listening.settimeout(patience_s)
        self.at, _ = self.listening.accept()
        self.at.settimeout(None)
        self.heard = queue.Queue()
        threading.Thread(target=self.listen, args=(self.at, self.heard), daemon=True).start()

    @staticmethod
    def listen(at, heard):
        try:
            while data := at.recv(65536):
                heard.put(data)
        except OSError:
            pass  # the emulator is gone

    def read(self, patience_s):
        """What has come; waits so long for the first of it."""
        heard = b""
        try:
            heard += self.heard.get(timeout=patience_s) if patience_s else self.heard.get_nowait()
            while True:
                heard += self.heard.get_nowait()
        except queue.Empty:
            return heard

    def drain(self):
        self.read(0)

    def write(self, data):
        self.at.sendall(data)

    def hang_up(self):
        if self.at:
            self.at.close()
            self.at = None


class Emulated(Hosted):
    kind = "i.MX 8M Plus, emulated by QEMU without acceleration"
    label = "emulated: function is shown here, performance is not, nor what a real card keeps when the power goes"
    # Plain instructions take 2.5 times as long as here, those of matrices about 115 times.
    boot_s = 400
    answer_s = 120

    def __init__(self, program, folder, port, fleet=None):
        if not shutil.which(EMULATOR) or "imx8mp-evk" not in subprocess.run(
                [EMULATOR, "-M", "help"], capture_output=True, text=True).stdout:
            raise SystemExit(f"{EMULATOR} 10 is missing: apt-get install -t bookworm-backports qemu-system-arm")
        self.folder = Path(folder).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.program = Path(program).resolve()
        self.broker = Broker(self.folder / "broker", port)
        self.cloud = Cloud(self.folder / "cloud", port + self.CLOUD, HOST)
        self.files = self.repository = None
        if fleet:
            self.repository = Repository(fleet, self.folder / "repository")
            self.files = Files(port + self.PACKAGES, self.repository.plant)
        self.process = None
        self.qmp = None
        self.lines = {name: Line(self.folder / name) for name in ("shell", "system", "technician")}
        self.boot_log = open(self.folder / "boot.log", "ab")

    def make(self):
        """A new disk, where one is due: a repository is made anew for each run, and the disk trusts it."""
        site = self.site()
        stamp = f"{self.program} {os.stat(self.program).st_mtime_ns}\n{(site / 'config.toml').read_text()}"
        made = self.folder / "made-of"
        if self.repository or not made.exists() or made.read_text() != stamp:
            subprocess.run([HERE / "image", self.program, self.folder, site], check=True)
            made.write_text(stamp)

    def site(self):
        """What lies in /etc/lineside there: a folder."""
        site = self.folder / "site"
        shutil.rmtree(site, ignore_errors=True)
        site.mkdir()
        shutil.copy(self.cloud.authority, site / "cloud.pem")
        air = ""
        if self.repository:
            self.repository.make()
            shutil.copy(self.repository.anchor(), site / "root.json")
            air = (f'[ota]\nrepository = "http://{HOST}:{self.files.port}"\nplain_http = true\n'
                   f'root_file = "/etc/lineside/root.json"\nring = "{RING}"\ncheck_every_s = 86400\n'
                   f'trial_requests = 5\ntrial_s = 20\nwatch_every_s = "never"\n')
        (site / "config.toml").write_text(
            f'[appliance]\nname = "board-1"\n[broker]\nurl = "mqtt://{HOST}:{self.broker.port}"\n'
            f'[console]\ndevice = "/dev/ttymxc2"\npin_file = "credential:console-pin"\n'
            f'[governor]\nlimit_celsius = 85.0\n[log]\nlevel = "info"\n'
            f'{self.cloud.settings("/etc/lineside/cloud.pem")}{air}'
        )
        return site

    def new(self):
        """As it came from the factory."""
        self.power_cut()
        self.make()
        subprocess.run(["cp", "--sparse=always", "disk.new", "disk"], cwd=self.folder, check=True)

    def has_disk(self):
        return (self.folder / "disk").exists()

    def power_on(self):
        assert self.process is None, "it is on"
        qmp = self.folder / "qmp"
        qmp.unlink(missing_ok=True)
        command = [
            EMULATOR, "-M", "imx8mp-evk", "-smp", "2", "-m", MEMORY, "-display", "none",
            "-kernel", "kernel", "-initrd", "ramdisk", "-dtb", "dtb",
            # Its UART interrupts for nothing at times, and Linux would switch it off for that.
            "-append", "console=ttymxc1,115200 ro rootwait systemd.volatile=state quiet "
            "systemd.show_status=0 random.trust_bootloader=on noirqdebug",
            "-drive", "file=disk,format=raw,if=sd,bus=2,unit=0,cache=writeback",
            "-netdev", "user,id=net", "-net", "nic,netdev=net",
            "-device", "tmp105,id=therm,bus=i2c-bus.1,address=0x48",
            "-qmp", f"unix:{qmp},server=on,wait=off",
        ]
        for name in ("shell", "system", "technician"):
            command += ["-chardev", f"socket,id={name},path={self.folder / name}", "-serial", f"chardev:{name}"]
        self.process = subprocess.Popen(
            command, cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=open(self.folder / "emulator.log", "ab"), stderr=subprocess.STDOUT,
        )
        for line in self.lines.values():
            line.accept()
        until("the emulator's control", qmp.exists, 20)
        self.qmp = socket.socket(socket.AF_UNIX)
        self.qmp.connect(str(qmp))
        self.control = self.qmp.makefile("rw")
        self.control.readline()
        self.ask("qmp_capabilities")

    def ask(self, what, **arguments):
        self.control.write(json.dumps({"execute": what, "arguments": arguments}) + "\n")
        self.control.flush()
        while True:
            told = json.loads(self.control.readline())
            if "error" in told:
                raise Lost(f"the emulator: {told['error']['desc']}")
            if "return" in told:
                return told["return"]

    def power_cut(self):
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None
            self.note()
            for line in self.lines.values():
                line.hang_up()
            self.qmp.close()

    def note(self):
        """What the system said at its own console, for who looks for a fault."""
        try:
            self.boot_log.write(self.lines["system"].read(0))
            self.boot_log.flush()
        except OSError:
            pass

    def shell(self, command, patience_s=60):
        self.note()
        if self.process is None or self.process.poll() is not None:
            raise Lost("the board is off")
        if not getattr(self, "hands", None):
            self.hands = SerialShell(self.lines["shell"])
        return self.hands.run(command, patience_s)

    def console(self):
        return self.lines["technician"]

    def heat(self, celsius):
        self.ask("qom-set", path="/machine/peripheral/therm", property="temperature", value=round(celsius * 1000))

    def close(self):
        self.power_cut()
        self.broker.stop()
        self.cloud.close()
        if self.files:
            self.files.close()
