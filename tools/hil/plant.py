"""The plant around a board: a broker, devices that speak MQTT, a server of packages, a cloud's model."""

import http.server
import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
import zlib

from .board import Lost, until


class Broker:
    """A mosquitto that keeps its sessions."""

    def __init__(self, folder, port):
        self.folder, self.port, self.process = folder, port, None

    def start(self):
        if self.process:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "mosquitto.conf"
        settings.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nuser root\n"
            f"max_queued_messages 100000\npersistence true\npersistence_location {self.folder}/\n"
        )
        program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
        if program is None:
            raise SystemExit("mosquitto is missing: apt-get install mosquitto")
        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen([program, "-c", settings], stdout=log, stderr=log)
        until("the broker", self.answers, 20)
        time.sleep(0.2)
        if self.process.poll() is not None:
            self.process = None
            raise SystemExit(f"port {self.port} has a broker already: --port names another")

    def answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def stop(self):
        """An orderly end: it writes what it keeps."""
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None


class Files:
    """A web server for a folder."""

    def __init__(self, port, folder):
        self.port, self.folder = port, folder
        files = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def translate_path(self, path):
                return str(files.folder) + "/" + path.split("?")[0].lstrip("/")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()


class Cloud:
    """A larger model elsewhere: HTTPS, OpenAI's chat completions, and always the same answer.

    Who asks wants a proof of who it is, so it has an authority of its own. Its certificate is good in
    any year: a board without a clock of its own is in a year of its own."""

    ANSWER = {"severity": "critical", "category": "bearing", "action": "stop_spindle", "needs_human": False}

    def __init__(self, folder, port, host):
        """`host` is its address as the board sees it."""
        self.port, self.host, self.folder, self.seen = port, host, folder, 0
        self.authority = folder / "ca.pem"
        if not self.authority.exists():
            self.certify()
        cloud = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                cloud.seen += 1
                said = json.dumps(cloud.ANSWER, separators=(",", ":"))
                told = json.dumps({
                    "id": "chatcmpl-1", "object": "chat.completion", "model": asked["model"],
                    "choices": [{"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop",
                                 "logprobs": {"content": [{"token": said, "logprob": -0.1, "bytes": None,
                                                           "top_logprobs": []}]}}],
                    "usage": {"prompt_tokens": 40, "completion_tokens": 20, "total_tokens": 60},
                }).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        proof = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        proof.load_cert_chain(folder / "cloud.pem", folder / "cloud.key")
        # The handshake is a matter of the connection's own thread, or one that hangs stops all.
        self.server.socket = proof.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def certify(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (self.folder / "index").write_text("")
        (self.folder / "settings").write_text(
            f"[ca]\ndefault_ca = it\n[it]\ndatabase = index\nnew_certs_dir = .\nrand_serial = yes\ndefault_md = sha256\n"
            f"policy = any\nunique_subject = no\nx509_extensions = leaf\n[any]\ncommonName = supplied\n"
            f"[leaf]\nsubjectAltName = IP:{self.host}\nbasicConstraints = CA:false\n"
        )
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        for words in (
            ["req", "-x509", *key, "-keyout", "ca.key", "-out", "part.pem", "-subj", "/CN=rig", "-days", "3650"],
            ["req", *key, "-keyout", "cloud.key", "-out", "cloud.csr", "-subj", "/CN=cloud"],
            ["ca", "-batch", "-config", "settings", "-cert", "part.pem", "-keyfile", "ca.key", "-in", "cloud.csr", "-notext",
             "-out", "cloud.pem", "-startdate", "20000101000000Z", "-enddate", "20991231235959Z"],
        ):
            told = subprocess.run(["openssl", *words], cwd=self.folder, capture_output=True, text=True)
            if told.returncode != 0:
                raise SystemExit(f"openssl {words[0]}: {told.stderr}")
        (self.folder / "part.pem").rename(self.authority)

    def settings(self, authority):
        """What an appliance is configured with to reach it; `authority` is where it finds that file."""
        return (f'[cloud]\nurl = "https://{self.host}:{self.port}/v1/chat/completions"\nmodel = "large"\n'
                f'ca_file = "{authority}"\naccepts = ["public"]\nthreshold = 0.5\ntimeout_ms = 20000\n')

    def close(self):
        self.server.shutdown()


def text(value):
    value = value.encode()
    return struct.pack(">H", len(value)) + value


class Device:
    """A machine on the line: MQTT 3.1.1, at least once, with a session that the broker keeps.

    `acknowledged` are the ids whose PUBACK came: what the appliance's broker has taken. `replies` are all
    that came, by id, in their order.
    """

    KEEPALIVE_S = 30
    RETRY_S = 1.0

    def __init__(self, port, name="press7", appliance="board-1"):
        self.port, self.name, self.appliance = port, name, appliance
        self.replies, self.status, self.state = {}, [], {}
        self.acknowledged = set()
        self.packet, self.waiting = 0, {}
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.at = None
        self.thread = threading.Thread(target=self.live, daemon=True)
        self.thread.start()

    def live(self):
        while not self.ended.is_set():
            try:
                self.connect()
                self.listen()
            except (OSError, ValueError, struct.error):
                pass
            with self.lock:
                self.at = None
            self.ended.wait(self.RETRY_S)

    def connect(self):
        at = socket.create_connection(("127.0.0.1", self.port), 5)
        at.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        at.settimeout(self.KEEPALIVE_S / 2)
        self.stream = at.makefile("rb")
        head = text("MQTT") + bytes([4, 0]) + struct.pack(">H", self.KEEPALIVE_S) + text(f"hil-{self.name}")
        at.sendall(self.framed(0x10, head))
        kind, body = self.frame()
        if kind != 0x20 or body[1] != 0:
            raise ValueError("refused")
        topics = [f"lineside/{self.appliance}/reply/+", f"lineside/{self.appliance}/status",
                  f"lineside/{self.appliance}/ota/state"]
        for number, topic in enumerate(topics, 65000):
            at.sendall(self.framed(0x82, struct.pack(">H", number) + text(topic) + b"\1"))
        with self.lock:
            self.at = at
            again = list(self.waiting.items())
        for number, (topic, payload, _) in again:
            self.send(0x3A, text(topic) + struct.pack(">H", number) + payload)

    def listen(self):
        while not self.ended.is_set():
            try:
                kind, body = self.frame()
            except TimeoutError:
                self.send(0xC0, b"")
                continue
            if kind & 0xF0 == 0x30:
                self.on_message(kind, body)
            elif kind == 0x40:
                with self.lock:
                    done = self.waiting.pop(struct.unpack(">H", body[:2])[0], None)
                    if done and done[2]:
                        self.acknowledged.add(done[2])

    def on_message(self, kind, body):
        size = struct.unpack(">H", body[:2])[0]
        topic, rest = body[2:2 + size].decode(), body[2 + size:]
        if kind & 0x06:
            self.send(0x40, rest[:2])
            rest = rest[2:]
        told = json.loads(rest or b"{}")
        if topic.endswith("/status"):
            self.status.append((time.monotonic(), told))
        elif topic.endswith("/ota/state"):
            self.state = told
        else:
            self.replies.setdefault(told.get("id"), []).append((time.monotonic(), told))

    @staticmethod
    def framed(kind, body):
        size, head = len(body), bytes([kind])
        while True:
            size, low = size >> 7, size & 0x7F
            head += bytes([low | (0x80 if size else 0)])
            if not size:
                return head + body

    def frame(self):
        kind = self.stream.read(1)
        if not kind:
            raise OSError("hung up")
        size = shift = 0
        while True:
            low = self.stream.read(1)[0]
            size |= (low & 0x7F) << shift
            shift += 7
            if low < 0x80:
                break
        return kind[0], self.stream.read(size)

    def send(self, kind, body):
        with self.lock:
            if self.at:
                try:
                    self.at.sendall(self.framed(kind, body))
                except OSError:
                    self.at = None

    def ask(self, id, **more):
        """Publishes a request, and again after each reconnect until the broker has taken it."""
        # Each asks something of its own: what was just answered is not computed again.
        number = zlib.crc32(id.encode())
        told = f"CNC-{number % 90 + 10} spindle vibration {number % 200 / 10} mm/s rising"
        request = {"id": id, "task": "triage", "input": told} | more
        payload = json.dumps(request).encode()
        topic = f"lineside/{self.appliance}/request/{self.name}"
        with self.lock:
            self.packet = self.packet % 60000 + 1
            number = self.packet
            self.waiting[number] = (topic, payload, id)
        self.send(0x32, text(topic) + struct.pack(">H", number) + payload)

    def final(self, id):
        """The final replies to a request, each once however often the broker brought it."""
        return [told for _, told in self.replies.get(id, []) if told.get("final")]

    def answer(self, id, patience_s):
        try:
            return until(f"a reply to {id}", lambda: self.final(id), patience_s)[0]
        except Lost as lost:
            raise Lost(f"{lost}; status {self.status[-1:]}") from None

    def close(self):
        self.ended.set()
        with self.lock:
            if self.at:
                self.at.close()
