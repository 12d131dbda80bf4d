import assert from "node:assert/strict";
import { test } from "node:test";
import { alertFits, fits, tagsOf } from "../src/filter.ts";
import { hasSecret, suggest, tags, wrongName } from "../src/names.ts";
import { href, parse, type Route } from "../src/route.ts";
import { alert } from "./samples.ts";

test("addresses within the page, there and back", () => {
  const routes: [string, Route][] = [
    ["#/", { view: "wall" }],
    ["#/streams/front-door", { view: "stream", name: "front-door" }],
    ["#/alerts", { view: "alerts", filter: {} }],
    ["#/alerts?state=open&stream=a", { view: "alerts", filter: { state: "open", stream: "a" } }],
    ["#/alerts/01M-alert-x-0", { view: "alert", id: "01M-alert-x-0" }],
    ["#/transcripts?q=ask+not", { view: "transcripts", filter: { q: "ask not" } }],
    ["#/health", { view: "health" }],
    ["#/nothing/here", { view: "unknown", path: "/nothing/here" }],
  ];
  for (const [hash, route] of routes) {
    assert.deepEqual(parse(hash), route, hash);
    assert.equal(href(route), hash);
  }
  assert.deepEqual(parse(""), { view: "wall" });
  assert.deepEqual(parse("#/streams"), { view: "wall" });
  assert.deepEqual(parse("#/streams/%zz"), { view: "stream", name: "%zz" });
  assert.deepEqual(parse("#/streams/a%2Fb"), { view: "stream", name: "a/b" });
  assert.deepEqual(parse("#/streams/a/b").view, "unknown");
});

test("streams are found by name, state and tags", () => {
  const stream = { name: "front-door", state: "playing", tags: { Location: "Front", Floor: "0" } };
  const check = (text: string, tag: string, expected: boolean) => assert.equal(fits(stream, text, tag), expected, `${text} ${tag}`);
  check("", "", true);
  check("FRONT play", "", true);
  check("location:front", "", true);
  check("yard", "", false);
  check("", "Location:Front", true);
  check("door", "Location:Back", false);
  assert.deepEqual(tagsOf([stream, { tags: { Floor: "1" } }]), ["Floor:0", "Floor:1", "Location:Front"]);
});

test("alerts are filtered", () => {
  const open = alert("a", 0, { stream: "cam" });
  const done = alert("b", 1, { state: "closed", acknowledged: { by: "anna", at: "", note: null } });
  const check = (filter: Parameters<typeof alertFits>[1], expected: [boolean, boolean]) => assert.deepEqual([alertFits(open, filter), alertFits(done, filter)], expected, JSON.stringify(filter));
  check({}, [true, true]);
  check({ state: "open" }, [true, false]);
  check({ state: "closed" }, [false, true]);
  check({ state: "acknowledged" }, [false, true]);
  check({ state: "silenced" }, [false, false]);
  check({ stream: "other" }, [false, false]);
  check({ severity: "warning", rule: "yard" }, [true, true]);
});

test("a name is made of an address", () => {
  const taken = new Set(["demo"]);
  const check = (address: string, expected: string) => {
    const name = suggest(address, taken);
    assert.equal(name, expected, address);
    assert.equal(wrongName(name, taken), null);
  };
  check("rtsp://192.0.2.10:554/stream1", "192.0.2.10-stream1");
  check("rtsp://user:secret@cam.lan/live/main?x=1", "cam.lan-main");
  check("https://example.org/live.m3u8", "example.org-live");
  check("/srv/clips/yard 7.mp4", "yard-7");
  check("/srv/demo.mp4", "demo-2");
  check("rtsp://cam.lan", "cam.lan");
  check("rtsp://cam.lan:8554", "cam.lan");
  check("test://?width=640", "stream");
});

test("names, secrets and tags are looked at before they are sent", () => {
  assert.match(wrongName("", new Set()) ?? "", /needed/);
  assert.match(wrongName("a b", new Set()) ?? "", /Letters/);
  assert.match(wrongName("a", new Set(["a"])) ?? "", /already/);
  for (const address of ["rtsp://u:p@cam/1", "rtsp://u@cam/1", "https://x/live?token=abc", "srt://x:1?passphrase=abc"]) assert.ok(hasSecret(address), address);
  for (const address of ["rtsp://cam/1", "https://x/live?token=&a=b", "/srv/a@b.mp4", "https://x/a?tokens=1"]) assert.ok(!hasSecret(address), address);
  assert.deepEqual(tags("Location=Front, Floor: 2\nEmpty="), { tags: { Location: "Front", Floor: "2", Empty: "" } });
  assert.deepEqual(tags(""), { tags: {} });
  assert.ok("problem" in tags("Front"));
});
