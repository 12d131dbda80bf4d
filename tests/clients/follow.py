#!/usr/bin/env python3
"""Reads our HTTP service as a stranger would: server-sent events with the standard library, WebSockets with `websockets`.

Writes one JSON line for everything it gets: `{"open": true}`, `{"event", "id", "data"}`, `{"message"}`,
`{"closed", "reason"}`, and `{"status", "headers", "body"}` when it is refused. With `--brief` the lines and objects of a
record are left out.
"""
import argparse
import json
import sys
from http.client import HTTPConnection
from urllib.parse import urlsplit


def tell(**what):
    print(json.dumps(what), flush=True)


def shown(record, options):
    """The record's text, without what makes it long."""
    if not options.brief:
        return record
    return json.dumps({key: value for key, value in json.loads(record).items() if key not in ("lines", "objects")})


def sse(url, headers, options):
    """The event stream interpretation of the HTML Living Standard, section 9.2.6."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname, parts.port, timeout=120)
    path = parts.path + ("?" + parts.query if parts.query else "")
    connection.request("GET", path, headers={"Accept": "text/event-stream", **headers})
    answer = connection.getresponse()
    if answer.status != 200 or answer.getheader("Content-Type") != "text/event-stream":
        tell(status=answer.status, headers=dict(answer.getheaders()), body=answer.read().decode())
        return
    tell(open=True)
    name, data, last_id = "", [], ""
    while line := answer.readline():
        line = line.decode().rstrip("\r\n")
        if not line:
            if data:
                tell(event=name or "message", id=last_id, data=shown("\n".join(data), options))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            last_id = value
    tell(closed=None, reason="")


def ws(url, headers, options):
    from websockets.exceptions import ConnectionClosed, InvalidStatus
    from websockets.sync.client import connect

    try:
        with connect(url, additional_headers=headers, origin=options.origin, max_size=None, compression=None) as socket:
            tell(open=True)
            converse(socket, options)
    except InvalidStatus as refused:
        answer = refused.response
        tell(status=answer.status_code, headers=dict(answer.headers.raw_items()), body=answer.body.decode())
    except ConnectionClosed as closed:
        received = closed.rcvd
        tell(closed=received.code if received else None, reason=received.reason if received else "")


def converse(socket, options):
    if options.sound:
        with open(options.sound, "rb") as sound:
            while chunk := sound.read(options.chunk):
                socket.send(chunk)
    for text in options.text:
        socket.send(text)
    while True:
        tell(message=shown(socket.recv(timeout=120), options))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=["sse", "ws"])
    parser.add_argument("url")
    parser.add_argument("--header", action="append", default=[], help="Name: value")
    parser.add_argument("--origin", help="of the page that opens the WebSocket")
    parser.add_argument("--sound", help="file to send in binary messages")
    parser.add_argument("--chunk", type=int, default=6400, help="bytes of a binary message")
    parser.add_argument("--text", action="append", default=[], help="text message to send after the sound")
    parser.add_argument("--brief", action="store_true", help="leave the lines of captions and the objects of detections out")
    options = parser.parse_args()
    headers = dict(header.split(": ", 1) for header in options.header)
    if options.way == "sse":
        sse(options.url, headers, options)
    else:
        ws(options.url, headers, options)


if __name__ == "__main__":
    sys.exit(main())
