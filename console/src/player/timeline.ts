// Where a live player should be on its timeline: not so late that it is no longer live, not so near the end that it stumbles.
// Pure; times in seconds.

export interface Steering { rate: number; seek: number | null }

/** Further behind than this beyond what is aimed at, it jumps instead of hurrying. */
const JUMP = 3;
const SLACK = 0.25;

/** `ranges`: what is there to play, in order. `behind`: how far from the end it should play. */
export function steer(at: number, ranges: readonly [start: number, end: number][], behind: number, rate: number): Steering {
  const newest = ranges[ranges.length - 1];
  if (!newest) return { rate: 1, seek: null };
  const [start, end] = newest;
  const goal = Math.max(start, end - behind);
  if (!isInside(at, ranges) || end - at > behind + JUMP) return { rate: 1, seek: goal };
  const off = end - at - behind;
  // Once it hurries or dawdles it goes on until it is where it should be, so that the pace does not flicker.
  if (rate > 1) return { rate: off > 0.03 ? rate : 1, seek: null };
  if (rate < 1) return { rate: off < -0.03 ? rate : 1, seek: null };
  if (off > 1) return { rate: 1.15, seek: null };
  if (off > SLACK) return { rate: 1.06, seek: null };
  if (off < -SLACK) return { rate: 0.95, seek: null };
  return { rate: 1, seek: null };
}

/** Whether there is something to show at `at`. */
export const isInside = (at: number, ranges: readonly [start: number, end: number][]): boolean => ranges.some(([from, to]) => at >= from - 0.05 && at <= to + 0.05);

/** What of the past to let go; null where it is not worth it yet. */
export function trim(at: number, ranges: readonly [start: number, end: number][], keep: number): [number, number] | null {
  const start = ranges[0]?.[0];
  if (start === undefined || at - start < keep * 1.5) return null;
  return [start, at - keep];
}

/** The middle of what was measured. */
export function median(values: readonly number[]): number | null {
  if (values.length === 0) return null;
  const order = [...values].sort((a, b) => a - b);
  return order[order.length >> 1] ?? null;
}
