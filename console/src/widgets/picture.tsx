// The live picture of a stream with its boxes, and the few things one does with it.
import { useSignal, type Signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { draw, place, type Shown } from "../overlay.ts";
import { Watching, type Report } from "../player/player.ts";
import { median } from "../player/timeline.ts";
import { hub, visible } from "../state.ts";
import { letterScale } from "../theme.ts";
import { span } from "../time.ts";
import type { Stream } from "../types.ts";
import { Icon } from "./icon.tsx";
import { Text } from "./text.tsx";

/** How late the picture is, measured twice a second over the last minute. */
export interface Delay { nowMs: number; medianMs: number }
const MEASURED = 120;

export function Picture({ stream, children, quiet, full }: { stream: Stream; children?: ComponentChildren; quiet: Signal<boolean>; full: Signal<boolean> }) {
  const stage = useRef<HTMLDivElement>(null);
  const video = useRef<HTMLVideoElement>(null);
  const still = useRef<HTMLCanvasElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const watching = useRef<Watching | null>(null);
  /** Somebody paused it, and means it: also where it is begun anew meanwhile. */
  const held = useRef(false);
  const report = useSignal<Report>({ is: "starting" });
  const delay = useSignal<Delay | null>(null);
  const boxesLate = useSignal(false);
  const shown = useSignal<Shown>({ boxes: true, names: true, trails: true });
  const playable = stream.state === "playing";

  useEffect(() => {
    if (!video.current || !still.current || !canvas.current || !playable) return;
    const [v, s, c] = [video.current, still.current, canvas.current];
    v.muted = true;
    const watched = new Watching({ video: v, still: s, skew: hub.skew, held: () => held.current }, stream, (r) => (report.value = r));
    const stop = follow(watched, stream.name, c, () => (quiet.value ? { boxes: false, names: false, trails: false } : shown.value), boxesLate);
    watching.current = watched;
    const measured: number[] = [];
    const timer = setInterval(() => {
      const captured = watched.player?.capturedAt();
      if (captured === null || captured === undefined || v.paused && watched.player?.kind !== "stills") return;
      const nowMs = Math.max(0, hub.skew.server(Date.now()) - captured);
      measured.push(nowMs);
      if (measured.length > MEASURED) measured.shift();
      delay.value = { nowMs, medianMs: median(measured) ?? nowMs };
      // Boxes come once a picture is analysed, and are moved evenly up to the next one: the picture waits for both, within reason.
      const analysed = hub.of(stream.name);
      watched.player?.holdBack((analysed.lateMs ?? 300) + Math.min(1000, analysed.everyMs() ?? 0) + 100);
    }, 500);
    return () => {
      clearInterval(timer);
      stop();
      watched.close();
      watching.current = null;
      delay.value = null;
    };
  }, [stream.name, playable]);

  useEffect(() => {
    // A telephone pauses what is not seen, and leaves it so.
    const v = video.current;
    if (visible.value && v?.paused && !held.current && watching.current?.player) void v.play().catch(() => {});
  }, [visible.value]);
  useEffect(() => {
    const changed = () => (full.value = stage.current !== null && document.fullscreenElement === stage.current);
    document.addEventListener("fullscreenchange", changed);
    return () => {
      document.removeEventListener("fullscreenchange", changed);
      full.value = false;
    };
  }, []);

  const size = stream.source?.video;
  const veil = !playable ? (stream.detail ?? stream.state) : report.value.is === "starting" ? "Connecting to the picture…" : report.value.is === "playing" ? null : report.value.why;
  return (
    <figure class="player" ref={stage}>
      <div class="room"><div class="stage" style={size?.width && size.height ? { aspectRatio: `${size.width} / ${size.height}`, "--ratio": size.width / size.height } : undefined}>
        <video ref={video} playsInline muted aria-label={`Live picture of ${stream.name}`} />
        <canvas ref={still} class="still" hidden role="img" aria-label={`Newest picture of ${stream.name}`} />
        <canvas ref={canvas} class="overlay" aria-hidden="true" data-boxes={boxesLate.value ? "late" : "in time"} />
        {children}
        {veil !== null && <div class="veil" role="status"><span><Text of={veil} /></span></div>}
      </div></div>
      <Controls video={video} held={held} stage={stage} shown={shown} report={report} hasSound={Boolean(stream.source?.audio)} onSound={(on) => watching.current?.player?.sound(on)} />
      <figcaption>
        <Lateness report={report} delay={delay} />
        {boxesLate.value && <span class="text-warn">The boxes come later than the picture: the analysis is behind.</span>}
      </figcaption>
    </figure>
  );
}

function Lateness({ report, delay }: { report: Signal<Report>; delay: Signal<Delay | null> }) {
  const d = delay.value;
  const r = report.value;
  if (r.is !== "playing") return null;
  return (
    <span class="lateness" data-kind={r.kind} data-delay-ms={d ? Math.round(d.nowMs) : undefined} data-median-ms={d ? Math.round(d.medianMs) : undefined}>
      {d ? <>Picture <b>{span(d.nowMs)}</b> behind the camera <span class="quiet">(median {span(d.medianMs)})</span></> : "How late the picture is cannot be told: it carries no date."}
      {r.note && <span class="quiet"> · <Text of={r.note} /></span>}
    </span>
  );
}

function Controls({ video, held, stage, shown, report, hasSound, onSound }: {
  video: { current: HTMLVideoElement | null }; held: { current: boolean }; stage: { current: HTMLElement | null }; shown: Signal<Shown>; report: Signal<Report>; hasSound: boolean; onSound: (on: boolean) => void;
}) {
  const muted = useSignal(true);
  const paused = useSignal(false);
  useEffect(() => {
    const v = video.current;
    if (!v) return;
    // A browser pauses and refuses by itself, too: the buttons say what is so, not what was wished.
    const look = () => {
      paused.value = v.paused;
      muted.value = v.muted;
    };
    const events = ["play", "playing", "pause", "loadeddata", "volumechange"];
    for (const event of events) v.addEventListener(event, look);
    return () => {
      for (const event of events) v.removeEventListener(event, look);
    };
  }, []);
  const moving = report.value.is === "playing" && report.value.kind !== "stills";
  const toggle = (key: keyof Shown) => (shown.value = { ...shown.value, [key]: !shown.value[key] });
  const full = () => void (document.fullscreenElement ? document.exitFullscreen() : stage.current?.requestFullscreen?.());
  return (
    <div class="controls" role="group" aria-label="Picture">
      <button class="plain" disabled={!moving} aria-label={paused.value ? "Play, live" : "Pause"} onClick={() => {
        const v = video.current;
        if (!v) return;
        held.current = !v.paused;
        if (held.current) v.pause();
        else void v.play().catch(() => (paused.value = v.paused));
      }}><Icon name={paused.value ? "play" : "pause"} /></button>
      {hasSound && <button class="plain" disabled={!moving} aria-pressed={!muted.value} aria-label="Sound" title={muted.value ? "Sound is off" : "Sound is on"} onClick={() => {
        const v = video.current;
        if (!v) return;
        v.muted = !v.muted;
        onSound(!v.muted);
      }}><Icon name={muted.value ? "muted" : "loud"} /></button>}
      <span class="switches">
        {(["boxes", "names", "trails"] as const).map((key) => <button key={key} class="chip" aria-pressed={shown.value[key]} onClick={() => toggle(key)}>{key}</button>)}
      </span>
      {document.fullscreenEnabled && <button class="plain" aria-label="Full screen" onClick={full}><Icon name="full" /></button>}
    </div>
  );
}

/** Draws the boxes of the moment that is shown, in every frame of the screen; ends when the function that is returned is called. */
function follow(watching: Watching, name: string, canvas: HTMLCanvasElement, shown: () => Shown, late: Signal<boolean>): () => void {
  let frame = 0;
  let drawn = "";
  let lateSince = 0;
  let scale = devicePixelRatio;
  const next = () => {
    frame = requestAnimationFrame(next);
    const player = watching.player;
    const moment = player?.moment();
    const { detections } = hub.of(name);
    const key = moment ? `${moment.ms}|${detections.last()?.id}|${canvas.clientWidth}|${JSON.stringify(shown())}` : "";
    if (key === drawn) return;
    drawn = key;
    const [wide, high] = [Math.round(canvas.clientWidth * devicePixelRatio), Math.round(canvas.clientHeight * devicePixelRatio)];
    if (canvas.width !== wide || canvas.height !== high) {
      canvas.width = wide;
      canvas.height = high;
      scale = devicePixelRatio * letterScale();
    }
    const context = canvas.getContext("2d");
    if (!context) return;
    context.clearRect(0, 0, wide, high);
    const placed = moment ? place(detections.items, moment) : null;
    const isLate = Boolean(moment && detections.last() && (!placed || placed.lateMs > 700));
    if (!isLate) lateSince = 0;
    else if (lateSince === 0) lateSince = performance.now();
    late.value = isLate && performance.now() - lateSince > 3000;
    if (placed) draw(context, placed, shown(), scale);
    canvas.dataset["n"] = String(placed?.objects.length ?? 0);
    // Whoever tests it asks by an attribute which boxes lie on the picture.
    if (canvas.hasAttribute("data-asked")) canvas.dataset["placed"] = placed ? JSON.stringify({ boxes: placed.objects.map((o) => o.box), frame: placed.frame, lateMs: placed.lateMs }) : "";
  };
  frame = requestAnimationFrame(next);
  return () => cancelAnimationFrame(frame);
}
