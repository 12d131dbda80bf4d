#!/usr/bin/env python3
"""Watches a stream's live.mp4 as a stranger would, with `websockets`, until it is killed or the socket closes.

Writes one JSON line for everything it gets: `{"open": true}`, each text message as it is, `{"bytes": n}` for a binary
one, `{"closed", "reason"}`, and `{"status", "body"}` when it is refused. What is binary goes into FOLDER/0.mp4; each
`init` after the first one begins the next file.
"""
import json
import sys
from pathlib import Path

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect


def tell(**what):
    print(json.dumps(what), flush=True)


def main(url, folder):
    n_inits, file = 0, None
    try:
        with connect(url, max_size=None, compression=None) as socket:
            tell(open=True)
            while True:
                message = socket.recv(timeout=120)
                if isinstance(message, bytes):
                    file.write(message)
                    file.flush()
                    tell(bytes=len(message))
                    continue
                told = json.loads(message)
                if told["type"] == "init":
                    file = open(Path(folder) / f"{n_inits}.mp4", "wb")
                    n_inits += 1
                tell(**told)
    except InvalidStatus as refused:
        tell(status=refused.response.status_code, body=refused.response.body.decode())
    except ConnectionClosed as closed:
        received = closed.rcvd
        tell(closed=received.code if received else None, reason=received.reason if received else "")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
