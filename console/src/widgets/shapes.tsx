// Zones and lines over the picture: those of rules, and the one that is being drawn. Points can be set and moved with mouse,
// finger and arrow keys. Coordinates are parts of the picture, 0 to 1.
import type { JSX } from "preact";
import { type Signal, useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { isLine, mostPoints, within, type Kind, type Point } from "../rules.ts";

const text = (points: readonly Point[]): string => points.map(([x, y]) => `${x * 1000},${y * 1000}`).join(" ");

/** The shapes of rules that are in force. */
export function Shapes({ shapes }: { shapes: { name: string; kind: "zone" | "line"; points: Point[] }[] }) {
  if (shapes.length === 0) return null;
  return (
    <svg class="shapes" viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">
      {shapes.map((s) => s.kind === "zone" ? <polygon key={s.name} points={text(s.points)} /> : <polyline key={s.name} points={text(s.points)} />)}
    </svg>
  );
}

/** Where one draws. A click sets a point, dragging moves one; every point is a button that arrow keys move. */
export function Board({ kind, points, onDone }: { kind: Kind; points: Signal<Point[]>; onDone: () => void }) {
  const board = useRef<HTMLDivElement>(null);
  const held = useSignal<number | null>(null);
  const at = (event: JSX.TargetedPointerEvent<HTMLElement>): Point => {
    const box = board.current?.getBoundingClientRect();
    return box ? within([(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]) : [0, 0];
  };
  const move = (i: number, to: Point) => (points.value = points.value.map((p, j) => (j === i ? within(to) : p)));
  const down = (event: JSX.TargetedPointerEvent<HTMLElement>) => {
    if (event.target !== board.current && !(event.target instanceof SVGElement)) return;
    if (points.value.length >= mostPoints(kind)) return;
    points.value = [...points.value, at(event)];
    held.value = points.value.length - 1;
    board.current?.setPointerCapture(event.pointerId);
    event.preventDefault();
  };
  const key = (i: number) => (event: JSX.TargetedKeyboardEvent<HTMLElement>) => {
    const by = event.shiftKey ? 0.05 : 0.005;
    const [dx, dy] = ({ ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] } as Record<string, [number, number]>)[event.key] ?? [0, 0];
    const point = points.value[i];
    if ((dx || dy) && point) move(i, [point[0] + dx, point[1] + dy]);
    else if (event.key === "Delete" || event.key === "Backspace") {
      // The last button goes, and the focus with it.
      if (i === points.value.length - 1) board.current?.querySelectorAll<HTMLElement>(".point")[i - 1]?.focus();
      points.value = points.value.filter((_, j) => j !== i);
    }
    else if (event.key === "Escape") onDone();
    else return;
    event.preventDefault();
  };
  return (
    <div class="board" ref={board} onPointerDown={down} role="group" aria-label="Drawing: click to set points, arrow keys move the one with the focus"
      onPointerMove={(e) => held.value !== null && move(held.value, at(e))} onPointerUp={() => (held.value = null)} onPointerCancel={() => (held.value = null)}>
      <svg class="shapes drawing" viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">
        {isLine(kind) ? <polyline points={text(points.value)} /> : <polygon points={text(points.value)} />}
      </svg>
      {isLine(kind) && points.value.length === 2 && <Sides points={points.value} />}
      {points.value.map((p, i) => (
        <button key={i} type="button" class="point" style={{ left: `${p[0] * 100}%`, top: `${p[1] * 100}%` }} aria-label={`Point ${i + 1}: ${Math.round(p[0] * 100)} % from the left, ${Math.round(p[1] * 100)} % from the top`}
          onPointerDown={(e) => { held.value = i; board.current?.setPointerCapture(e.pointerId); e.currentTarget.focus(); e.preventDefault(); }} onKeyDown={key(i)}>
          {i + 1}
        </button>
      ))}
    </div>
  );
}

/** Which side of the line is which: left and right of somebody who goes from its first point to its second. */
function Sides({ points }: { points: Point[] }) {
  const [[x1, y1], [x2, y2]] = points as [Point, Point];
  const [mx, my] = [(x1 + x2) / 2, (y1 + y2) / 2];
  const length = Math.hypot(x2 - x1, y2 - y1) || 1;
  const [nx, ny] = [(y2 - y1) / length, -(x2 - x1) / length];
  const side = (word: string, sign: number) => (
    <span class="side" aria-hidden="true" style={{ left: `${clamp(mx + sign * nx * 0.07) * 100}%`, top: `${clamp(my + sign * ny * 0.07) * 100}%` }}>{word}</span>
  );
  return <>{side("left", 1)}{side("right", -1)}</>;
}

const clamp = (v: number): number => Math.min(0.95, Math.max(0.05, v));
