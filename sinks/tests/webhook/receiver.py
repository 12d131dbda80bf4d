"""A webhook's receiver for tests, independent of ours: the standard library's HTTP server, and the signatures checked by
the `standardwebhooks` package.

usage: receiver.py '{"log": FILE, "port": 0, "secrets": [...], "script": [...], "poison": {ID: STATUS}, "most": N,
                    "keystore": FILE}'

Prints its port. Each POST is one line of the log, written before it is answered. The script's steps are used up one a
request; afterwards the answer is 204. A step: {"status": 503, "headers": {...}, "body": "..."}, {"hang_secs": 5},
{"reset": true}, {"cut": true} (half an answer), {"echo": 400, "headers": [...]} (answers with these headers of the
request, and its path).
"""

import json
import socket
import ssl
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

config = json.loads(sys.argv[1])
script = list(config.get("script", []))
lock = threading.Lock()
log = open(config["log"], "a", buffering=1)


def check(headers, body):
    """None, or what is wrong with the signature."""
    problem = None
    for secret in config.get("secrets", []):
        try:
            Webhook(secret).verify(body, headers)
            return None
        except WebhookVerificationError as error:
            problem = str(error)
    return problem


def ids(body):
    records = json.loads(body)
    # A body that a template made has no ids.
    return [record.get("id", "-") for record in (records if isinstance(records, list) else [records])]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        problem = check(headers, body)
        got = ids(body)
        with lock:
            step = self.choose(problem, got)
            line = {
                "at": time.monotonic(),
                "connection": self.client_address[1],
                "path": self.path,
                "headers": headers,
                "body": body.decode(),
                "ids": got,
                "signed": problem is None and bool(config.get("secrets")),
                "step": step,
            }
            log.write(json.dumps(line) + "\n")
        self.take(step, headers)

    def choose(self, problem, got):
        if problem:
            return {"status": 401, "body": problem}
        for id in got:
            if id in config.get("poison", {}):
                return {"status": config["poison"][id], "body": f"record {id} is not welcome"}
        if len(got) > config.get("most", 1_000_000):
            return {"status": 413}
        return script.pop(0) if script else {"status": 204}

    def take(self, step, headers):
        if "hang_secs" in step:
            time.sleep(step["hang_secs"])
            self.close_connection = True
        elif "reset" in step:
            # Closing with a linger time of zero sends RST.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif "cut" in step:
            self.wfile.write(b"HTTP/1.1 200 O")
            self.close_connection = True
        elif "echo" in step:
            lines = [f"{name}: {headers[name]}" for name in step["headers"]]
            self.answer(step["echo"], {}, "\n".join([*lines, f"at http://ann:p4ss-of-the-tests@127.0.0.1{self.path}"]))
        else:
            self.answer(step["status"], step.get("headers", {}), step.get("body", ""))

    def answer(self, status, headers, text):
        body = text.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *_):
        # A connection that was reset on purpose.
        pass


server = Server(("127.0.0.1", config.get("port", 0)), Handler)
if "keystore" in config:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(config["keystore"])
    server.socket = tls.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
