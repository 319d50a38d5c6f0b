"""What the rig needs of a board, whichever it is.

Everything that a scenario does to a board goes through these methods, so a scenario runs on the
emulated board and on a real one alike. An adapter that cannot do a thing raises `CannotDo`, and the
scenario is reported as skipped, with that reason.

    new                     as it came from the factory, and off
    power_on, power_cut     the supply, not a command to the system
    shell                   a command as root, on a way that does not need the appliance
    console                 the technicians' serial port, as a pair of read and write
    heat                    the temperature that the board's sensor shows
    broker_*                the plant's broker, which both the board and the rig reach
    packages                the repository that its packages come from
"""

import base64
import re
import time


class CannotDo(Exception):
    """The adapter has no way to do this."""


class Lost(Exception):
    """The board did not do what it was asked within the time."""


def until(what, wanted, patience_s, pause_s=0.2):
    """The first true thing that `wanted` gives."""
    end = time.monotonic() + patience_s
    while True:
        found = wanted()
        if found:
            return found
        if time.monotonic() > end:
            raise Lost(f"not within {patience_s} s: {what}")
        time.sleep(pause_s)


class Board:
    """The interface. An adapter fills it in."""

    # For the report: what it is, and, where it is no real one, what it does not show.
    kind = "board"
    label = ""
    # Whether there is systemd under the service.
    has_system = True
    # Seconds in which it is expected to do things. A slow board has longer ones.
    boot_s = 120
    answer_s = 30

    def new(self):
        raise CannotDo("a board like new: flash it")

    def power_on(self):
        raise CannotDo("power")

    def power_cut(self):
        raise CannotDo("power")

    def shell(self, command, patience_s=60):
        """Exit code and text of a command as root."""
        raise CannotDo("shell")

    def console(self):
        """The technicians' port: an object with `read(patience_s)` and `write(bytes)`."""
        raise CannotDo("serial console")

    def heat(self, celsius):
        raise CannotDo("heat")

    def broker_start(self):
        raise CannotDo("broker")

    def broker_stop(self):
        raise CannotDo("broker")

    def broker_port(self):
        """Where the rig reaches the plant's broker, on this machine."""
        raise CannotDo("broker")

    def packages(self):
        """The repository that the board follows: see `packages.Repository`."""
        raise CannotDo("packages")

    def close(self):
        """Lets go of everything."""

    # What all of them do alike.

    def done(self, command, patience_s=60):
        """The text of a command that must succeed."""
        code, said = self.shell(command, patience_s)
        if code != 0:
            raise Lost(f"{command}: {said or code}")
        return said

    def up(self):
        """Whether somebody answers at its shell."""
        try:
            return self.shell("true", 5)[0] == 0
        except (Lost, OSError):
            return False


class Hosted(Board):
    """A board whose broker, cloud and packages are this PC's: `broker`, `cloud`, and `repository` or none."""

    # Where its next ports lie from the broker's, which an option names.
    PACKAGES, CLOUD = 1, 2

    def broker_start(self):
        self.broker.start()

    def broker_stop(self):
        self.broker.stop()

    def broker_port(self):
        return self.broker.port

    def packages(self):
        if not self.repository:
            raise CannotDo("packages over the air: no --fleet PROGRAM")
        return self.repository


class SerialShell:
    """A root shell behind `tools/hil/emulated/agent`, on whatever line it is reached by."""

    # A line that was lost is sent again after so long, and after twice that, and so on; the agent does
    # nothing twice.
    AGAIN_S = 8

    def __init__(self, line):
        self.line = line
        self.number = int(time.time()) % 100_000 * 1000

    def run(self, command, patience_s):
        self.number += 1
        self.line.drain()
        packed = base64.b64encode(command.encode()).decode()
        sent = f"\n{self.number} {packed}\n".encode()
        mark = re.compile(rb"HIL %d (\d+) ([A-Za-z0-9+/=]*)\r?\n" % self.number)
        heard, begun, pause = b"", time.monotonic(), 0
        again = begun
        while time.monotonic() < begun + patience_s:
            if time.monotonic() >= again:
                self.line.write(sent)
                pause += self.AGAIN_S
                again += pause
            heard += self.line.read(0.2)
            found = mark.search(heard)
            if found:
                return int(found[1]), base64.b64decode(found[2]).decode(errors="replace")
        raise Lost(f"no answer within {patience_s} s: {command}")
