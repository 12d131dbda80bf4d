// The one connection on which records come: opened, lost, opened again. Says how it is; what comes it hands on.
import { signal } from "@preact/signals";
import { raw, Refused, socketAddress } from "./api.ts";
import type { AnyRecord } from "./types.ts";

export type Connection =
  | { is: "connecting" }
  | { is: "open" }
  | { is: "lost"; since: number; why: string }
  | { is: "missing"; why: string };

export interface Wanted { streams: string[] | null; types: string[] }

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
/** Records of the past with which it begins; so that a reader has something to read at once. */
const RECENT = 60;

/** Doubles, with a fifth of chance, so that many pages do not come back in the same moment. */
export function waitFor(tries: number, chance = Math.random()): number {
  return Math.round(Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.max(0, tries - 1)) * (0.8 + 0.4 * chance));
}

export class Live {
  readonly connection = signal<Connection>({ is: "connecting" });
  private socket: WebSocket | null = null;
  private tries = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private wanted: Wanted = { streams: null, types: [] };
  private closed = false;

  constructor(private readonly take: (record: AnyRecord) => void, private readonly opened: () => void) {}

  /** What is to come; may be said again at any time. */
  want(wanted: Wanted): void {
    if (JSON.stringify(wanted) === JSON.stringify(this.wanted)) return;
    this.wanted = wanted;
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(wanted));
    else if (!this.socket && !this.timer) this.open();
  }

  /** Tries at once, where it was waiting to. */
  now(): void {
    if (this.socket || this.closed) return;
    clearTimeout(this.timer);
    this.open();
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    this.socket?.close();
  }

  private open(): void {
    this.timer = undefined;
    if (this.closed) return;
    const query = new URLSearchParams({ types: this.wanted.types.join(","), recent: String(RECENT) });
    for (const stream of this.wanted.streams ?? []) query.append("stream", stream);
    const asked = this.wanted;
    const socket = new WebSocket(socketAddress(`/v1/live?${query}`));
    this.socket = socket;
    let wasOpen = false;
    socket.onopen = () => {
      wasOpen = true;
      this.tries = 0;
      this.connection.value = { is: "open" };
      if (asked !== this.wanted) socket.send(JSON.stringify(this.wanted));
      this.opened();
    };
    socket.onmessage = (event) => {
      if (typeof event.data === "string") this.take(JSON.parse(event.data) as AnyRecord);
    };
    socket.onclose = (event) => {
      if (this.socket !== socket) return;
      this.socket = null;
      void this.lost(wasOpen, event.reason);
    };
  }

  private async lost(wasOpen: boolean, reason: string): Promise<void> {
    if (this.closed) return;
    let why = reason || "the connection to the service was lost";
    // A socket that is refused does not say why; a plain request does.
    if (!wasOpen) {
      try {
        await raw("/v1/live");
      } catch (error) {
        if (error instanceof Refused) {
          if (error.missing) {
            this.connection.value = { is: "missing", why: "this service has no live connection" };
            return;
          }
          if (error.status !== 426 && error.status !== 400) why = error.message;
        }
      }
    }
    const now = this.connection.value;
    this.connection.value = { is: "lost", since: now.is === "lost" ? now.since : Date.now(), why };
    this.tries += 1;
    this.timer = setTimeout(() => this.open(), waitFor(this.tries));
  }
}
