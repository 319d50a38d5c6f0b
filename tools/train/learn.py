"""Trains a model: `python learn.py RECIPE OUT`.

Every batch is a pure function of its number, so a run that was stopped goes on where its last
checkpoint stands and ends with the same weights. A GPU is used where JAX finds one. The log is
one JSON object a line; `curves.py` draws it.

A recipe may let a trained model grow: it begins with that one's final weights and with layers
between its layers that add nothing at first, and goes on with data that was not seen yet.
"""

import argparse
import hashlib
import json
import os
import pickle
import queue
import sys
import threading
import time
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib

import factory
import network
import tokens

# Tokens of a row; messages are packed into rows and see only themselves.
ROW = 160
# Share of a batch's tokens whose prediction is scored: all answers, and some of the messages.
SCORED = 0.5
# Weight and share of the message tokens that are scored beside the answers.
MESSAGE_WEIGHT, MESSAGE_SHARE = 0.3, 0.15
# A label is one token where other answers are twenty: it counts for more, or is learned last.
LABEL_WEIGHT = 4
# Findings of a batch that are looked at, at most, and what they count beside the answers.
FINDINGS, FINDING_WEIGHT = 128, 0.5
# The weights that are kept are a running mean over about this many steps.
MEAN_OVER = 150
# Steps between lines of the log, looks at the validation splits, and checkpoints.
LOG, LOOK, KEEP = 50, 500, 250


@dataclass(frozen=True)
class Recipe:
    """Sizes and course of one training."""

    shape: network.Shape
    steps: int
    rows: int
    rate: float
    findings_from: int  # the step from which on findings count: copying is learned before judging
    seed: int = 0
    fall: float = 0.4  # the share of the steps, the last ones, over which the rate comes down
    grown_from: str | None = None  # the recipe whose final weights this one begins with


RECIPES = {
    "main": Recipe(network.Shape(layers=5, d=256, heads=4, kv=2, ffn=640), 7000, 16, 3e-3, 1200),
    # Half as large: a draft for the main one, and an edge that knows less.
    "draft": Recipe(network.Shape(layers=3, d=256, heads=4, kv=1, ffn=384), 3500, 16, 3e-3, 900),
    # What plays the strong cloud: the main one, deeper by three layers and taught further.
    "sibling": Recipe(network.Shape(layers=8, d=256, heads=4, kv=2, ffn=640), 1200, 16, 1.5e-3, 0,
                      fall=0.8, grown_from="main"),
    "quick": Recipe(network.Shape(layers=2, d=128, heads=2, kv=1, ffn=256), 300, 6, 5e-3, 100),
    "quick-grown": Recipe(network.Shape(layers=3, d=128, heads=2, kv=1, ffn=256), 30, 6, 1e-3, 0,
                          fall=0.8, grown_from="quick"),
}


# ------------------------------------------------------------------ data


def batch(tokenizer, rows, number):
    """Batch `number`: inputs, targets, segments, which positions count how much, and the findings
    as (place, category, level, counted)."""
    length = ROW + 1
    ids = np.zeros((rows, length), np.int32)
    segments = np.zeros((rows, length), np.int32)
    weights = np.zeros((rows, length), np.float32)
    lottery = np.random.default_rng(number)
    # About 60 tokens a message: draw a few more than fit, long ones first, and drop the rest.
    count = rows * ROW // 50
    examples = [factory.example("train", number * count + i) for i in range(count)]
    drawn = [(LABEL_WEIGHT if it.task == "classify" else 1, *tokens.encode_example(tokenizer, it)) for it in examples]
    drawn.sort(key=lambda it: -len(it[1]) - len(it[2]))
    filled, findings = [0] * rows, []
    for serial, (weight, prompt, answer, found) in enumerate(drawn, 1):
        need = len(prompt) + len(answer)
        row = next((i for i in sorted(range(rows), key=lambda i: -filled[i]) if filled[i] + need <= length), None)
        if row is None:
            continue
        at = filled[row]
        ids[row, at:at + need] = prompt + answer
        segments[row, at:at + need] = serial
        chosen = lottery.random(len(prompt)) < MESSAGE_SHARE
        weights[row, at:at + len(prompt)] = MESSAGE_WEIGHT * chosen
        weights[row, at] = 0
        weights[row, at + len(prompt):at + need] = weight
        filled[row] = at + need
        findings += [(row * ROW + at + place, category, level, 1) for place, category, level in found]
    scored = np.flatnonzero(weights[:, 1:].reshape(-1))[:int(rows * ROW * SCORED)]
    places = np.zeros(int(rows * ROW * SCORED), np.int32)
    places[:len(scored)] = scored
    counts = np.zeros(len(places), np.float32)
    counts[:len(scored)] = weights[:, 1:].reshape(-1)[scored]
    noticed = np.zeros((FINDINGS, 4), np.int32)
    noticed[:len(findings[:FINDINGS])] = findings[:FINDINGS]
    return ids[:, :-1], ids[:, 1:].reshape(-1)[places], segments[:, :-1], places, counts, noticed


def ahead(make, first, last):
    """Makes the batches in a thread of their own, a few ahead of their use."""
    waiting = queue.Queue(maxsize=4)

    def work():
        for number in range(first, last):
            waiting.put(make(number))

    threading.Thread(target=work, daemon=True).start()
    for _ in range(first, last):
        yield waiting.get()


class Exam:
    """Teacher-forced exact answers on fixed examples of a split: greedy decoding's own measure."""

    def __init__(self, tokenizer, split, count, width=ROW):
        self.examples, pairs = [], []
        for index in range(count):
            example = factory.example(split, index)
            prompt, answer, _ = tokens.encode_example(tokenizer, example)
            if len(prompt) + len(answer) <= width + 1 and len(example.odds) == 1:
                self.examples.append(example)
                pairs.append((prompt, answer))
        self.ids = np.zeros((len(pairs), width + 1), np.int32)
        self.asked = np.zeros((len(pairs), width + 1), bool)
        for row, (prompt, answer) in enumerate(pairs):
            self.ids[row, :len(prompt) + len(answer)] = prompt + answer
            self.asked[row, len(prompt):len(prompt) + len(answer)] = True

    def result(self, right):
        """Share of whole answers that are right, by task; `right(ids)` says it token by token."""
        chunks = [right(self.ids[i:i + 32]) for i in range(0, len(self.ids), 32)]
        whole = (np.concatenate(chunks) | ~self.asked[:, 1:]).all(1)
        by_task = {}
        for example, good in zip(self.examples, whole):
            by_task.setdefault(example.task, []).append(bool(good))
        return {task: round(float(np.mean(found)), 4) for task, found in sorted(by_task.items())}


# ------------------------------------------------------------------ course


def schedule(recipe):
    """Warm up, hold, and come down to nothing over the last steps."""
    down = int(recipe.steps * recipe.fall)
    warm = min(100, recipe.steps // 10)
    return optax.join_schedules([
        optax.linear_schedule(0, recipe.rate, warm),
        optax.constant_schedule(recipe.rate),
        optax.linear_schedule(recipe.rate, recipe.rate * 0.01, down),
    ], [warm, recipe.steps - down])


def optimizer(recipe):
    """Muon for the matrices inside, Adam for embedding, norms and the heads at the tap."""
    def matrices(params):
        return jax.tree_util.tree_map_with_path(
            lambda path, x: contrib.MuonDimensionNumbers() if x.ndim == 2 and path[0].key == "blk" else None, params)

    return optax.chain(
        optax.clip_by_global_norm(1.0),
        contrib.muon(schedule(recipe), weight_decay=0.05, adam_b1=0.9, adam_b2=0.98, consistent_rms=0.2,
                     muon_weight_dimension_numbers=matrices))


def trainer(recipe):
    """The compiled step."""
    course = optimizer(recipe)

    def missed(scores, wanted):
        return jax.nn.logsumexp(scores, -1) - jnp.take_along_axis(scores, wanted[:, None], -1)[:, 0]

    def loss(params, weight, ids, targets, segments, places, counts, findings):
        states, tapped = network.hidden(recipe.shape, params, ids, segments)
        token = missed(network.logits(params, states.reshape(-1, recipe.shape.d)[places]), targets)
        place, category, level, counted = findings.T
        categories, levels = network.noticed(recipe.shape, params, tapped.reshape(-1, recipe.shape.d)[place])
        finding = ((missed(categories, category) + missed(levels, level)) * counted).sum() / counted.sum()
        answers = counts >= 1
        answer = (token * answers).sum() / answers.sum()
        return (token * counts).sum() / counts.sum() + weight * finding, (answer, finding)

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(params, mean, state, weight, *data):
        (_, losses), grads = jax.value_and_grad(loss, has_aux=True)(params, weight, *data)
        updates, state = course.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        mean = jax.tree.map(lambda m, p: m + (p - m) / MEAN_OVER, mean, params)
        return params, mean, state, losses

    return course, step


def right(shape, params):
    """A function that says for each next token whether the model's first choice is it."""
    @jax.jit
    def judge(params, ids):
        segments = jnp.ones_like(ids[:, :-1])
        scores = network.logits(params, network.hidden(shape, params, ids[:, :-1], segments)[0])
        return jnp.argmax(scores, -1) == ids[:, 1:]

    return lambda ids: np.asarray(judge(params, ids))


def bar(done, whole, begun, note):
    """Progress on one line of a terminal."""
    if not sys.stderr.isatty():
        return
    left = (time.time() - begun) / max(done, 1) * (whole - done)
    filled = int(30 * done / whole)
    sys.stderr.write(f"\r[{'#' * filled}{'.' * (30 - filled)}] {done}/{whole}  {note}  {left / 60:.0f} min left ")
    sys.stderr.flush()


def resumed_log(path, step):
    """The log, without the lines after the checkpoint: those steps are taken again."""
    lines = path.read_text().splitlines() if path.exists() else []
    path.write_text("".join(f"{line}\n" for line in lines if json.loads(line)["step"] <= step))
    return path.open("a")


def beginning(recipe, out, data_digest):
    """The weights of step 0, the number of the first batch, and what names the weights' origin."""
    if recipe.grown_from is None:
        return network.init(recipe.shape, recipe.seed), 0, None
    path = out.parent / recipe.grown_from / "final.npz"
    if not path.exists():
        sys.exit(f"{path} is missing; train {recipe.grown_from} first")
    about, shape, params = network.from_file(path)
    if about["data_digest"] != data_digest:
        sys.exit(f"{path} learnt from other data; train {recipe.grown_from} anew")
    origin = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    return network.grown(shape, params, recipe.shape, recipe.seed), about["steps"], origin


def belongs(saved, recipe, data_digest, origin):
    """Whether a checkpoint is of this very training; what a recipe came to say since had its default."""
    course = {it.name: saved["recipe"].get(it.name, it.default) for it in fields(Recipe)}
    return (course, saved["data_digest"], saved.get("origin")) == (asdict(recipe), data_digest, origin)


def run(name, recipe, out, token_file):
    """The whole course, from the last checkpoint on."""
    out.mkdir(parents=True, exist_ok=True)
    if not token_file.exists():
        tokens.train().save(str(token_file))
    tokenizer = tokens.load(token_file)
    course, step = trainer(recipe)
    digest = factory.digest()
    params, seen, origin = beginning(recipe, out, digest)
    mean, state, first, spent = jax.tree.map(jnp.copy, params), course.init(params), 0, 0.0
    kept = out / "state.pickle"
    if kept.exists():
        saved = pickle.loads(kept.read_bytes())
        if not belongs(saved, recipe, digest, origin):
            sys.exit(f"{kept} belongs to another recipe, origin or data; remove it to begin anew")
        params, mean, state = jax.tree.map(jnp.asarray, (saved["params"], saved["mean"], saved["state"]))
        first, spent = saved["step"], saved["seconds"]
    exams = {split: Exam(tokenizer, split, count)
             for split, count in (("validation", 512), ("phrasings-validation", 256), ("outside-validation", 128))}
    log = resumed_log(out / "log.jsonl", first)
    about = {"name": name, "data_digest": digest}
    print(f"{name}: {network.size(params) / 1e6:.2f} M parameters, {recipe.steps} steps on {jax.default_backend()}", flush=True)
    begun, losses = time.time() - spent, []
    batches = ahead(partial(batch, tokenizer, recipe.rows), seen + first, seen + recipe.steps)
    for number, data in enumerate(batches, first + 1):
        weight = FINDING_WEIGHT if number > recipe.findings_from else 0.0
        params, mean, state, loss = step(params, mean, state, weight, *data)
        losses.append(loss)
        if number % LOG == 0 or number == recipe.steps:
            answer, finding = np.mean(jax.device_get(losses), 0)
            entry = {"step": number, "seconds": round(time.time() - begun, 1),
                     "loss": round(float(answer), 5), "finding_loss": round(float(finding), 5)}
            losses = []
            if number % LOOK == 0 or number == recipe.steps:
                judge = right(recipe.shape, mean)
                entry |= {split: exam.result(judge) for split, exam in exams.items()}
            print(json.dumps(entry), file=log, flush=True)
            bar(number, recipe.steps, begun, f"loss {entry['loss']:.4f}")
        if number % KEEP == 0 or number == recipe.steps:
            half = kept.with_suffix(".half")
            half.write_bytes(pickle.dumps({"recipe": asdict(recipe), "data_digest": digest, "origin": origin,
                                           "step": number, "seconds": time.time() - begun, "params": jax.device_get(params),
                                           "mean": jax.device_get(mean), "state": jax.device_get(state)}))
            os.replace(half, kept)
    network.to_file(out / "final.npz", recipe.shape, mean, {**about, "steps": seen + recipe.steps})
    print(f"\n{out / 'final.npz'}: {(time.time() - begun) / 60:.0f} minutes")


def main():
    parser = argparse.ArgumentParser(description="Trains a model by a recipe.")
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokens", type=Path, help="the tokenizer's file; default: OUT/../tokens.json, made if missing")
    parser.add_argument("--steps", type=int, help="instead of the recipe's, to try something")
    parser.add_argument("--rate", type=float, help="instead of the recipe's, to try something")
    chosen = parser.parse_args()
    recipe = RECIPES[chosen.recipe]
    if chosen.steps:
        recipe = replace(recipe, steps=chosen.steps)
    if chosen.rate:
        recipe = replace(recipe, rate=chosen.rate)
    run(chosen.recipe, recipe, chosen.out, chosen.tokens or chosen.out.parent / "tokens.json")


if __name__ == "__main__":
    main()
