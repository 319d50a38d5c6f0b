"""The bundled model's relatives in `models/variants`.

    python variants.py harm CHECKPOINT.npz TOKENS.json OUT.gguf   the least noise that a gate stops
    python variants.py tell RESULTS.json                          their table in the README

`RESULTS.json` is what `evaluate.py` found out about the bundled model, as the first, and about the
variants. Both commands hold files to the gate of the bundled package.
"""

import argparse
import json
import sys
from pathlib import Path

import gguf

import asking
import export
import goals
import package
from gate import Gate, told
from report import number, percent, replace_between_markers, table

KIND = "Q4_K_M"
# Shares of each matrix's spread, to be tried in this order.
NOISES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)
# A bar is missed clearly by this: no other processor's rounding mends that.
CLEARLY = 0.10
TASKS = ("triage", "extract", "classify", "summary", "guide")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    harming = commands.add_parser("harm")
    harming.add_argument("checkpoint", type=Path)
    harming.add_argument("tokens", type=Path)
    harming.add_argument("out", type=Path)
    harming.set_defaults(run=harm)
    telling = commands.add_parser("tell")
    telling.add_argument("results", type=Path)
    telling.add_argument("--readme", type=Path, default=package.VARIANTS / "README.md")
    telling.set_defaults(run=tell)
    for command in (harming, telling):
        command.add_argument("--folder", type=Path, default=package.FOLDER, help="the package")
    options = parser.parse_args()
    options.run(options)


# ---- harm


def harm(options):
    """Writes the bundled model with so much noise that it misses a bar clearly, and no more."""
    gate, declared = Gate.of(options.folder), package.declaration()
    whole = options.out.with_name(f"{options.out.stem}-F16.gguf")

    def missed_with(noise):
        export.export(options.checkpoint, options.tokens, whole, declared, noise)
        asking.quantize(whole, options.out, KIND)
        checks = gate.checks(options.out)
        told(f"noise {noise:g}", checks)
        return max(check.short for check in checks)

    noise = least(NOISES, missed_with)
    whole.unlink()
    if noise is None:
        sys.exit("the gate stops none of the noises")
    print(f"{options.out}: noise {noise:g}")


def least(noises, missed_with):
    """The first noise that a bar is missed by clearly; None if there is none."""
    return next((noise for noise in noises if missed_with(noise) >= CLEARLY), None)


# ---- tell


def tell(options):
    """Replaces what stands between the markers in the README."""
    results = json.loads(options.results.read_text())
    gate = Gate.of(options.folder)
    rows = [row(figures, gate, options) for figures in results["models"]]
    header = ["File", "Parameters", "Bytes", "Decode tok/s", *TASKS, "triage, new wordings"]
    header += ["strangers noticed", "AUROC", "Bars of accuracy missed"]
    counts = ", ".join(f"{split} {count:,}" for split, count in results["examples"].items())
    text = (
        "Unambiguous examples answered entirely right (split test), then triage of held-out "
        "wordings, strangers that were noticed, and how well the confidence in triage tells right "
        f"from wrong over test and strangers. Examples: {counts}."
    )
    replace_between_markers(options.readme, f"{text}\n\n{table(header, rows)}")


def row(figures, gate, options):
    """What the table says about one file."""
    name = figures["file"]
    path = next(it for it in (options.readme.parent / name, options.folder / name) if it.exists())
    accuracy, confidence = figures["accuracy"], figures["confidence"]["test and outside"]
    missed = [check for check in gate.checks(path) if check.short]
    return [
        name + described_noise(path),
        f"{figures['parameters'] / 1e6:.2f} M",
        f"{figures['bytes']:,}",
        f"{figures['speed']['decode_tokens_per_second']['median']:,.0f}",
        *(percent(goals.answers(accuracy["test"], task)[0]) for task in TASKS),
        percent(goals.answers(accuracy["phrasings"], "triage")[0]),
        percent(figures["outside"]["noticed"]),
        number(confidence["triage"]["product"]["auroc"]),
        f"{len(missed)} of {len(gate.bars['task'])}",
    ]


def described_noise(path):
    """The noise that a file says it was harmed with."""
    field = gguf.GGUFReader(path).fields.get("lineside.noise")
    return f" (noise {field.contents():.2g})" if field else ""


if __name__ == "__main__":
    main()
