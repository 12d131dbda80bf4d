// The pictures of a wall: about one a second for each tile that is seen, fewer where browser or connection cannot carry it,
// and then the page says so. One place decides, so that many tiles do not make it worse.
import { signal } from "@preact/signals";
import { Refused, words } from "./api.ts";
import { still, type Still } from "./player/stills.ts";

const WISHED_MS = 1000;
const LONGEST_MS = 10_000;
/** Requests at a time: a browser has six connections to a host, and others need some, too. */
const AT_ONCE = 3;
const AFTER_TROUBLE_MS = 4000;

export interface Tile {
  name: string;
  show(still: Still): void;
  trouble(why: string): void;
}
interface Entry { tile: Tile; due: number; etag: string | null; busy: boolean; shownAt: number | null }

/** The next interval, from the last one: slower at once when it is too much, faster again little by little. Pure. */
export function pace(everyMs: number, measured: { neededMs: number; jank: number }): number {
  const tooMuch = measured.jank > 0.25;
  const wish = Math.max(WISHED_MS, measured.neededMs, tooMuch ? everyMs * 1.5 : 0);
  if (wish > everyMs) return Math.min(LONGEST_MS, wish);
  return Math.max(wish, everyMs * 0.9);
}

export class Pictures {
  /** Milliseconds between two pictures of a tile. */
  readonly every = signal(WISHED_MS);
  /** Tiles that are seen now. */
  readonly shown = signal(0);
  private readonly entries = new Set<Entry>();
  private busy = 0;
  private tookMs = 50;
  private frames: number[] = [];
  private lastFrame = 0;
  private judgedAt = 0;
  private running = false;

  /** From now on `tile` gets pictures, until what is returned is called. */
  add(tile: Tile): () => void {
    const entry: Entry = { tile, due: performance.now() + Math.random() * 100, etag: null, busy: false, shownAt: null };
    this.entries.add(entry);
    this.shown.value = this.entries.size;
    if (!this.running) {
      this.running = true;
      this.lastFrame = 0;
      requestAnimationFrame((t) => this.frame(t));
    }
    return () => {
      this.entries.delete(entry);
      this.shown.value = this.entries.size;
    };
  }

  private frame(t: number): void {
    if (this.entries.size === 0) {
      this.running = false;
      return;
    }
    if (this.lastFrame > 0 && t - this.lastFrame < 1000) this.frames.push(t - this.lastFrame);
    this.lastFrame = t;
    if (t - this.judgedAt > 2000) this.judge(t);
    for (const entry of [...this.entries].filter((e) => !e.busy && e.due <= t).sort((a, b) => a.due - b.due)) {
      if (this.busy >= AT_ONCE) break;
      void this.fetch(entry);
    }
    requestAnimationFrame((next) => this.frame(next));
  }

  private judge(t: number): void {
    this.judgedAt = t;
    // The share of frames that took longer than three should.
    const jank = this.frames.length < 20 ? 0 : this.frames.filter((ms) => ms > 50).length / this.frames.length;
    this.frames = [];
    this.every.value = pace(this.every.value, { neededMs: (this.entries.size * this.tookMs) / AT_ONCE, jank });
  }

  private async fetch(entry: Entry): Promise<void> {
    entry.busy = true;
    this.busy += 1;
    const began = performance.now();
    let wait = this.every.value;
    try {
      const got = await still(entry.tile.name, entry.etag);
      if (got) {
        entry.etag = got.etag;
        if (this.entries.has(entry)) entry.tile.show(got);
        got.image.close();
      }
    } catch (error) {
      const missing = error instanceof Refused && error.missing;
      // A picture that nobody has asked for yet comes with the next analysed one.
      wait = missing ? 4 * AFTER_TROUBLE_MS : error instanceof Refused && error.status === 404 ? WISHED_MS : AFTER_TROUBLE_MS;
      if (this.entries.has(entry)) entry.tile.trouble(missing ? "This service sends no pictures of it." : words(error));
    }
    // One that never came has taken its time as well.
    this.tookMs += 0.1 * (performance.now() - began - this.tookMs);
    entry.busy = false;
    this.busy -= 1;
    entry.due = Math.max(began + wait, performance.now());
  }
}

export const pictures = new Pictures();
