"""The network once more, in NumPy: an independent reference for what the runtime computes.

Written from the architecture (llama: RMS norm, interleaved RoPE, grouped-query attention, SwiGLU,
tied embedding), not from the training code. Weights are rounded to float16 like the exported file.
"""

import numpy as np


class Reference:
    """A checkpoint as a function from tokens to logits, with a cache of keys and values."""

    def __init__(self, about, weights):
        self.about = about
        self.weights = {
            name: array if array.ndim == 1 else array.astype(np.float16).astype(np.float32)
            for name, array in weights.items()
        }
        half = np.arange(0, about["hd"], 2)
        self.frequencies = about["theta"] ** (-half / about["hd"])

    def greedy(self, prompt, max_tokens, ends):
        """The likeliest tokens, the logits' gap to the second at each, and its log probability."""
        tokens, gaps, logprobs = [], [], []
        cache, given = [None] * self.about["layers"], prompt
        while len(tokens) < max_tokens and not (tokens and tokens[-1] in ends):
            logits = self.logits(np.array(given), cache)
            second, first = np.partition(logits, -2)[-2:]
            tokens.append(int(logits.argmax()))
            gaps.append(float(first - second))
            logprobs.append(float(-np.log(np.exp(logits - first).sum())))
            given = tokens[-1:]
        return tokens, gaps, logprobs

    def logits(self, tokens, cache):
        """The logits after the last token; the cache takes in all of them."""
        x = self.weights["emb"][tokens]
        for block in range(self.about["layers"]):
            x = x + self._attention(block, self._norm(x, f"blk.{block}.an"), cache)
            x = x + self._feed_forward(block, self._norm(x, f"blk.{block}.fn"))
        return self._norm(x[-1], "norm") @ self.weights["emb"].T

    def _attention(self, block, x, cache):
        heads, groups, width = self.about["heads"], self.about["kv"], self.about["hd"]
        count = len(x)
        before = 0 if cache[block] is None else len(cache[block][0])
        positions = before + np.arange(count)
        queries = self._rotate(self._project(block, "q", x).reshape(count, heads, width), positions)
        keys = self._rotate(self._project(block, "k", x).reshape(count, groups, width), positions)
        values = self._project(block, "v", x).reshape(count, groups, width)
        if before:
            keys = np.concatenate([cache[block][0], keys])
            values = np.concatenate([cache[block][1], values])
        cache[block] = (keys, values)

        shared = heads // groups
        scores = np.einsum("thd,shd->hts", queries, np.repeat(keys, shared, 1)) / np.sqrt(width)
        future = np.arange(len(keys)) > positions[:, None]
        scores = np.where(future, -np.inf, scores)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = np.einsum("hts,shd->thd", weights, np.repeat(values, shared, 1))
        return self._project(block, "o", mixed.reshape(count, heads * width).astype(np.float32))

    def _feed_forward(self, block, x):
        gate = self._project(block, "g", x)
        gated = gate / (1 + np.exp(-gate)) * self._project(block, "u", x)
        return self._project(block, "dn", gated)

    def _project(self, block, name, x):
        return x @ self.weights[f"blk.{block}.{name}"]

    def _norm(self, x, name):
        mean_square = (x * x).mean(-1, keepdims=True)
        return x / np.sqrt(mean_square + self.about["eps"]) * self.weights[name]

    def _rotate(self, x, positions):
        angles = (positions[:, None] * self.frequencies)[:, None].astype(np.float32)
        cos, sin = np.cos(angles), np.sin(angles)
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = np.empty_like(x)
        turned[..., 0::2] = even * cos - odd * sin
        turned[..., 1::2] = even * sin + odd * cos
        return turned
