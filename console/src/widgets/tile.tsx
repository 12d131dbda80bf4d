// One stream on the wall: its picture with the boxes of that very picture, its state, what is there, and what was said last.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { isCalling } from "../alerts.ts";
import { draw, place } from "../overlay.ts";
import { pictures } from "../pictures.ts";
import type { Still } from "../player/stills.ts";
import { href } from "../route.ts";
import { alerts, hub, now, visible } from "../state.ts";
import { letterScale } from "../theme.ts";
import { ago, span } from "../time.ts";
import type { Stream } from "../types.ts";
import { Icon } from "./icon.tsx";
import { State, Tags } from "./pill.tsx";
import { Text } from "./text.tsx";

export function Tile({ stream }: { stream: Stream }) {
  const open = [...alerts.value.values()].filter((a) => a.stream === stream.name && isCalling(a));
  const worst = open.some((a) => a.severity === "critical") ? "critical" : open.some((a) => a.severity === "warning") ? "warning" : "info";
  const elsewhere = stream.address !== null && stream.state === "playing" && stream.source === null && stream.figures !== null;
  return (
    <li class={`tile ${open.length > 0 ? `calls ${worst}` : ""}`} data-stream={stream.name}>
      <Picture stream={stream} />
      {open.length > 0 && (
        <a class={`badge ${worst}`} href={href({ view: "alerts", filter: { stream: stream.name, state: "open" } })} title={open.map((a) => a.summary).slice(0, 5).join("\n")}>
          <Icon name="bell" />{open.length}<span class="visually-hidden"> open {open.length === 1 ? "alert" : "alerts"} of {stream.name}</span>
        </a>
      )}
      <div class="tile-text">
        <div class="tile-name">
          <h2><a href={href({ view: "stream", name: stream.name })}>{stream.name}</a></h2>
          <State stream={stream} />
        </div>
        <Counts stream={stream} />
        <Words stream={stream} />
        <div class="tile-foot"><Tags tags={stream.tags} />{elsewhere && <span class="quiet">with worker {stream.worker}</span>}</div>
      </div>
    </li>
  );
}

function Picture({ stream }: { stream: Stream }) {
  const link = useRef<HTMLAnchorElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const seen = useSignal(false);
  const trouble = useSignal<string | null>(null);
  const shown = useSignal(false);
  useEffect(() => {
    const watcher = new IntersectionObserver((entries) => (seen.value = entries.some((e) => e.isIntersecting)), { rootMargin: "100px" });
    if (link.current) watcher.observe(link.current);
    return () => watcher.disconnect();
  }, []);
  const wanted = seen.value && visible.value && stream.state === "playing";
  useEffect(() => {
    if (!wanted) return;
    return pictures.add({
      name: stream.name,
      show: (still) => {
        if (canvas.current) paint(canvas.current, still, stream.name);
        trouble.value = null;
        shown.value = true;
      },
      trouble: (why) => (trouble.value = why),
    });
  }, [wanted, stream.name]);
  const old = stream.state !== "playing";
  return (
    <a ref={link} class={`picture ${old ? "old" : ""}`} href={href({ view: "stream", name: stream.name })} tabIndex={-1} aria-hidden="true">
      <canvas ref={canvas} hidden={!shown.value} />
      {old ? <span class="veil"><span><Text of={stream.detail ?? sentence(stream.state)} /></span></span>
        : trouble.value ? <span class="veil"><span><Text of={trouble.value} /></span></span>
        : !shown.value && <span class="veil"><span>Waiting for a picture…</span></span>}
    </a>
  );
}

function sentence(state: string): string {
  switch (state) {
    case "waiting": return "No worker has it yet";
    case "connecting": return "Connecting…";
    case "interrupted": return "The connection is lost and tried again";
    case "ended": return "It has ended";
    case "stopped": return "It was stopped";
    default: return state;
  }
}

function paint(canvas: HTMLCanvasElement, still: Still, name: string): void {
  const wide = Math.min(still.image.width, Math.ceil(canvas.clientWidth * devicePixelRatio) || 640);
  const high = Math.round((wide * still.image.height) / still.image.width);
  if (canvas.width !== wide || canvas.height !== high) {
    canvas.width = wide;
    canvas.height = high;
  }
  const context = canvas.getContext("2d");
  if (!context) return;
  context.drawImage(still.image, 0, 0, wide, high);
  const placed = place(hub.of(name).detections.items, { by: "pts", session: still.session, ms: still.ptsMs });
  if (placed && placed.lateMs < 300) draw(context, placed, { boxes: true, names: false, trails: false }, devicePixelRatio * letterScale());
}

function Counts({ stream }: { stream: Stream }) {
  const watched = hub.of(stream.name);
  watched.changed.value;
  const fresh = now.value - watched.detectionsAt < 10_000 && stream.state === "playing";
  const counts = fresh ? watched.counts().slice(0, 4) : [];
  const figures = stream.state === "playing" ? stream.figures : null;
  const lag = stream.speech_lag_ms ?? 0;
  return (
    <div class="counts">
      <span class="objects">
        {counts.map(([name, n]) => <span key={name}>{name} <b>{n}</b></span>)}
        {fresh && counts.length === 0 && <span class="quiet">nothing in sight</span>}
      </span>
      {figures && <span class="quiet" title={`Analysed pictures a second${figures.latency_ms ? `; each takes ${span(figures.latency_ms)}` : ""}`}>
        {figures.fps.toFixed(figures.fps < 10 ? 1 : 0)} fps{lag > 1500 && <span class="text-warn"> · words {span(lag)} late</span>}
      </span>}
    </div>
  );
}

function Words({ stream }: { stream: Stream }) {
  const watched = hub.of(stream.name);
  watched.changed.value;
  const { lines, final } = watched.captions.now(undefined, now.value);
  const last = watched.captions.lines.filter((l) => l.kind === "words").pop();
  const text = lines.map((line) => line.map((w) => w.text).join(" ")).join(" ");
  return <p class={`last-words ${final ? "final" : ""}`} title={final && last?.at ? `said ${ago(last.at, now.value)}` : undefined}>{text}</p>;
}
