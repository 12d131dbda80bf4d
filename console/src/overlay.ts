// Boxes, names and trails over a picture. `place` says where they are at a moment (pure); `draw` puts them on a canvas.
import type { Moment } from "./player/player.ts";
import { around } from "./time.ts";
import type { Box, Detections, Seen } from "./types.ts";

export interface Shown { boxes: boolean; names: boolean; trails: boolean }
export interface Placed { objects: Seen[]; trails: { track: number; class: string; points: [number, number][] }[]; frame: { width: number; height: number }; lateMs: number }

const TRAIL_MS = 2000;
/** Boxes that are older than the picture by more than this are wrong about it. */
const TOO_OLD_MS = 1000;
/** Between pictures further apart than this nobody knows how things went. */
const FAR_APART_MS = 2500;
/** Colours that can be told apart, also by those who see few of them; dark edges make them visible on every picture. */
const COLOURS = ["#ffb000", "#4cc9ff", "#7ee081", "#ff7ab6", "#c9a6ff", "#fff275", "#ff8a5c", "#5ee6d0"];

export function colour(name: string): string {
  if (name === "person") return COLOURS[0] as string;
  let hash = 7;
  for (const letter of name) hash = (hash * 31 + letter.charCodeAt(0)) >>> 0;
  return COLOURS[1 + (hash % (COLOURS.length - 1))] as string;
}

/** What is where at `moment`: between two analysed pictures, objects move evenly. Null where nothing is known of it. */
export function place(records: readonly Detections[], moment: Moment): Placed | null {
  const time = moment.by === "pts" ? (r: Detections) => r.pts_ms : (r: Detections) => Date.parse(r.captured_at ?? "");
  const known = moment.by === "pts" ? records.filter((r) => r.session === moment.session) : records;
  // A picture's own boxes may be told a fraction of a millisecond later than it is shown.
  const { before, after } = around(known, moment.ms + 1, time);
  if (!before) return null;
  const lateMs = moment.ms - time(before);
  const gap = after ? time(after) - time(before) : 0;
  if (lateMs > TOO_OLD_MS && !(after && gap < FAR_APART_MS)) return null;
  const part = after && gap > 0 && gap < FAR_APART_MS ? Math.min(1, Math.max(0, lateMs / gap)) : 0;
  const next = new Map((after?.objects ?? []).filter((o) => o.track !== null).map((o) => [o.track, o]));
  const objects = before.objects.map((o) => {
    const to = o.track === null ? undefined : next.get(o.track);
    return to && part > 0 ? { ...o, box: o.box.map((v, i) => v + part * ((to.box[i] ?? v) - v)) as Box } : o;
  });
  return { objects, trails: trails(known, before, objects), frame: before.frame, lateMs };
}

function trails(records: readonly Detections[], until: Detections, now: Seen[]): Placed["trails"] {
  const recent = records.filter((r) => r.session === until.session && r.pts_ms <= until.pts_ms && r.pts_ms > until.pts_ms - TRAIL_MS);
  return now.filter((o) => o.track !== null).map((o) => {
    const points = recent.flatMap((r) => r.objects.filter((p) => p.track === o.track).map((p) => feet(p.box)));
    return { track: o.track as number, class: o.class, points: [...points, feet(o.box)] };
  });
}

const feet = ([x, y, width, height]: Box): [number, number] => [x + width / 2, y + height];

/** Draws what is placed over the whole canvas; the canvas lies exactly over the picture. */
export function draw(context: CanvasRenderingContext2D, placed: Placed, shown: Shown, scale: number): void {
  const { width, height } = context.canvas;
  // On a small picture there is room for numbers alone.
  const small = width / scale < 560;
  const [sx, sy] = [width / placed.frame.width, height / placed.frame.height];
  const line = Math.max(1.5, 2 * scale);
  context.lineJoin = "round";
  if (shown.trails) for (const trail of placed.trails) {
    if (trail.points.length < 2) continue;
    context.beginPath();
    for (const [i, [x, y]] of trail.points.entries()) context[i === 0 ? "moveTo" : "lineTo"](x * sx, y * sy);
    stroke(context, colour(trail.class), line);
  }
  context.font = `600 ${Math.round(11 * scale)}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  for (const object of placed.objects) {
    const [x, y, w, h] = object.box;
    const paint = colour(object.class);
    if (shown.boxes) {
      context.beginPath();
      context.rect(x * sx, y * sy, w * sx, h * sy);
      stroke(context, paint, line);
    }
    const name = small ? (object.track ?? "") : [object.class, object.track].filter((part) => part !== null).join(" ");
    if (shown.names && name !== "") label(context, String(name), x * sx, y * sy, paint, scale);
  }
}

function stroke(context: CanvasRenderingContext2D, paint: string, line: number): void {
  context.strokeStyle = "rgba(0, 0, 0, 0.55)";
  context.lineWidth = line + 2;
  context.stroke();
  context.strokeStyle = paint;
  context.lineWidth = line;
  context.stroke();
}

function label(context: CanvasRenderingContext2D, text: string, x: number, y: number, paint: string, scale: number): void {
  const [pad, high] = [3 * scale, 15 * scale];
  const wide = context.measureText(text).width + 2 * pad;
  const left = Math.min(Math.max(0, x), context.canvas.width - wide);
  const top = y - high >= 0 ? y - high : y;
  context.fillStyle = paint;
  context.fillRect(left, top, wide, high);
  context.fillStyle = "#111";
  context.fillText(text, left + pad, top + high / 2);
}
