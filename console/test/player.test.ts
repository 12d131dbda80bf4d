import assert from "node:assert/strict";
import { test } from "node:test";
import { waitFor } from "../src/live.ts";
import { pace } from "../src/pictures.ts";
import { median, steer, trim } from "../src/player/timeline.ts";

test("a live player stays near the end", () => {
  const check = (at: number, ranges: [number, number][], rate: number, expected: { rate: number; seek: number | null }) =>
    assert.deepEqual(steer(at, ranges, 0.6, rate), expected, `at ${at} of ${JSON.stringify(ranges)}, rate ${rate}`);
  check(0, [], 1, { rate: 1, seek: null });
  // Stream time begins anywhere.
  check(0, [[125, 125.4]], 1, { rate: 1, seek: 125 });
  check(0, [[125, 127]], 1, { rate: 1, seek: 126.4 });
  check(126.4, [[125, 127]], 1, { rate: 1, seek: null });
  check(126.2, [[125, 127]], 1, { rate: 1, seek: null });
  check(126, [[125, 127]], 1, { rate: 1.06, seek: null });
  check(125.2, [[125, 127]], 1, { rate: 1.15, seek: null });
  check(126.2, [[125, 127]], 1.06, { rate: 1.06, seek: null });
  check(126.39, [[125, 127]], 1.06, { rate: 1, seek: null });
  check(126.9, [[125, 127]], 1, { rate: 0.95, seek: null });
  check(126.45, [[125, 127]], 0.95, { rate: 0.95, seek: null });
  check(126.38, [[125, 127]], 0.95, { rate: 1, seek: null });
  // Far behind it jumps, and so it does over a hole.
  check(125, [[120, 130]], 1, { rate: 1, seek: 129.4 });
  check(125.5, [[120, 125], [126, 127]], 1, { rate: 1, seek: 126.4 });
});

test("the past is let go in pieces", () => {
  assert.equal(trim(100, [], 20), null);
  assert.equal(trim(100, [[75, 101]], 20), null);
  assert.deepEqual(trim(100, [[60, 101]], 20), [60, 80]);
});

test("the median", () => {
  assert.equal(median([]), null);
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([100, 1, 2, 3]), 3);
});

test("pictures come slower at once, and faster again little by little", () => {
  assert.equal(pace(1000, { neededMs: 200, jank: 0 }), 1000);
  assert.equal(pace(1000, { neededMs: 4000, jank: 0 }), 4000);
  assert.equal(pace(1000, { neededMs: 200, jank: 0.5 }), 1500);
  assert.equal(pace(4000, { neededMs: 200, jank: 0 }), 3600);
  assert.equal(pace(4000, { neededMs: 3900, jank: 0 }), 3900);
  assert.equal(pace(9000, { neededMs: 90_000, jank: 1 }), 10_000);
  let every = 10_000;
  for (let i = 0; i < 40; i++) every = pace(every, { neededMs: 100, jank: 0 });
  assert.equal(every, 1000);
});

test("who was lost comes back later and later, and not all at once", () => {
  assert.equal(waitFor(1, 0.5), 500);
  assert.equal(waitFor(3, 0.5), 2000);
  assert.equal(waitFor(99, 0.5), 10_000);
  assert.equal(waitFor(1, 0), 400);
  assert.equal(waitFor(1, 1), 600);
});
