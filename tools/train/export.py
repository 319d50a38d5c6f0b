"""Writes a checkpoint as a GGUF file: `python export.py CHECKPOINT.npz TOKENS.json OUT.gguf`.

Matrices become float16, norms stay float32. The file says what it is: name, version, description,
licence and languages as the package's declaration has them, the recipe and the digest of the data
that it was trained on, its chat template. The same checkpoint gives the same bytes. `--noise` harms
the model on purpose, for tests that need a package which fails its gate.
"""

import argparse
import hashlib
import json
from pathlib import Path

import gguf
import numpy as np

import package

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n'"
    " + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
BLOCK_TENSORS = {
    "an": "attn_norm",
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "fn": "ffn_norm",
    "g": "ffn_gate",
    "u": "ffn_up",
    "dn": "ffn_down",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("tokens", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", help="instead of the declared one")
    parser.add_argument("--version", help="instead of the declared one")
    parser.add_argument("--declaration", type=Path, default=package.DECLARATION)
    parser.add_argument("--noise", type=float, default=0.0, help="share of each matrix's spread")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    options = parser.parse_args()

    identity = package.declaration(options.declaration)
    identity["name"] = options.name or identity["name"]
    identity["version"] = options.version or identity["version"]
    export(options.checkpoint, options.tokens, options.out, identity, options.noise, options.seed)
    content = options.out.read_bytes()
    print(f"{options.out}: {len(content)} bytes, sha256:{hashlib.sha256(content).hexdigest()}")


def export(checkpoint, tokens, out, identity, noise=0.0, seed=0):
    """Writes the file, harmed if there is noise; then it says so."""
    about, weights = read_checkpoint(checkpoint)
    if noise:
        about |= {"noise": noise}
        weights = harmed(weights, noise, seed)
        identity = identity | {"description": f"{identity['description']} (deliberately harmed)"}
    write(out, identity, about, weights, json.loads(tokens.read_text()))


def read_checkpoint(path):
    """What the checkpoint says about itself, and its arrays by name."""
    with np.load(path) as stored:
        about = json.loads(str(stored["__about__"]))
        return about, {name: stored[name] for name in stored.files if name != "__about__"}


def harmed(weights, noise, seed):
    """Gaussian noise on the matrices, relative to the spread of each."""
    chance = np.random.default_rng(seed)
    return {
        name: array
        if array.ndim == 1
        else array + noise * array.std() * chance.standard_normal(array.shape, dtype=np.float32)
        for name, array in sorted(weights.items())
    }


def write(path, identity, about, weights, tokenizer):
    """Writes the file."""
    writer = gguf.GGUFWriter(path, "llama")
    write_identity(writer, identity, about, weights)
    write_network(writer, about)
    write_tokenizer(writer, about, tokenizer)
    write_tensors(writer, about, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_identity(writer, identity, about, weights):
    writer.add_type("model")
    writer.add_name(identity["name"])
    writer.add_version(identity["version"])
    writer.add_basename(identity["name"])
    writer.add_size_label(f"{sum(array.size for array in weights.values()) / 1e6:.1f}M")
    writer.add_author("The lineside project")
    writer.add_license(identity["license"])
    writer.add_description(identity["description"])
    writer.add_languages(identity["languages"])
    writer.add_tags(["edge", "triage", "text-generation"])
    writer.add_string("lineside.data_digest", about["data_digest"])
    writer.add_string("lineside.recipe", about["name"])
    writer.add_uint32("lineside.training_steps", about["steps"])
    if "noise" in about:
        writer.add_float32("lineside.noise", about["noise"])


def write_network(writer, about):
    writer.add_context_length(about["context"])
    writer.add_embedding_length(about["d"])
    writer.add_block_count(about["layers"])
    writer.add_feed_forward_length(about["ffn"])
    writer.add_head_count(about["heads"])
    writer.add_head_count_kv(about["kv"])
    writer.add_key_length(about["hd"])
    writer.add_value_length(about["hd"])
    writer.add_rope_dimension_count(about["hd"])
    writer.add_rope_freq_base(about["theta"])
    writer.add_layer_norm_rms_eps(about["eps"])
    writer.add_vocab_size(about["vocab"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def write_tokenizer(writer, about, tokenizer):
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    texts = {number: text for text, number in tokenizer["model"]["vocab"].items()}
    texts |= {number: text for text, number in special.items()}
    unused = [number for number in range(about["vocab"]) if number not in texts]
    texts |= {number: f"<|unused{number}|>" for number in unused}
    kinds = [gguf.TokenType.NORMAL] * about["vocab"]
    for number in special.values():
        kinds[number] = gguf.TokenType.CONTROL
    for number in unused:
        kinds[number] = gguf.TokenType.UNUSED
    merges = tokenizer["model"]["merges"]

    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([texts[number] for number in range(about["vocab"])])
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_bos_token_id(special["<|endoftext|>"])
    writer.add_pad_token_id(special["<|endoftext|>"])
    writer.add_eos_token_id(special["<|im_end|>"])
    writer.add_eot_token_id(special["<|im_end|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def write_tensors(writer, about, weights):
    """The checkpoint keeps matrices as [in, out] and GGUF as rows of outputs, but the embedding."""
    writer.add_tensor("token_embd.weight", weights["emb"].astype(np.float16))
    for block in range(about["layers"]):
        for short, name in BLOCK_TENSORS.items():
            array = weights[f"blk.{block}.{short}"]
            array = array.astype(np.float32 if array.ndim == 1 else np.float16)
            writer.add_tensor(f"blk.{block}.{name}.weight", np.ascontiguousarray(array.T))
    writer.add_tensor("output_norm.weight", weights["norm"].astype(np.float32))


if __name__ == "__main__":
    main()
