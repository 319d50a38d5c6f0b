"""Each promise broken on purpose: a scenario that passes all the same sees nothing.

    tools/hil/run … --broken [SCENARIO…]

The board, the plant or the way to it is harmed so that what the scenario promises does not hold, and the
scenario has to fail. Each gets a board as it came from the factory.
"""

import contextlib
from unittest import mock

from .board import Lost
from .scenarios import CALM

# What is not going to come need not be waited for as long as what is slow.
BOOT_S = {True: 90, False: 15}
ANSWER_S = {True: 30, False: 8}


def forget(board):
    """The store is gone, and with it whatever the appliance had promised."""
    if board.has_system:
        board.done("systemctl stop lineside; rm -rf /var/lib/lineside/spool; systemctl start lineside", 120)
    else:
        board.power_cut()
        board.done_here("rm -rf state/spool")
        board.power_on()


def without(it, *names):
    """These methods do nothing."""
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(mock.patch.object(it, name, lambda *_: None))
        yield


def before(it, name, first):
    """Something happens each time before this method does its work."""
    real = getattr(it, name)

    def harmed(*words, **more):
        first(*words, **more)
        return real(*words, **more)
    with mock.patch.object(it, name, harmed):
        yield


class Noisy:
    """A cable that swallows every third byte of what is typed."""

    def __init__(self, line):
        self.line, self.count = line, 0

    def __getattr__(self, name):
        return getattr(self.line, name)

    def write(self, data):
        kept = b""
        for byte in data:
            self.count += 1
            kept += bytes([byte]) if self.count % 3 else b""
        self.line.write(kept)


class Timid:
    """A technician who does not say the word."""

    def __init__(self, line):
        self.line, self.is_asked = line, False

    def __getattr__(self, name):
        return getattr(self.line, name)

    def write(self, data):
        self.line.write(b"no\r" if self.is_asked else data)
        self.is_asked |= b"factory-reset" in data


def no_broker(rig):
    rig.board.broker_stop()
    yield from without(rig.board, "broker_start")


def noisy_cable(rig):
    line = Noisy(rig.board.console())
    with mock.patch.object(rig.board, "console", lambda: line):
        yield


def forgotten_outcomes(rig):
    asked = set()

    def first(id, **_):
        if id in asked:
            forget(rig.board)
        asked.add(id)
    yield from before(rig.device, "ask", first)


def stuck_sensor(rig):
    real = rig.board.heat
    with mock.patch.object(rig.board, "heat", lambda _: real(CALM)):
        yield


def no_restart(rig):
    rig.running()
    unit = "/run/systemd/system/lineside.service.d"
    rig.board.done(f"mkdir -p {unit}; printf '[Service]\\nRestart=no\\n' >{unit}/broken.conf; systemctl daemon-reload")
    yield


def forgotten_at_a_cut(rig):
    real = rig.board.power_on

    def harmed():
        real()
        if rig.board.has_system:
            rig.up()
            forget(rig.board)
        else:
            rig.board.power_cut()
            rig.board.done_here("rm -rf state/spool")
            real()
    rig.running()
    with mock.patch.object(rig.board, "power_on", harmed):
        yield


def dies_when_full(rig):
    real = rig.board.done

    def harmed(command, *more):
        told = real(command, *more)
        if "fallocate" in command:
            real("systemctl stop lineside")
        return told
    with mock.patch.object(rig.board, "done", harmed):
        yield


def forgotten_while_offline(rig):
    real = rig.board.broker_stop

    def harmed():
        real()
        forget(rig.board)
    with mock.patch.object(rig.board, "broker_stop", harmed):
        yield


def published(one, as_another):
    def broken(rig):
        repository = rig.board.packages()
        with mock.patch.object(repository, as_another, getattr(repository, one)):
            yield
    return broken


def no_word(rig):
    line = Timid(rig.board.console())
    with mock.patch.object(rig.board, "console", lambda: line):
        yield


HOW = {
    "first_boot": ("the plant has no broker", no_broker),
    "serial_console": ("the cable swallows every third byte", noisy_cable),
    "request_and_reply": ("the outcomes are forgotten before a request is repeated", forgotten_outcomes),
    "heat": ("the sensor is stuck", stuck_sensor),
    "killed": ("systemd is told not to restart the service", no_restart),
    "power_cuts": ("the store is gone after each cut", forgotten_at_a_cut),
    "disk_full": ("the service ends when the disk is full", dies_when_full),
    "an_hour_without_broker": ("the store is lost meanwhile", forgotten_while_offline),
    "good_package": ("its model is the harmed one", published("bad", "good")),
    "bad_package": ("its model is the good one", published("good", "bad")),
    "factory_reset": ("the technician does not say the word", no_word),
}


def tried(scenario, rig):
    """Runs a scenario whose promise does not hold, and says how it ended: it has to have failed."""
    board = rig.board
    what, how = HOW[scenario.__name__]
    rig.record.fact("broken on purpose", what)
    with contextlib.contextmanager(how)(rig):
        board.boot_s, board.answer_s = BOOT_S[board.has_system], ANSWER_S[board.has_system]
        try:
            scenario(rig)
        except (AssertionError, Lost) as fault:
            rig.record.end("passed")
            rig.record.saw(f"it fails, as it must: {fault}")
        else:
            rig.record.end("failed", f"it passes all the same, although {what}")
        finally:
            del board.boot_s, board.answer_s
