#!/usr/bin/env python3
"""Takes traces as an OpenTelemetry collector would: OTLP over HTTP, protobuf, read with OpenTelemetry's own package.

Prints `collector http://127.0.0.1:PORT/v1/traces`, then one JSON line a span.
"""
import gzip
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            service = {a.key: a.value.string_value for a in resource.resource.attributes}.get("service.name")
            for scope in resource.scope_spans:
                for span in scope.spans:
                    tell(
                        name=span.name,
                        trace=span.trace_id.hex(),
                        span=span.span_id.hex(),
                        parent=span.parent_span_id.hex(),
                        start=span.start_time_unix_nano,
                        end=span.end_time_unix_nano,
                        service=service,
                        authorization=self.headers.get("authorization"),
                        **{a.key: a.value.string_value for a in span.attributes},
                    )
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def tell(**what):
    print(json.dumps(what), flush=True)


server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
print(f"collector http://127.0.0.1:{server.server_port}/v1/traces", flush=True)
server.serve_forever()
