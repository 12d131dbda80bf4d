// A chart over time. uPlot draws it; its values are told in words beside it, for those who do not see it.
import { useEffect, useRef } from "preact/hooks";
import type Plot from "uplot";
import { inWords, type Columns } from "../series.ts";
import { letterScale, theme } from "../theme.ts";

const COLOURS = ["--chart-1", "--chart-2", "--chart-3", "--chart-4", "--chart-5", "--chart-6"];
/** Beside the colours, for those who cannot tell them apart; in pixels. */
const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3], [4, 2], [12, 4]];
/** A letter of an axis, where those of the page have 15 pixels; and the height of a plot. */
const LETTER = 11;
const HEIGHT = 130;

export function Chart({ title, unit, columns, zero, named }: { title: string; unit: string; columns: Columns; zero?: string; named?: boolean }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<Plot | null>(null);
  const newest = useRef(columns);
  newest.current = columns;
  const names = columns.lines.map((l) => l.name).join("|");
  const empty = columns.lines.length === 0 || columns.times.length < 2;
  useEffect(() => {
    const host = place.current;
    if (!host || empty) return;
    let gone = false;
    let watcher: ResizeObserver | null = null;
    void import("./uplot.ts").then(({ default: Uplot }) => {
      if (gone) return;
      plot.current = new Uplot(options(host, newest.current), data(newest.current), host);
      watcher = new ResizeObserver(() => plot.current?.setSize({ width: host.clientWidth, height: HEIGHT * letterScale() }));
      watcher.observe(host);
    }, () => {
      // The service is gone for the moment; the chart comes when it is looked at again.
    });
    return () => {
      gone = true;
      watcher?.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [names, empty, theme.value]);
  useEffect(() => plot.current?.setData(data(columns)), [columns]);
  return (
    <figure class="chart">
      <figcaption><h3>{title}</h3><span class="legend">{!empty && named && columns.lines.map((l, i) => <span key={l.name}><svg class={`swatch c${(i % COLOURS.length) + 1}`} viewBox="0 0 28 6" aria-hidden="true"><line x1="0" y1="3" x2="28" y2="3" stroke-dasharray={DASHES[i % DASHES.length]?.join(" ") || undefined} /></svg>{l.name}</span>)}</span></figcaption>
      {empty ? <p class="quiet">{columns.times.length < 2 ? "Not enough is known yet." : (zero ?? "None.")}</p> : <div ref={place} class="plot" role="img" aria-label={`${title}: ${inWords(columns, unit)}`} />}
    </figure>
  );
}

const data = (columns: Columns): Plot.AlignedData => [columns.times, ...columns.lines.map((l) => l.values)] as Plot.AlignedData;

function options(host: HTMLElement, columns: Columns): Plot.Options {
  const style = getComputedStyle(host);
  const paint = (name: string) => style.getPropertyValue(name).trim() || "#888";
  const by = letterScale();
  const axis: Plot.Axis = { stroke: paint("--quiet"), grid: { stroke: paint("--line"), width: 1 }, ticks: { stroke: paint("--line"), width: 1 }, font: `${LETTER * by}px system-ui, sans-serif` };
  return {
    width: host.clientWidth || 300, height: HEIGHT * by, legend: { show: false },
    cursor: { y: false, points: { size: 5 } },
    scales: { y: { range: (_, __, most) => [0, Math.max(1, most * 1.1)] } },
    axes: [{ ...axis, values: "{HH}:{mm}", space: 60 * by, size: 26 * by }, { ...axis, size: 36 * by, space: 28 * by }],
    series: [{}, ...columns.lines.map((l, i) => ({ label: l.name, stroke: paint(COLOURS[i % COLOURS.length] as string), dash: (DASHES[i % DASHES.length] as number[]).map((n) => n * by), width: 1.5 * by, points: { show: false }, spanGaps: false }))],
  };
}
