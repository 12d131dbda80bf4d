// The picture as HLS, some seconds late: by hls.js, or (Safari on a telephone) by the browser itself.
import type Hlsjs from "hls.js/light";
import { play, type Moment, type Player, type Report, type Stage } from "./player.ts";

export class Hls implements Player {
  readonly kind = "hls";
  private helper: Hlsjs | null = null;
  private closed = false;
  private readonly played: () => void;
  private readonly failed: () => void;

  constructor(private readonly stage: Stage, playlist: string, private readonly note: string, private readonly tell: (report: Report) => void,
    private readonly giveUp: () => void) {
    const { video } = stage;
    this.played = () => this.tell({ is: "playing", kind: "hls", note: this.note });
    this.failed = () => this.give();
    video.addEventListener("playing", this.played);
    tell({ is: "waiting", why: "the first segment takes some seconds" });
    void this.begin(playlist);
  }

  moment(): Moment | null {
    const ms = this.capturedAt();
    return ms === null ? null : { by: "capture", ms };
  }

  capturedAt(): number | null {
    const { video } = this.stage;
    if (video.readyState < 2) return null;
    if (this.helper) return this.helper.playingDate?.getTime() ?? null;
    const start = (video as { getStartDate?: () => Date }).getStartDate?.()?.getTime();
    return start === undefined || Number.isNaN(start) ? null : start + video.currentTime * 1000;
  }

  sound(): void {
    // It comes with the picture.
  }

  holdBack(): void {
    // HLS is late enough.
  }

  close(): void {
    this.closed = true;
    const { video } = this.stage;
    video.removeEventListener("playing", this.played);
    video.removeEventListener("error", this.failed);
    this.helper?.destroy();
    this.helper = null;
    video.removeAttribute("src");
    video.load();
  }

  private async begin(playlist: string): Promise<void> {
    const { video } = this.stage;
    const { default: Helper } = await import("./hlsjs.ts");
    if (this.closed) return;
    if (!Helper.isSupported()) {
      if (!video.canPlayType("application/vnd.apple.mpegurl")) return this.give();
      video.addEventListener("error", this.failed);
      video.src = playlist;
      return play(this.stage);
    }
    const patient = {
      maxTimeToFirstByteMs: 15_000, maxLoadTimeMs: 20_000,
      errorRetry: { maxNumRetry: 5, retryDelayMs: 1000, maxRetryDelayMs: 4000 },
      timeoutRetry: { maxNumRetry: 4, retryDelayMs: 0, maxRetryDelayMs: 0 },
    };
    const helper = new Helper({
      enableWorker: false, liveSyncDurationCount: 2, liveMaxLatencyDurationCount: 6, backBufferLength: 20, maxBufferLength: 20,
      manifestLoadPolicy: { default: patient }, playlistLoadPolicy: { default: patient },
    });
    this.helper = helper;
    helper.on(Helper.Events.ERROR, (_, error) => {
      if (error.fatal) this.give();
    });
    helper.on(Helper.Events.MANIFEST_PARSED, () => play(this.stage));
    helper.loadSource(playlist);
    helper.attachMedia(video);
  }

  private give(): void {
    if (!this.closed) this.giveUp();
  }
}
