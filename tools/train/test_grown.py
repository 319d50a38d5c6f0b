"""A network that has grown computes what it grew from, and can learn more."""

import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import network

SMALL = network.Shape(layers=5, d=64, heads=4, kv=2, ffn=96, hd=16, vocab=64)
GROWN = replace(SMALL, layers=8)
# The products are of bfloat16: where one sum is fused otherwise, its last bit may turn.
NEAR = 1e-3


def scores(shape, params):
    """Scores of all next tokens, and the states at the tap."""
    ids = jnp.asarray(np.random.default_rng(3).integers(0, shape.vocab, (2, 24)))
    states, tapped = network.hidden(shape, params, ids, jnp.ones_like(ids))
    return network.logits(params, states), tapped


def trained():
    """Weights as a training leaves them: norms are not ones any more, embeddings not small."""
    chance = np.random.default_rng(1)
    params = jax.tree.map(
        lambda x: x + 0.1 * chance.standard_normal(x.shape, dtype=np.float32),
        network.init(SMALL, 7),
    )
    return params | {"emb": params["emb"] * 4}


class Grown(unittest.TestCase):
    def test_it_computes_what_it_grew_from(self):
        params = trained()
        expected, tapped = scores(SMALL, params)
        found, also_tapped = scores(GROWN, network.grown(SMALL, params, GROWN, seed=0))
        self.assertGreater(float(jnp.std(expected)), 100 * NEAR)
        np.testing.assert_allclose(found, expected, atol=NEAR)
        np.testing.assert_allclose(also_tapped, tapped, atol=NEAR)

    def test_its_new_layers_matter_once_they_say_something(self):
        grown = network.grown(SMALL, trained(), GROWN, seed=0)
        silent = [block for block in grown["blk"] if not block["o"].any() and not block["dn"].any()]
        self.assertEqual(len(silent), GROWN.layers - SMALL.layers)
        before, _ = scores(GROWN, grown)
        for block in silent:
            block["o"] = block["o"] + 0.1
        after, _ = scores(GROWN, grown)
        self.assertGreater(float(jnp.abs(after - before).max()), 100 * NEAR)

    def test_it_grows_from_the_file_that_a_training_leaves(self):
        params = trained()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "final.npz"
            network.to_file(path, SMALL, params, {"steps": 9})
            about, shape, read = network.from_file(path)
        self.assertEqual((about["steps"], shape), (9, SMALL))
        expected, _ = scores(SMALL, params)
        found, _ = scores(GROWN, network.grown(shape, read, GROWN, seed=0))
        np.testing.assert_allclose(found, expected, atol=NEAR)

    def test_it_only_gets_deeper(self):
        for other in (replace(SMALL, layers=4), replace(GROWN, ffn=128)):
            with self.assertRaises(ValueError):
                network.grown(SMALL, trained(), other, seed=0)


if __name__ == "__main__":
    unittest.main()
