// What the whole page shares: who uses it, the streams, the alerts, the connection. Views read these signals; only this file
// and those it names write them.
import { computed, effect, signal } from "@preact/signals";
import { isCalling, listed, merge, MOST_OPEN, names } from "./alerts.ts";
import { get, poll, query, Refused, whenUnknown, words } from "./api.ts";
import { Hub } from "./hub.ts";
import { Live } from "./live.ts";
import { parse, type Route } from "./route.ts";
import type { Alert, AnyRecord, Profile, Session, Silence, Stream, Workers } from "./types.ts";

export const route = signal<Route>(parse(location.hash));
addEventListener("hashchange", () => (route.value = parse(location.hash)));

/** Ticks twice a second while the page is seen: for "3 s ago". */
export const now = signal(Date.now());
export const visible = signal(!document.hidden);
document.addEventListener("visibilitychange", () => (visible.value = !document.hidden));
setInterval(() => visible.value && (now.value = Date.now()), 500);

export const session = signal<Session | null>(null);
/** A token has to be given before anything else. */
export const loginNeeded = signal(false);
/** What a viewer may not do is not offered to him. */
export const operator = computed(() => session.value?.role === "operator");

export const streams = signal<Stream[] | null>(null);
export const streamsTrouble = signal<string | null>(null);
export const alerts = signal<ReadonlyMap<string, Alert>>(new Map());
/** Why there are no alerts at all, where this service keeps none. */
export const alertsTrouble = signal<string | null>(null);
export const silences = signal<Silence[]>([]);
export const silencesTrouble = signal<string | null>(null);
export const calling = computed(() => [...alerts.value.values()].filter(isCalling));
export const workers = signal<Workers | null>(null);
export const profiles = signal<Profile[]>([]);
/** Streams can be attached and detached while the service runs. */
export const attachable = computed(() => workers.value?.attachable ?? false);

export const hub = new Hub(also);
export const live = new Live((record) => hub.take(record), () => void catchUp());

function also(record: AnyRecord): void {
  if (record.type === "alert") alerts.value = merge(alerts.value, [record]);
  if (record.type === "streams") void loadStreams();
  if (record.type === "status") {
    const list = streams.value;
    const at = list?.findIndex((s) => s.name === record.stream) ?? -1;
    if (!list || at < 0) void loadStreams();
    else streams.value = list.map((s, i) => (i === at ? { ...s, state: record.state, detail: record.detail, session: record.session } : s));
  }
}

export async function loadStreams(): Promise<void> {
  try {
    const list = (await poll<{ streams: Stream[] }>("/v1/streams")).streams;
    streams.value = list;
    streamsTrouble.value = null;
    live.trust();
    hub.keep(new Set(list.map((s) => s.name)));
  } catch (error) {
    streamsTrouble.value = words(error);
    if (error instanceof Refused && error.status === 0) live.doubt();
  }
}

/** Alerts that the service has listed when it was asked last. */
let told: ReadonlySet<string> = new Set();

export async function loadAlerts(): Promise<void> {
  try {
    const before = { known: alerts.value, told };
    const ask = (what: Record<string, string | number>) => poll<{ alerts: Alert[] }>(`/v1/alerts${query(what)}`).then((answer) => answer.alerts);
    const [open, newest] = await Promise.all([ask({ state: "open", limit: MOST_OPEN }), ask({ limit: 200 })]);
    alerts.value = listed(alerts.value, before, open, newest);
    told = names(open, newest);
    alertsTrouble.value = null;
  } catch (error) {
    alertsTrouble.value = words(error);
  }
}

export async function loadSilences(): Promise<void> {
  try {
    silences.value = (await poll<{ silences: Silence[] }>("/v1/silences")).silences;
    silencesTrouble.value = null;
  } catch (error) {
    silencesTrouble.value = error instanceof Refused && error.missing ? "this service knows no silences" : words(error);
  }
}

async function loadWhatCanBe(): Promise<void> {
  workers.value = await poll<Workers>("/v1/workers").catch(() => workers.value);
  profiles.value = await poll<{ profiles: Profile[] }>("/v1/profiles").then((p) => p.profiles, () => profiles.value);
}

/** After a time without connection: what may have changed meanwhile. */
async function catchUp(): Promise<void> {
  await Promise.all([loadStreams(), loadAlerts(), loadSilences(), loadWhatCanBe()]);
}

/** Who we are. A service without sessions is one's own: whoever reaches it may do everything that the token allows. */
export async function loadSession(): Promise<void> {
  try {
    session.value = await get<Session>("/v1/session");
    loginNeeded.value = false;
  } catch (error) {
    if (error instanceof Refused && error.missing) session.value = { user: "local", role: "operator", token_needed: false, expires_at: null };
  }
}

/** Starts, and goes on until the page is closed. */
export async function start(): Promise<void> {
  whenUnknown(() => (loginNeeded.value = true));
  await loadSession();
  if (loginNeeded.value) return;
  await catchUp();
  // What is wanted live follows what is looked at.
  effect(() => live.want(wanted(route.value, visible.value)));
}

let begun = false;
effect(() => {
  // After a login, too.
  if (session.value && !begun) {
    begun = true;
    again(loadStreams, 2000);
    again(loadAlerts, 5000);
    again(loadSilences, 30_000);
    again(loadWhatCanBe, 15_000);
  }
});

function again(load: () => Promise<void>, everyMs: number): void {
  const next = async (): Promise<void> => {
    if (visible.value && !loginNeeded.value) await load();
    setTimeout(() => void next(), everyMs);
  };
  setTimeout(() => void next(), everyMs);
}

/** A page that nobody sees asks for alerts alone. */
export function wanted(at: Route, seen: boolean): { streams: string[] | null; types: string[] } {
  if (!seen) return { streams: null, types: ["alerts", "status"] };
  switch (at.view) {
    case "wall": return { streams: null, types: ["alerts", "status", "gaps", "captions", "transcripts", "detections"] };
    case "stream": return { streams: [at.name], types: ["alerts", "status", "gaps", "captions", "transcripts", "detections"] };
    default: return { streams: null, types: ["alerts", "status"] };
  }
}
