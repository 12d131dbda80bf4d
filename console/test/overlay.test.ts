import assert from "node:assert/strict";
import { test } from "node:test";
import { colour, place } from "../src/overlay.ts";
import { detections } from "./samples.ts";

const records = [detections(0, [[1, 0]]), detections(200, [[1, 10], [null, 50]]), detections(400, [[1, 30], [2, 70]]), detections(5000, [[2, 80]])];
const boxes = (ms: number, session = "S1") => place(records, { by: "pts", session, ms })?.objects.map((o) => [o.track, Math.round(o.box[0])]) ?? null;

test("boxes of the moment, moved evenly between analysed pictures", () => {
  const check = (ms: number, expected: unknown) => assert.deepEqual(boxes(ms), expected, `at ${ms}`);
  check(-50, null);
  check(0, [[1, 0]]);
  check(100, [[1, 5]]);
  check(200, [[1, 10], [null, 50]]);
  check(350, [[1, 25], [null, 50]]);
  // The next one is too far away to say how they went there.
  check(450, [[1, 30], [2, 70]]);
  check(1300, [[1, 30], [2, 70]]);
  // Too old to be true of the picture.
  check(1500, null);
  check(5001, [[2, 80]]);
  check(6100, null);
});

test("with one picture a second things are moved, too", () => {
  const slow = [detections(0, [[1, 0]]), detections(2000, [[1, 40]])];
  assert.deepEqual(place(slow, { by: "pts", session: "S1", ms: 1500 })?.objects.map((o) => o.box[0]), [30]);
});

test("other sessions are another time", () => assert.equal(boxes(200, "S2"), null));

test("by the time of capture, too", () => {
  const placed = place(records, { by: "capture", ms: Date.parse("2026-11-22T10:00:00.300Z") });
  assert.deepEqual(placed?.objects.map((o) => Math.round(o.box[0])), [20, 50]);
  assert.equal(Math.round(placed?.lateMs ?? -1), 100);
});

test("trails follow the feet for two seconds", () => {
  const placed = place(records, { by: "pts", session: "S1", ms: 400 });
  const trail = placed?.trails.find((t) => t.track === 1)?.points;
  assert.deepEqual(trail, [[5, 20], [15, 20], [35, 20], [35, 20]]);
  const later = place([...records, detections(5100, [[2, 90]])], { by: "pts", session: "S1", ms: 5100 });
  assert.deepEqual(later?.trails[0]?.points, [[85, 20], [95, 20], [95, 20]], "what is older is gone");
});

test("a class keeps its colour", () => {
  assert.equal(colour("car"), colour("car"));
  assert.notEqual(colour("person"), colour("car"));
});
