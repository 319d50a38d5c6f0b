"""What is done to a board, and what must then be so. Each works through the interface alone.

A scenario is a function of the rig; its name and its first line are what the report says. They run in
this order, on one board that lives through all of them.
"""

import json
import random
import time

from .board import Lost, until

PIN = "2718"
PROMPT = "board-1> "
CUTS = 20
# The appliance's own limit in tools/hil/emulated/image, and what a warm day and a hot one are.
LIMIT = 85.0
CALM = 45.0


class Rig:
    """A board, a device beside it, and what was seen."""

    def __init__(self, board, device, record, options):
        self.board, self.device, self.record, self.options = board, device, record, options
        self.count = 0

    def status(self):
        return json.loads(self.board.done("lineside status --json"))

    def id(self, kind):
        self.count += 1
        return f"{kind}-{int(time.time())}-{self.count}"

    def must(self, what, is_so):
        if not is_so:
            raise AssertionError(what)
        self.record.saw(what)

    def timing(self, what, seconds):
        self.record.timing(what, seconds)

    def up(self, patience_s=None):
        """Waits until the board has a shell, and says how long that took."""
        begun = time.monotonic()
        until("a shell", self.board.up, patience_s or self.board.boot_s, 1)
        return time.monotonic() - begun

    def ready(self):
        """Waits until the appliance says that this system may be kept."""
        patience = self.board.boot_s
        end = time.monotonic() + patience
        # In looks of some seconds each: what is missing is known even where the shell falls silent.
        command = "lineside check --commit-ready --with-broker --wait-s 10"
        code, said = self.board.shell(command, 60)
        while code == 69 and time.monotonic() < end:
            code, said = self.board.shell(command, 60)
        if code == 64:  # an older program, which does not know this
            self.ready_or_trial()
            until("the broker", lambda: self.status()["state"] == "online", patience, 1)
        elif code != 0:
            raise Lost(said)

    def ready_or_trial(self):
        """The same for one whose package may be on trial, which keeps no system."""
        def serves():
            code, said = self.board.shell("lineside status --json")
            return code == 0 and json.loads(said)["engine"] == "ready"
        until("an engine", serves, self.board.boot_s, 2)

    def running(self):
        """On, and ready; a board that is off is switched on."""
        if not self.board.up():
            self.board.power_cut()
            self.board.power_on()
            self.up()
        self.ready()

    def sample(self, word):
        """A point of the curve: what the sensor is told, and what the governor makes of it."""
        heat = self.status()["governor"]
        self.record.point(word, heat.get("celsius"), heat.get("ahead_celsius"), heat["state"], heat["rest_permille"])
        return heat


def first_boot(rig):
    """A board fresh from the factory starts and is ready, without anybody's help."""
    board = rig.board
    board.broker_start()
    begun = time.monotonic()
    board.power_on()
    board.heat(CALM)
    rig.up()
    rig.timing("power to the first command", time.monotonic() - begun)
    rig.ready()
    rig.timing("power to ready", time.monotonic() - begun)
    status = rig.status()
    rig.must("a package is served", bool(status["package"]))
    # Without a system under it there is nobody to hand over a control group.
    allowed = set() if rig.board.has_system else {"memory"}
    rig.must("nothing is missing of the engine's cage", set(status.get("engine_unguarded", [])) <= allowed)
    felt = lambda: abs(rig.status()["governor"].get("celsius", 0) - CALM) < 2
    rig.must("the sensor is felt", until("a temperature", felt, 30, 1))
    rig.record.fact("lineside", board.done("lineside --version"))
    rig.record.fact("kernel", board.done("uname -r"))
    if board.has_system:
        rig.record.fact("systemd", board.done("systemctl --version | head -n 1"))
        there = board.done("blkid -o value -s LABEL $(findmnt -no SOURCE /var/lib/lineside)")
        rig.must("the state is on its own partition", there == "lineside-data")
        rig.must("the root is read-only", "ro" in board.done("findmnt -no OPTIONS /").split(","))
        rig.must("its identity was provided", "device.csr" in board.done("ls /var/lib/lineside/identity"))


def heard(line, wanted, patience_s):
    """What came over a line until it ends with, or contains, what was waited for."""
    text, end = "", time.monotonic() + patience_s
    while wanted not in text:
        if time.monotonic() > end:
            raise Lost(f"{wanted!r} was not said within {patience_s} s; but {text[-400:]!r}")
        text += line.read(0.2).decode(errors="replace")
    return text


def typed(line, command, patience_s):
    line.drain()
    line.write(command.encode() + b"\r")
    return heard(line, PROMPT, patience_s)


def log_in(rig):
    line, patience = rig.board.console(), rig.board.answer_s
    line.drain()
    line.write(b"\r")
    heard(line, "PIN:", patience)
    line.write(PIN.encode() + b"\r")
    heard(line, PROMPT, patience)
    return line


def serial_console(rig):
    """A technician logs in over the serial cable, looks around, asks, and is heard."""
    rig.running()
    patience = rig.board.answer_s
    line = rig.board.console()
    line.drain()
    line.write(b"\r")
    heard(line, "PIN:", patience)
    line.write(b"9999\r")
    rig.must("a wrong PIN opens nothing", PROMPT not in heard(line, "PIN:", patience))
    line = log_in(rig)
    rig.must("`status` says how it is", "engine" in typed(line, "status", patience))
    rig.must("`broker` says where", "mqtt" in typed(line, "broker", patience))
    rig.must("`thermals` shows the sensor", "45" in typed(line, "thermals", patience))
    said = typed(line, "ask --task triage CNC-07 spindle vibration 9.8 mm/s rising", patience)
    rig.must("`ask` is answered", "severity" in said)
    line.write(b"mode json\r")
    heard(line, "\n", patience)
    time.sleep(1)
    line.drain()
    line.write(b'{"cmd":"status"}\r')
    said = heard(line, '"ok":true', patience)
    rig.must("`mode json` speaks to programs", '"ok":true' in said)
    line.write(b'{"cmd":"mode","mode":"text"}\r')
    time.sleep(1)
    line.write(b"\rexit\r")
    line.drain()


def request_and_reply(rig):
    """A device asks over MQTT and is answered; asked again it hears the same."""
    rig.running()
    times = []
    for _ in range(5):
        id = rig.id("ask")
        begun = time.monotonic()
        rig.device.ask(id)
        told = rig.device.answer(id, rig.board.answer_s)
        times.append(time.monotonic() - begun)
        if told["status"] != "answered" or told["source"] != "edge":
            raise AssertionError(f"not answered by the edge: {told}")
    rig.timing("request to reply, the median of five", sorted(times)[2])
    rig.must("the answer has the form of its task", "severity" in told["json"])
    seen = len(rig.device.replies[id])
    rig.device.ask(id)
    until("the same again", lambda: len(rig.device.replies[id]) > seen, rig.board.answer_s)
    rig.must("a repetition brings the recorded reply", rig.device.replies[id][-1][1] == told)
    rig.device.ask(id, input="something else")
    until("a refusal", lambda: len(rig.device.replies[id]) > seen + 1, rig.board.answer_s)
    rig.must("other content under the same id is refused",
             rig.device.replies[id][-1][1]["error"]["code"] == "id_conflict")


def heat(rig):
    """It gets hot: the engine rests, then the cloud answers what it may, and the rest is turned away; it cools, and all is as before."""
    rig.running()
    board, device = rig.board, rig.device
    seen = set()
    board.heat(CALM)
    until("calm", lambda: rig.sample("calm")["state"] == "nominal", 60, 1)

    def hold(word, celsius, seconds, wanted=None):
        board.heat(celsius)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            id = rig.id("heat")
            device.ask(id, priority="low", deadline_ms=20000)
            seen.add(rig.sample(word)["state"])
            if wanted and wanted & seen:
                return
            time.sleep(1)

    for celsius in (55, 62, 69, 74, 78, 81, 83):
        hold("warming", celsius, 6)
    hold("near the limit", 84.4, 60, {"hot", "critical"})
    rig.must("near the limit the engine rests", bool(seen & {"warm", "hot", "critical"}))
    hold("over the limit", 88, 90, {"critical"})
    rig.must("over the limit nothing is computed", "critical" in seen)
    id = rig.id("hot")
    device.ask(id, priority="low", deadline_ms=3000)
    told = device.answer(id, board.answer_s)
    rig.must("what cannot wait is refused, with the reason and when to come again",
             told["status"] == "refused" and told["error"]["code"] in ("hot", "deadline")
             and (told["error"]["code"] == "deadline" or "retry_after_ms" in told["error"]))
    if rig.status()["cloud"]:
        public = rig.id("public")
        device.ask(public, classification="public")
        told = device.answer(public, board.answer_s)
        rig.must("what a cloud may see is answered there meanwhile",
                 told["status"] == "answered" and told["source"] == "cloud")
    else:
        rig.record.saw("no cloud is configured: that it answers meanwhile was not tried")
    patient = rig.id("patient")
    device.ask(patient, priority="high")
    for celsius in (80, 70, 60, CALM):
        hold("cooling", celsius, 8)
    until("nominal again", lambda: rig.sample("cool")["state"] in ("nominal", "warm"), 300, 1)
    id = rig.id("cool")
    device.ask(id)
    rig.must("cooled down it answers again", device.answer(id, board.answer_s)["status"] == "answered")
    rig.must("what could wait has its outcome too", bool(device.answer(patient, board.answer_s)))


def killed(rig):
    """The service is killed with a request in its hands: systemd starts it, and the request is answered."""
    rig.running()
    board = rig.board
    before = int(board.done("systemctl show -P NRestarts lineside"))
    ids = [rig.id("kill") for _ in range(4)]
    for id in ids:
        rig.device.ask(id)
    until("the broker has them", lambda: set(ids) <= rig.device.acknowledged, 20)
    begun = time.monotonic()
    board.done("kill -9 $(systemctl show -P MainPID lineside)")
    rig.ready()
    rig.timing("kill -9 to ready", time.monotonic() - begun)
    rig.must("systemd restarted it once", int(board.done("systemctl show -P NRestarts lineside")) == before + 1)
    for id in ids:
        rig.device.answer(id, board.answer_s)
    rig.must("each request has one outcome", all(one_outcome(rig.device, id) for id in ids))
    rig.must("nobody else was killed", board.done("systemctl is-system-running || true") in ("running", "starting", "degraded"))


def one_outcome(device, id):
    """Whether all final replies are the same one. A reply may come twice: at least once is what MQTT
    promises, and what was sent before a cut is not known to have come."""
    told = [json.dumps(it, sort_keys=True) for it in device.final(id)]
    return len(told) >= 1 and len(set(told)) == 1


def power_cuts(rig):
    """The power goes, again and again, with requests at every stage: none that was taken is lost."""
    rig.running()
    board, device = rig.board, rig.device
    chance = random.Random(rig.options.seed)
    ids, boots = [], []
    for cut in range(rig.options.cuts):
        # In every second cut the last of them are still on their way.
        pause_s = chance.choice([0, 0.4])
        for _ in range(chance.randint(4, 10)):
            id = rig.id(f"cut{cut}")
            ids.append(id)
            device.ask(id)
            time.sleep(chance.uniform(0, pause_s))
        time.sleep(chance.choice([0.05, chance.uniform(0, rig.options.load_s)]))
        board.power_cut()
        begun = time.monotonic()
        board.power_on()
        rig.up()
        # Half of the cuts come while it is still recovering from the last one.
        if chance.random() < 0.5:
            rig.ready()
            boots.append(time.monotonic() - begun)
        rig.record.saw(f"cut {cut + 1}: {len(ids)} asked, {sum(bool(device.final(it)) for it in ids)} answered so far")
    rig.ready()
    for id in ids:
        until("the broker has it", lambda: id in device.acknowledged, 30)
        device.answer(id, board.answer_s * 4)
    rig.must(f"{len(ids)} requests over {rig.options.cuts} cuts: each has an outcome, and exactly one",
             all(one_outcome(device, id) for id in ids))
    again = sum(len(device.final(id)) - 1 for id in ids)
    rig.record.fact("replies that the broker brought a second time", again)
    if boots:
        rig.timing("cut to ready, the median", sorted(boots)[len(boots) // 2])
    rig.must("the store is well", rig.status()["store"] == "well")
    if board.has_system:
        aside = board.done("ls /var/lib/lineside | grep -c aside || true")
        rig.must("nothing had to be set aside", aside.strip() == "0")


def disk_full(rig):
    """The data partition is full: requests are refused with the reason; with room again it goes on."""
    rig.running()
    board, device = rig.board, rig.device
    board.done("cd /var/lib/lineside && fallocate -l $(($(df -k --output=avail . | tail -n 1) - 200))K filler; sync", 120)
    try:
        codes = set()

        def refused():
            id = rig.id("full")
            device.ask(id)
            told = device.answer(id, board.answer_s)
            codes.add(told.get("error", {}).get("code", told["status"]))
            return codes & {"spool_full"}

        until("a refusal because of the disk", refused, 300, 1)
        rig.must("it says so", "spool_full" in codes)
        rig.must("it lives", rig.status()["state"] in ("online", "offline"))
    finally:
        board.done("rm -f /var/lib/lineside/filler; sync")
    def answered():
        id = rig.id("room")
        device.ask(id)
        return device.answer(id, board.answer_s)["status"] == "answered"
    until("answers again", answered, 300, 2)
    rig.must("with room again it answers", True)


def an_hour_without_broker(rig):
    """The broker is gone for an hour of the board's clock; people are served, and then all comes through."""
    rig.running()
    board, device = rig.board, rig.device
    ids = [rig.id("gone") for _ in range(6)]
    for id in ids:
        device.ask(id)
    until("the broker has them", lambda: set(ids) <= device.acknowledged, 20)
    board.broker_stop()
    until("offline", lambda: rig.status()["state"] == "offline", 120, 1)
    board.done("date -s '+61 minutes'")
    said = board.done('lineside ask --task triage "CNC-07 spindle vibration 9.8 mm/s rising"', board.answer_s)
    rig.must("it answers at the appliance meanwhile", "severity" in said)
    time.sleep(10)
    board.broker_start()
    rig.ready()
    for id in ids:
        device.answer(id, board.answer_s)
    rig.must("each request has one outcome", all(one_outcome(device, id) for id in ids))


def course(rig):
    """Where packages over the air stand."""
    told = json.loads(rig.board.done("lineside models list --json"))
    return told["air"]["course"]


def looked(rig):
    """Why the last look for a package failed, if it did."""
    outcome = json.loads(rig.board.done("lineside ota --json"))["outcome"] or {}
    return outcome.get("message") if outcome.get("state") == "failed" else None


def follow(rig, package, last, cut_in, patience_s):
    """Asks and asks, cuts the power the first time that each of the states is seen, and waits for the last."""
    board, device, begun = rig.board, rig.device, time.monotonic()
    board.done("lineside ota check --no-wait")
    cut_in, seen, ids, failed = set(cut_in), [], [], 0
    # On its way over the wire; what is seen later is asked for again.
    time.sleep(0.5)
    board.power_cut()
    board.power_on()
    rig.up()
    rig.ready_or_trial()
    board.shell("lineside ota check --no-wait")
    while True:
        if time.monotonic() - begun > patience_s:
            raise Lost(f"{package} is not {last} within {patience_s} s; seen {seen}")
        try:
            it = course(rig)
        except (Lost, ValueError, KeyError, TypeError):
            time.sleep(2)
            continue
        state = it["state"]
        # The network of a board that was just switched on may be late; not three times.
        if state == "idle" and (why := looked(rig)):
            failed += 1
            if failed == 3:
                raise AssertionError(f"no package came: {why}")
            board.shell("lineside ota check", 120)
            continue
        if not seen or seen[-1] != state:
            seen.append(state)
            rig.record.saw(f"{it.get('package') or 'nothing'}: {state} {it.get('reason') or ''}")
        if it.get("package") == package and state == last:
            passed = ", ".join(sorted(cut_in)) or "none"
            rig.record.fact("states that were over before the power could go in them", passed)
            return it, seen, ids
        if it.get("package") == package and state in ("committed", "rolled_back"):
            raise AssertionError(f"{package} is {state}: {it.get('reason')}")
        if state in cut_in:
            cut_in.remove(state)
            board.power_cut()
            board.power_on()
            rig.up()
            rig.ready_or_trial()
            rig.record.saw(f"the power went while it was {state}")
            continue
        id = rig.id("air")
        ids.append(id)
        device.ask(id)
        time.sleep(1)


def good_package(rig):
    """A good package comes over the air; the power goes in each state of its way, and it is committed."""
    rig.running()
    repository = rig.board.packages()
    repository.good(3)
    states = ["staged", "gate", "gated", "trial"]
    _, seen, ids = follow(rig, "factory-triage-3", "committed", states, 3600)
    until("it serves", lambda: rig.status()["package"] == "factory-triage 3", rig.board.boot_s, 2)
    rig.must("it serves, on this board and for good", True)
    rig.ready()
    for id in ids:
        rig.device.answer(id, rig.board.answer_s * 2)
    rig.must(f"{len(ids)} requests meanwhile: each has one outcome", all(one_outcome(rig.device, id) for id in ids))


def bad_package(rig):
    """A harmed package comes, signed and all; its gate on the board turns it away, and nothing changes."""
    rig.running()
    before = rig.status()["package"]
    rig.board.packages().bad(4)
    it, seen, ids = follow(rig, "factory-triage-4", "rolled_back", ["staged", "gate"], 3600)
    rig.must(f"it was taken back by its gate: {it.get('reason')}", it.get("code") is not None)
    rig.ready()
    rig.must("what served before serves", rig.status()["package"] == before)
    for id in ids:
        rig.device.answer(id, rig.board.answer_s * 2)
    rig.must(f"{len(ids)} requests meanwhile: each has one outcome", all(one_outcome(rig.device, id) for id in ids))


def factory_reset(rig):
    """A technician resets it over the serial cable, confirmed, and it starts as a new one."""
    rig.running()
    board = rig.board
    id = rig.id("before")
    rig.device.ask(id)
    rig.device.answer(id, board.answer_s)
    number = board.shell("tr -d '\\0' </sys/firmware/devicetree/base/serial-number")
    word = number[1] if number[0] == 0 and number[1] else rig.status()["appliance"]
    line = log_in(rig)
    line.drain()
    line.write(b"factory-reset\r")
    said = heard(line, "to go on", board.answer_s)
    rig.must("it says what will be lost, and asks for a deliberate word", word in said)
    line.write(word.encode() + b"\r")
    until("a reset", lambda: board.shell(f"lineside trace {id}")[0] != 0, board.boot_s, 1)
    rig.ready()
    trace = board.shell(f"lineside trace {id}")
    rig.must("what it knew of requests is gone", trace[0] != 0)
    id = rig.id("after")
    rig.device.ask(id)
    rig.must("and it answers", rig.device.answer(id, board.answer_s)["status"] == "answered")


ALL = [first_boot, serial_console, request_and_reply, heat, killed, power_cuts, disk_full,
       an_hour_without_broker, good_package, bad_package, factory_reset]
