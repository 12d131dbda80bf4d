// The form beside a drawing: what was drawn becomes a rule, kept by the service or pasted into its configuration.
import type { JSX } from "preact";
import { useSignal, type Signal } from "@preact/signals";
import { useEffect, useId, useRef } from "preact/hooks";
import { send, streamPath, words } from "../api.ts";
import { build, isLine, leastPoints, mostPoints, say, suggestName, toml, within, wrong, type Draft, type Kind, type Point } from "../rules.ts";
import type { Stream } from "../types.ts";
import { Text } from "./text.tsx";
import { toast } from "./toast.tsx";

/** Where points begin that are set without a mouse. */
const START: Record<number, Point> = { 0: [0.3, 0.5], 1: [0.7, 0.5], 2: [0.7, 0.9], 3: [0.3, 0.9] };

export function RuleTool({ stream, kind, points, classes, taken, onDone, onKept }: {
  stream: Stream; kind: Signal<Kind>; points: Signal<Point[]>; classes: string[]; taken: ReadonlySet<string>; onDone: () => void; onKept: () => void;
}) {
  const id = useId();
  const title = useRef<HTMLHeadingElement>(null);
  useEffect(() => title.current?.focus(), []);
  const chosen = useSignal<string[]>(classes.includes("person") ? ["person"] : classes.slice(0, 1));
  const named = useSignal<string | null>(null);
  const forSecs = useSignal(kind.value === "crosses" ? 0 : 3);
  const over = useSignal(5);
  const direction = useSignal<Draft["direction"]>("any");
  const severity = useSignal<Draft["severity"]>("warning");
  const trouble = useSignal<string | null>(null);
  const busy = useSignal(false);
  const draft: Draft = {
    kind: kind.value, points: points.value, classes: chosen.value, forSecs: forSecs.value, over: over.value, direction: direction.value, severity: severity.value,
    name: named.value ?? suggestName({ kind: kind.value, classes: chosen.value }, taken),
  };
  const problem = wrong(draft, taken);
  const pasted = stream.origin === "config" || stream.origin === "folder" || stream.origin === null;
  const keep = async (event: JSX.TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    busy.value = true;
    try {
      await send("PATCH", streamPath(stream.name), { rules: { [draft.name]: build(draft) } });
      toast(`${draft.name} is in force`);
      onKept();
    } catch (error) {
      trouble.value = words(error);
    }
    busy.value = false;
  };
  const setKind = (to: Kind) => {
    kind.value = to;
    if (points.value.length > mostPoints(to)) points.value = points.value.slice(0, mostPoints(to));
  };
  return (
    <form class="rule card" onSubmit={keep} aria-label="New rule">
      <h2 ref={title} tabIndex={-1}>New rule</h2>
      <p class="quiet">{isLine(kind.value) ? "Set the two ends of the line on the picture." : "Set the corners of the zone on the picture, three or more."} Drag points, or move them with the arrow keys.</p>
      <div class="fields">
        <label for={`${id}-kind`}>Tell me when</label>
        <select id={`${id}-kind`} value={kind.value} onChange={(e) => setKind(e.currentTarget.value as Kind)}>
          <option value="in_zone">something is in a zone</option>
          <option value="crosses">something crosses a line</option>
          <option value="count">there are many in a zone</option>
        </select>
        <span id={`${id}-classes`}>What</span>
        <div class="chips" role="group" aria-labelledby={`${id}-classes`}>
          {classes.map((c) => <button key={c} type="button" class="chip" aria-pressed={chosen.value.includes(c)} onClick={() => (chosen.value = chosen.value.includes(c) ? chosen.value.filter((x) => x !== c) : [...chosen.value, c])}>{c}</button>)}
          {chosen.value.length === 0 && <span class="quiet">anything</span>}
        </div>
        {kind.value === "count" && <><label for={`${id}-over`}>More than</label><input id={`${id}-over`} type="number" min={0} step={1} value={over.value} onInput={(e) => (over.value = e.currentTarget.valueAsNumber)} /></>}
        {kind.value === "crosses"
          ? <><label for={`${id}-way`}>Which way</label>
            <select id={`${id}-way`} value={direction.value} onChange={(e) => (direction.value = e.currentTarget.value as Draft["direction"])}>
              <option value="any">either way</option><option value="to_left">from right to left</option><option value="to_right">from left to right</option>
            </select></>
          : <><label for={`${id}-secs`}>For seconds</label><input id={`${id}-secs`} type="number" min={0} max={86400} step="any" value={forSecs.value} onInput={(e) => (forSecs.value = e.currentTarget.valueAsNumber)} /></>}
        <label for={`${id}-sev`}>How much it matters</label>
        <select id={`${id}-sev`} value={severity.value} onChange={(e) => (severity.value = e.currentTarget.value as Draft["severity"])}>
          <option value="info">info: worth knowing</option><option value="warning">warning: somebody should look</option><option value="critical">critical: somebody must act now</option>
        </select>
        <label for={`${id}-name`}>Name</label>
        <input id={`${id}-name`} value={draft.name} spellcheck={false} autocomplete="off" onInput={(e) => (named.value = e.currentTarget.value)} />
      </div>
      <Numbers kind={kind.value} points={points} />
      <p class="say"><Text of={problem ?? say(draft)} /></p>
      {pasted && problem === null && <Paste text={toml(draft, stream.name)} origin={stream.origin} />}
      <div class="row">
        {!pasted && <button class="primary" disabled={problem !== null || busy.value}>{busy.value ? "Keeping…" : "Keep this rule"}</button>}
        <button type="button" onClick={onDone}>{pasted ? "Close" : "Cancel"}</button>
      </div>
      <p class="trouble" role="alert">{trouble.value && <Text of={trouble.value} />}</p>
    </form>
  );
}

/** The points as numbers, for those who draw without a mouse, and to be exact. */
function Numbers({ kind, points }: { kind: Kind; points: Signal<Point[]> }) {
  const set = (i: number, axis: 0 | 1, percent: number) => {
    if (Number.isNaN(percent)) return;
    points.value = points.value.map((p, j) => (j === i ? within(axis === 0 ? [percent / 100, p[1]] : [p[0], percent / 100]) : p));
  };
  const list = useRef<HTMLOListElement>(null);
  const takeAway = (i: number) => {
    // The last row goes, and the focus with it.
    if (i === points.value.length - 1) (list.current?.querySelectorAll("button")[i - 1] ?? list.current?.parentElement?.querySelector<HTMLElement>(".set"))?.focus();
    points.value = points.value.filter((_, j) => j !== i);
  };
  return (
    <fieldset class="numbers">
      <legend>Points, in percent of the picture from its top left corner</legend>
      <ol ref={list}>
        {points.value.map((p, i) => (
          <li key={i}>
            {([0, 1] as const).map((axis) => <input key={axis} type="number" min={0} max={100} step={0.1} aria-label={`Point ${i + 1}, ${axis === 0 ? "from the left" : "from the top"}`} value={Math.round(p[axis] * 1000) / 10} onInput={(e) => set(i, axis, e.currentTarget.valueAsNumber)} />)}
            <button type="button" class="plain" aria-label={`Take point ${i + 1} away`} onClick={() => takeAway(i)}>×</button>
          </li>
        ))}
      </ol>
      {points.value.length < mostPoints(kind) && <button type="button" class="chip set" onClick={() => (points.value = [...points.value, START[points.value.length] ?? [0.5, 0.5]])}>
        Set a point{points.value.length < leastPoints(kind) ? ` (${leastPoints(kind) - points.value.length} more)` : ""}
      </button>}
    </fieldset>
  );
}

function Paste({ text, origin }: { text: string; origin: Stream["origin"] }) {
  const copied = useSignal(false);
  const copy = async () => {
    await navigator.clipboard?.writeText(text).then(() => (copied.value = true), () => {});
  };
  return (
    <div class="paste">
      <p class="quiet">This stream stands in {origin === "folder" ? "the watched folder" : "the configuration file"}, and is changed there: put this into the configuration and send the service a SIGHUP (<code>kill -HUP</code>).</p>
      <pre tabIndex={0}>{text}</pre>
      <button type="button" onClick={copy}>{copied.value ? "Copied" : "Copy"}</button>
    </div>
  );
}
