import assert from "node:assert/strict";
import { test } from "node:test";
import { build, say, suggestName, toml, within, wrong, type Draft, type Point } from "../src/rules.ts";

const triangle: Point[] = [[0.1, 0.2], [0.9, 0.2], [0.50049, 0.8]];
const draft = (more: Partial<Draft> = {}): Draft => ({ name: "yard", kind: "in_zone", points: triangle, classes: ["person"], forSecs: 3, over: 5, direction: "any", severity: "critical", ...more });

test("what was drawn becomes a rule", () => {
  assert.deepEqual(build(draft()), { when: { type: "in_zone", zone: [[0.1, 0.2], [0.9, 0.2], [0.5, 0.8]], objects: { classes: ["person"] }, for_secs: 3 }, severity: "critical" });
  assert.deepEqual(build(draft({ kind: "crosses", points: [[0.5, 1], [0.5, 0]], direction: "to_left", classes: [], severity: "info" })),
    { when: { type: "crosses", line: [[0.5, 1], [0.5, 0]], direction: "to_left" }, severity: "info" });
  assert.deepEqual(build(draft({ kind: "crosses", points: [[0.5, 1], [0.5, 0]] })).when, { type: "crosses", line: [[0.5, 1], [0.5, 0]], objects: { classes: ["person"] } });
  assert.deepEqual(build(draft({ kind: "count", over: 6, forSecs: 0 })).when, { type: "count", zone: [[0.1, 0.2], [0.9, 0.2], [0.5, 0.8]], objects: { classes: ["person"] }, over: 6 });
});

test("and TOML to paste", () => {
  assert.equal(toml(draft(), "front-door"), [
    "[rules.yard]",
    'when = { type = "in_zone", zone = [[0.1, 0.2], [0.9, 0.2], [0.5, 0.8]], objects = { classes = ["person"] }, for_secs = 3 }',
    'severity = "critical"',
    'select = { names = ["front-door"] }',
    "",
  ].join("\n"));
  assert.match(toml(draft({ name: "a.b" }), "x"), /^\[rules\."a\.b"\]/);
});

test("what is wrong is said", () => {
  const taken = new Set(["old"]);
  const check = (more: Partial<Draft>, expected: RegExp | null) => {
    const got = wrong(draft(more), taken);
    if (expected === null) assert.equal(got, null);
    else assert.match(got ?? "nothing", expected);
  };
  check({}, null);
  check({ name: "" }, /name/);
  check({ name: "a b" }, /name/);
  check({ name: "old" }, /already/);
  check({ points: triangle.slice(0, 1) }, /set 2 more/);
  check({ kind: "crosses", points: [] }, /set both/);
  check({ kind: "crosses", points: triangle.slice(0, 1) }, /the other one/);
  check({ kind: "crosses", points: [[0.1, 0.1], [0.1, 0.1]] }, /same point/);
  check({ forSecs: -1 }, /Seconds/);
  check({ forSecs: Number.NaN }, /Seconds/);
  check({ kind: "count", over: 1.5 }, /whole number/);
});

test("points stay in the picture", () => {
  assert.deepEqual(within([-0.2, 1.7]), [0, 1]);
  assert.deepEqual(within([0.12345, 0.98765]), [0.123, 0.988]);
});

test("rules in words, and names that nobody has", () => {
  assert.equal(say(draft()), "Person in the zone for 3 s.");
  assert.equal(say(draft({ classes: [], forSecs: 0 })), "Anything in the zone.");
  assert.equal(say(draft({ kind: "crosses", direction: "to_left" })), "Person that crosses the line to its left.");
  assert.equal(suggestName({ kind: "in_zone", classes: ["person"] }, new Set()), "person-in-zone");
  assert.equal(suggestName({ kind: "crosses", classes: ["traffic light"] }, new Set(["traffic-light-crosses"])), "traffic-light-crosses-2");
});
