// Times: how they are written, and which record belongs to which moment of a picture. Pure.

/** A short wall-clock time, with the date where it is not today. */
export function clock(iso: string | null | undefined, now = new Date()): string {
  if (!iso) return "–";
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return iso;
  const time = at.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  if (at.toDateString() === now.toDateString()) return time;
  return `${at.toLocaleDateString(undefined, { day: "numeric", month: "short", ...(at.getFullYear() === now.getFullYear() ? {} : { year: "numeric" }) })}, ${time}`;
}

/** `850 ms`, `3.2 s`, `48 s`, `3 min`, `2 h 5 min`, `4 days`. */
export function span(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const secs = ms / 1000;
  if (secs < 9.95) return `${secs.toFixed(1)} s`;
  if (secs < 59.5) return `${Math.round(secs)} s`;
  const mins = Math.round(secs / 60);
  if (mins < 60) return `${mins} min`;
  const hours = Math.floor(mins / 60);
  if (hours < 24) return mins % 60 === 0 ? `${hours} h` : `${hours} h ${mins % 60} min`;
  const days = Math.round(hours / 24);
  return days === 1 ? "1 day" : `${days} days`;
}

export function ago(iso: string | null | undefined, now: number): string {
  if (!iso) return "–";
  const ms = now - Date.parse(iso);
  if (Number.isNaN(ms)) return "–";
  return ms < 1500 ? "just now" : `${span(ms)} ago`;
}

/** Stream time as players write it: `1:02:03.4`. */
export function position(ms: number): string {
  const secs = Math.max(0, ms) / 1000;
  const [h, m, s] = [Math.floor(secs / 3600), Math.floor(secs / 60) % 60, secs % 60];
  const tail = s.toFixed(1).padStart(4, "0");
  return h > 0 ? `${h}:${String(m).padStart(2, "0")}:${tail}` : `${m}:${tail}`;
}

/** The newest at or before `at`, and the one after it, of what is sorted by `time`. */
export function around<T>(sorted: readonly T[], at: number, time: (item: T) => number): { before: T | null; after: T | null } {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (time(sorted[middle] as T) <= at) low = middle + 1;
    else high = middle;
  }
  return { before: sorted[low - 1] ?? null, after: sorted[low] ?? null };
}

/** How a server's clock and ours differ: the least of what was measured, since a message can be late and never early. */
export class Skew {
  private least: number | null = null;
  take(sentAt: string, now: number): void {
    const ms = now - Date.parse(sentAt);
    // Creeps up, so that a clock that is set anew is followed within minutes.
    if (!Number.isNaN(ms)) this.least = this.least === null ? ms : Math.min(ms, this.least + 5);
  }
  /** The server's time now, in milliseconds since 1970. */
  server(now: number): number {
    return now - (this.least ?? 0);
  }
}
