// How the service fares, and beside each thing that is wrong what to do about it.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get, poll, Refused, words } from "../api.ts";
import { cell, inOrder, own, rows, worst } from "../health.ts";
import { href } from "../route.ts";
import { operator, session, streams, visible, workers } from "../state.ts";
import { clock, span } from "../time.ts";
import { Text } from "../widgets/text.tsx";
import type { Check, Health } from "../types.ts";

const AGAIN_MS = 3000;
const WORDS = { ok: "All is well", warn: "Something wants a look", bad: "Something is wrong" } as const;

export function HealthView() {
  const health = useSignal<Health | null>(null);
  const trouble = useSignal<string | null>(null);
  const missing = useSignal(false);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let gone = false;
    const load = async () => {
      try {
        if (visible.peek()) health.value = await poll<Health>("/v1/health");
        trouble.value = null;
      } catch (error) {
        if (error instanceof Refused && error.missing) missing.value = true;
        else trouble.value = words(error);
      }
      if (!gone && !missing.peek()) timer = setTimeout(() => void load(), AGAIN_MS);
    };
    void load();
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, []);
  const checks = missing.value ? own(streams.value ?? [], workers.value) : health.value?.checks;
  if (!checks) return trouble.value ? <p class="note bad" role="alert">{trouble.value}</p> : <p class="boot">Loading…</p>;
  const level = missing.value ? worst(checks) : (health.value?.level ?? worst(checks));
  const wrong = inOrder(checks.filter((c) => c.level !== "ok"));
  const fine = checks.filter((c) => c.level === "ok");
  return (
    <>
      <div class="head">
        <h1>Health</h1>
        <span class={`pill ${level}`} role="status"><span class="dot" aria-hidden="true" />{WORDS[level]}</span>
        {session.value?.version && <p class="summary">eyewitness {session.value.version}</p>}
      </div>
      {trouble.value && <p class="note warn" role="alert">Not up to date: {trouble.value}</p>}
      {missing.value && <p class="note">This service has no health report: what can be told from streams and workers.</p>}
      {wrong.length > 0 && <ul class="checks">{wrong.map((c) => <Row key={`${c.id} ${c.subject}`} check={c} />)}</ul>}
      {fine.length > 0 && <details class="card" open={wrong.length === 0}><summary>{fine.length} {fine.length === 1 ? "check is" : "checks are"} well</summary><ul class="fine">{fine.map((c) => <li key={`${c.id} ${c.subject}`}><span class="dot ok" aria-hidden="true" /><b>{c.subject ?? c.id.replaceAll("_", " ")}</b> {c.says}</li>)}</ul></details>}
      <Workers />
      {health.value && <>
        <Table title="Models" of={health.value.models} />
        <Table title="Sinks and spools" of={health.value.sinks} />
        <Table title="Queues" of={health.value.queues} />
      </>}
      {operator.value && <Audit />}
    </>
  );
}

function Row({ check }: { check: Check }) {
  const isStream = streams.value?.some((s) => s.name === check.subject);
  return (
    <li class={`check ${check.level}`}>
      <span class={`pill ${check.level}`}><span class="dot" aria-hidden="true" />{check.level === "bad" ? "wrong" : "look"}</span>
      <div class="grow">
        <p><b>{isStream && check.subject ? <a href={href({ view: "stream", name: check.subject })}>{check.subject}</a> : (check.subject ?? check.id.replaceAll("_", " "))}</b> <Text of={check.says} /></p>
        {check.do && <p class="do"><span class="do-word">What to do</span> <Text of={check.do} /></p>}
      </div>
    </li>
  );
}

function Workers() {
  const list = workers.value?.workers ?? [];
  if (list.length === 0) return null;
  return (
    <section class="card" aria-labelledby="workers-title">
      <h2 id="workers-title">Workers</h2>
      <div class="scroll" tabIndex={0} role="region" aria-labelledby="workers-title"><table>
        <thead><tr><th scope="col">Worker</th><th scope="col">Streams</th><th scope="col">Load</th><th scope="col">Leases</th><th scope="col">Version</th><th scope="col">Heard of</th></tr></thead>
        <tbody>{list.map((w) => (
          <tr key={w.id}><th scope="row">{w.id}{w.is_this && <span class="quiet"> (this one)</span>}{w.draining && <span class="text-warn"> leaving</span>}</th>
            <td>{w.n_streams}</td><td><meter min={0} max={Math.max(w.capacity, 1)} high={w.capacity} value={w.load} aria-label={`Load of ${w.id}`} /> {cell("", w.load)} of {cell("", w.capacity)}</td><td>{w.leases.length}</td><td>{w.version}</td><td>{span(w.age_ms)} ago</td></tr>
        ))}</tbody>
      </table></div>
    </section>
  );
}

/** Whatever the service tells of its parts: the columns are what it says. */
function Table({ title, of }: { title: string; of: unknown }) {
  const list = rows(of);
  if (list.length === 0) return null;
  const keys = [...new Set(list.flatMap((row) => Object.keys(row)))].slice(0, 9);
  const id = `table-${title.replace(/\W+/g, "-").toLowerCase()}`;
  return (
    <section class="card" aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      <div class="scroll" tabIndex={0} role="region" aria-labelledby={id}><table>
        <thead><tr>{keys.map((k) => <th scope="col" key={k}>{k.replace(/^n_/, "").replace(/_(bytes|ms|secs)$/, "").replaceAll("_", " ")}</th>)}</tr></thead>
        <tbody>{list.map((row, i) => <tr key={i}>{keys.map((k) => <td key={k}>{cell(k, row[k])}</td>)}</tr>)}</tbody>
      </table></div>
    </section>
  );
}

interface Entry { at: string; user: string | null; address: string; method: string; route: string; kind: string | null; subject: string | null; status: number }

const DID: Record<string, string> = {
  "PUT /v1/streams/{name}": "attached a stream", "PATCH /v1/streams/{name}": "changed a stream", "DELETE /v1/streams/{name}": "detached a stream", "POST /v1/probe": "tried an address",
  "POST /v1/session": "logged in", "DELETE /v1/session": "logged out", "POST /v1/alerts/{id}/acknowledge": "acknowledged an alert", "DELETE /v1/alerts/{id}/acknowledge": "took an acknowledgement back",
  "POST /v1/silences": "silenced alerts", "DELETE /v1/silences/{id}": "ended a silence",
};
const did = (e: Entry): string => DID[`${e.method} ${e.route}`] ?? `${e.method} ${e.route}`;

/** Who changed what; asked for only when somebody wants to see it. */
function Audit() {
  const entries = useSignal<Entry[] | null>(null);
  const trouble = useSignal<string | null>(null);
  const open = async (details: HTMLDetailsElement) => {
    if (!details.open) return;
    try {
      const answer = await get<{ records: Entry[] }>("/v1/audit?limit=100");
      entries.value = answer.records;
      trouble.value = null;
    } catch (error) {
      trouble.value = error instanceof Refused && error.missing ? "This service keeps no audit." : words(error);
    }
  };
  return (
    <details class="card" onToggle={(e) => void open(e.currentTarget)}>
      <summary>Who changed what</summary>
      {trouble.value && <p class="quiet">{trouble.value}</p>}
      {entries.value && (entries.value.length === 0 ? <p class="quiet">Nothing was changed yet.</p> : (
        <div class="scroll" tabIndex={0} role="region" aria-label="Who changed what"><table>
          <thead><tr><th scope="col">When</th><th scope="col">Who</th><th scope="col">What</th><th scope="col">About</th><th scope="col">Answer</th></tr></thead>
          <tbody>{entries.value.map((e, i) => <tr key={i}><td>{clock(e.at)}</td><td>{e.user ?? "nobody known"} <span class="quiet">{e.address}</span></td><td>{did(e)}</td><td>{e.subject ?? "–"}</td><td>{e.status < 400 ? "done" : e.status === 401 ? "wrong token" : `refused (${e.status})`}</td></tr>)}</tbody>
        </table></div>
      ))}
    </details>
  );
}
