import assert from "node:assert/strict";
import { test } from "node:test";
import { Live } from "../src/live.ts";

class Socket {
  static readonly OPEN = 1;
  static all: Socket[] = [];
  readyState = 0;
  onopen = () => {};
  onmessage = (_: { data: string }) => {};
  onclose = (_: { reason: string }) => {};
  constructor(readonly address: string) {
    Socket.all.push(this);
  }
  open(): void {
    this.readyState = 1;
    this.onopen();
  }
  send(): void {}
  close(): void {
    this.readyState = 2;
  }
}

const answers: (() => void)[] = [];
Object.assign(globalThis, {
  WebSocket: Socket, location: { href: "http://here/" },
  fetch: () => new Promise((_, refuse) => answers.push(() => refuse(new TypeError("lost")))),
});

function begin(): { live: Live; socket: Socket; is: () => string } {
  Socket.all = [];
  const live = new Live(() => {}, () => {});
  live.want({ streams: null, types: ["alerts"] });
  return { live, socket: Socket.all[0] as Socket, is: () => live.connection.value.is };
}

test("a socket that is doubted is left, unless something has just come on it", () => {
  const { live, socket, is } = begin();
  live.doubt(Date.now() + 60_000);
  assert.equal(is(), "connecting", "what is not open yet is not doubted");
  socket.open();
  live.doubt(Date.now() + 1000);
  assert.equal(is(), "open");
  live.doubt(Date.now() + 6000);
  live.trust();
  live.doubt(Date.now() + 6000);
  assert.equal(is(), "open", "once is chance");
  live.doubt(Date.now() + 6000);
  assert.equal(is(), "lost");
  assert.equal(socket.readyState, 2);
  live.now();
  assert.equal(Socket.all.length, 2);
  Socket.all[1]?.open();
  // The old one's end comes late.
  socket.onclose({ reason: "" });
  assert.equal(is(), "open");
  live.close();
});

test("there is one socket, also when somebody tries again while it is asked why", async () => {
  const { live, socket } = begin();
  socket.onclose({ reason: "" });
  await new Promise((done) => setTimeout(done, 5));
  assert.equal(answers.length, 1);
  live.now();
  live.now();
  assert.equal(Socket.all.length, 2);
  answers.pop()?.();
  await new Promise((done) => setTimeout(done, 700));
  assert.equal(Socket.all.length, 2);
  live.close();
});
