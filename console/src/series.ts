// What happened on a stream over time, for charts: as the history has it, or, without one, as this page saw it itself. Pure.
import type { Series, Stream } from "./types.ts";

/** Columns for charts: times in seconds since 1970, and one list of values a line; null where nothing is known. */
export interface Columns { times: number[]; lines: { name: string; values: (number | null)[] }[] }
export interface Charts { objects: Columns; fps: Columns; lag: Columns; drops: Columns }

/** Left out on purpose: that is no loss. */
const WISHED = "sampling";

export function ofHistory(series: Series): Charts {
  const times = series.times.map((t) => (typeof t === "number" ? t : Date.parse(t) / 1000));
  const columns = (lines: Columns["lines"]): Columns => ({ times, lines });
  return {
    objects: columns(Object.entries(series.objects).map(([name, { most }]) => ({ name, values: most }))),
    fps: columns([{ name: "fps", values: series.fps }]),
    lag: columns([{ name: "s", values: series.speech_lag_ms.map((ms) => (ms === null ? null : ms / 1000)) }]),
    drops: columns(Object.entries(series.drops).filter(([reason]) => reason !== WISHED).map(([name, values]) => ({ name: name.replaceAll("_", " "), values }))),
  };
}

export interface Sample { at: number; fps: number; lagMs: number | null; drops: Record<string, number>; objects: Record<string, number> }

/** One look at a stream. */
export function sample(stream: Stream, counts: readonly [string, number][], now: number): Sample {
  return { at: now / 1000, fps: stream.figures?.fps ?? 0, lagMs: stream.speech_lag_ms, drops: stream.figures?.n_dropped ?? {}, objects: Object.fromEntries(counts) };
}

export function ofSamples(samples: readonly Sample[]): Charts {
  const times = samples.map((s) => s.at);
  const names = (of: (s: Sample) => object): string[] => [...new Set(samples.flatMap((s) => Object.keys(of(s))))].sort();
  // Counters grow; what is shown is how many in a second.
  const rate = (name: string) => samples.map((s, i) => {
    const before = samples[i - 1];
    if (!before || s.at <= before.at) return null;
    return Math.max(0, (s.drops[name] ?? 0) - (before.drops[name] ?? 0)) / (s.at - before.at);
  });
  return {
    objects: { times, lines: names((s) => s.objects).map((name) => ({ name, values: samples.map((s) => s.objects[name] ?? 0) })) },
    fps: { times, lines: [{ name: "fps", values: samples.map((s) => s.fps) }] },
    lag: { times, lines: [{ name: "s", values: samples.map((s) => (s.lagMs === null ? null : s.lagMs / 1000)) }] },
    drops: { times, lines: names((s) => s.drops).filter((name) => name !== WISHED).map((name) => ({ name: name.replaceAll("_", " "), values: rate(name) })) },
  };
}

/** Names the newest values of a chart in a sentence, for those who do not see it. */
export function inWords(columns: Columns, unit: string): string {
  const parts = columns.lines.map(({ name, values }) => {
    const known = values.filter((v): v is number => v !== null);
    if (known.length === 0) return `${name}: nothing known`;
    const most = Math.max(...known);
    return `${name}: now ${short(known[known.length - 1] ?? 0)}, at most ${short(most)}`;
  });
  return parts.length === 0 ? "none" : `${parts.join("; ")} ${unit}`.trim();
}

const short = (v: number): string => (Number.isInteger(v) ? String(v) : v.toFixed(1));
