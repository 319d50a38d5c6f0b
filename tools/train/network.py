"""The model: a small llama (RMSNorm, rotary positions, grouped attention, SwiGLU, tied embedding).

Parameters are float32; matrix products run in bfloat16 with float32 sums, which is twice as fast
on processors that know it and costs nothing measurable here. While training, a head's rotary
pairs are its two halves; `to_file` reorders them into llama.cpp's neighbouring pairs.

Training also looks into the middle: after `Shape.tap` layers two small heads must tell the category
and level of each finding at its last token. They are a crutch for learning and not exported.
"""

import json
from dataclasses import asdict, dataclass, fields, replace

import jax
import jax.numpy as jnp
import numpy as np

from factory.readings import ACTIONS, SEVERITIES

CATEGORIES, LEVELS = len(ACTIONS), len(SEVERITIES)
# What a layer is made of: norms, projections of attention, and of the feed-forward part.
BLOCK = ("an", "q", "k", "v", "o", "fn", "g", "u", "dn")


@dataclass(frozen=True)
class Shape:
    """Sizes of a model."""

    layers: int
    d: int
    heads: int
    kv: int
    ffn: int
    hd: int = 64
    vocab: int = 2048
    theta: float = 10000.0
    eps: float = 1e-5
    context: int = 512

    @property
    def tap(self):
        """How many layers findings are noticed in; the others weigh them against each other."""
        return (self.layers + 1) // 2


def init(shape, seed):
    """Fresh parameters."""
    keys = iter(jax.random.split(jax.random.PRNGKey(seed), 8 * shape.layers + 3))

    def normal(size, scale):
        return jax.random.normal(next(keys), size, jnp.float32) * scale

    d, f = shape.d, shape.ffn
    wide, narrow = shape.heads * shape.hd, shape.kv * shape.hd
    out = (2 * shape.layers) ** -0.5
    blocks = [{
        "an": jnp.ones(d), "fn": jnp.ones(d),
        "q": normal((d, wide), d ** -0.5), "k": normal((d, narrow), d ** -0.5), "v": normal((d, narrow), d ** -0.5),
        "o": normal((wide, d), wide ** -0.5 * out),
        "g": normal((d, f), d ** -0.5), "u": normal((d, f), d ** -0.5), "dn": normal((f, d), f ** -0.5 * out),
    } for _ in range(shape.layers)]
    heads = {"norm": jnp.ones(d), "category": normal((d, CATEGORIES), 0.02), "level": normal((d, LEVELS), 0.02)}
    return {"emb": normal((shape.vocab, d), 0.02), "norm": jnp.ones(d), "blk": blocks, "tap": heads}


def _dot(a, b):
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


@jax.custom_vjp
def _matmul(a, b):
    return _dot(a.astype(jnp.bfloat16), b.astype(jnp.bfloat16))


def _matmul_fwd(a, b):
    a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return _dot(a, b), (a, b)


def _transposed(a):
    """A transposed copy in memory. XLA would only note the transposition, and its product of
    bfloat16 on the CPU is three times slower then; a flat array in between leaves it no choice."""
    return jax.lax.optimization_barrier(a.T.reshape(-1)).reshape(a.shape[::-1])


def _matmul_bwd(saved, grad):
    a, b = saved
    grad = grad.astype(jnp.bfloat16)
    return _dot(grad, _transposed(b)), _dot(_transposed(a), grad)


_matmul.defvjp(_matmul_fwd, _matmul_bwd)


def _mm(x, w):
    return _matmul(x.reshape(-1, x.shape[-1]), w).reshape(*x.shape[:-1], w.shape[-1])


def _rms(shape, x, weight):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + shape.eps) * weight


def _rotate(x, cos, sin):
    left, right = jnp.split(x, 2, -1)
    return jnp.concatenate([left * cos - right * sin, left * sin + right * cos], -1)


def hidden(shape, params, ids, segments):
    """The last hidden states, and those at the tap; tokens see what stands before them in their
    own segment."""
    rows, length = ids.shape
    k, hd = shape.kv, shape.hd
    angles = jnp.arange(length)[:, None] * shape.theta ** (-jnp.arange(0, hd, 2) / hd)
    cos, sin = jnp.cos(angles)[None, :, None], jnp.sin(angles)[None, :, None]
    seen = (segments[:, :, None] == segments[:, None, :]) & jnp.tril(jnp.ones((length, length), bool))
    bias = jnp.where(seen, 0.0, -1e9)[:, None, None]
    x = params["emb"][ids]
    for number, block in enumerate(params["blk"], 1):
        y = _rms(shape, x, block["an"])
        q = _rotate(_mm(y, block["q"]).reshape(rows, length, shape.heads, hd), cos, sin)
        q = q.reshape(rows, length, k, shape.heads // k, hd).astype(jnp.bfloat16)
        key = _rotate(_mm(y, block["k"]).reshape(rows, length, k, hd), cos, sin).astype(jnp.bfloat16)
        value = _mm(y, block["v"]).reshape(rows, length, k, hd).astype(jnp.bfloat16)
        scores = jnp.einsum("btkgd,bskd->bkgts", q, key, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(scores * hd ** -0.5 + bias, -1).astype(jnp.bfloat16)
        mixed = jnp.einsum("bkgts,bskd->btkgd", weights, value, preferred_element_type=jnp.float32)
        x = x + _mm(mixed.reshape(rows, length, -1), block["o"])
        y = _rms(shape, x, block["fn"])
        x = x + _mm(jax.nn.silu(_mm(y, block["g"])) * _mm(y, block["u"]), block["dn"])
        if number == shape.tap:
            tapped = x
    return _rms(shape, x, params["norm"]), tapped


def logits(params, states):
    """Scores of the next token for each state."""
    return _mm(states, _transposed(params["emb"]))


def noticed(shape, params, states):
    """Scores of category and level for tapped states."""
    heads = params["tap"]
    states = _rms(shape, states, heads["norm"])
    return states @ heads["category"], states @ heads["level"]


def size(params):
    """Number of parameters that the exported model has."""
    return sum(x.size for part in ("emb", "norm", "blk") for x in jax.tree.leaves(params[part]))


def _pairs(matrix, heads, hd):
    """Columns of each head from halves (j, j + hd/2) to neighbours (2j, 2j + 1)."""
    order = np.arange(hd).reshape(2, hd // 2).T.reshape(-1)
    return matrix.reshape(matrix.shape[0], heads, hd)[:, :, order].reshape(matrix.shape)


def _halves(matrix, heads, hd):
    """The way back from `_pairs`."""
    order = np.arange(hd).reshape(hd // 2, 2).T.reshape(-1)
    return matrix.reshape(matrix.shape[0], heads, hd)[:, :, order].reshape(matrix.shape)


def to_file(path, shape, params, about):
    """Writes a checkpoint in llama.cpp's layout, with what there is to say about it."""
    flat = {"emb": params["emb"], "norm": params["norm"]}
    for i, block in enumerate(params["blk"]):
        for name, value in block.items():
            value = np.asarray(value, np.float32)
            if name == "q":
                value = _pairs(value, shape.heads, shape.hd)
            elif name == "k":
                value = _pairs(value, shape.kv, shape.hd)
            flat[f"blk.{i}.{name}"] = value
    np.savez(path, __about__=json.dumps({**asdict(shape), **about}),
             **{name: np.asarray(value, np.float32) for name, value in flat.items()})


def from_file(path):
    """What a checkpoint says about itself, its shape, and its parameters; it holds no tap."""
    with np.load(path) as stored:
        about = json.loads(str(stored["__about__"]))
        shape = Shape(**{field.name: about[field.name] for field in fields(Shape)})
        blocks = [{name: stored[f"blk.{i}.{name}"] for name in BLOCK} for i in range(shape.layers)]
        for block in blocks:
            block["q"] = _halves(block["q"], shape.heads, shape.hd)
            block["k"] = _halves(block["k"], shape.kv, shape.hd)
        params = {"emb": stored["emb"], "norm": stored["norm"], "blk": blocks}
    return about, shape, jax.tree.map(jnp.asarray, params)


def grown(old, params, shape, seed):
    """Parameters of a deeper network that computes what the old one does: its layers, and between
    them copies of them that add nothing yet. The tap sees what it saw; its heads begin anew."""
    if replace(old, layers=shape.layers) != shape or shape.layers < old.layers:
        raise ValueError(f"{old} can't grow into {shape}: it can only get deeper")
    blocks = [None] * shape.layers
    parts = ((0, old.tap, 0, shape.tap), (old.tap, old.layers, shape.tap, shape.layers))
    for begin, end, low, high in parts:
        for i in range(begin, end):
            blocks[low + (i - begin) * (high - low) // (end - begin)] = params["blk"][i]
    for i, block in enumerate(blocks):
        if block is None:
            copied = jax.tree.map(jnp.copy, blocks[i - 1])
            blocks[i] = copied | {name: jnp.zeros_like(copied[name]) for name in ("o", "dn")}
    return {**params, "blk": blocks, "tap": init(shape, seed)["tap"]}
