// What a player of one stream can be asked, whichever way the picture comes; and which one is taken.
import { raw, Refused, streamPath, words } from "../api.ts";
import { waitFor } from "../live.ts";
import type { Skew } from "../time.ts";
import type { Stream } from "../types.ts";
import { Hls } from "./hls.ts";
import { Mse } from "./mse.ts";
import { Stills } from "./stills.ts";

/** Which moment of the stream is on the screen: in stream time, or as the wall clock of its capture. */
export type Moment = { by: "pts"; session: string; ms: number } | { by: "capture"; ms: number };

export interface Player {
  readonly kind: "mse" | "hls" | "stills";
  moment(): Moment | null;
  /** When that which is shown was captured, milliseconds since 1970 by the service's clock. */
  capturedAt(): number | null;
  /** How far the picture should stay behind its newest, in milliseconds, so that boxes come in time. Not all can. */
  holdBack(ms: number): void;
  /** Whether anybody wants to hear it. */
  sound(on: boolean): void;
  close(): void;
}

export type Report =
  | { is: "starting" }
  | { is: "playing"; kind: Player["kind"]; note: string | null }
  | { is: "waiting"; why: string }
  | { is: "none"; why: string };

/** `held`: whether somebody paused it; then it is not started by itself. */
export interface Stage { video: HTMLVideoElement; still: HTMLCanvasElement; skew: Skew; held: () => boolean }

/** Plays, unless somebody paused it, or the browser wants to be asked first: then the button says so. */
export function play({ video, held }: Stage): void {
  if (!held()) void video.play().catch(() => {});
}

/** Ends the old player, begins a new one; tells how it goes. The best first: fragmented MP4, HLS, single pictures. */
export class Watching {
  player: Player | null = null;
  private closed = false;
  constructor(private readonly stage: Stage, private readonly stream: Stream, private readonly tell: (report: Report) => void) {
    void this.begin();
  }

  close(): void {
    this.closed = true;
    this.player?.close();
    this.player = null;
  }

  private async begin(): Promise<void> {
    this.tell({ is: "starting" });
    const why = Mse.possible() ? await this.refusal() : "this browser has no Media Source Extensions";
    if (this.closed) return;
    if (why === null) this.take(new Mse(this.stage, this.stream.name, (r) => this.tell(r), (reason) => this.second(reason)));
    else this.second(why);
  }

  private second(why: string): void {
    if (this.closed) return;
    this.player?.close();
    if (!this.stream.playlist) return this.third(why);
    this.take(new Hls(this.stage, this.stream.playlist, `HLS, some seconds late (${why})`, (r) => this.tell(r), () => this.third(why)));
  }

  private third(why: string): void {
    if (this.closed) return;
    this.player?.close();
    this.take(new Stills(this.stage, this.stream.name, `single pictures (${why})`, (r) => this.tell(r)));
  }

  private take(player: Player): void {
    this.player = player;
    this.stage.video.hidden = player.kind === "stills";
    this.stage.still.hidden = player.kind !== "stills";
  }

  /** Why there is no live picture as fragmented MP4; null where there is one. A refused WebSocket tells a page nothing. */
  private async refusal(): Promise<string | null> {
    for (let tries = 1; !this.closed; tries++) {
      try {
        await raw(streamPath(this.stream.name, "/live.mp4"));
        return null;
      } catch (error) {
        if (!(error instanceof Refused)) return words(error);
        if (error.status === 426 || error.status === 400) return null;
        if (error.missing) return "this service sends no live MP4";
        // Too many requests, or a trouble of the service's own: that passes.
        if (error.status !== 0 && error.status !== 429 && error.status < 500) return error.message;
        this.tell({ is: "waiting", why: error.message });
      }
      await new Promise((done) => setTimeout(done, waitFor(tries)));
    }
    return null;
  }
}
