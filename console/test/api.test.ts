import assert from "node:assert/strict";
import { test } from "node:test";
import { get, Refused } from "../src/api.ts";

/** Answers with `body`; one that never comes ends when it is given up. */
function service(status: number, body: Promise<string> | null): void {
  globalThis.fetch = (async (_: string, { signal }: RequestInit) => {
    const given = new Promise<never>((_, refuse) => signal?.addEventListener("abort", () => refuse(new DOMException("", "AbortError"))));
    const wait = (): Promise<string> => Promise.race([body ?? given, given]);
    if (status === 0) return given;
    return { ok: status < 300, status, statusText: "", text: wait, json: async () => JSON.parse(await wait()) };
  }) as unknown as typeof fetch;
}
const never = new Promise<string>(() => {});
const how = (asked: Promise<unknown>) => asked.then((answer) => answer, (error: unknown) => (error instanceof Refused ? `${error.status} ${error.message}` : (error as Error).name));

test("a request has an end, also where its answer breaks off", async () => {
  const check = async (status: number, body: Promise<string> | null, expected: unknown) => {
    service(status, body);
    assert.deepEqual(await how(get("/x", { withinMs: 30 })), expected);
  };
  await check(200, Promise.resolve('{"a":1}'), { a: 1 });
  await check(0, null, "0 the service does not answer");
  await check(200, never, "0 the service does not answer");
  await check(409, Promise.resolve('{"error":"no","reasons":["because"]}'), "409 no: because");
  await check(502, never, "0 the service does not answer");
  await check(200, Promise.resolve("<html>"), "SyntaxError");
  globalThis.fetch = async () => Promise.reject(new TypeError("Failed to fetch"));
  assert.equal(await how(get("/x")), "0 the service does not answer");
});

test("who no longer wants an answer is told so, and not that none came", async () => {
  service(0, null);
  const abort = new AbortController();
  const asked = how(get("/x", { signal: abort.signal }));
  abort.abort();
  assert.equal(await asked, "AbortError");
});
