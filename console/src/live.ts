// The one connection on which records come: opened, lost, opened again. Says how it is; what comes it hands on.
import { signal } from "@preact/signals";
import { POLL_PATIENCE_MS, raw, Refused, socketAddress } from "./api.ts";
import type { AnyRecord } from "./types.ts";

export type Connection =
  | { is: "connecting" }
  | { is: "open" }
  | { is: "lost"; since: number; why: string };

export interface Wanted { streams: string[] | null; types: string[] }

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
/** A link that is dead opens no socket, and does not say so. */
const OPEN_WITHIN_MS = 10_000;
/** A socket on which something came so lately is alive, whatever else is not answered. */
const ALIVE_MS = 5000;
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
  /** When something came last. */
  private heardAt = 0;
  /** Requests that were not answered, one after the other. */
  private doubts = 0;

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
    this.open();
  }

  /** Something else was answered. */
  trust(): void {
    this.doubts = 0;
    this.tries = 0;
  }

  /** Something else was not answered: a link can be dead while its socket still seems to be open. Once is chance. */
  doubt(now = Date.now()): void {
    if (this.socket?.readyState !== WebSocket.OPEN || now - this.heardAt <= ALIVE_MS) {
      this.doubts = 0;
    } else if (++this.doubts > 1) {
      this.doubts = 0;
      this.leave("the service does not answer", true, Math.max(this.heardAt, now - POLL_PATIENCE_MS));
    }
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    this.socket?.close();
  }

  private open(): void {
    if (this.closed || this.socket) return;
    clearTimeout(this.timer);
    this.timer = undefined;
    const query = new URLSearchParams({ types: this.wanted.types.join(","), recent: String(RECENT) });
    for (const stream of this.wanted.streams ?? []) query.append("stream", stream);
    const asked = this.wanted;
    const socket = new WebSocket(socketAddress(`/v1/live?${query}`));
    this.socket = socket;
    let wasOpen = false;
    const patience = setTimeout(() => this.socket === socket && this.leave("the service does not answer", true), OPEN_WITHIN_MS);
    socket.onopen = () => {
      clearTimeout(patience);
      if (this.socket !== socket) return;
      wasOpen = true;
      this.heardAt = Date.now();
      this.connection.value = { is: "open" };
      if (asked !== this.wanted) socket.send(JSON.stringify(this.wanted));
      this.opened();
    };
    socket.onmessage = (event) => {
      if (this.socket !== socket) return;
      this.heardAt = Date.now();
      if (typeof event.data === "string") this.take(JSON.parse(event.data) as AnyRecord);
    };
    socket.onclose = (event) => {
      clearTimeout(patience);
      if (this.socket === socket) this.leave(event.reason, wasOpen);
    };
  }

  /** A socket that is left says nothing more: its end may take minutes. */
  private leave(why: string, isKnown: boolean, since?: number): void {
    const old = this.socket;
    this.socket = null;
    old?.close();
    void this.lost(why, isKnown, since);
  }

  private async lost(reason: string, isKnown: boolean, since = Date.now()): Promise<void> {
    if (this.closed) return;
    let why = reason || "the connection to the service was lost";
    // A socket that is refused does not say why; a plain request does.
    if (!isKnown) {
      try {
        await raw("/v1/live", { withinMs: POLL_PATIENCE_MS });
      } catch (error) {
        if (error instanceof Refused && error.status !== 426 && error.status !== 400) why = error.message;
      }
      // Somebody may have tried again meanwhile.
      if (this.closed || this.socket || this.timer) return;
    }
    const now = this.connection.value;
    this.connection.value = { is: "lost", since: now.is === "lost" ? now.since : since, why };
    this.tries += 1;
    this.timer = setTimeout(() => this.open(), waitFor(this.tries));
  }
}
