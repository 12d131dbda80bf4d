import assert from "node:assert/strict";
import { test } from "node:test";
import { cell, inOrder, own, rows, worst } from "../src/health.ts";
import { inWords, ofHistory, ofSamples, sample } from "../src/series.ts";
import type { Series, Stream } from "../src/types.ts";

const stream = (more: Partial<Stream> = {}): Stream => ({
  name: "cam", tags: {}, state: "playing", detail: null, session: null, source: null, speech_lag_ms: 200, captions: "", playlist: null, url: null, profile: null, origin: "api", revision: 1,
  worker: null, address: null, figures: { fps: 5, n_decoded: 0, n_inferred: 0, n_gaps: 0, n_dropped: { sampling: 9, superseded: 2 } }, report_age_ms: null, ...more,
});

test("without a report of its own, health is made of what the page knows", () => {
  const found = own([stream(), stream({ name: "b", state: "failed", detail: "401" }), stream({ name: "c", speech_lag_ms: 9000 })],
    { trouble: "no store", attachable: true, workers: [{ id: "w", is_this: true, capacity: 2, load: 3, n_streams: 3, leases: [], draining: false, address: null, version: "1", age_ms: 10 }] });
  assert.deepEqual(found.map((c) => [c.level, c.subject]), [["bad", "store"], ["warn", "w"], ["bad", "b"], ["warn", "c"]]);
  assert.ok(found.every((c) => c.do), "beside each stands what to do");
  assert.equal(worst(found), "bad");
  assert.equal(worst([]), "ok");
  assert.deepEqual(inOrder(found).map((c) => c.level), ["bad", "bad", "warn", "warn"]);
});

test("tables of whatever the service tells", () => {
  assert.deepEqual(rows([{ a: 1 }, null, 3]), [{ a: 1 }]);
  assert.deepEqual(rows({ kafka: { n: 1 }, plain: 2 }), [{ name: "kafka", n: 1 }, { name: "plain", value: 2 }]);
  assert.deepEqual(rows(undefined), []);
  const check = (key: string, value: unknown, expected: string) => assert.equal(cell(key, value), expected);
  check("n", 1234567, "1 234 567");
  check("waiting_bytes", 1536, "1.5 KiB");
  check("oldest_secs", 83.7, "84 s");
  check("lag_ms", 12_000, "12 s");
  check("part", 0.0312, "0.03");
  check("is_there", true, "yes");
  check("x", null, "–");
  check("profiles", ["a", "b"], "a, b");
  check("x", { n_a: 1 }, "n a 1");
});

test("charts of the history", () => {
  const series: Series = {
    stream: "cam", from: "", to: "", step_secs: 10, times: ["2026-11-22T10:00:00Z", "2026-11-22T10:00:10Z"], fps: [5, null], speech_lag_ms: [500, null],
    drops: { sampling: [50, 50], inference_failed: [0, 1] }, objects: { person: { most: [3, null], mean: [1.5, null] } }, gaps: [],
  };
  const charts = ofHistory(series);
  assert.deepEqual(charts.objects.lines, [{ name: "person", values: [3, null] }]);
  assert.deepEqual(charts.lag.lines[0]?.values, [0.5, null]);
  assert.deepEqual(charts.drops.lines, [{ name: "inference failed", values: [0, 1] }], "what is left out on purpose is no loss");
  assert.equal(charts.fps.times[1], 1795341610);
  assert.equal(inWords(charts.objects, ""), "person: now 3, at most 3");
  assert.equal(inWords({ times: [], lines: [] }, "x"), "none");
});

test("charts of what the page saw itself: counters become rates", () => {
  const at = (secs: number, superseded: number, fps = 5) => sample(stream({ figures: { fps, n_decoded: 0, n_inferred: 0, n_gaps: 0, n_dropped: { superseded, sampling: 5 } } }), [["person", secs]], secs * 1000);
  const charts = ofSamples([at(0, 2), at(2, 6), at(4, 1)]);
  assert.deepEqual(charts.drops.lines, [{ name: "superseded", values: [null, 2, 0] }], "never less than none, also after a restart");
  assert.deepEqual(charts.objects.lines, [{ name: "person", values: [0, 2, 4] }]);
});
