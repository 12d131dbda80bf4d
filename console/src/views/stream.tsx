// One stream: its picture with what is seen in it, its captions, its rules and alerts, and how it fared.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { isOpen, sorted } from "../alerts.ts";
import { get, send, streamPath, words } from "../api.ts";
import { href } from "../route.ts";
import type { Kind, Point } from "../rules.ts";
import { alerts, attachable, hub, live, loadStreams, now, operator, streams, visible } from "../state.ts";
import { look } from "../theme.ts";
import { ago, span } from "../time.ts";
import type { Caption, RuleView, Stream } from "../types.ts";
import { CaptionBox, Now } from "../widgets/caption-box.tsx";
import { Charts } from "../widgets/charts.tsx";
import { Dialog } from "../widgets/dialog.tsx";
import { Icon } from "../widgets/icon.tsx";
import { Picture } from "../widgets/picture.tsx";
import { Severity, State, Tags } from "../widgets/pill.tsx";
import { RuleTool } from "../widgets/rule-tool.tsx";
import { Board, Shapes } from "../widgets/shapes.tsx";
import { Text } from "../widgets/text.tsx";
import { toast } from "../widgets/toast.tsx";

export function StreamView({ name }: { name: string }) {
  const stream = streams.value?.find((s) => s.name === name);
  const drawing = useSignal(false);
  const full = useSignal(false);
  /** The tool was shut: the focus goes to what comes in its place. */
  const drawn = useRef(false);
  const kind = useSignal<Kind>("in_zone");
  const points = useSignal<Point[]>([]);
  const rules = useSignal<RuleView[] | null>(null);
  const loadRules = async () => {
    try {
      rules.value = (await get<{ rules: RuleView[] }>(streamPath(name, "/rules"))).rules;
    } catch {
      rules.value ??= null;
    }
  };
  useEffect(() => void loadRules(), [name]);
  const isLive = live.connection.value.is === "open";
  useEffect(() => {
    if (!visible.value || !isLive) return;
    // What was said before somebody looked, while the page was not seen, or while nothing came.
    get<{ records: Caption[] }>(streamPath(name, "/captions?recent=200")).then((answer) => answer.records.forEach((record) => hub.take(record)), () => {});
  }, [name, visible.value, isLive]);
  if (streams.value === null) return <p class="boot">Loading…</p>;
  if (!stream) return <div class="empty"><h1>No such stream</h1><p>There is no stream <code>{name}</code> (any more). <a href="#/">To the wall</a></p></div>;
  const begin = (what: Kind) => {
    kind.value = what;
    points.value = [];
    drawing.value = true;
  };
  const end = () => {
    drawing.value = false;
    drawn.current = true;
  };
  const classes = [...new Set(["person", ...hub.of(name).classes])].sort();
  const shapes = (rules.value ?? []).flatMap((r) => r.shapes.map((s) => ({ name: r.name, ...s })));
  return (
    <>
      <div class="head">
        <a class="back" href="#/" aria-label="Back to the wall"><Icon name="back" /></a>
        <h1>{name}</h1>
        <State stream={stream} />
        <Tags tags={stream.tags} />
        <div class="tools"><Detach stream={stream} /></div>
      </div>
      {stream.state !== "playing" && stream.detail && <p class="note warn"><Text of={stream.detail} /></p>}
      <div class="columns">
        <div class="main-column">
          <Picture stream={stream} quiet={drawing} full={full}>
            <Shapes shapes={shapes} />
            {drawing.value && <Board kind={kind.value} points={points} onDone={end} />}
            {!drawing.value && (full.value || look.value.place === "over") && <div class="over"><Now name={name} /></div>}
          </Picture>
          <CaptionBox stream={stream} />
        </div>
        <div class="side-column">
          {drawing.value
            ? <RuleTool stream={stream} kind={kind} points={points} classes={classes} taken={new Set((rules.value ?? []).map((r) => r.name))} onDone={end} onKept={() => { end(); void loadRules(); }} />
            : <Rules stream={stream} rules={rules.value} focus={drawn.current} onDraw={begin} onChanged={() => void loadRules()} />}
          <AlertsHere name={name} />
          <Facts stream={stream} />
        </div>
      </div>
      <Charts name={name} />
    </>
  );
}

/** What a rule looks at, or listens to, as a picture. */
function kindOf({ rule, shapes }: RuleView): string {
  if (shapes.length > 0) return shapes.some((s) => s.kind === "line") ? "line" : "zone";
  const type = (rule["when"] as { type?: unknown } | undefined)?.type;
  return type === "said" || type === "speech" ? "ear" : "eye";
}

function Rules({ stream, rules, focus, onDraw, onChanged }: { stream: Stream; rules: RuleView[] | null; focus: boolean; onDraw: (kind: Kind) => void; onChanged: () => void }) {
  const title = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    if (focus) title.current?.focus();
  }, []);
  const remove = async (rule: RuleView) => {
    try {
      await send("PATCH", streamPath(stream.name), { rules: { [rule.name]: null } });
      toast(`${rule.name} is taken away`);
      title.current?.focus();
      onChanged();
    } catch (error) {
      toast(words(error), "bad");
    }
  };
  return (
    <section class="card" aria-labelledby="rules-title">
      <h2 id="rules-title" ref={title} tabIndex={-1}>Rules</h2>
      {rules === null ? <p class="quiet">Which rules hold here is not told by this service.</p> : rules.length === 0 ? <p class="quiet">None yet: nobody is told of anything.</p> : (
        <ul class="list">
          {rules.map((rule) => (
            <li key={rule.name}>
              <Icon name={kindOf(rule)} />
              <span class="grow">{rule.name}{rule.origin === "configuration" && <span class="quiet"> · configuration</span>}</span>
              {operator.value && rule.origin === "attachment" && <button class="plain" aria-label={`Take the rule ${rule.name} away`} onClick={() => void remove(rule)}><Icon name="close" /></button>}
            </li>
          ))}
        </ul>
      )}
      {operator.value && <div class="row halves">
        <button onClick={() => onDraw("in_zone")}><Icon name="zone" /> Draw a zone</button>
        <button onClick={() => onDraw("crosses")}><Icon name="line" /> Draw a line</button>
      </div>}
    </section>
  );
}

function AlertsHere({ name }: { name: string }) {
  const here = sorted([...alerts.value.values()].filter((a) => a.stream === name));
  const shown = here.slice(0, 6);
  return (
    <section class="card" aria-labelledby="alerts-here">
      <h2 id="alerts-here">Alerts</h2>
      {shown.length === 0 ? <p class="quiet">None.</p> : (
        <ul class="list">
          {shown.map((a) => (
            <li key={a.alert} class={isOpen(a) ? "open" : ""}>
              <Severity alert={a} short />
              <a class="grow plain-link" href={href({ view: "alert", id: a.alert })}>{a.summary}</a>
              <span class="quiet nowrap">{isOpen(a) ? "open" : ago(a.since, now.value)}</span>
            </li>
          ))}
        </ul>
      )}
      {here.length > shown.length && <a href={href({ view: "alerts", filter: { stream: name } })}>All {here.length}</a>}
    </section>
  );
}

function Facts({ stream }: { stream: Stream }) {
  const watched = hub.of(stream.name);
  watched.changed.value;
  const { figures, source } = stream;
  const dropped = Object.entries(figures?.n_dropped ?? {}).filter(([reason, n]) => reason !== "sampling" && n > 0);
  const counts = visible.value ? watched.counts() : [];
  const rows: [string, string | null][] = [
    ["In sight", counts.length > 0 ? counts.map(([c, n]) => `${c} ${n}`).join(", ") : stream.state === "playing" && watched.detectionsAt > 0 ? "nothing" : null],
    ["Analysed", figures ? `${figures.fps.toFixed(1)} pictures a second${figures.latency_ms ? `, ${span(figures.latency_ms)} each` : ""}` : null],
    ["Words late", stream.speech_lag_ms === null ? null : span(stream.speech_lag_ms)],
    ["Left out", figures ? (dropped.length > 0 ? dropped.map(([r, n]) => `${n} ${r.replaceAll("_", " ")}`).join(", ") : "none") : null],
    ["Interruptions", figures && figures.n_gaps > 0 ? String(figures.n_gaps) : null],
    ["Source", source ? [source.video ? `${source.video.codec.toUpperCase()} ${source.video.width ?? "?"} × ${source.video.height ?? "?"}` : null, source.audio ? source.audio.codec.toUpperCase() : "no sound"].filter(Boolean).join(", ") : null],
    ["Address", stream.url],
    ["Profile", stream.profile],
    ["Worker", stream.worker && stream.worker !== "local" ? `${stream.worker}${stream.address ? ` at ${stream.address}` : ""}` : null],
  ];
  return (
    <section class="card" aria-labelledby="facts-title">
      <h2 id="facts-title">How it fares</h2>
      <dl class="facts">{rows.filter((r): r is [string, string] => r[1] !== null).map(([key, value]) => <div key={key}><dt>{key}</dt><dd>{value}</dd></div>)}</dl>
    </section>
  );
}

function Detach({ stream }: { stream: Stream }) {
  const asking = useSignal(false);
  const trouble = useSignal<string | null>(null);
  if (!operator.value || !attachable.value || stream.origin !== "api") return null;
  const detach = async () => {
    try {
      await send("DELETE", streamPath(stream.name));
      toast(`${stream.name} is detached`);
      location.hash = "#/";
      void loadStreams();
    } catch (error) {
      // Said inside: what is outside of a dialog nobody reaches.
      trouble.value = words(error);
    }
  };
  return (
    <>
      <button onClick={() => { trouble.value = null; asking.value = true; }}>Detach…</button>
      {asking.value && (
        <Dialog title={`Detach ${stream.name}?`} onClose={() => (asking.value = false)}>
          <p>It is watched no longer. What was recorded of it stays.</p>
          <p class="trouble" role="alert">{trouble.value && <Text of={trouble.value} />}</p>
          <div class="row end"><button onClick={() => (asking.value = false)}>Keep it</button><button class="danger" onClick={() => void detach()}>Detach</button></div>
        </Dialog>
      )}
    </>
  );
}

