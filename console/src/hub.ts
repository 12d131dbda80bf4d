// What has come on the live connection, by stream: the newest detections, words and states. Bounded. Views read it; those that
// draw read the lists themselves, the others look at `changed`, which moves a few times a second at most.
import { signal, type Signal } from "@preact/signals";
import { Captions } from "./captions.ts";
import { Ring } from "./ring.ts";
import { Skew } from "./time.ts";
import type { AnyRecord, Detections, Gap, Status } from "./types.ts";

/** Detections of a stream that are kept: those of the seconds that a slow player is late. */
const MOST_DETECTIONS = 500;
const MOST_STREAMS = 512;
const MOST_CLASSES = 64;
const FLUSH_MS = 250;

export class Watched {
  readonly detections = new Ring<Detections>(MOST_DETECTIONS);
  readonly captions = new Captions();
  /** Moves when anything here has changed. */
  readonly changed: Signal<number> = signal(0);
  /** Classes that were ever seen, for those who write rules. */
  readonly classes = new Set<string>();
  status: Status | null = null;
  gap: Gap | null = null;
  session: string | null = null;
  /** When the newest detections came, on our own clock. */
  detectionsAt = 0;
  /** How long after its capture a detection comes, in milliseconds; smoothed. */
  lateMs: number | null = null;

  /** Milliseconds between two analysed pictures, of late. */
  everyMs(): number | null {
    const { items } = this.detections;
    const [first, last] = [items[Math.max(0, items.length - 6)], items[items.length - 1]];
    const n = Math.min(5, items.length - 1);
    return first && last && n > 0 ? (last.pts_ms - first.pts_ms) / n : null;
  }

  /** How many of each class are in the newest analysed picture. */
  counts(): [name: string, count: number][] {
    const counts = new Map<string, number>();
    for (const object of this.detections.last()?.objects ?? []) counts.set(object.class, (counts.get(object.class) ?? 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
  }
}

export class Hub {
  private readonly streams = new Map<string, Watched>();
  private readonly dirty = new Set<Watched>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  /** Records that the service left out because this page was too slow. */
  readonly lost = signal(0);
  /** The service's clock next to ours. */
  readonly skew = new Skew();

  constructor(private readonly others: (record: AnyRecord) => void) {}

  of(name: string): Watched {
    let watched = this.streams.get(name);
    if (!watched) {
      watched = new Watched();
      this.streams.set(name, watched);
      if (this.streams.size > MOST_STREAMS) this.streams.delete(this.streams.keys().next().value as string);
    }
    return watched;
  }

  /** Streams that are gone are forgotten. */
  keep(names: Set<string>): void {
    for (const name of this.streams.keys()) if (!names.has(name)) this.streams.delete(name);
  }

  take(record: AnyRecord, now = Date.now()): void {
    if (record.type === "streams") return this.others(record);
    if (record.type === "lost") {
      this.lost.value += record.n_records ?? 1;
      // Detections that were left out are no words that are missing.
      if (!record.stream || record.detail?.startsWith("detections")) return;
    }
    const watched = record.stream ? this.of(record.stream) : null;
    if (!watched) return;
    if (this.fill(watched, record, now)) this.mark(watched);
    this.others(record);
  }

  private fill(watched: Watched, record: AnyRecord, now: number): boolean {
    switch (record.type) {
      case "detections": {
        const last = watched.detections.last();
        if (last && last.session === record.session && record.pts_ms <= last.pts_ms) return false;
        if (last && last.session !== record.session) watched.detections.clear();
        watched.session = record.session;
        watched.detections.push(record);
        watched.detectionsAt = now;
        if (record.published_at) this.skew.take(record.published_at, now);
        if (record.captured_at) {
          const late = this.skew.server(now) - Date.parse(record.captured_at);
          watched.lateMs = watched.lateMs === null ? late : watched.lateMs + 0.1 * (late - watched.lateMs);
        }
        for (const object of record.objects) if (watched.classes.size < MOST_CLASSES) watched.classes.add(object.class);
        return true;
      }
      case "status":
        watched.status = record;
        return true;
      case "gap":
        watched.gap = record;
        return watched.captions.take(record, now);
      case "caption":
      case "transcript":
      case "lost":
        return watched.captions.take(record, now);
      default:
        return false;
    }
  }

  private mark(watched: Watched): void {
    this.dirty.add(watched);
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      for (const one of this.dirty) one.changed.value += 1;
      this.dirty.clear();
    }, FLUSH_MS);
  }
}
