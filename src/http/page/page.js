// Lists the streams and follows the captions of the one named after the # in the address.
"use strict";
const $ = (id) => document.getElementById(id);
const MOST_PAST = 30;
let source = null;
let player = null;
let growing = new Map(); // the cues that may still change, by id
let newest = null; // the last final one

function link(href, text) {
  const a = document.createElement("a");
  a.href = href;
  a.textContent = text;
  return a;
}

async function list() {
  const list = $("streams");
  try {
    const answer = await fetch("/v1/streams");
    $("login").hidden = answer.status !== 401;
    if (!answer.ok) throw new Error((await answer.json()).error);
    const { streams } = await answer.json();
    list.replaceChildren(...streams.map((stream) => {
      const item = document.createElement("li");
      const a = link("#" + encodeURIComponent(stream.name), stream.name);
      if (stream.name === chosen()) a.setAttribute("aria-current", "page");
      item.append(a, ` (${stream.state})`);
      return item;
    }));
    if (streams.length === 0) list.textContent = "No stream is attached.";
    const stream = streams.find((s) => s.name === chosen()) ?? (chosen() ? null : streams[0]);
    if (stream && stream.name !== $("name").textContent) follow(stream);
  } catch (error) {
    list.textContent = `The streams cannot be listed: ${error.message}`;
  }
}

function chosen() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

function follow(stream) {
  source?.close();
  growing = new Map();
  newest = null;
  document.querySelector("main").hidden = false;
  $("name").textContent = stream.name;
  $("state").textContent = stream.state;
  $("caption").textContent = "";
  $("past").replaceChildren();
  $("links").replaceChildren(
    link(`${stream.captions}?format=vtt`, "WebVTT"), " · ", link(stream.captions, "JSON"), " · ", link("/openapi.json", "API"));
  watch(stream.playlist);

  source = new EventSource(`${stream.captions}?types=captions,status,gaps&recent=20`);
  source.addEventListener("caption", (event) => show(JSON.parse(event.data)));
  source.addEventListener("status", (event) => {
    const { state, detail } = JSON.parse(event.data);
    $("state").textContent = detail ? `${state}: ${detail}` : state;
    list();
  });
  source.addEventListener("gap", (event) => past(`[${JSON.parse(event.data).reason.replaceAll("_", " ")}]`));
  source.addEventListener("lost", () => past("[…]"));
  source.onerror = () => { $("state").textContent = "the connection to the service was lost"; };
  source.onopen = () => { $("state").textContent = stream.state; };
}

// A cue that may still change stands in the box, with others like it; a final one goes into the log, once, and stays in the
// box until the next one comes.
function show(caption) {
  if (caption.final) {
    growing.delete(caption.cue);
    if (caption.lines.length > 0) past(caption.lines.join("\n"));
    newest = caption;
  } else {
    growing.set(caption.cue, caption);
  }
  const shown = growing.size > 0 ? [...growing.values()].sort((a, b) => a.start_ms - b.start_ms) : [newest];
  $("caption").textContent = shown.flatMap((cue) => cue.lines).join("\n");
}

function past(text) {
  const line = document.createElement("p");
  line.textContent = text;
  $("past").append(line);
  while ($("past").children.length > MOST_PAST) $("past").firstChild.remove();
}

// The picture, where the stream can be played at all: by hls.js, or (Safari on a telephone) by the browser itself.
function watch(playlist) {
  const video = $("video");
  player?.destroy();
  player = null;
  video.removeAttribute("src");
  const helped = playlist && window.Hls?.isSupported();
  const itself = playlist && !helped && video.canPlayType("application/vnd.apple.mpegurl") !== "";
  picture(Boolean(itself || helped));
  if (itself) video.src = playlist;
  if (helped) {
    // The first segment takes a few seconds to be there.
    const again = { maxTimeToFirstByteMs: 15000, maxLoadTimeMs: 20000,
      errorRetry: { maxNumRetry: 8, retryDelayMs: 1000, maxRetryDelayMs: 4000 }, timeoutRetry: { maxNumRetry: 4, retryDelayMs: 0, maxRetryDelayMs: 0 } };
    player = new Hls({ enableWorker: false, manifestLoadPolicy: { default: again } });
    player.on(Hls.Events.ERROR, (_, error) => { if (error.fatal) picture(false); });
    player.loadSource(playlist);
    player.attachMedia(video);
  }
}

function picture(shown) {
  $("video").hidden = !shown;
  $("late").hidden = !shown;
}
$("video").onerror = () => picture(false);

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const token = event.target.elements.access_token.value;
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch("/v1/session", { method: "POST", headers, body: JSON.stringify({ token }) });
  $("refused").textContent = answer.ok ? "" : (await answer.json()).error;
  if (answer.ok) list();
});

addEventListener("hashchange", list);
list();
