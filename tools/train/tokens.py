"""The tokenizer: byte-level BPE in the form that llama.cpp knows as `gpt2` with the `qwen2` rules.

Digits stay single tokens, so that numbers are read and copied digit by digit.
`python tokens.py OUT.json` trains it on the training split; the same data gives the same file.
"""

import sys
from bisect import bisect_left

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import factory

END_OF_TEXT, TURN, END_OF_TURN = 0, 1, 2
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY = 2048
# Messages that the merges are learned from.
SAMPLE = 60_000

_RULES = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def _untrained():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(_RULES), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _texts():
    """What is merged: roles, instructions, messages and answers, without the markers."""
    for index in range(SAMPLE):
        example = factory.example("train", index)
        yield f"system\n{example.system}\nuser\n{example.input}\nassistant\n{example.output}"


def train():
    """The tokenizer of the training split."""
    tokenizer = _untrained()
    tokenizer.train_from_iterator(_texts(), trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIALS, min_frequency=2, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    return tokenizer


def load(path):
    """The tokenizer from its file."""
    return Tokenizer.from_file(str(path))


def encode_example(tokenizer, example):
    """Prompt and answer of an example as token ids; the answer ends its turn. With them the
    findings: (place of the last token in the prompt, category, level)."""
    whole = factory.prompt(example.system, example.input)
    prompt = tokenizer.encode(whole)
    begin = whole.index(f"user\n{example.input}<|im_end|>") + len("user\n")
    ends = [end for _, end in prompt.offsets]
    findings = [(bisect_left(ends, begin + end), category, level) for end, category, level in example.findings]
    return prompt.ids, tokenizer.encode(example.output).ids + [END_OF_TURN], findings


if __name__ == "__main__":
    train().save(sys.argv[1])
