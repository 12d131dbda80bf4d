// How a stream or an alert is: a word with a colour and a shape, never the colour alone.
import type { Alert, Stream } from "../types.ts";

const LEVELS: Record<string, string> = { playing: "ok", interrupted: "warn", failed: "bad", connecting: "idle", waiting: "idle", ended: "idle", stopped: "idle" };

export const levelOf = (state: string): string => LEVELS[state] ?? "idle";

export function State({ stream }: { stream: Pick<Stream, "state" | "detail"> }) {
  return <span class={`pill ${levelOf(stream.state)}`} title={stream.detail ?? undefined}><span class="dot" aria-hidden="true" />{stream.state}</span>;
}

export function Severity({ alert, short }: { alert: Pick<Alert, "severity">; short?: boolean }) {
  return <span class={`severity ${alert.severity}`} title={alert.severity}><span class="mark" aria-hidden="true" /><span class={short ? "visually-hidden" : undefined}>{alert.severity}</span></span>;
}

export function Tags({ tags }: { tags: Record<string, string> | undefined }) {
  const entries = Object.entries(tags ?? {});
  if (entries.length === 0) return null;
  return <span class="tags">{entries.map(([key, value]) => <span class="tag" key={key}><span class="key">{key}</span> {value}</span>)}</span>;
}
