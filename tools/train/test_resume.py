"""A training that is killed goes on where its last checkpoint stands, to the same weights.

It is one that grows from other weights: there the beginning matters too. The trainings run in
processes of their own: this file is also the program that trains.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

import factory
import learn
import network
import tokens

SEED = network.Shape(layers=1, d=32, heads=2, kv=1, ffn=32, hd=16)
TINY = learn.Recipe(replace(SEED, layers=2), 24, 2, 5e-3, 8, grown_from="seed")
DIGEST = "sha256:tiny"
LOG, KEEP = 3, 6
# The checkpoint at which the process is killed, when it is written but not in its place.
KILLED_AT = 3


class Resume(unittest.TestCase):
    def test_a_killed_training_ends_with_the_weights_of_one_that_was_not(self):
        with tempfile.TemporaryDirectory() as folder:
            whole, killed = Path(folder) / "whole", Path(folder) / "killed"
            seed = Path(folder) / TINY.grown_from / "final.npz"
            seed.parent.mkdir()
            network.to_file(seed, SEED, network.init(SEED, 5), {"data_digest": DIGEST, "steps": 90})
            self.assertEqual(train(whole), 0)
            self.assertEqual(train(killed, KILLED_AT), -signal.SIGKILL)
            self.assertFalse((killed / "final.npz").exists())
            self.assertTrue((killed / "state.half").exists())
            self.assertEqual(train(killed), 0)

            ends = [out / "final.npz" for out in (whole, killed)]
            with np.load(ends[0]) as left, np.load(ends[1]) as right:
                self.assertEqual(left.files, right.files)
                for name in left.files:
                    self.assertEqual(left[name].tobytes(), right[name].tobytes(), name)
            # What names the origin of a grown model is the hash of the file.
            self.assertTrue(ends[0].read_bytes() == ends[1].read_bytes())
            self.assertEqual(course(whole), course(killed))

    def test_a_checkpoint_is_taken_by_its_own_training_only(self):
        saved = {"recipe": asdict(TINY), "data_digest": "data", "origin": "weights"}
        self.assertTrue(learn.belongs(saved, TINY, "data", "weights"))
        self.assertFalse(learn.belongs(saved, TINY, "data", "other weights"))
        self.assertFalse(learn.belongs(saved, TINY, "other data", "weights"))
        self.assertFalse(learn.belongs(saved, replace(TINY, rate=1.0), "data", "weights"))

    def test_a_checkpoint_need_not_know_what_recipes_say_since(self):
        recipe = replace(TINY, grown_from=None)
        older = asdict(recipe)
        del older["fall"], older["grown_from"]
        saved = {"recipe": older, "data_digest": "data"}
        self.assertTrue(learn.belongs(saved, recipe, "data", None))
        self.assertFalse(learn.belongs(saved, TINY, "data", "weights"))


def train(out, killed_at=0):
    """Trains in a process of its own; how that ended. The first one compiles for all."""
    command = [sys.executable, __file__, str(out), str(killed_at)]
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(out.with_name("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, env=os.environ | cache)
    return ended.returncode


def course(out):
    """What the log says, but for the time that it took."""
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def main(out, killed_at):
    """Trains the tiny recipe; dies by SIGKILL in the middle of a checkpoint, if one is named."""
    put_in_place, checkpoints = os.replace, []

    def die_or_put_in_place(source, target):
        if Path(target).name == "state.pickle":
            checkpoints.append(target)
            if len(checkpoints) == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
        put_in_place(source, target)

    # What takes long and is no matter here: the digest of all data, and many merges.
    os.replace, tokens.SAMPLE = die_or_put_in_place, 300
    learn.LOG, learn.KEEP = LOG, KEEP
    factory.digest = lambda: DIGEST
    learn.run("tiny", TINY, Path(out), Path(out).with_name("tokens.json"))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
