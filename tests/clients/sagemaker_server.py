#!/usr/bin/env python3
"""A model server with SageMaker's contract, built on AWS's own package for it (model-hosting-container-standards).

usage: sagemaker_server.py MODE [SECS]
Its model finds what is bright: the ball of the test pattern. Prints `endpoint http://127.0.0.1:PORT/invocations`, then one
JSON line a request. MODE is `detect`, `classify`, `slow` (waits SECS before it answers), `flaky` (fails every other time),
`broken` (always fails), `garbage` (answers no JSON) or `text` (answers a text).
"""
import asyncio
import io
import json
import socket
import sys

import model_hosting_container_standards.sagemaker as sagemaker
import uvicorn
from fastapi import FastAPI, Request, Response
from PIL import Image

MODE = sys.argv[1]
SECS = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
app = FastAPI()
n_requests = 0


def bright(image):
    """The box around what is bright, as fractions; none when all is dark."""
    box = image.convert("L").point(lambda value: 255 if value > 127 else 0).getbbox()
    sides = (image.width, image.height, image.width, image.height)
    return box and [side / whole for side, whole in zip(box, sides)]


@sagemaker.custom_ping_handler
async def ping(_: Request) -> Response:
    return Response(status_code=200)


@sagemaker.custom_invocation_handler
async def invocations(request: Request) -> Response:
    global n_requests
    n_requests += 1
    turn = n_requests
    body = await request.body()
    image = Image.open(io.BytesIO(body))
    told = {"format": image.format, "size": image.size, "accept": request.headers.get("accept")}
    told["content_type"] = request.headers.get("content-type")
    print(json.dumps(told), flush=True)
    if MODE == "slow":
        await asyncio.sleep(SECS)
    if MODE == "broken" or (MODE == "flaky" and turn % 2 == 1):
        return Response(status_code=500, content=f"out of memory; you sent {request.headers.get('authorization')}")
    if MODE == "garbage":
        return Response(content="<html>\nno model\n", media_type="text/html")
    if MODE == "text":
        return Response(content="a ball", media_type="text/plain")
    if MODE == "classify":
        return Response(content="[0.03, 0.07, 0.9]", media_type="application/json")
    box = bright(image)
    # A weak second one, and one that the server itself has suppressed.
    rows = [[1.0, 0.08, 0.0, 0.0, 0.1, 0.1], [-1.0, 0.99, 0.0, 0.0, 1.0, 1.0]]
    if box:
        rows.append([0.0, 0.93, *box])
    return Response(content=json.dumps({"prediction": rows}), media_type="application/json")


sagemaker.bootstrap(app)
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
# Who comes before the server is up waits for it.
listener.listen()
print(f"endpoint http://127.0.0.1:{listener.getsockname()[1]}/invocations", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])
