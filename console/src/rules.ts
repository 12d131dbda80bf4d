// A rule made of what somebody has drawn: as the service wants it, and as TOML for those whose streams stand in a file. Pure.

export type Point = [x: number, y: number];
export type Kind = "in_zone" | "crosses" | "count";
export interface Draft {
  name: string;
  kind: Kind;
  points: Point[];
  classes: string[];
  forSecs: number;
  over: number;
  direction: "any" | "to_left" | "to_right";
  severity: "info" | "warning" | "critical";
}

export const isLine = (kind: Kind): boolean => kind === "crosses";
export const leastPoints = (kind: Kind): number => (isLine(kind) ? 2 : 3);
export const mostPoints = (kind: Kind): number => (isLine(kind) ? 2 : 100);

/** Into the picture, in thousandths of it. */
export const within = ([x, y]: Point): Point => [round(x), round(y)];
const round = (v: number): number => Math.round(Math.min(1, Math.max(0, v)) * 1000) / 1000;

export function wrong(draft: Draft, taken: ReadonlySet<string>): string | null {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(draft.name)) return "Give it a name of up to 64 letters, digits, `_` and `-`.";
  if (taken.has(draft.name)) return "There is a rule of this name already.";
  const missing = leastPoints(draft.kind) - draft.points.length;
  if (missing > 0) return isLine(draft.kind) ? `A line has two ends: set ${missing === 2 ? "both" : "the other one"}.` : `A zone has three corners or more: set ${missing} more.`;
  if (isLine(draft.kind) && draft.points[0]?.join() === draft.points[1]?.join()) return "The ends of the line are the same point.";
  if (!(draft.forSecs >= 0 && draft.forSecs <= 86_400)) return "Seconds from 0 to 86400.";
  if (draft.kind === "count" && !(Number.isInteger(draft.over) && draft.over >= 0)) return "More than how many? A whole number.";
  return null;
}

/** The body of the rule: keys as in `[rules.NAME]`. */
export function build(draft: Draft): Record<string, unknown> {
  const points = draft.points.map(within);
  const objects = draft.classes.length > 0 ? { objects: { classes: draft.classes } } : {};
  const time = draft.forSecs > 0 ? { for_secs: draft.forSecs } : {};
  const when: Record<string, unknown> =
    draft.kind === "crosses" ? { type: "crosses", line: points, ...(draft.direction === "any" ? {} : { direction: draft.direction }), ...objects }
    : draft.kind === "count" ? { type: "count", zone: points, ...objects, over: draft.over, ...time }
    : { type: "in_zone", zone: points, ...objects, ...time };
  return { when, severity: draft.severity };
}

/** What to paste into the configuration file. */
export function toml(draft: Draft, stream: string): string {
  const body = build(draft);
  const lines = [`[rules.${/^[A-Za-z0-9_-]+$/.test(draft.name) ? draft.name : JSON.stringify(draft.name)}]`, `when = ${value(body["when"])}`, `severity = ${value(body["severity"])}`,
    `select = { names = [${JSON.stringify(stream)}] }`];
  return `${lines.join("\n")}\n`;
}

function value(of: unknown): string {
  if (Array.isArray(of)) return `[${of.map(value).join(", ")}]`;
  if (of !== null && typeof of === "object") return `{ ${Object.entries(of).map(([key, v]) => `${key} = ${value(v)}`).join(", ")} }`;
  if (typeof of === "number") return Number.isInteger(of) ? String(of) : String(of);
  return JSON.stringify(of);
}

/** The rule in words. */
export function say(draft: Draft): string {
  const who = draft.classes.length === 0 ? "Anything" : draft.classes.map((c, i) => (i === 0 ? c.charAt(0).toUpperCase() + c.slice(1) : c)).join(" or ");
  const long = draft.forSecs > 0 ? ` for ${draft.forSecs} s` : "";
  switch (draft.kind) {
    case "crosses": return `${who} that crosses the line${draft.direction === "any" ? ", either way" : draft.direction === "to_left" ? " to its left" : " to its right"}.`;
    case "count": return `More than ${draft.over} at once (${who.toLowerCase()}) in the zone${long}.`;
    case "in_zone": return `${who} in the zone${long}.`;
  }
}

/** A name that nobody has. */
export function suggestName(draft: Pick<Draft, "kind" | "classes">, taken: ReadonlySet<string>): string {
  const who = (draft.classes[0] ?? "anything").replace(/[^A-Za-z0-9_-]+/g, "-");
  const base = draft.kind === "crosses" ? `${who}-crosses` : draft.kind === "count" ? `many-${who}` : `${who}-in-zone`;
  for (let i = 1; ; i++) {
    const name = i === 1 ? base : `${base}-${i}`;
    if (!taken.has(name)) return name;
  }
}
