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

export async function raw(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...init });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new Refused(0, "the service does not answer");
  }
  if (response.ok || response.status === 304) return response;
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
  throw new Refused(response.status, message, body);
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await raw(path, signal ? { signal } : {})).json() as Promise<T>;
}

/** Sends JSON; gives the answer's JSON, or undefined where it has none. */
export async function send<T>(method: "POST" | "PUT" | "PATCH" | "DELETE", path: string, body?: unknown, headers: Record<string, string> = {}): Promise<T> {
  const init: RequestInit = { method, headers };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { ...headers, "Content-Type": "application/json" };
  }
  const response = await raw(path, init);
  const text = await response.text();
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
