// Addresses within the page (`#/streams/yard`), read and written. Pure.

export type Route =
  | { view: "wall" }
  | { view: "stream"; name: string }
  | { view: "alerts"; filter: Record<string, string> }
  | { view: "alert"; id: string }
  | { view: "transcripts"; filter: Record<string, string> }
  | { view: "health" }
  | { view: "unknown"; path: string };

export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  const parts = path.split("/").filter(Boolean).map(decode);
  const filter = Object.fromEntries(new URLSearchParams(query));
  const [view, name, more] = parts;
  if (view === undefined) return { view: "wall" };
  if (more === undefined) {
    if (view === "streams") return name === undefined ? { view: "wall" } : { view: "stream", name };
    if (view === "alerts") return name === undefined ? { view: "alerts", filter } : { view: "alert", id: name };
    if (view === "transcripts" && name === undefined) return { view: "transcripts", filter };
    if (view === "health" && name === undefined) return { view: "health" };
  }
  return { view: "unknown", path };
}

export function href(route: Route): string {
  switch (route.view) {
    case "wall": return "#/";
    case "stream": return `#/streams/${encodeURIComponent(route.name)}`;
    case "alerts": return `#/alerts${query(route.filter)}`;
    case "alert": return `#/alerts/${encodeURIComponent(route.id)}`;
    case "transcripts": return `#/transcripts${query(route.filter)}`;
    case "health": return "#/health";
    case "unknown": return `#${route.path}`;
  }
}

function query(filter: Record<string, string>): string {
  const text = new URLSearchParams(Object.entries(filter).filter(([, value]) => value !== "")).toString();
  return text ? `?${text}` : "";
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
