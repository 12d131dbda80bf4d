import assert from "node:assert/strict";
import { test } from "node:test";
import { around, ago, clock, position, Skew, span } from "../src/time.ts";

const table = <I, O>(name: string, of: (input: I) => O, rows: [I, O][]) => test(name, () => {
  for (const [input, expected] of rows) assert.deepEqual(of(input), expected, JSON.stringify(input));
});

table("spans", span, [[0, "0 ms"], [-5, "0 ms"], [850, "850 ms"], [1000, "1.0 s"], [9940, "9.9 s"], [9960, "10 s"], [59_400, "59 s"], [59_600, "1 min"], [150_000, "3 min"],
  [3_600_000, "1 h"], [7_500_000, "2 h 5 min"], [86_400_000, "1 day"], [300_000_000, "3 days"]]);
table("positions", position, [[0, "0:00.0"], [61_400, "1:01.4"], [3_723_400, "1:02:03.4"], [-3, "0:00.0"]]);

test("ago", () => {
  const now = Date.parse("2026-11-22T10:00:00Z");
  assert.equal(ago("2026-11-22T09:59:59.5Z", now), "just now");
  assert.equal(ago("2026-11-22T09:58:00Z", now), "2 min ago");
  assert.equal(ago(null, now), "–");
  assert.equal(ago("yesterday", now), "–");
});

test("a clock shows the date where it is not today", () => {
  const now = new Date(2026, 10, 22, 12);
  assert.match(clock(new Date(2026, 10, 22, 9, 5, 7).toISOString(), now), /^09:05:07$/);
  assert.match(clock(new Date(2026, 10, 21, 9, 5, 7).toISOString(), now), /21.*09:05:07/);
  assert.match(clock(new Date(2025, 10, 21, 9, 5, 7).toISOString(), now), /2025/);
  assert.equal(clock("nonsense", now), "nonsense");
  assert.equal(clock(null, now), "–");
});

test("the neighbours of a moment", () => {
  const times = [10, 20, 30];
  const find = (at: number) => {
    const { before, after } = around(times, at, (t) => t);
    return [before, after];
  };
  assert.deepEqual(find(5), [null, 10]);
  assert.deepEqual(find(10), [10, 20]);
  assert.deepEqual(find(25), [20, 30]);
  assert.deepEqual(find(99), [30, null]);
  assert.deepEqual(around([], 1, (t: number) => t), { before: null, after: null });
});

test("the service's clock: a late message does not move it, a clock that is set anew is followed", () => {
  const skew = new Skew();
  assert.equal(skew.server(1000), 1000);
  const sent = Date.parse("2026-11-22T10:00:00Z");
  const iso = new Date(sent).toISOString();
  skew.take(iso, sent + 5000);
  assert.equal(skew.server(sent + 5000), sent);
  skew.take(iso, sent + 9000);
  assert.ok(Math.abs(skew.server(sent + 9000) - (sent + 4000)) <= 5);
  skew.take(iso, sent + 4000);
  assert.equal(skew.server(sent + 4000), sent);
  for (let i = 0; i < 2000; i++) skew.take(iso, sent + 8000);
  assert.equal(skew.server(sent + 8000), sent);
  skew.take("nonsense", 1);
  assert.equal(skew.server(sent + 8000), sent);
});
