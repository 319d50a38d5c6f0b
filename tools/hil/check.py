"""The rig itself, without a board: what its adapters say and do, against this machine.

    tools/hil/run --check
"""

import contextlib
import io
import os
import pty
import select
import socket
import tempfile
import termios
import threading
import tty
import unittest
import xml.etree.ElementTree as tree
from pathlib import Path

from . import report, scenarios
from .board import Board, CannotDo, Lost, SerialShell
from .plant import Broker, Device
from .real import Faulty, Real, read

WHOLE = """
kind = "board 12"
on = "echo on >>LOG"
off = "echo off >>LOG"
off_s = 0
shell = "sh -c {command}"
heat = "echo {celsius} >>LOG"
"""


def written(text):
    folder = Path(tempfile.mkdtemp(prefix="lineside-hil-"))
    file = folder / "board.toml"
    file.write_text(text.replace("LOG", str(folder / "log")))
    return file


class RealBoards(unittest.TestCase):
    def test_a_dry_run_tells_each_command_and_runs_none(self):
        file = written(WHOLE)
        with contextlib.redirect_stdout(io.StringIO()) as told:
            self.assertEqual(Real(file, is_dry=True).tell(), 0)
        told = told.getvalue()
        self.assertIn("would run: echo on", told)
        self.assertIn("would run: sh -c 'lineside check --commit-ready --wait-s 60'", told)
        self.assertIn("would run: echo 84.0", told)
        self.assertIn("would skip what needs the technicians' port", told)
        self.assertFalse((file.parent / "log").exists())

    def test_the_same_file_without_it_runs_them(self):
        file = written(WHOLE)
        board = Real(file)
        board.power_on()
        board.heat(61.5)
        board.power_cut()
        self.assertEqual((file.parent / "log").read_text(), "on\n61.5\noff\n")
        self.assertEqual(board.shell("echo \"it's here\"; exit 3"), (3, "it's here"))
        with self.assertRaises(CannotDo):
            board.console()
        with self.assertRaises(Lost):
            board.shell("sleep 5", 0.2)

    def test_all_faults_of_a_file_are_told_at_once(self):
        with self.assertRaises(Faulty) as told:
            read(written('kind = 1\nbaud = 7\nx = 2\nshell = "ssh board"\nheat = "hot"\n'))
        for words in ("kind: 1", "baud: one of", "x: no such key", "on: missing", "off: missing",
                      "shell: says not where", "heat: says not where"):
            self.assertIn(words, str(told.exception))

    def test_its_serial_port_carries_every_byte(self):
        master, slave = pty.openpty()
        tty.setraw(master)
        board = Real(written(WHOLE + f'console = "{os.ttyname(slave)}"\n'))
        cable = board.console()
        everything = bytes(range(256))
        cable.write(everything)
        self.assertEqual(os.read(master, 1000), everything)
        os.write(master, everything)
        self.assertEqual(cable.read(5), everything)
        self.assertEqual(termios.tcgetattr(slave)[4], termios.B115200)


class Pipe:
    """A line whose other end is a process of this machine."""

    def __init__(self, master):
        self.master = master

    def read(self, patience_s):
        ready, _, _ = select.select([self.master], [], [], patience_s)
        return os.read(self.master, 65536) if ready else b""

    def drain(self):
        while self.read(0):
            pass

    def write(self, data):
        os.write(self.master, data)


class Hands(unittest.TestCase):
    def test_the_agent_does_what_comes_over_a_serial_line(self):
        agent = Path(__file__).parent / "emulated/agent"
        own = tempfile.mkdtemp(prefix="lineside-hil-") + "/last"
        process, master = pty.fork()
        if process == 0:
            os.execv("/bin/sh", ["sh", "-c", f"sed s#/run/hil-last#{own}#  {agent} >{own}.sh; exec sh {own}.sh"])
        line = Pipe(master)
        said = b""
        while b"HIL here" not in said:
            said += line.read(5)
        hands = SerialShell(line)
        self.assertEqual(hands.run("echo 'äöü \"$'; false", 10), (1, 'äöü "$'))
        self.assertEqual(hands.run("seq 1 20000 | tail -n 1", 10), (0, "20000"))
        with self.assertRaises(Lost):
            hands.run("sleep 3", 0.5)
        # What is sent twice is done once.
        hands.AGAIN_S = 0.3
        count = Path(tempfile.mkdtemp(prefix="lineside-hil-")) / "count"
        self.assertEqual(hands.run(f"sleep 2; echo x >>{count}; cat {count}", 10), (0, "x"))
        self.assertEqual(hands.run(f"cat {count}", 10), (0, "x"))
        os.close(master)
        os.waitpid(process, 0)


class Plants(unittest.TestCase):
    def test_a_device_hears_replies_and_lives_through_a_restart_of_its_broker(self):
        with socket.socket() as it:
            it.bind(("127.0.0.1", 0))
            port = it.getsockname()[1]
        broker = Broker(Path(tempfile.mkdtemp(prefix="lineside-hil-")), port)
        broker.start()
        device = Device(port, "d1", "here")
        # The appliance, for once, is a second device that answers what it hears.
        answering = Device(port, "d2", "here")
        answering.on_message = lambda *_: None
        try:
            device.ask("a")
            scenarios.until("acknowledged", lambda: "a" in device.acknowledged, 20)
            broker.stop()
            device.ask("b")
            broker.start()
            scenarios.until("acknowledged", lambda: "b" in device.acknowledged, 20)
            topic = b"lineside/here/reply/a"
            body = len(topic).to_bytes(2, "big") + topic + b'{"id":"a","final":true}'
            scenarios.until("a line", lambda: answering.at, 20)
            answering.send(0x30, body)
            self.assertEqual(device.answer("a", 20), {"id": "a", "final": True})
            self.assertTrue(scenarios.one_outcome(device, "a"))
            answering.send(0x30, body.replace(b"true}", b'true,"x":1}'))
            scenarios.until("another", lambda: len(device.final("a")) > 1, 20)
            self.assertFalse(scenarios.one_outcome(device, "a"))
            self.assertFalse(scenarios.one_outcome(device, "b"))
        finally:
            device.close()
            answering.close()
            broker.stop()


class Reports(unittest.TestCase):
    def test_a_report_says_what_failed_what_was_skipped_and_that_it_is_emulated(self):
        folder = Path(tempfile.mkdtemp(prefix="lineside-hil-"))
        board = Board()
        board.label = "emulated: <no board>"
        records = []
        with contextlib.redirect_stdout(io.StringIO()):
            for outcome in ("passed", "failed", "skipped"):
                record = report.Record(f"it_{outcome}", "About <it>.")
                record.saw("something")
                record.point("warming", 50.0, 60.0, "nominal", 0)
                record.point("warming", 80.0, 85.0, "warm", 300)
                record.end(outcome, "" if outcome == "passed" else "because")
                records.append(record)
        report.junit(records, board, folder / "junit.xml")
        suite = tree.parse(folder / "junit.xml").getroot()
        self.assertEqual((suite.get("tests"), suite.get("failures"), suite.get("skipped")), ("3", "1", "1"))
        self.assertIn("emulated", tree.tostring(suite, encoding="unicode"))
        report.page(records, board, 85.0, folder / "report.html")
        page = (folder / "report.html").read_text()
        self.assertIn("emulated: &lt;no board&gt;", page)
        self.assertIn("About &lt;it&gt;.", page)
        self.assertIn("<svg", page)


def main():
    suite = unittest.defaultTestLoader.loadTestsFromModule(__import__(__name__, fromlist=["main"]))
    return 0 if unittest.TextTestRunner(verbosity=1).run(suite).wasSuccessful() else 1
