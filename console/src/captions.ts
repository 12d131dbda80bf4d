// What a reader of captions sees: lines that are final, once each, and below them what is still growing, with the words that
// may change marked. Pure: records go in, lines come out.
import type { Caption, Gap, Lost, Transcript, Word } from "./types.ts";

export type Line =
  | { kind: "words"; key: string; text: string; at: string | null; startMs: number; session: string }
  | { kind: "note"; key: string; text: string; at: string | null };

export interface GrowingWord { text: string; stable: boolean }

const MOST_LINES = 200;
const MOST_SEGMENTS = 16;
const LINGER_MS = 4000;
/** Nobody speaks one line for so long: the end of one that grew so long ago was missed. */
const MISSED_MS = 30_000;

export class Captions {
  /** Oldest first. */
  readonly lines: Line[] = [];
  private readonly growing = new Map<string, { cue: Caption; toldAt: number }>();
  /** The final cues of segments that still grow: how many words of them are shown already. */
  private readonly settled = new Map<string, Caption[]>();
  private readonly segments = new Map<string, Transcript>();
  private readonly taken = new Set<string>();
  private newest: Caption | null = null;
  private notes = 0;

  /** Whether anything that is shown has changed. `now` is our own clock, milliseconds since 1970. */
  take(record: Caption | Transcript | Gap | Lost, now = Date.now()): boolean {
    switch (record.type) {
      case "caption": return this.caption(record, now);
      case "transcript": return this.transcript(record);
      case "gap": return this.note(`not heard or seen: ${record.reason.replaceAll("_", " ")}`, record.captured_at);
      case "lost": return this.note("some lines are missing: the connection was too slow", null);
    }
  }

  /**
   * The lines that may still change, at `now` of our own clock; else the last final one, until the next begins. With `at`
   * (milliseconds since 1970, by the service's clock) only as long as it is to be read.
   */
  now(at?: number, now = Date.now()): { lines: GrowingWord[][]; final: boolean } {
    const fresh = [...this.growing.values()].filter((g) => g.cue.lines.length > 0 && now - g.toldAt <= MISSED_MS);
    const cues = fresh.map((g) => g.cue).sort((a, b) => a.start_ms - b.start_ms);
    if (cues.length === 0) {
      if (this.newest && at !== undefined && at > readUntil(this.newest)) return { lines: [], final: true };
      return { lines: (this.newest?.lines ?? []).map((line) => split(line).map((text) => ({ text, stable: true }))), final: true };
    }
    return { lines: cues.flatMap((cue) => this.marked(cue)), final: false };
  }

  private caption(cue: Caption, now: number): boolean {
    if (this.taken.has(cue.cue)) return false;
    const known = this.growing.get(cue.cue)?.cue;
    if (known && known.revision >= cue.revision) return false;
    // What ended so long before another begins became final while nobody listened.
    for (const [id, { cue: other }] of this.growing) if (longBefore(other, cue)) this.growing.delete(id);
    if (!cue.final && this.newest && longBefore(cue, this.newest)) return false;
    if (!cue.final) {
      // A new session's cues follow: those of the one before will never be final.
      for (const [id, { cue: other }] of this.growing) if (other.session !== cue.session) this.growing.delete(id);
      this.growing.set(cue.cue, { cue, toldAt: now });
      if (this.growing.size > MOST_SEGMENTS) this.growing.delete(first(this.growing.keys()));
      return true;
    }
    this.growing.delete(cue.cue);
    remember(this.taken, cue.cue, 4 * MOST_LINES);
    if (cue.segment) {
      const settled = this.settled.get(cue.segment) ?? [];
      settled.push(cue);
      this.settled.set(cue.segment, settled);
      if (this.settled.size > MOST_SEGMENTS) this.settled.delete(first(this.settled.keys()));
    }
    // Also one that was taken back: what was before it does not come again.
    if (!this.newest || !earlier(cue, this.newest)) this.newest = cue;
    if (cue.lines.length > 0) {
      this.add({ kind: "words", key: cue.cue, text: cue.lines.join("\n"), at: cue.captured_at, startMs: cue.start_ms, session: cue.session });
    }
    return true;
  }

  private transcript(transcript: Transcript): boolean {
    const known = this.segments.get(transcript.segment);
    if (known && known.revision >= transcript.revision) return false;
    this.segments.delete(transcript.segment);
    this.segments.set(transcript.segment, transcript);
    if (this.segments.size > MOST_SEGMENTS) this.segments.delete(first(this.segments.keys()));
    return this.growing.size > 0;
  }

  /** A cue's words with what its segment's transcript says of them: cues of a segment hold its words in order. */
  private marked(cue: Caption): GrowingWord[][] {
    const words: Word[] = (cue.segment && this.segments.get(cue.segment)?.words) || [];
    const before = [...(this.settled.get(cue.segment ?? "") ?? []), ...[...this.growing.values()].map((g) => g.cue)];
    let at = before
      .filter((c) => c.segment === cue.segment && c.cue !== cue.cue && c.start_ms < cue.start_ms)
      .reduce((n, c) => n + c.lines.flatMap(split).length, 0);
    return cue.lines.map((line) => split(line).map((text) => ({ text, stable: words[at++]?.stable ?? false })));
  }

  private note(text: string, at: string | null): boolean {
    const last = this.lines[this.lines.length - 1];
    if (last?.kind === "note" && last.text === text) return false;
    this.notes += 1;
    this.add({ kind: "note", key: `note-${this.notes}`, text, at });
    return true;
  }

  /** In order of time: what was said before this page was opened may come later than what is said now. */
  private add(line: Line): void {
    let place = this.lines.length;
    const at = Date.parse(line.at ?? "");
    while (place > 0 && Date.parse(this.lines[place - 1]?.at ?? "") > at) place -= 1;
    this.lines.splice(place, 0, line);
    if (this.lines.length > MOST_LINES) this.lines.shift();
  }
}

/** When a cue is over and was told, with time to finish reading: words can come long after they were spoken. */
function readUntil(cue: Caption): number {
  const [captured, told] = [Date.parse(cue.captured_at ?? ""), Date.parse(cue.published_at ?? "")];
  const times = [captured + (cue.end_ms - cue.pts_ms), told].filter((t) => !Number.isNaN(t));
  return times.length === 0 ? Number.POSITIVE_INFINITY : Math.max(...times) + LINGER_MS;
}

const longBefore = (a: Caption, b: Caption): boolean => a.session === b.session && a.end_ms < b.start_ms - MISSED_MS;

const earlier = (a: Caption, b: Caption): boolean => Date.parse(a.captured_at ?? "") < Date.parse(b.captured_at ?? "");

const split = (line: string): string[] => line.split(/\s+/).filter(Boolean);

function first<K>(keys: IterableIterator<K>): K {
  return keys.next().value as K;
}

function remember(set: Set<string>, key: string, most: number): void {
  set.add(key);
  if (set.size > most) set.delete(first(set.values()));
}
