// The alerts that are known: the newest record of each, newest first. Pure; bounded.
import type { Alert } from "./types.ts";

/** Open ones that are asked for, and what is kept with those of the past. */
export const MOST_OPEN = 1000;
export const MOST_ALERTS = 1500;

/** Whether `a` says more than `b` about the same alert. */
export function newer(a: Alert, b: Alert): boolean {
  const [x, y] = [a.epoch ?? 0, b.epoch ?? 0];
  return x !== y ? x > y : a.revision > b.revision;
}

/** `known` with `record`: what people did with it (acknowledged, silenced) stays where the record does not speak of it. */
export function merge(known: ReadonlyMap<string, Alert>, records: readonly Alert[]): Map<string, Alert> {
  const all = new Map(known);
  for (const record of records) {
    const old = all.get(record.alert);
    if (!old) all.set(record.alert, record);
    else if (newer(record, old)) all.set(record.alert, { ...record, acknowledged: record.acknowledged ?? old.acknowledged ?? null, silenced: record.silenced ?? old.silenced ?? null });
    else if (record.acknowledged === undefined && record.silenced === undefined) continue;
    else if (!newer(old, record)) all.set(record.alert, record);
    // What is kept may be a moment behind what came live; what people did holds for the alert all the same.
    else all.set(record.alert, { ...old, acknowledged: record.acknowledged ?? null, silenced: (isOpen(old) ? record : old).silenced ?? null });
  }
  if (all.size <= MOST_ALERTS) return all;
  return new Map(sorted(all.values()).slice(0, MOST_ALERTS).map((a) => [a.alert, a]));
}

/** What was known before the service was asked, and what it had told of until then. */
export interface Before { known: ReadonlyMap<string, Alert>; told: ReadonlySet<string> }

/**
 * `known` after the service has told which are open and which are the newest. What was open before, what it has told of, and what
 * is not among them now has gone: its end was missed, or it was let go. What only came live may be on its way into its lists.
 */
export function listed(known: ReadonlyMap<string, Alert>, before: Before, open: readonly Alert[], newest: readonly Alert[]): Map<string, Alert> {
  const told = names(open, newest);
  const gone = (a: Alert) => isOpen(a) && before.told.has(a.alert) && before.known.get(a.alert) === a && !told.has(a.alert) && open.length < MOST_OPEN;
  return merge(new Map([...known].filter(([, a]) => !gone(a))), [...newest, ...open]);
}

/** Ids of all of them. */
export const names = (...lists: (readonly Alert[])[]): Set<string> => new Set(lists.flat().map((a) => a.alert));

/** Open ones first, then those that began last. */
export function sorted(alerts: Iterable<Alert>): Alert[] {
  return [...alerts].sort((a, b) => Number(isOpen(b)) - Number(isOpen(a)) || began(b) - began(a) || b.alert.localeCompare(a.alert));
}

export function began(alert: Alert): number {
  return Date.parse(alert.since ?? alert.captured_at ?? "") || 0;
}

export const isOpen = (alert: Alert): boolean => alert.state !== "closed";

/** Open, and nobody has said that he knows, nor that he wants not to be told. */
export const isCalling = (alert: Alert): boolean => isOpen(alert) && !alert.acknowledged && !alert.silenced;

export const SEVERITIES = ["critical", "warning", "info"] as const;

/** How it went on, in a sentence's worth of steps. */
export function life(alert: Alert): { word: string; at: string | null; why?: string }[] {
  const steps: { word: string; at: string | null; why?: string }[] = [{ word: "began", at: alert.since }];
  if (alert.revision > 0 && alert.state === "updated") steps.push({ word: "last news", at: alert.captured_at });
  if (alert.until) steps.push({ word: "last so", at: alert.until });
  if (alert.state === "closed") steps.push({ word: "closed", at: alert.captured_at, why: alert.closed_because ?? undefined });
  return steps.map((step) => (step.why === undefined ? { word: step.word, at: step.at } : step));
}
