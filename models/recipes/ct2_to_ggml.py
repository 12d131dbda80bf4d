#!/usr/bin/env python3
"""A Whisper model of CTranslate2 as a whisper.cpp file with 8-bit weights (ggml, q8_0). Needs numpy alone.

usage: ct2_to_ggml.py MODEL.bin[,PART...] TOKENIZER.json OUT.bin

MODEL.bin is CTranslate2's model.bin (f16 or f32; parts of a split one are joined in the order given), TOKENIZER.json the
tokenizer beside it. The output depends on nothing but these. Formats: CTranslate2 `python/ctranslate2/specs/model_spec.py`
(binary version 6), whisper.cpp `models/convert-pt-to-ggml.py` and `ggml/src/ggml-quants.c` (both MIT).
"""
import json
import struct
import sys
from pathlib import Path

import numpy as np

CT2_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
GGML_MAGIC = 0x67676D6C
F32, F16, Q8_0 = 0, 1, 8
# The header's type of a q8_0 file (7), with version 2 of ggml's quantization (2000).
FILE_TYPE = 2007
BLOCK = 32
# Never in less than f32: whisper.cpp expects them so.
FULL = {
    "encoder.conv1.bias",
    "encoder.conv2.bias",
    "encoder.positional_embedding",
    "decoder.positional_embedding",
}


class Reader:
    """Little-endian fields, one after another."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, fmt):
        (value,) = struct.unpack_from("<" + fmt, self.data, self.at)
        self.at += struct.calcsize(fmt)
        return value

    def text(self):
        n = self.number("H")
        self.at += n
        return self.data[self.at - n : self.at].rstrip(b"\0").decode()

    def array(self):
        shape = [self.number("I") for _ in range(self.number("B"))]
        dtype = np.dtype(CT2_TYPES[self.number("B")])
        n_bytes = self.number("I")
        self.at += n_bytes
        return np.frombuffer(self.data, dtype, n_bytes // dtype.itemsize, self.at - n_bytes).reshape(shape)


def read_ct2(data):
    """Name -> array of a CTranslate2 model."""
    reader = Reader(data)
    version, spec = reader.number("I"), reader.text()
    if version != 6 or spec != "WhisperSpec":
        sys.exit(f"expected a WhisperSpec of binary version 6, found {spec} of version {version}")
    reader.number("I")  # revision of the specification
    variables = {}
    for _ in range(reader.number("I")):
        name = reader.text()
        variables[name] = reader.array()
    for _ in range(reader.number("I")):
        alias = reader.text()
        variables[alias] = variables[reader.text()]
    if reader.at != len(data):
        sys.exit(f"{len(data) - reader.at} bytes too many at the end: are the parts complete and in order?")
    return variables


def layers_of(variables, side):
    n = 0
    while f"{side}/layer_{n}/self_attention/linear_0/weight" in variables:
        n += 1
    return n


def tensors_of(variables):
    """(Name in whisper.cpp, array) in the order of whisper.cpp's own converter."""

    def linear(name, weight, bias=None):
        yield f"{name}.weight", weight
        if bias is not None:
            yield f"{name}.bias", bias

    def norm(name, source):
        return linear(name, variables[f"{source}/gamma"], variables[f"{source}/beta"])

    def dense(name, source):
        return linear(name, variables[f"{source}/weight"], variables[f"{source}/bias"])

    def attention(name, source, crossed):
        """Query, key, value and output; CTranslate2 has those that share an input in one matrix."""
        if crossed:
            yield from dense(f"{name}.query", f"{source}/linear_0")
            weights = np.split(variables[f"{source}/linear_1/weight"], 2)
            biases = np.split(variables[f"{source}/linear_1/bias"], 2)
        else:
            query, *weights = np.split(variables[f"{source}/linear_0/weight"], 3)
            query_bias, *biases = np.split(variables[f"{source}/linear_0/bias"], 3)
            yield from linear(f"{name}.query", query, query_bias)
        if np.any(biases[0]):
            sys.exit(f"{source}: a key has a bias, which Whisper's has not")
        yield from linear(f"{name}.key", weights[0])
        yield from linear(f"{name}.value", weights[1], biases[1])
        yield from dense(f"{name}.out", f"{source}/linear_{2 if crossed else 1}")
        yield from norm(f"{name}_ln", f"{source}/layer_norm")

    for side in ("encoder", "decoder"):
        yield f"{side}.positional_embedding", variables[f"{side}/position_encodings/encodings"]
        if side == "encoder":
            for conv in ("conv1", "conv2"):
                yield f"encoder.{conv}.weight", variables[f"encoder/{conv}/weight"]
                yield f"encoder.{conv}.bias", variables[f"encoder/{conv}/bias"].reshape(-1, 1)
        else:
            yield "decoder.token_embedding.weight", variables["decoder/embeddings/weight"]
        for i in range(layers_of(variables, side)):
            block, layer = f"{side}.blocks.{i}", f"{side}/layer_{i}"
            yield from attention(f"{block}.attn", f"{layer}/self_attention", crossed=False)
            if side == "decoder":
                yield from attention(f"{block}.cross_attn", f"{layer}/attention", crossed=True)
            yield from dense(f"{block}.mlp.0", f"{layer}/ffn/linear_0")
            yield from dense(f"{block}.mlp.2", f"{layer}/ffn/linear_1")
            yield from norm(f"{block}.mlp_ln", f"{layer}/ffn/layer_norm")
        yield from norm("encoder.ln_post" if side == "encoder" else "decoder.ln", f"{side}/layer_norm")


def mel_filters(n_mels, rate=16000, n_fft=400):
    """Slaney's mel filter bank, f32 [n_mels, n_fft / 2 + 1], as librosa.filters.mel makes it."""
    linear_hz, log_from_hz, log_step = 200 / 3, 1000.0, np.log(6.4) / 27
    log_from = log_from_hz / linear_hz

    def mel(hz):
        return log_from + np.log(hz / log_from_hz) / log_step if hz >= log_from_hz else hz / linear_hz

    def hz(mels):
        logarithmic = log_from_hz * np.exp(log_step * (mels - log_from))
        return np.where(mels >= log_from, logarithmic, mels * linear_hz)

    edges = hz(np.linspace(mel(0.0), mel(rate / 2), n_mels + 2))
    slopes = edges[:, None] - np.fft.rfftfreq(n_fft, 1 / rate)[None]
    widths = np.diff(edges)
    rising, falling = -slopes[:-2] / widths[:-1, None], slopes[2:] / widths[1:, None]
    filters = np.maximum(0, np.minimum(rising, falling))
    return (filters * (2 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


def bytes_of_characters():
    """GPT-2 writes every byte as a printable character; this is the way back."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return {chr(c): b for b, c in [*zip(plain, plain), *zip(rest, range(256, 256 + len(rest)))]}


def vocabulary(tokenizer):
    """The bytes of the 50257 GPT-2 tokens, by id."""
    entries = dict(tokenizer["model"]["vocab"])
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    entries.update(special)
    texts = {number: text for text, number in entries.items()}
    to_byte = bytes_of_characters()
    for number in range(50257):
        text = texts[number]
        yield text.encode() if text in special else bytes(to_byte[c] for c in text)


def q8_0(array):
    """Blocks of 32 weights: their scale (f16) and 32 bytes, rounded half away from zero."""
    blocks = array.astype(np.float32).reshape(-1, BLOCK)
    scale = np.abs(blocks).max(axis=1) / np.float32(127)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale > 0)
    scaled = blocks * inverse[:, None]
    whole = (np.sign(scaled) * np.floor(np.abs(scaled) + np.float32(0.5))).astype(np.int8)
    out = np.empty((len(blocks), 2 + BLOCK), np.uint8)
    out[:, :2] = scale.astype(np.float16)[:, None].view(np.uint8)
    out[:, 2:] = whole.view(np.uint8)
    return out.tobytes()


def encoded(name, array):
    """Type and bytes of a tensor: matrices in 8 bits, convolutions in f16, the rest in f32."""
    array = np.ascontiguousarray(array)
    if array.ndim < 2 or name in FULL:
        return F32, array.astype(np.float32).tobytes()
    if array.ndim == 2:
        # By way of f16, as whisper.cpp's own `quantize` meets them.
        return Q8_0, q8_0(array.astype(np.float16))
    return F16, array.astype(np.float16).tobytes()


def main(models, tokenizer, out):
    variables = read_ct2(b"".join(Path(part).read_bytes() for part in models.split(",")))
    tokenizer = json.loads(Path(tokenizer).read_text(encoding="utf-8"))
    n_vocabulary, n_state = variables["decoder/embeddings/weight"].shape
    n_mels = variables["encoder/conv1/weight"].shape[1]
    contexts = [len(variables[f"{side}/position_encodings/encodings"]) for side in ("encoder", "decoder")]
    n_layers = [layers_of(variables, side) for side in ("encoder", "decoder")]
    heads = [int(variables.get(f"{side}/num_heads", n_state // 64)) for side in ("encoder", "decoder")]
    with open(out, "wb") as file:
        header = [n_vocabulary]
        for context, n_heads, layers in zip(contexts, heads, n_layers):
            header += [context, n_state, n_heads, layers]
        file.write(struct.pack("<12i", GGML_MAGIC, *header, n_mels, FILE_TYPE))
        filters = mel_filters(n_mels)
        file.write(struct.pack("<2i", *filters.shape) + filters.tobytes())
        tokens = list(vocabulary(tokenizer))
        file.write(struct.pack("<i", len(tokens)))
        for token in tokens:
            file.write(struct.pack("<i", len(token)) + token)
        for name, array in tensors_of(variables):
            kind, data = encoded(name, array)
            shape = array.shape[::-1]
            file.write(struct.pack(f"<{3 + len(shape)}i", len(shape), len(name), kind, *shape))
            file.write(name.encode() + data)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
