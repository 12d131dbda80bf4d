// Requests to the service, and its refusals in its own words. Knows nothing of what is shown.

/** A request that was not answered as wished. `status` 0: no answer came at all. */
export class Refused extends Error {
  constructor(readonly status: number, message: string, readonly body: Record<string, unknown> = {}) {
    super(message);
  }
  /** The service does not know such requests, or was set up without them. That a single thing is not there is no such case. */
  get missing(): boolean {
    return this.status === 405 || this.status === 501 || (this.status === 404 && this.message.startsWith("there is nothing here"));
  }
}

let stranger = (): void => {};
/** What to do when the service says that it does not know us (any more). */
export function whenUnknown(act: () => void): void {
  stranger = act;
}

/** A link can be dead and nobody says so: after so long an answer comes no more. */
const PATIENCE_MS = 30_000;
/** The same for what is asked for again and again anyway. */
export const POLL_PATIENCE_MS = 10_000;
export interface Asked extends RequestInit { withinMs?: number }

/** Asks, and reads the answer; both together within `withinMs`. */
export async function ask<T>(path: string, { withinMs = PATIENCE_MS, signal, ...init }: Asked, read: (response: Response) => T | Promise<T>): Promise<T> {
  const abort = new AbortController();
  const stop = () => abort.abort();
  if (signal?.aborted) stop();
  signal?.addEventListener("abort", stop);
  const timer = setTimeout(stop, withinMs);
  try {
    const response = await fetch(path, { credentials: "same-origin", ...init, signal: abort.signal });
    if (response.ok || response.status === 304) return await read(response);
    throw await refusal(response);
  } catch (error) {
    // A link that is lost is a TypeError.
    if (signal?.aborted || !(abort.signal.aborted || error instanceof TypeError)) throw error;
    throw new Refused(0, "the service does not answer");
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

/** For those who want to know whether it is answered, and not what. */
export const raw = (path: string, asked: Asked = {}): Promise<Response> => ask(path, asked, (response) => response);

async function refusal(response: Response): Promise<Refused> {
  const text = await response.text().catch(() => "");
  let body: Record<string, unknown> = {};
  try {
    body = JSON.parse(text) as Record<string, unknown>;
  } catch {
    // Not ours: a proxy's.
  }
  const reasons = Array.isArray(body["reasons"]) ? (body["reasons"] as unknown[]).map(String) : [];
  const said = typeof body["error"] === "string" ? body["error"] : `${response.status} ${response.statusText}`.trim();
  const message = reasons.length > 0 && !reasons.every((r) => said.includes(r)) ? `${said}: ${reasons.join("; ")}` : said;
  if (response.status === 401) stranger();
  return new Refused(response.status, message, body);
}

export const get = <T>(path: string, asked: Asked = {}): Promise<T> => ask(path, asked, (response) => response.json() as Promise<T>);

/** What is asked for again and again. */
export const poll = <T>(path: string): Promise<T> => get<T>(path, { withinMs: POLL_PATIENCE_MS });

/** Sends JSON; gives the answer's JSON, or undefined where it has none. */
export async function send<T>(method: "POST" | "PUT" | "PATCH" | "DELETE", path: string, body?: unknown, headers: Record<string, string> = {}): Promise<T> {
  const init: RequestInit = { method, headers };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { ...headers, "Content-Type": "application/json" };
  }
  const text = await ask(path, init, (response) => response.text());
  return (text ? JSON.parse(text) : undefined) as T;
}

/** The path of a stream, or of something of it. */
export const streamPath = (name: string, below = ""): string => `/v1/streams/${encodeURIComponent(name)}${below}`;
export const alertPath = (id: string, below = ""): string => `/v1/alerts/${encodeURIComponent(id)}${below}`;

/** `?a=b` of what is not empty. */
export function query(values: Record<string, string | number | undefined | null>): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== undefined && value !== null && value !== "") params.set(name, String(value));
  const text = params.toString();
  return text ? `?${text}` : "";
}

export function socketAddress(path: string): string {
  const url = new URL(path, location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/** What an error says to a person. */
export const words = (error: unknown): string => (error instanceof Error ? error.message : String(error));
