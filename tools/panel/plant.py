"""A plant for the page to show: a broker, a board with a sensor, devices, and the real service."""

import json
import math
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import paho.mqtt.client as mqtt

PATIENCE = 60
ROOT = Path(__file__).resolve().parent.parent.parent


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def until(what, wanted, patience=PATIENCE):
    begun = time.monotonic()
    while True:
        found = wanted()
        if found:
            return found
        if time.monotonic() - begun > patience:
            raise SystemExit(f"not within {patience} s: {what}")
        time.sleep(0.1)


class Plant:
    """Everything runs between `with` and its end."""

    def __init__(self, program):
        self.dir = Path(tempfile.mkdtemp(prefix="lineside-panel-"))
        self.program = program
        self.mqtt, self.http = free_port(), free_port()
        self.zone = self.dir / "sys/class/thermal/thermal_zone0"
        self.processes = []
        self.replies = {}
        self.ended = threading.Event()

    def __enter__(self):
        self.zone.mkdir(parents=True)
        (self.zone / "type").write_text("cpu-thermal\n")
        self.heat(60.0)
        broker = self.dir / "mosquitto.conf"
        broker.write_text(f"listener {self.mqtt} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n")
        path = os.environ["PATH"] + ":/usr/sbin"
        mosquitto = shutil.which("mosquitto", path=path)
        self.start([mosquitto, "-c", str(broker)], "broker.log")
        until("the broker", lambda: reaches(self.mqtt))
        config = self.dir / "config.toml"
        config.write_text(
            f"""
[appliance]
name = "line-3"
state_dir = "{self.dir}/state"
[broker]
url = "mqtt://127.0.0.1:{self.mqtt}"
[model]
package = "{ROOT}/models/factory-triage"
[engine]
threads = 1
[governor]
limit_celsius = 95.0
sysfs_root = "{self.dir}/sys"
[review]
remote = true
[panel]
listen = "127.0.0.1:{self.http}"
restricted = true
[log]
to = "stderr"
[[route]]
name = "by-hand"
when = {{ risk_at_least = 80 }}
to = "review"
[[route]]
name = "default"
to = "edge"
"""
        )
        self.start([self.program, "run", "--config", str(config)], "lineside.log")
        until("the panel", lambda: self.state())
        until("the engine", lambda: self.state()["status"]["engine"] == "ready", 300)
        self.device = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="press7")
        self.device.on_message = lambda _, __, it: self.heard(json.loads(it.payload))
        self.device.connect("127.0.0.1", self.mqtt)
        self.device.subscribe("lineside/line-3/reply/#", qos=1)
        self.device.loop_start()
        threading.Thread(target=self.weather, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        if hasattr(self, "device"):
            self.device.loop_stop()
        for process in reversed(self.processes):
            process.terminate()
            process.wait(30)
        shutil.rmtree(self.dir, ignore_errors=True)

    def start(self, command, log):
        out = open(self.dir / log, "wb")
        self.processes.append(subprocess.Popen(command, stdout=out, stderr=out))

    def weather(self):
        """A sensor that is alive: it swings by a degree or two, as slowly as a board does."""
        step = 0
        while not self.ended.wait(0.5):
            step += 1
            self.heat(60 + 1.5 * math.sin(step / 1200 * 2 * math.pi))

    def heat(self, celsius):
        new = self.zone / "temp.new"
        new.write_text(f"{int(celsius * 1000)}\n")
        new.rename(self.zone / "temp")

    def heard(self, reply):
        self.replies[reply["id"]] = reply

    def ask(self, **request):
        self.device.publish("lineside/line-3/request/press7", json.dumps(request), qos=1).wait_for_publish(PATIENCE)

    def reply(self, id, patience=PATIENCE):
        return until(f"a reply to {id}", lambda: self.replies.get(id), patience)

    def state(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/api/state", timeout=5) as it:
                return json.load(it)
        except OSError:
            return None


def reaches(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False
