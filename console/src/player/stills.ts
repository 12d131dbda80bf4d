// Where the picture itself cannot be played: the newest analysed picture, twice a second, drawn on a canvas.
import { ask, Refused, streamPath, words } from "../api.ts";
import type { Moment, Player, Report, Stage } from "./player.ts";

const EVERY_MS = 500;
const AFTER_TROUBLE_MS = 3000;
/** On a slow link a picture takes long, and comes. */
const PATIENCE_MS = 30_000;

export interface Still { image: ImageBitmap; session: string; ptsMs: number; capturedAt: number | null; etag: string | null }

/** The newest picture; null where it is still the one of `etag`. */
export async function still(name: string, etag: string | null, signal?: AbortSignal): Promise<Still | null> {
  const headers: Record<string, string> = etag ? { "If-None-Match": etag } : {};
  return ask(streamPath(name, "/preview.jpg"), { headers, cache: "no-store", withinMs: PATIENCE_MS, signal: signal ?? null }, async (response) => {
    if (response.status === 304) return null;
    const image = await createImageBitmap(await response.blob());
    const captured = Date.parse(response.headers.get("eyewitness-captured-at") ?? "");
    return {
      image, session: response.headers.get("eyewitness-session") ?? "", ptsMs: Number(response.headers.get("eyewitness-pts-ms") ?? Number.NaN),
      capturedAt: Number.isNaN(captured) ? null : captured, etag: response.headers.get("etag"),
    };
  });
}

export class Stills implements Player {
  readonly kind = "stills";
  private at: Moment | null = null;
  private captured: number | null = null;
  private etag: string | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly abort = new AbortController();

  constructor(private readonly stage: Stage, private readonly name: string, private readonly note: string, private readonly tell: (report: Report) => void) {
    void this.next();
  }

  moment(): Moment | null {
    return this.at;
  }

  capturedAt(): number | null {
    return this.captured;
  }

  sound(): void {
    // There is none.
  }

  holdBack(): void {
    // A picture is shown when it is there, with its own boxes.
  }

  close(): void {
    clearTimeout(this.timer);
    this.abort.abort();
  }

  private async next(): Promise<void> {
    let wait = EVERY_MS;
    try {
      const got = document.hidden ? null : await still(this.name, this.etag, this.abort.signal);
      if (this.abort.signal.aborted) return void got?.image.close();
      if (got) {
        this.show(got);
        this.tell({ is: "playing", kind: "stills", note: this.note });
      }
    } catch (error) {
      if (this.abort.signal.aborted) return;
      wait = AFTER_TROUBLE_MS;
      const missing = error instanceof Refused && error.missing;
      this.tell({ is: "none", why: missing ? `no picture here: ${this.note}` : words(error) });
    }
    this.timer = setTimeout(() => void this.next(), wait);
  }

  private show(got: Still): void {
    const { still: canvas } = this.stage;
    canvas.width = got.image.width;
    canvas.height = got.image.height;
    canvas.getContext("2d")?.drawImage(got.image, 0, 0);
    got.image.close();
    this.etag = got.etag;
    this.captured = got.capturedAt;
    this.at = { by: "pts", session: got.session, ms: got.ptsMs };
  }
}
