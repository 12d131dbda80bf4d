// How a stream fared: objects, pictures a second, lag and drops; from the history, or as far as this page saw it itself.
import { useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { get, query, Refused, words } from "../api.ts";
import { Ring } from "../ring.ts";
import { ofHistory, ofSamples, sample, type Charts as Made, type Sample } from "../series.ts";
import { hub, streams, visible } from "../state.ts";
import type { Series } from "../types.ts";
import { Chart } from "./chart.tsx";

const REACH = [{ word: "15 minutes", mins: 15 }, { word: "1 hour", mins: 60 }, { word: "6 hours", mins: 360 }, { word: "1 day", mins: 1440 }, { word: "7 days", mins: 10_080 }];
/** Points of a chart: more cannot be told apart. */
const POINTS = 240;
const AGAIN_MS = 10_000;
/** Half an hour of looks, for services without a history. */
const own = new Map<string, Ring<Sample>>();

export function Charts({ name }: { name: string }) {
  const mins = useSignal(15);
  const made = useSignal<Made | null>(null);
  const trouble = useSignal<string | null>(null);
  const without = useSignal(false);
  useEffect(() => {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const load = async () => {
      try {
        if (visible.peek()) made.value = without.peek() ? look(name) : ofHistory(await get<Series>(path(name, mins.peek()), { signal: abort.signal }));
        trouble.value = null;
      } catch (error) {
        if (abort.signal.aborted) return;
        if (error instanceof Refused && error.missing) without.value = true;
        else trouble.value = words(error);
      }
      timer = setTimeout(() => void load(), without.peek() ? 2000 : AGAIN_MS);
    };
    void load();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [name, mins.value, without.value]);
  const charts = useMemo(() => made.value, [made.value]);
  return (
    <section class="charts card" aria-labelledby="charts-title">
      <div class="captions-head">
        <h2 id="charts-title">Over time</h2>
        {!without.value && <label><span class="visually-hidden">How far back</span>
          <select value={mins.value} onChange={(e) => (mins.value = Number(e.currentTarget.value))}>{REACH.map((r) => <option key={r.mins} value={r.mins}>{r.word}</option>)}</select></label>}
      </div>
      {without.value && <p class="quiet">This service keeps no history: what this page saw itself.</p>}
      {trouble.value && <p class="trouble">{trouble.value}</p>}
      {charts && <div class="chart-grid">
        <Chart named title="Objects in sight" unit="" columns={charts.objects} zero="Nothing was seen." />
        <Chart title="Analysed pictures a second" unit="a second" columns={charts.fps} />
        <Chart title="Words late, seconds" unit="seconds" columns={charts.lag} zero="Nobody listens." />
        <Chart named title="Pictures left out, by reason" unit="" columns={charts.drops} zero="None were left out." />
      </div>}
    </section>
  );
}

function path(name: string, mins: number): string {
  const to = new Date();
  const from = new Date(to.getTime() - mins * 60_000);
  return `/v1/history/series${query({ stream: name, from: from.toISOString(), to: to.toISOString(), step_secs: Math.max(10, Math.ceil((mins * 60) / POINTS / 10) * 10) })}`;
}

function look(name: string): Made {
  const ring = own.get(name) ?? new Ring<Sample>(900);
  if (own.size > 8 && !own.has(name)) own.delete(own.keys().next().value as string);
  own.set(name, ring);
  const stream = streams.peek()?.find((s) => s.name === name);
  if (stream) ring.push(sample(stream, hub.of(name).counts(), Date.now()));
  return ofSamples(ring.items);
}
