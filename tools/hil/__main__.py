"""Takes a board through the scenarios, and reports.

    tools/hil/run --program PROGRAM [SCENARIO…]         on the emulated board; --boards 2: on two at a time
    tools/hil/run --board board.toml [SCENARIO…]        on a real one
    tools/hil/run --board board.toml --dry-run          says what it would do to it, and does nothing
    tools/hil/run --process PROGRAM [SCENARIO…]         on none: the service alone, in a minute
    tools/hil/run … --broken [SCENARIO…]                breaks what each promises, and sees it fail
    tools/hil/run --list, --check
"""

import argparse
import pickle
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

from . import broken, report, scenarios
from .board import CannotDo, Lost
from .plant import Device


def options():
    parser = argparse.ArgumentParser(prog="tools/hil/run", description=__doc__.split("\n")[0])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="only these, in the usual order")
    parser.add_argument("--program", help="the emulated board's program, from tools/build-arm64")
    parser.add_argument("--process", metavar="PROGRAM", help="no board: the service alone, on this machine")
    parser.add_argument("--fleet", help="lineside-fleet for this machine; without, no packages over the air")
    parser.add_argument("--board", help="a real board: the file that says how it is reached")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done to a real board")
    parser.add_argument("--boards", type=int, choices=(1, 2), default=1,
                        help="with 2 emulated ones the power goes on a second board, while the first does the rest")
    parser.add_argument("--folder", default="target/hil", help="disks, logs and the report")
    parser.add_argument("--port", type=int, default=18830, help="of the plant's broker")
    parser.add_argument("--cuts", type=int, default=scenarios.CUTS, help="how often the power goes")
    parser.add_argument("--load-s", type=float, default=5, help="at most so long before each cut")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", action="store_true", help="go on with the disk of the last run")
    parser.add_argument("--broken", action="store_true", help="break what each promises, and see it fail")
    parser.add_argument("--check", action="store_true", help="test the rig itself, without a board")
    parser.add_argument("--list", action="store_true", help="print the scenarios")
    return parser.parse_args()


# What a second board does: the longest, and of it the emulator keeps one core busy.
SECOND = "power_cuts"


class Second:
    """A second emulated board in a process of its own, with its folder below the first one's."""

    def __init__(self, given, folder):
        self.folder = folder / "second"
        self.folder.mkdir(parents=True, exist_ok=True)
        debian = self.folder / "base.tar"
        if not debian.exists():
            debian.hardlink_to(folder / "base.tar")
        words = [sys.executable, "-B", "-m", "hil", "--program", given.program, "--folder", self.folder, "--seed", given.seed,
                 "--port", given.port + 10, "--cuts", given.cuts, "--load-s", given.load_s, SECOND]
        self.log = open(self.folder / "log", "w")
        self.process = subprocess.Popen([str(it) for it in words], stdout=self.log, stderr=subprocess.STDOUT)

    def wait(self):
        """What it saw."""
        self.process.wait()
        print((self.folder / "log").read_text(), end="")
        with open(self.folder / "records", "rb") as file:
            return pickle.load(file)

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()


def main():
    given = options()
    if given.check:
        from . import check
        return check.main()
    if given.list:
        for it in scenarios.ALL:
            print(f"{it.__name__:<24} {it.__doc__}")
        return 0
    unknown = set(given.scenarios) - {it.__name__ for it in scenarios.ALL}
    if unknown:
        print(f"no such scenario: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 64
    folder = Path(given.folder).resolve()
    if given.board:
        from .real import Real
        board = Real(given.board, is_dry=given.dry_run)
        if given.dry_run:
            return board.tell()
    elif given.program:
        from .emulated.board import Emulated
        board = Emulated(given.program, folder, given.port, given.fleet)
        if not (given.keep and board.has_disk()):
            board.new()
    elif given.process:
        from .process import Process
        board = Process(given.process, folder, given.port, given.fleet)
        board.new()
    else:
        print("which board? --program PROGRAM, or --board FILE", file=sys.stderr)
        return 64

    # An end from outside takes the board and the broker along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"{board.kind}; seed {given.seed}")
    wanted = [it for it in scenarios.ALL if not given.scenarios or it.__name__ in given.scenarios]
    begun, records, device, second = time.monotonic(), [], None, None
    try:
        if given.boards == 2 and given.program and SECOND in [it.__name__ for it in wanted]:
            wanted = [it for it in wanted if it.__name__ != SECOND]
            second = Second(given, folder)
        for scenario in wanted:
            board.broker_start()
            device = device or Device(board.broker_port())
            record = report.Record(scenario.__name__, scenario.__doc__)
            print(f"{record.name}: {record.about}", flush=True)
            records.append(record)
            rig = scenarios.Rig(board, device, record, given)
            try:
                if given.broken:
                    board.new()
                    broken.tried(scenario, rig)
                else:
                    scenario(rig)
                    record.end("passed")
            except CannotDo as what:
                record.end("skipped", f"this board has no way to do this: {what}")
            except (AssertionError, Lost, OSError) as fault:
                record.end("failed", str(fault))
            except Exception:
                record.end("failed", traceback.format_exc())
            print(f"  {record.outcome}{': ' + record.why if record.why else ''}  ({record.seconds:.0f} s)", flush=True)
            report.junit(records, board, folder / "junit.xml")
            report.page(records, board, scenarios.LIMIT, folder / "report.html")
        if second:
            records += second.wait()
            report.junit(records, board, folder / "junit.xml")
            report.page(records, board, scenarios.LIMIT, folder / "report.html")
        with open(folder / "records", "wb") as file:
            pickle.dump(records, file)
    finally:
        if second:
            second.end()
        if device:
            device.close()
        board.close()
    print(f"{len(records)} scenarios in {(time.monotonic() - begun) / 60:.1f} minutes")
    print(f"report: {folder / 'report.html'}, {folder / 'junit.xml'}")
    # What was asked for by its name is not to be passed over.
    bad = {"failed", "skipped"} if given.scenarios else {"failed"}
    return 1 if any(it.outcome in bad for it in records) else 0


sys.exit(main())
