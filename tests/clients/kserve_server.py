#!/usr/bin/env python3
"""A model server that speaks the Open Inference Protocol (v2), built on KServe's own package.

usage: kserve_server.py PORT
Its model `ball` finds what is bright: the ball of the test pattern. It takes `image` as BYTES (a JPEG or PNG) or as UINT8
`[1, height, width, 3]`, and answers boxes in pixels. Prints one JSON line a request.
"""
import base64
import io
import json
import sys

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from PIL import Image


class Ball(Model):
    def __init__(self):
        super().__init__("ball")
        self.ready = True

    def predict(self, request: InferRequest, headers=None, response_headers=None):
        tensor = request.inputs[0]
        values = tensor.as_numpy()
        if tensor.datatype == "BYTES":
            data = values.flatten()[0]
            if (tensor.parameters or {}).get("content_type") == "base64":
                data = base64.b64decode(data)
            image = Image.open(io.BytesIO(data))
        else:
            image = Image.fromarray(values.reshape(values.shape[-3:]))
        told = {"datatype": tensor.datatype, "shape": tensor.shape, "format": image.format, "size": image.size}
        told["binary"] = "inference-header-content-length" in {key.lower() for key in headers or {}}
        print(json.dumps(told), flush=True)
        box = image.convert("L").point(lambda value: 255 if value > 127 else 0).getbbox()
        boxes = np.array([box] if box else [], dtype=np.float32).reshape(-1, 4)
        tensors = {
            "boxes": boxes,
            "scores": np.full(len(boxes), 0.93, dtype=np.float32),
            "labels": np.zeros(len(boxes), dtype=np.int64),
        }
        outputs = []
        for name, values in tensors.items():
            datatype = "INT64" if name == "labels" else "FP32"
            output = InferOutput(name=name, shape=list(values.shape), datatype=datatype)
            output.set_data_from_numpy(values, binary_data=bool(request.use_binary_outputs))
            outputs.append(output)
        return InferResponse(request.id, "ball", outputs, use_binary_outputs=bool(request.use_binary_outputs))


if __name__ == "__main__":
    ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, workers=1).start([Ball()])
