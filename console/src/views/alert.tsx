// One alert: what was seen and said, its picture and clip, its life, and what one can do about it.
import type { JSX } from "preact";
import { useSignal } from "@preact/signals";
import { useEffect, useId, useRef } from "preact/hooks";
import { isOpen, life, merge } from "../alerts.ts";
import { alertPath, get, raw, send, words } from "../api.ts";
import { goOn } from "../focus.ts";
import { href } from "../route.ts";
import { alerts, loadAlerts, loadSilences, now, operator } from "../state.ts";
import { ago, clock, span } from "../time.ts";
import type { Alert } from "../types.ts";
import { Marks, Snapshot } from "../widgets/alert-parts.tsx";
import { Icon } from "../widgets/icon.tsx";
import { Severity, Tags } from "../widgets/pill.tsx";
import { toast } from "../widgets/toast.tsx";

export function AlertView({ id }: { id: string }) {
  const trouble = useSignal<string | null>(null);
  /** One that is so old that the list of those that are known has no room for it. */
  const old = useSignal<Alert | null>(null);
  const alert = alerts.value.get(id) ?? old.value;
  const load = async () => {
    old.value = await get<Alert>(alertPath(id));
    alerts.value = merge(alerts.value, [old.value]);
  };
  useEffect(() => void load().catch((error) => (trouble.value = words(error))), [id]);
  if (!alert) return trouble.value ? <div class="empty"><h1>No such alert</h1><p>{trouble.value}</p><p><a href="#/alerts">All alerts</a></p></div> : <p class="boot">Loading…</p>;
  return (
    <>
      <div class="head">
        <a class="back" href="#/alerts" aria-label="Back to all alerts"><Icon name="back" /></a>
        <h1>{alert.summary}</h1>
        <Severity alert={alert} />
        <span class={`pill ${isOpen(alert) ? "bad" : "idle"}`}><span class="dot" aria-hidden="true" />{isOpen(alert) ? "open" : "closed"}</span>
      </div>
      <div class="columns">
        <div class="main-column">
          <Snapshot alert={alert} />
          <Clip alert={alert} />
        </div>
        <div class="side-column">
          <Acts alert={alert} onDone={load} />
          <section class="card" aria-labelledby="life-title">
            <h2 id="life-title">Its life</h2>
            <ol class="life">{life(alert).map((step) => <li key={step.word}><span class="word">{step.word}</span> <time dateTime={step.at ?? undefined}>{clock(step.at)}</time> <span class="quiet">{ago(step.at, now.value)}{step.why && `, ${step.why}`}</span></li>)}</ol>
          </section>
          <section class="card" aria-labelledby="about-title">
            <h2 id="about-title">About it</h2>
            <dl class="facts">
              <div><dt>Stream</dt><dd><a href={href({ view: "stream", name: alert.stream })}>{alert.stream}</a></dd></div>
              <div><dt>Rule</dt><dd>{alert.rule}</dd></div>
              {alert.since && alert.until && alert.since !== alert.until && <div><dt>Lasted</dt><dd>{span(Date.parse(alert.until) - Date.parse(alert.since))}</dd></div>}
              {alert.evidence.tracks.length > 0 && <div><dt>Tracks</dt><dd>{alert.evidence.tracks.join(", ")}</dd></div>}
              {alert.evidence.words.length > 0 && <div><dt>Words</dt><dd>“{alert.evidence.words.map((w) => w.text).join(" ")}” <a href={href({ view: "transcripts", filter: { q: alert.evidence.words.map((w) => w.text).join(" "), stream: alert.stream } })}>find it</a></dd></div>}
            </dl>
            <Tags tags={alert.tags} />
          </section>
        </div>
      </div>
    </>
  );
}

/** The clip is there once the alert is over and its time after it has passed. */
function Clip({ alert }: { alert: Alert }) {
  const there = useSignal<boolean | null>(null);
  const why = useSignal("");
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const abort = new AbortController();
    const look = async () => {
      try {
        await raw(alertPath(alert.alert, "/clip.mp4"), { headers: { Range: "bytes=0-0" }, signal: abort.signal });
        there.value = true;
      } catch (error) {
        if (abort.signal.aborted) return;
        there.value = false;
        why.value = words(error);
        timer = setTimeout(() => void look(), 4000);
      }
    };
    void look();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [alert.alert]);
  if (there.value === null) return null;
  if (!there.value) return <p class="quiet">{why.value.charAt(0).toUpperCase() + why.value.slice(1)}</p>;
  return <video class="clip" controls preload="metadata" src={alertPath(alert.alert, "/clip.mp4")} aria-label="Clip of the alert" />;
}

function Acts({ alert, onDone }: { alert: Alert; onDone: () => Promise<void> }) {
  const id = useId();
  const title = useRef<HTMLHeadingElement>(null);
  const note = useSignal("");
  const minutes = useSignal(30);
  const reason = useSignal("");
  const whole = useSignal<"rule" | "stream">("rule");
  if (!operator.value) return <Marks alert={alert} />;
  const act = async (done: string, what: () => Promise<unknown>) => {
    try {
      await what();
      toast(done);
      await Promise.all([loadSilences(), loadAlerts(), onDone()]);
      // The form has gone with what was done.
      goOn(title.current);
    } catch (error) {
      toast(words(error), "bad");
    }
  };
  const acknowledge = (event: JSX.TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    void act("Acknowledged", () => send("POST", alertPath(alert.alert, "/acknowledge"), note.value.trim() ? { note: note.value.trim() } : {}));
  };
  const silence = (event: JSX.TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const about = whole.value === "rule" ? { rule: alert.rule, stream: alert.stream } : { stream: alert.stream };
    void act("Silenced", () => send("POST", "/v1/silences", { ...about, minutes: minutes.value, reason: reason.value.trim() }));
  };
  return (
    <section class="card" aria-labelledby="acts-title">
      <h2 id="acts-title" ref={title} tabIndex={-1}>What you can do</h2>
      <Marks alert={alert} />
      {alert.acknowledged
        ? <button onClick={() => void act("Taken back", () => send("DELETE", alertPath(alert.alert, "/acknowledge")))}>Take the acknowledgement back</button>
        : (
          <form onSubmit={acknowledge}>
            <label for={`${id}-note`}>Note, for the others</label>
            <div class="row"><input class="grow" id={`${id}-note`} value={note.value} maxLength={500} placeholder="on my way" onInput={(e) => (note.value = e.currentTarget.value)} /><button class="primary"><Icon name="check" /> Acknowledge</button></div>
          </form>
        )}
      {!alert.silenced && (
        <details>
          <summary>Silence it</summary>
          <form onSubmit={silence}>
            <div class="fields">
              <label for={`${id}-what`}>What</label>
              <select id={`${id}-what`} value={whole.value} onChange={(e) => (whole.value = e.currentTarget.value as "rule" | "stream")}>
                <option value="rule">{alert.rule} of {alert.stream}</option><option value="stream">everything of {alert.stream}</option>
              </select>
              <label for={`${id}-long`}>For</label>
              <select id={`${id}-long`} value={minutes.value} onChange={(e) => (minutes.value = Number(e.currentTarget.value))}>
                <option value={30}>30 minutes</option><option value={240}>4 hours</option><option value={1440}>1 day</option>
              </select>
              <label for={`${id}-why`}>Why</label>
              <input id={`${id}-why`} required maxLength={500} value={reason.value} placeholder="the gardeners are here" onInput={(e) => (reason.value = e.currentTarget.value)} />
            </div>
            <p class="quiet">Until then webhooks leave such alerts out. They are still kept, and shown here.</p>
            <button>Silence</button>
          </form>
        </details>
      )}
    </section>
  );
}
