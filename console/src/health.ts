// What can be told of the service's health without `/v1/health`: from the streams and workers that the page knows anyway. Pure.
import type { Check, Level, Stream, Workers } from "./types.ts";

const STALE_MS = 30_000;
const LATE_MS = 5000;

export function own(streams: readonly Stream[], workers: Workers | null): Check[] {
  const checks: Check[] = [];
  const add = (id: string, level: Level, subject: string | null, says: string, what: string | null) => checks.push({ id, level, subject, says, do: what });
  if (workers?.trouble) add("store", "bad", "store", workers.trouble, "See that the store can be reached: the folder of [attachments], or Kafka of [cluster].");
  for (const w of workers?.workers ?? []) {
    if (w.age_ms > STALE_MS) add("worker", "bad", w.id, `has not been heard of for ${Math.round(w.age_ms / 1000)} s`, "See whether its machine and process live; its streams go to others meanwhile.");
    else if (w.load > w.capacity) add("worker", "warn", w.id, `carries ${w.load} of ${w.capacity}`, "Start another worker, or give this one more `capacity` if it has idle cores.");
  }
  for (const s of streams) {
    if (s.state === "failed") add("stream", "bad", s.name, s.detail ?? "it was given up", "Try its address with “Add a stream”, correct it, and attach it again.");
    else if (s.state === "interrupted") add("stream", "bad", s.name, s.detail ?? "the connection is lost", "It is tried again by itself. See that the camera is on and can be reached from the service's machine.");
    else if (s.state === "waiting") add("stream", "warn", s.name, "no worker has it yet", "If it stays so: is there a worker with room for it?");
    if ((s.speech_lag_ms ?? 0) > LATE_MS) add("speech", "warn", s.name, `words come ${Math.round((s.speech_lag_ms ?? 0) / 1000)} s late`, "Take a smaller speech model, or set `partials = false`, or listen to fewer streams.");
  }
  return checks;
}

export const worst = (checks: readonly Check[]): Level => (checks.some((c) => c.level === "bad") ? "bad" : checks.some((c) => c.level === "warn") ? "warn" : "ok");

export const inOrder = (checks: readonly Check[]): Check[] => [...checks].sort((a, b) => rank(a.level) - rank(b.level));

const rank = (level: Level): number => ["bad", "warn", "ok"].indexOf(level);

/** Rows of a table from whatever the service tells: a list of things, or things by name. */
export function rows(of: unknown): Record<string, unknown>[] {
  if (Array.isArray(of)) return of.filter((row): row is Record<string, unknown> => row !== null && typeof row === "object");
  if (of !== null && typeof of === "object") return Object.entries(of).map(([name, row]) => (row !== null && typeof row === "object" && !Array.isArray(row) ? { name, ...row } : { name, value: row }));
  return [];
}

/** A value of such a table, as a person reads it. */
export function cell(key: string, value: unknown): string {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") {
    if (key.endsWith("_bytes") || key === "bytes") return bytes(value);
    if (key.endsWith("_ms")) return value < 10_000 ? `${Math.round(value)} ms` : `${Math.round(value / 1000)} s`;
    if (key.endsWith("_secs") || key.endsWith("_seconds")) return `${Math.round(value)} s`;
    return Number.isInteger(value) ? value.toLocaleString("en").replaceAll(",", " ") : value.toFixed(2);
  }
  if (Array.isArray(value)) return value.length > 8 ? `${value.length}` : value.map((v) => cell(key, v)).join(", ") || "–";
  if (typeof value === "object") return Object.entries(value).map(([k, v]) => `${k.replaceAll("_", " ")} ${cell(k, v)}`).join(", ") || "–";
  return String(value);
}

function bytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  let value = n;
  while (value >= 1024 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${at === 0 ? value : value.toFixed(1)} ${units[at]}`;
}
