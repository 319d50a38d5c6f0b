"""A real board: a relay for its supply, a serial cable, ssh, and whatever heats it.

A file says how it is reached. Commands are run by a shell on this machine; `{celsius}` and
`{command}` stand for what is meant.

    kind = "Jetson Orin Nano, board 12"
    on = "relay 3 on"                      # the supply itself: a reboot is no power cut
    off = "relay 3 off"
    off_s = 3                              # until its capacitors are empty
    shell = "ssh -o ConnectTimeout=4 root@board-12 {command}"   # {command} is one quoted word
    console = "/dev/ttyUSB0"               # the technicians' port
    baud = 115200
    heat = "chamber set {celsius}"         # absent: the scenario is skipped
    broker_port = 1883                     # of the plant's broker, as this machine reaches it
    broker_start = "systemctl start mosquitto"
    broker_stop = "systemctl stop mosquitto"
    packages = "/srv/packages"             # a folder of the rig's repository, which the board follows
    fleet = "lineside-fleet"               # the operator's tool, which keeps it
    appliance = "board-1"                  # the appliance's name, which stands in its topics
    boot_s = 120
    answer_s = 30
"""

import os
import select
import shlex
import subprocess
import termios
import time
import tomllib
from pathlib import Path

from .board import Board, CannotDo, Lost
from .packages import Repository

KEYS = {
    "kind": str, "on": str, "off": str, "off_s": (int, float), "shell": str, "console": str, "baud": int,
    "heat": str, "broker_port": int, "broker_start": str, "broker_stop": str, "packages": str, "fleet": str, "appliance": str,
    "boot_s": int, "answer_s": int,
}
NEEDED = ["kind", "on", "off", "shell"]


class Faulty(SystemExit):
    """The file is not right. All that is wrong is told at once."""


def read(file):
    told = tomllib.loads(Path(file).read_text())
    faults = [f"{key}: no such key" for key in told if key not in KEYS]
    faults += [f"{key}: missing" for key in NEEDED if key not in told]
    faults += [f"{key}: {value!r} is of the wrong kind" for key, value in told.items()
               if key in KEYS and not isinstance(value, KEYS[key])]
    if "{command}" not in str(told.get("shell", "{command}")):
        faults.append("shell: says not where {command} goes")
    if "heat" in told and "{celsius}" not in str(told["heat"]):
        faults.append("heat: says not where {celsius} goes")
    if told.get("baud", 115200) not in SPEEDS:
        faults.append(f"baud: one of {', '.join(map(str, SPEEDS))}")
    if faults:
        raise Faulty("\n".join(f"{file}: {it}" for it in faults))
    return told


SPEEDS = {it: getattr(termios, f"B{it}") for it in (9600, 19200, 38400, 57600, 115200, 230400)}


class Cable:
    """A serial port of this machine."""

    def __init__(self, path, baud):
        self.file = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        raw = termios.tcgetattr(self.file)
        raw[0] = raw[1] = raw[3] = 0
        raw[2] = termios.CS8 | termios.CREAD | termios.CLOCAL
        raw[4] = raw[5] = SPEEDS[baud]
        termios.tcsetattr(self.file, termios.TCSANOW, raw)

    def read(self, patience_s):
        ready, _, _ = select.select([self.file], [], [], patience_s)
        try:
            return os.read(self.file, 65536) if ready else b""
        except BlockingIOError:
            return b""

    def drain(self):
        while self.read(0):
            pass

    def write(self, data):
        while data:
            select.select([], [self.file], [], 5)
            data = data[os.write(self.file, data):]


class Real(Board):
    def __init__(self, file, is_dry=False):
        self.told, self.is_dry = read(file), is_dry
        self.kind = self.told["kind"]
        self.boot_s = self.told.get("boot_s", Board.boot_s)
        self.answer_s = self.told.get("answer_s", Board.answer_s)
        self.appliance = self.told.get("appliance", "board-1")
        self.cable = None

    def words(self, key, **more):
        """The command of a key, with what is meant in its place."""
        command = self.told.get(key)
        if command is None:
            raise CannotDo(key)
        for name, value in more.items():
            command = command.replace("{" + name + "}", shlex.quote(str(value)))
        return command

    def do(self, key, patience_s=60, **more):
        command = self.words(key, **more)
        if self.is_dry:
            print(f"would run: {command}")
            return ""
        try:
            told = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=patience_s)
        except subprocess.TimeoutExpired:
            raise Lost(f"no end within {patience_s} s: {command}") from None
        if told.returncode != 0:
            raise Lost(f"{command}: {told.stderr.strip() or told.returncode}")
        return told.stdout.strip()

    def power_on(self):
        self.do("on")

    def power_cut(self):
        self.do("off")
        if not self.is_dry:
            time.sleep(self.told.get("off_s", 3))

    def shell(self, command, patience_s=60):
        words = self.words("shell", command=command)
        if self.is_dry:
            print(f"would run: {words}")
            return 0, ""
        try:
            told = subprocess.run(words, shell=True, capture_output=True, text=True, timeout=patience_s)
        except subprocess.TimeoutExpired:
            raise Lost(f"no answer within {patience_s} s: {command}") from None
        if told.returncode == 255:  # ssh's own: it did not reach the board
            raise Lost(f"{words}: {told.stderr.strip()}")
        return told.returncode, (told.stdout + told.stderr).rstrip("\n")

    def console(self):
        if "console" not in self.told:
            raise CannotDo("console")
        if self.is_dry:
            print(f"would open: {self.told['console']} at {self.told.get('baud', 115200)} baud")
            return None
        self.cable = self.cable or Cable(self.told["console"], self.told.get("baud", 115200))
        return self.cable

    def heat(self, celsius):
        self.do("heat", celsius=celsius)

    def broker_start(self):
        if "broker_start" in self.told:
            self.do("broker_start")

    def broker_stop(self):
        self.do("broker_stop")

    def broker_port(self):
        return self.told.get("broker_port", 1883)

    def packages(self):
        return Repository(self.told.get("fleet", "lineside-fleet"), Path(self.words("packages")))

    def tell(self):
        """Each thing that the scenarios do to a board, once, without doing it."""
        assert self.is_dry
        print(f"{self.kind}: what would be done")
        steps = [
            ("the supply", lambda: (self.power_on(), self.power_cut())),
            ("the shell", lambda: self.shell("lineside check --commit-ready --wait-s 60")),
            ("the technicians' port", self.console),
            ("heat", lambda: self.heat(84.0)),
            ("the broker", lambda: (self.broker_stop(), self.broker_start())),
        ]
        for what, step in steps:
            try:
                step()
            except CannotDo as missing:
                print(f"would skip what needs {what}: the file has no {missing}")
        return 0
