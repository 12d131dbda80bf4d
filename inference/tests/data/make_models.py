"""Makes the two tiny detectors that the engine's tests run. Usage: make_models.py  (pip install onnx numpy)

Both take `images` f32 [n, 3, 8, 8], values 0..255, and see one box whose score is the picture's brightness, looked up in a
table of 200 entries: a picture brighter than 199 makes the run fail.

brightness.onnx  YOLOv8 layout [n, 5, 1]: centre (4, 4), size (4, 2), one class
sizes.onnx       deployment layout of RT-DETR: labels i64 [n, 1], boxes [n, 1, 4] = (0, 0, width / 2, height / 2), scores
                 [n, 1]; takes `orig_target_sizes` i64 [n, 2] too
"""

import numpy as np
from onnx import TensorProto as T
from onnx import checker, helper, numpy_helper, save

images = helper.make_tensor_value_info("images", T.FLOAT, ["n", 3, 8, 8])
constants = {
    "table": np.arange(200, dtype=np.float32) / 255,
    "zero": np.float32(0),
    "half": np.float32(0.5),
    "box": np.array([[[4], [4], [4], [2]]], np.float32),
    "n11": np.array([-1, 1, 1], np.int64),
    "n14": np.array([-1, 1, 4], np.int64),
    "n1": np.array([-1, 1], np.int64),
}
score = [
    helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
    helper.make_node("Cast", ["mean"], ["index"], to=T.INT64),
    helper.make_node("Gather", ["table", "index"], ["score"]),
]


def write(path, inputs, nodes, outputs):
    used = {name for node in nodes for name in node.input}
    initializers = [numpy_helper.from_array(np.array(v), k) for k, v in constants.items() if k in used]
    graph = helper.make_graph(nodes, path, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    save(model, path)


write(
    "brightness.onnx",
    [images],
    score
    + [
        helper.make_node("Reshape", ["score", "n11"], ["score_n11"]),
        helper.make_node("Mul", ["score_n11", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "box"], ["boxes"]),
        helper.make_node("Concat", ["boxes", "score_n11"], ["output0"], axis=1),
    ],
    [helper.make_tensor_value_info("output0", T.FLOAT, ["n", 5, 1])],
)

write(
    "sizes.onnx",
    [images, helper.make_tensor_value_info("orig_target_sizes", T.INT64, ["n", 2])],
    score
    + [
        helper.make_node("Reshape", ["score", "n1"], ["scores"]),
        helper.make_node("Mul", ["scores", "zero"], ["nothing"]),
        helper.make_node("Cast", ["nothing"], ["labels"], to=T.INT64),
        helper.make_node("Cast", ["orig_target_sizes"], ["sizes"], to=T.FLOAT),
        helper.make_node("Mul", ["sizes", "half"], ["ends"]),
        helper.make_node("Mul", ["sizes", "zero"], ["starts"]),
        helper.make_node("Concat", ["starts", "ends"], ["corners"], axis=1),
        helper.make_node("Reshape", ["corners", "n14"], ["boxes"]),
    ],
    [
        helper.make_tensor_value_info("labels", T.INT64, ["n", 1]),
        helper.make_tensor_value_info("boxes", T.FLOAT, ["n", 1, 4]),
        helper.make_tensor_value_info("scores", T.FLOAT, ["n", 1]),
    ],
)
