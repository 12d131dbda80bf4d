// The page for those who work on it: built anew at every load, everything else from a running service.
//   node dev.mjs [http://127.0.0.1:8642] [port]       then open http://127.0.0.1:5173/
import { createServer, request } from "node:http";
import { connect } from "node:net";
import { make } from "./build.mjs";

const service = new URL(process.argv[2] ?? "http://127.0.0.1:8642");
const port = Number(process.argv[3] ?? 5173);
const TYPES = { html: "text/html; charset=utf-8", js: "text/javascript; charset=utf-8", css: "text/css; charset=utf-8", svg: "image/svg+xml", txt: "text/plain" };
// The same policy as the service's, so that what it forbids is noticed here.
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; " +
  "media-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

let files = await make({ dev: true });

/** Headers as the service wants them: it answers to its own name only. */
function asked(headers) {
  const out = { ...headers, host: service.host };
  if (out.origin) out.origin = service.origin;
  delete out.referer;
  return out;
}

const server = createServer(async (req, res) => {
  const { pathname } = new URL(req.url, "http://x");
  const name = pathname === "/" ? "index.html" : pathname.startsWith("/page/") ? pathname.slice(6) : null;
  if (name) {
    try {
      if (name === "index.html") files = await make({ dev: true });
      const bytes = files.get(name);
      if (!bytes) return void res.writeHead(404).end("no such file of the page\n");
      const headers = { "content-type": TYPES[name.split(".").pop()], "content-security-policy": POLICY, "cache-control": "no-store" };
      return void res.writeHead(200, headers).end(bytes);
    } catch (error) {
      return void res.writeHead(500, { "content-type": "text/plain" }).end(String(error));
    }
  }
  const up = request({ host: service.hostname, port: service.port || 80, path: req.url, method: req.method, headers: asked(req.headers) }, (answer) => {
    res.writeHead(answer.statusCode, answer.headers);
    answer.pipe(res);
  });
  up.on("error", () => (res.headersSent ? res.destroy() : res.writeHead(502).end("the service is not there\n")));
  res.on("close", () => up.destroy());
  req.pipe(up);
});

// WebSockets are passed on as they are.
server.on("upgrade", (req, socket, head) => {
  const up = connect(Number(service.port || 80), service.hostname, () => {
    const headers = Object.entries(asked(req.headers)).map(([name, value]) => `${name}: ${value}`);
    up.write(`${req.method} ${req.url} HTTP/1.1\r\n${headers.join("\r\n")}\r\n\r\n`);
    up.write(head);
    up.pipe(socket).pipe(up);
  });
  up.on("error", () => socket.destroy());
  socket.on("error", () => up.destroy());
});

server.listen(port, "127.0.0.1", () => console.log(`http://127.0.0.1:${port}/ with everything else from ${service.origin}`));
