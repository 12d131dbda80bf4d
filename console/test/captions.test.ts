import assert from "node:assert/strict";
import { test } from "node:test";
import { Captions } from "../src/captions.ts";
import { at, base, caption, transcript } from "./samples.ts";

/** What is shown: words that may change in brackets. */
const now = (c: Captions, when?: number) => c.now(when).lines.map((line) => line.map((w) => (w.stable ? w.text : `(${w.text})`)).join(" ")).join("/");
const past = (c: Captions) => c.lines.map((l) => (l.kind === "words" ? l.text : `[${l.text}]`));

test("a cue grows, and becomes a line once", () => {
  const c = new Captions();
  const takes = (record: Parameters<Captions["take"]>[0], changed: boolean, shown: string, lines: string[]) => {
    assert.equal(c.take(record), changed);
    assert.equal(now(c), shown);
    assert.deepEqual(past(c), lines);
  };
  takes(caption("a", 0, "and"), true, "(and)", []);
  takes(transcript(0, "and|so"), true, "and", []);
  takes(caption("a", 1, "and so"), true, "and (so)", []);
  takes(caption("a", 1, "and so"), false, "and (so)", []);
  takes(caption("a", 0, "and"), false, "and (so)", []);
  takes(transcript(1, "and so|my"), true, "and so", []);
  takes(caption("a", 2, "and so", { final: true }), true, "and so", ["and so"]);
  takes(caption("a", 2, "and so", { final: true }), false, "and so", ["and so"]);
  takes(caption("a", 3, "late"), false, "and so", ["and so"]);
});

test("words of a second cue of the segment are found behind those of the first", () => {
  const c = new Captions();
  c.take(transcript(0, "one two three|four"));
  c.take(caption("a", 0, "one two", { final: true, start_ms: 0 }));
  c.take(caption("b", 0, "three/four", { start_ms: 1000 }));
  assert.equal(now(c), "three/(four)");
  // Also while the first still grows.
  const d = new Captions();
  d.take(transcript(0, "one two three|four"));
  d.take(caption("a", 0, "one two", { start_ms: 0 }));
  d.take(caption("b", 0, "three/four", { start_ms: 1000 }));
  assert.equal(now(d), "one two/three/(four)");
});

test("what is taken back is gone, and what was before it does not come again", () => {
  const c = new Captions();
  c.take(caption("a", 0, "before", { final: true }));
  c.take(caption("b", 0, "wrong"));
  assert.equal(now(c), "(wrong)");
  c.take(caption("b", 1, "", { final: true }));
  assert.equal(now(c), "");
  assert.deepEqual(past(c), ["before"]);
});

test("a final line goes when it has been read", () => {
  const c = new Captions();
  c.take(caption("a", 0, "hello", { final: true }));
  // Captured at 1 s, over at 2 s, and 4 s to read.
  assert.equal(now(c, Date.parse(at(5900))), "hello");
  assert.equal(now(c, Date.parse(at(6100))), "");
});

test("a line that is told late is shown as long as any other", () => {
  const c = new Captions();
  c.take(caption("a", 0, "late", { final: true, published_at: at(20_000) }));
  assert.equal(now(c, Date.parse(at(23_900))), "late");
  assert.equal(now(c, Date.parse(at(24_100))), "");
});

test("what grew when its end was missed goes", () => {
  const c = new Captions();
  const shown = (ms: number) => c.now(undefined, ms).lines.length;
  c.take(caption("a", 0, "old"), 0);
  assert.equal(shown(30_000), 1);
  assert.equal(shown(30_001), 0);
  // It ended at 2 s.
  c.take(caption("b", 0, "soon", { start_ms: 32_000, end_ms: 33_000 }), 10_000);
  assert.equal(now(c), "");
  assert.equal(shown(10_000), 2);
  c.take(caption("c", 0, "new", { start_ms: 33_000, end_ms: 34_000, final: true }), 10_000);
  assert.equal(shown(10_000), 1);
  // Told again, it is as old.
  assert.equal(c.take(caption("d", 0, "older"), 10_000), false);
});

test("a new session leaves nothing growing behind", () => {
  const c = new Captions();
  c.take(caption("a", 0, "old"));
  c.take({ ...caption("b", 0, "new"), session: "S2" });
  assert.equal(now(c), "(new)");
});

test("gaps and losses are told, once in a row", () => {
  const c = new Captions();
  const gap = { ...base(0), type: "gap", from_pts_ms: 0, to_pts_ms: 5, reason: "source_lost" } as const;
  assert.equal(c.take(gap), true);
  assert.equal(c.take(gap), false);
  assert.equal(c.take({ type: "lost", n_records: 3 }), true);
  assert.deepEqual(past(c), ["[not heard or seen: source lost]", "[some lines are missing: the connection was too slow]"]);
});

test("it forgets", () => {
  const c = new Captions();
  for (let i = 0; i < 5000; i++) {
    c.take({ ...transcript(0, "a|b"), segment: `s${i}` });
    c.take(caption(`grow${i}`, 0, "x", { segment: `s${i}` }));
    c.take(caption(`final${i}`, 0, `line ${i}`, { final: true, segment: `s${i}` }));
  }
  assert.equal(c.lines.length, 200);
  assert.equal(past(c)[199], "line 4999");
  for (const [key, kept] of Object.entries(c)) if (kept instanceof Map || kept instanceof Set) assert.ok(kept.size <= 800, `${key}: ${kept.size}`);
});

test("what was said before comes before, whenever it is told", () => {
  const c = new Captions();
  const said = (cue: string, ms: number) => caption(cue, 0, cue, { final: true, captured_at: at(ms), start_ms: ms });
  c.take(said("third", 3000));
  c.take(said("first", 1000));
  c.take(said("second", 2000));
  assert.deepEqual(past(c), ["first", "second", "third"]);
  assert.equal(now(c), "third");
});
