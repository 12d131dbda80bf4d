// What somebody should know of: alerts as they come, open ones first, with the picture of each.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { isOpen, SEVERITIES, sorted } from "../alerts.ts";
import { alertFits } from "../filter.ts";
import { href } from "../route.ts";
import { alerts, alertsTrouble, loadSilences, now, silences, streams } from "../state.ts";
import { ago, clock, span } from "../time.ts";
import type { Alert } from "../types.ts";
import { Marks, SilenceList, Snapshot } from "../widgets/alert-parts.tsx";
import { OtherWorkers } from "../widgets/other-workers.tsx";
import { Severity } from "../widgets/pill.tsx";

/** Alerts that are shown at once: open ones, and those of the past. */
const PAGE_OPEN = 100;
const PAGE = 40;

export function Alerts({ filter }: { filter: Record<string, string> }) {
  useEffect(() => void loadSilences(), []);
  const mostOpen = useSignal(PAGE_OPEN);
  const most = useSignal(PAGE);
  const all = sorted(alerts.value.values());
  const shown = all.filter((a) => alertFits(a, filter));
  const open = shown.filter(isOpen);
  const past = shown.filter((a) => !isOpen(a));
  const rules = [...new Set(all.map((a) => a.rule))].sort();
  const set = (key: string, value: string) => (location.hash = href({ view: "alerts", filter: { ...filter, [key]: value } }));
  const choose = (key: string, label: string, values: readonly string[], any: string) => (
    <label><span class="visually-hidden">{label}</span>
      <select value={filter[key] ?? ""} onChange={(e) => set(key, e.currentTarget.value)}>
        <option value="">{any}</option>
        {values.map((v) => <option key={v} value={v}>{v}</option>)}
      </select>
    </label>
  );
  return (
    <>
      <div class="head">
        <h1>Alerts</h1>
        <p class="summary">{open.length} open, {past.length} past</p>
        <div class="tools">
          {choose("state", "State", ["open", "closed", "acknowledged", "silenced"], "Any state")}
          {choose("severity", "Severity", SEVERITIES, "Any severity")}
          {choose("stream", "Stream", (streams.value ?? []).map((s) => s.name), "All streams")}
          {choose("rule", "Rule", rules, "All rules")}
        </div>
      </div>
      <OtherWorkers what="Alerts" at={{ view: "alerts", filter }} />
      {silences.value.length > 0 && <SilenceList />}
      {alertsTrouble.value && <p class="note warn">{alertsTrouble.value}</p>}
      {all.length === 0 && !alertsTrouble.value && (
        <div class="empty"><p>No alert yet. A rule says what somebody is to be told of: draw a zone or a line on the picture of a <a href="#/">stream</a>, or write <code>[rules.NAME]</code> in the configuration.</p></div>
      )}
      {all.length > 0 && shown.length === 0 && <p class="empty">No alert fits. <a href="#/alerts">Show all {all.length}</a></p>}
      {open.length > 0 && <><h2 class="section">Open</h2><ul class="alerts" aria-live="off">{open.slice(0, mostOpen.value).map((a) => <Row key={a.alert} alert={a} />)}</ul></>}
      {open.length > mostOpen.value && <button onClick={() => (mostOpen.value += PAGE_OPEN)}>Show more of {open.length} open</button>}
      {past.length > 0 && <><h2 class="section">Past</h2><ul class="alerts">{past.slice(0, most.value).map((a) => <Row key={a.alert} alert={a} />)}</ul></>}
      {past.length > most.value && <button onClick={() => (most.value += PAGE)}>Show more of {past.length}</button>}
      <p class="visually-hidden" role="status">{open[0] ? `Newest open alert: ${open[0].summary}, ${open[0].stream}` : ""}</p>
    </>
  );
}

function Row({ alert }: { alert: Alert }) {
  const open = isOpen(alert);
  const lasted = alert.since && alert.until ? Date.parse(alert.until) - Date.parse(alert.since) : null;
  return (
    <li class={`alert-row ${alert.severity} ${open ? "open" : ""}`}>
      <Snapshot alert={alert} small />
      <div class="grow">
        <p class="alert-title"><Severity alert={alert} /> <a href={href({ view: "alert", id: alert.alert })}>{alert.summary}</a></p>
        <p class="quiet">{alert.stream} · {alert.rule}{alert.evidence.words.length > 0 && <> · “{alert.evidence.words.map((w) => w.text).join(" ")}”</>}</p>
        <Marks alert={alert} />
      </div>
      <div class="when">
        <span class={open ? "text-bad" : "quiet"}>{open ? `opened ${ago(alert.since, now.value)}` : lasted !== null && lasted > 0 ? `lasted ${span(lasted)}` : "over"}</span>
        <time dateTime={alert.since ?? undefined}>{clock(alert.since)}</time>
      </div>
    </li>
  );
}
