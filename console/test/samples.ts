// Records for tests, short to write.
import type { Alert, Caption, Detections, Seen, Transcript } from "../src/types.ts";

const START = Date.parse("2026-11-22T10:00:00Z");
export const at = (ms: number): string => new Date(START + ms).toISOString();
export const base = (pts: number, session = "S1", stream = "cam") => ({ id: `${session}-${pts}`, stream, session, pts_ms: pts, captured_at: at(pts) });

export function caption(cue: string, revision: number, text: string, more: Partial<Caption> = {}): Caption {
  return { ...base(1000), type: "caption", cue, revision, start_ms: 0, end_ms: 2000, lines: text === "" ? [] : text.split("/"), final: false, segment: "seg", ...more };
}

/** `a b|c d`: what is before the bar is stable. */
export function transcript(revision: number, text: string, segment = "seg"): Transcript {
  const [stable = "", rest = ""] = text.split("|");
  const words = [...stable.split(" ").filter(Boolean).map((t) => [t, true] as const), ...rest.split(" ").filter(Boolean).map((t) => [t, false] as const)];
  return {
    ...base(1000), type: "transcript", segment, revision, final: false, start_ms: 0, end_ms: 2000, text: words.map(([t]) => t).join(" "),
    words: words.map(([t, s], i) => ({ text: t, start_ms: i * 100, end_ms: i * 100 + 90, stable: s })),
  };
}

export function detections(pts: number, objects: [track: number | null, x: number][], session = "S1"): Detections {
  const seen = ([track, x]: [number | null, number]): Seen => ({ class: "person", score: 0.9, box: [x, 0, 10, 20], track });
  return { ...base(pts, session), type: "detections", frame: { width: 100, height: 100, index: pts }, objects: objects.map(seen) };
}

export function alert(id: string, revision: number, more: Partial<Alert> = {}): Alert {
  return {
    ...base(revision * 1000), type: "alert", alert: id, revision, state: "opened", rule: "yard", severity: "warning", summary: "somebody", since: at(0), until: null,
    since_ms: 0, until_ms: null, closed_because: null, evidence: { tracks: [], words: [], snapshot: null, clip: null }, ...more,
  };
}
