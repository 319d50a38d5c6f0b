"""A repository of signed packages, made by the operator's tool, for the scenarios over the air.

The packages are variations of the bundled one: the variant that takes the least, a suite of a few items,
and bars on time that an emulated board can meet. The bad one has a model that was harmed on purpose
(models/variants); it is signed without its gate, so that the board has to find out.
"""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUNDLED = ROOT / "models/factory-triage"
MODEL = "factory-triage-2-Q4_K_M.gguf"
RING = "canary"
# Every so manieth item of the suite: on an emulated board each takes seconds, and is asked twice.
EVERY = 28
PASSPHRASE = "hardware in the loop"


def variation(folder, seq, model):
    """A package like the bundled one, with another number and model."""
    folder.mkdir(parents=True)
    shutil.copytree(BUNDLED / "grammars", folder / "grammars")
    shutil.copy(model, folder / MODEL)
    lines = (BUNDLED / "gate.jsonl").read_text().splitlines(keepends=True)
    (folder / "gate.jsonl").write_text("".join(lines[::EVERY]))
    sheet = (BUNDLED / "manifest.toml").read_text()
    # A table begins with its head; those of the other variant go.
    tables = re.split(r"^(?=\[)", sheet, flags=re.MULTILINE)
    sheet = "".join(it for it in tables if 'quantization = "Q8_0"' not in it)
    sheet = re.sub(r"^seq = \d+", f"seq = {seq}", sheet, flags=re.MULTILINE)
    for name in (MODEL, "gate.jsonl"):
        data = (folder / name).read_bytes()
        sheet = re.sub(
            rf'((?:file|path) = "{re.escape(name)}"\nbytes = )\d+(\nsha256 = ")[0-9a-f]+',
            rf"\g<1>{len(data)}\g<2>{hashlib.sha256(data).hexdigest()}", sheet,
        )
    sheet = re.sub(r"^latency_ms = \d+", "latency_ms = 60000", sheet, flags=re.MULTILINE)
    sheet = re.sub(r"^calibration_error = .*", "calibration_error = 0.5", sheet, flags=re.MULTILINE)
    sheet = re.sub(r"^accuracy = .*", "accuracy = 0.5", sheet, flags=re.MULTILINE)
    (folder / "manifest.toml").write_text(sheet)
    return folder


class Repository:
    def __init__(self, fleet, folder):
        self.fleet, self.folder = str(Path(shutil.which(fleet) or fleet).resolve()), folder
        self.plant = folder / "plant"
        self.secret = folder / "passphrase"
        self.key = folder / "all.key"

    def tool(self, *words):
        told = subprocess.run([self.fleet, *map(str, words)], capture_output=True, text=True, cwd=self.folder)
        if told.returncode != 0:
            raise RuntimeError(f"lineside-fleet {' '.join(map(str, words))}: {told.stdout}{told.stderr}")
        return told.stdout

    def signing(self):
        return "--key", self.key, "--passphrase-file", self.secret, "--yes"

    def make(self):
        """An empty one, with one key for everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.secret.write_text(PASSPHRASE + "\n")
        self.secret.chmod(0o600)
        self.tool("key", "new", self.key, "--comment", "rig", "--passphrase-file", self.secret)
        roles = "root,targets,packages,rollout,offline,snapshot,timestamp"
        self.tool("init", self.plant, "--keys", f"{roles}={self.key}", *self.signing())

    def anchor(self):
        return self.plant / "metadata/1.root.json"

    def publish(self, seq, model, more=()):
        made = variation(self.folder / f"made/factory-triage-{seq}", seq, model)
        self.tool("package", "add", made, *more, *self.signing(), "--repo", self.plant)
        self.tool("ring", "open", RING, "--package", f"factory-triage-{seq}", *self.signing(), "--repo", self.plant)

    def good(self, seq):
        self.publish(seq, BUNDLED / MODEL)

    def bad(self, seq):
        self.publish(seq, ROOT / "models/variants/harmed-Q4_K_M.gguf", ("--without-gate", "the board is to find out"))
