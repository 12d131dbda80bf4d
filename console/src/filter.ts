// Which streams and alerts fit what is searched for. Pure.
import { isOpen } from "./alerts.ts";
import type { Alert, Stream } from "./types.ts";

/** All words of `text` are somewhere in the name, state or tags; and it has `tag` (`key:value`), where one is asked for. */
export function fits(stream: Pick<Stream, "name" | "state" | "tags">, text: string, tag: string): boolean {
  const tags = Object.entries(stream.tags).map(([key, value]) => `${key}:${value}`);
  if (tag && !tags.includes(tag)) return false;
  const all = [stream.name, stream.state, ...tags].join(" ").toLowerCase();
  return text.toLowerCase().split(/\s+/).filter(Boolean).every((word) => all.includes(word));
}

/** All tags that any stream has, as `key:value`. */
export function tagsOf(streams: readonly Pick<Stream, "tags">[]): string[] {
  return [...new Set(streams.flatMap((s) => Object.entries(s.tags).map(([key, value]) => `${key}:${value}`)))].sort();
}

export type AlertFilter = { stream?: string; rule?: string; severity?: string; state?: string };

export function alertFits(alert: Alert, filter: AlertFilter): boolean {
  if (filter.stream && alert.stream !== filter.stream) return false;
  if (filter.rule && alert.rule !== filter.rule) return false;
  if (filter.severity && alert.severity !== filter.severity) return false;
  switch (filter.state ?? "") {
    case "open": return isOpen(alert);
    case "closed": return !isOpen(alert);
    case "acknowledged": return Boolean(alert.acknowledged);
    case "silenced": return Boolean(alert.silenced);
    default: return true;
  }
}
