import assert from "node:assert/strict";
import { test } from "node:test";
import { isCalling, life, listed, merge, MOST_ALERTS, newer, sorted } from "../src/alerts.ts";
import { Hub } from "../src/hub.ts";
import { Ring, TooOften } from "../src/ring.ts";
import type { AnyRecord } from "../src/types.ts";
import { alert, at, base, caption, detections } from "./samples.ts";

test("the newest record of an alert is kept, and what people did with it", () => {
  const known = merge(new Map(), [alert("a", 0, { acknowledged: { by: "anna", at: at(0), note: null }, silenced: null })]);
  const later = merge(known, [alert("a", 1, { state: "closed" })]).get("a");
  assert.equal(later?.state, "closed");
  assert.equal(later?.acknowledged?.by, "anna");
  // The same record, as the list tells it: what people did is news.
  const back = merge(merge(known, [alert("a", 1)]), [alert("a", 1, { acknowledged: null, silenced: null })]).get("a");
  assert.equal(back?.acknowledged, null);
  // Also where the list is behind what came live.
  const ahead = merge(merge(new Map(), [alert("a", 3, { state: "updated" })]), [alert("a", 1, { acknowledged: { by: "bert", at: at(0), note: null }, silenced: null })]).get("a");
  assert.deepEqual([ahead?.revision, ahead?.state, ahead?.acknowledged?.by], [3, "updated", "bert"]);
  // An older one is none.
  assert.equal(merge(merge(known, [alert("a", 5)]), [alert("a", 2, { state: "closed" })]).get("a")?.revision, 5);
  assert.ok(newer(alert("a", 0, { epoch: 2 }), alert("a", 9, { epoch: 1 })));
});

test("open alerts come first, and stay while the service lists them", () => {
  const closed = (id: string, ms: number) => alert(id, 1, { state: "closed", since: at(ms) });
  assert.deepEqual(sorted([closed("new", 9000), alert("old", 0), closed("older", 1000), alert("now", 0, { since: at(5000) })]).map((a) => a.alert), ["now", "old", "new", "older"]);
  const many = Array.from({ length: MOST_ALERTS + 50 }, (_, i) => closed(`c${i}`, 60_000 + i));
  assert.ok(merge(new Map([["old", alert("old", 0)]]), many).has("old"), "what is open is not cut for what is past");
  const check = (known: ReturnType<typeof alert>[], before: ReturnType<typeof alert>[], open: ReturnType<typeof alert>[], expected: string[], told = before.map((a) => a.alert)) => {
    const map = (list: typeof known) => new Map(list.map((a) => [a.alert, a]));
    assert.deepEqual([...listed(map(known), { known: map(before), told: new Set(told) }, open, []).keys()].sort(), expected);
  };
  const [a, b, c] = [alert("a", 0), alert("b", 0), closed("c", 0)];
  check([a, b, c], [a, b, c], [a], ["a", "c"]);
  // One that opened while we asked.
  check([a, b], [a], [a], ["a", "b"]);
  check([a, alert("b", 1)], [a, b], [a], ["a", "b"]);
  // One that came live, and that the service has not listed yet.
  check([a, b], [a, b], [a], ["a", "b"], ["a"]);
});

test("alerts are bounded, in order, and call while nobody knows", () => {
  const many = merge(new Map(), Array.from({ length: MOST_ALERTS + 50 }, (_, i) => alert(`a${i}`, 0, { since: at(i * 1000) })));
  assert.equal(many.size, MOST_ALERTS);
  assert.equal(sorted(many.values())[0]?.alert, `a${MOST_ALERTS + 49}`);
  assert.ok(!many.has("a0"));
  assert.ok(isCalling(alert("a", 0)));
  assert.ok(!isCalling(alert("a", 1, { state: "closed" })));
  assert.ok(!isCalling(alert("a", 0, { acknowledged: { by: "x", at: at(0), note: null } })));
  assert.ok(!isCalling(alert("a", 0, { silenced: { id: "1", by: "x", until: at(1), reason: "" } })));
  assert.deepEqual(life(alert("a", 2, { state: "closed", until: at(500), closed_because: "gone" })).map((s) => [s.word, s.why]), [["began", undefined], ["last so", undefined], ["closed", "gone"]]);
});

test("the hub keeps the newest of each stream, and forgets", () => {
  const others: string[] = [];
  const hub = new Hub((r) => others.push(r.type));
  const take = (record: AnyRecord) => hub.take(record, Date.parse(at(2000)));
  take(detections(100, [[1, 0]]));
  take(detections(100, [[1, 0]]));
  take(detections(50, [[1, 0]]));
  assert.equal(hub.of("cam").detections.items.length, 1, "no picture twice, none backwards");
  assert.deepEqual(hub.of("cam").counts(), [["person", 1]]);
  assert.equal(hub.of("cam").lateMs, 1900);
  take(detections(10, [[1, 0], [2, 0]], "S2"));
  assert.equal(hub.of("cam").detections.items.length, 1, "a new session begins anew");
  assert.deepEqual(hub.of("cam").counts(), [["person", 2]]);
  take(caption("x", 0, "hello"));
  assert.deepEqual(hub.of("cam").captions.now(undefined, Date.parse(at(2000))).lines, [[{ text: "hello", stable: false }]]);
  for (let i = 0; i < 5000; i++) take(detections(1000 + i, [[1, 0]], "S2"));
  assert.ok(hub.of("cam").detections.items.length < 700);
  take({ type: "lost", stream: "cam", n_records: 7, detail: "detections: this reader was too slow" });
  assert.equal(hub.lost.value, 7);
  assert.equal(hub.of("cam").captions.lines.length, 0, "pictures that were left out are no words that are missing");
  take({ type: "lost", stream: "cam", n_records: null });
  assert.equal(hub.of("cam").captions.lines.length, 1);
  take({ ...base(0), type: "status", state: "playing", detail: null });
  take({ type: "streams", streams: [] });
  assert.deepEqual(others.slice(-2), ["status", "streams"]);
  hub.keep(new Set());
  assert.equal(hub.of("cam").detections.items.length, 0);
});

test("too often is so often within a while", () => {
  const failed = new TooOften(3, 60_000);
  assert.deepEqual([0, 10_000, 20_000, 61_000, 62_000, 63_000, 200_000].map((now) => failed.again(now)), [false, false, false, false, true, true, false]);
});

test("a ring keeps the newest", () => {
  const ring = new Ring<number>(10);
  for (let i = 0; i < 100; i++) ring.push(i);
  assert.ok(ring.items.length >= 10 && ring.items.length <= 14);
  assert.equal(ring.last(), 99);
  assert.deepEqual(ring.items, [...ring.items].sort((a, b) => a - b));
});
