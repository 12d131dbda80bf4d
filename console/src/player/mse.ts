// The live picture as fragments of MP4 over a WebSocket, played by Media Source Extensions: `video.currentTime` is stream time.
// One media source a session; bounded in time and bytes.
import { socketAddress, streamPath, words } from "../api.ts";
import { waitFor } from "../live.ts";
import { TooOften } from "../ring.ts";
import { play, type Moment, type Player, type Report, type Stage } from "./player.ts";
import { isInside, steer, trim } from "./timeline.ts";

interface Init { type: "init"; session: string; mime: string; width: number; height: number; has_audio: boolean }
interface Clock { type: "clock"; pts_ms: number; captured_at: string | null; sent_at: string }
interface End { type: "end"; detail: string | null }

type Source = typeof MediaSource;
const managed = (globalThis as { ManagedMediaSource?: Source }).ManagedMediaSource;

/** Seconds of the past that are kept. */
const KEEP = 20;
/** Seconds that are fetched while it is paused. */
const MOST_PAUSED = 30;
/** Fragments that may wait for the browser. */
const MOST_WAITING_BYTES = 32 << 20;
const LEAST_BEHIND = 0.25;
const MOST_BEHIND = 2.2;
/** Tries without a picture after which another way is taken. */
const MOST_TRIES = 4;
/** Its clock comes every second: a connection that is silent for so long is dead. */
const MOST_SILENT_MS = 8000;
/** Nobody has looked for so long: the page stood still itself. */
const LONG_TICK_MS = 3000;

export class Mse implements Player {
  readonly kind = "mse";
  private socket: WebSocket | null = null;
  private source: MediaSource | null = null;
  private buffer: SourceBuffer | null = null;
  private address: string | null = null;
  private waiting: ArrayBuffer[] = [];
  private waitingBytes = 0;
  private session: string | null = null;
  private clock: { pts: number; captured: number } | null = null;
  private behind = 0.6;
  private isHeard = false;
  private tries = 0;
  private shown = false;
  /** Something has come on this connection. */
  private fresh = false;
  /** It was paused for so long that nothing is fetched any more. */
  private resting = false;
  private closed = false;
  /** When something came last on this connection, or it was begun. */
  private heardAt = 0;
  private tickedAt = 0;
  /** What the browser could not play: a broken piece is no reason for another way, many are. */
  private readonly broken = new TooOften(3, 60_000);
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly ticking: ReturnType<typeof setInterval>;

  static possible(): boolean {
    return typeof (managed ?? globalThis.MediaSource) === "function";
  }

  constructor(private readonly stage: Stage, private readonly name: string, private readonly tell: (report: Report) => void,
    private readonly giveUp: (why: string) => void) {
    this.ticking = setInterval(() => this.tick(), 250);
    this.connect();
  }

  moment(): Moment | null {
    const { video } = this.stage;
    return this.session && video.readyState >= 2 ? { by: "pts", session: this.session, ms: video.currentTime * 1000 } : null;
  }

  capturedAt(): number | null {
    return this.clock && this.moment() ? this.clock.captured + this.stage.video.currentTime * 1000 - this.clock.pts : null;
  }

  holdBack(ms: number): void {
    this.behind = Math.min(MOST_BEHIND, Math.max(LEAST_BEHIND, ms / 1000));
  }

  /** Sound that nobody hears is not fetched: a player stalls where it is late. */
  sound(on: boolean): void {
    if (on === this.isHeard) return;
    this.isHeard = on;
    // Who has paused keeps what he looks at; the sound comes when he plays it again.
    if (this.stage.held() && this.shown) this.rest();
    else this.connect();
  }

  close(): void {
    this.closed = true;
    clearInterval(this.ticking);
    this.leave();
    this.drop();
  }

  private connect(): void {
    if (this.closed) return;
    this.leave();
    this.resting = false;
    this.heardAt = performance.now();
    const socket = new WebSocket(socketAddress(streamPath(this.name, `/live.mp4?sound=${this.isHeard ? "on" : "off"}`)));
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onmessage = (event) => {
      if (this.socket !== socket) return;
      this.heardAt = performance.now();
      if (typeof event.data === "string") this.text(JSON.parse(event.data) as Init | Clock | End);
      else this.fragment(event.data as ArrayBuffer);
    };
    socket.onclose = (event) => {
      if (this.socket !== socket || this.closed) return;
      this.socket = null;
      this.again(event.reason || "the connection to the picture was lost");
    };
  }

  /** The one connection that there is ends, or the wait for it. */
  private leave(): void {
    clearTimeout(this.timer);
    this.fresh = false;
    const old = this.socket;
    this.socket = null;
    old?.close();
  }

  private again(why: string): void {
    this.leave();
    this.tries += 1;
    if (this.tries > MOST_TRIES && !this.shown) return this.giveUp(why);
    this.tell({ is: "waiting", why: `${why}; trying again` });
    this.timer = setTimeout(() => this.connect(), waitFor(this.tries));
  }

  private text(message: Init | Clock | End): void {
    if (message.type === "clock") {
      this.stage.skew.take(message.sent_at, Date.now());
      if (message.captured_at) this.clock = { pts: message.pts_ms, captured: Date.parse(message.captured_at) };
    } else if (message.type === "end") {
      this.tell({ is: "waiting", why: message.detail ?? "the stream ended" });
    } else if (message.type === "init") {
      this.begin(message);
    }
  }

  private begin(init: Init): void {
    const Source = managed ?? MediaSource;
    if (!Source.isTypeSupported(init.mime)) {
      this.leave();
      return this.giveUp(`this browser does not play ${init.mime}`);
    }
    this.drop();
    this.session = init.session;
    this.clock = null;
    const source = new Source();
    this.source = source;
    this.address = URL.createObjectURL(source);
    const { video } = this.stage;
    if (managed) video.disableRemotePlayback = true;
    video.src = this.address;
    source.addEventListener("sourceopen", () => {
      if (this.source !== source) return;
      const buffer = source.addSourceBuffer(init.mime);
      buffer.mode = "segments";
      buffer.addEventListener("updateend", () => this.feed());
      this.buffer = buffer;
      this.feed();
    }, { once: true });
    play(this.stage);
  }

  private fragment(bytes: ArrayBuffer): void {
    this.fresh = true;
    this.waiting.push(bytes);
    this.waitingBytes += bytes.byteLength;
    if (this.waitingBytes > MOST_WAITING_BYTES) {
      // Begun anew at a keyframe: better than to be later and later.
      return this.again("the browser does not keep up");
    }
    this.feed();
  }

  private feed(): void {
    const buffer = this.buffer;
    if (!buffer || buffer.updating || this.source?.readyState !== "open") return;
    const next = this.waiting[0];
    if (!next) return;
    try {
      buffer.appendBuffer(next);
      this.waiting.shift();
      this.waitingBytes -= next.byteLength;
    } catch (error) {
      if (error instanceof DOMException && error.name === "QuotaExceededError") this.tidy(2);
      else this.fail(words(error));
    }
  }

  /** Four times a second: the pace, what is let go, and how it goes. */
  private tick(): void {
    const { video } = this.stage;
    if (video.error) return this.fail(video.error.message || `error ${video.error.code}`);
    const now = performance.now();
    // Asleep, frozen or busy: what came meanwhile is still to be read.
    if (now - this.tickedAt > LONG_TICK_MS) this.heardAt = Math.max(this.heardAt, now - MOST_SILENT_MS + LONG_TICK_MS);
    this.tickedAt = now;
    if (this.socket && now - this.heardAt > MOST_SILENT_MS) return this.again("nothing comes on the connection to the picture");
    if (this.resting && !video.paused) this.connect();
    const ranges = this.ranges();
    if (ranges.length === 0) return;
    if (!video.paused) {
      const { rate, seek } = steer(video.currentTime, ranges, this.behind, video.playbackRate);
      if (seek !== null) video.currentTime = seek;
      if (video.playbackRate !== rate) video.playbackRate = rate;
    } else if (!isInside(video.currentTime, ranges)) {
      // Paused, and begun anew: its first picture.
      video.currentTime = ranges[ranges.length - 1]?.[0] ?? 0;
    }
    // Who pauses is not sent for ever what he does not look at.
    if (video.paused && this.socket && (ranges[ranges.length - 1]?.[1] ?? 0) - video.currentTime > MOST_PAUSED) this.rest();
    this.tidy(KEEP);
    if (video.readyState >= 2 && this.fresh) {
      if (!this.shown || this.tries > 0) this.tell({ is: "playing", kind: "mse", note: null });
      this.shown = true;
      this.tries = 0;
    }
  }

  private rest(): void {
    this.leave();
    this.resting = true;
  }

  /** The browser could not play something. */
  private fail(why: string): void {
    const said = `the browser cannot play it: ${why}`;
    this.drop();
    if (!this.shown || this.broken.again(Date.now())) {
      this.leave();
      return this.giveUp(said);
    }
    this.again(said);
  }

  private tidy(keep: number): void {
    const buffer = this.buffer;
    if (!buffer || buffer.updating) return;
    const old = trim(this.stage.video.currentTime, this.ranges(), keep);
    if (old) buffer.remove(old[0], old[1]);
  }

  private ranges(): [number, number][] {
    const { buffered } = this.stage.video;
    return Array.from({ length: buffered.length }, (_, i) => [buffered.start(i), buffered.end(i)]);
  }

  private drop(): void {
    const { video } = this.stage;
    this.buffer = null;
    this.source = null;
    this.waiting = [];
    this.waitingBytes = 0;
    if (this.address) {
      URL.revokeObjectURL(this.address);
      this.address = null;
      video.removeAttribute("src");
      video.load();
    }
  }
}
