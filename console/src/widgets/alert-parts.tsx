// Parts of alerts that several views show: the picture, what people did with them, and silences.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { alertPath, send, words } from "../api.ts";
import { loadSilences, operator, silences } from "../state.ts";
import { clock } from "../time.ts";
import type { Alert } from "../types.ts";
import { Icon } from "./icon.tsx";
import { toast } from "./toast.tsx";

/** It is tried so often, each time after twice the time: 22 s in all. */
const MOST_TRIES = 6;
const FIRST_WAIT_MS = 700;

/** The picture of an alert; it comes a moment after the alert itself, and is made better some seconds later. */
export function Snapshot({ alert, small }: { alert: Alert; small?: boolean }) {
  const tries = useSignal(0);
  const waiting = useSignal(false);
  const { snapshot } = alert.evidence;
  useEffect(() => {
    if (!waiting.value) return;
    const timer = setTimeout(() => {
      tries.value += 1;
      waiting.value = tries.value >= MOST_TRIES;
    }, FIRST_WAIT_MS * 2 ** tries.value);
    return () => clearTimeout(timer);
  }, [waiting.value]);
  // News of the alert may bring the picture.
  useEffect(() => {
    if (tries.value < MOST_TRIES) return;
    tries.value = 0;
    waiting.value = false;
  }, [alert.revision]);
  if (!snapshot || tries.value >= MOST_TRIES) return <div class={`snapshot none ${small ? "small" : ""}`}>{small ? "" : "No picture was kept."}</div>;
  if (waiting.value) return <div class={`snapshot none ${small ? "small" : ""}`}>{small ? <span class="visually-hidden">The picture comes in a moment.</span> : "The picture comes in a moment…"}</div>;
  const address = `${alertPath(alert.alert, "/snapshot.jpg")}?r=${alert.revision}.${tries.value}`;
  // The service takes no parameters here; a fragment makes the browser ask again all the same.
  return <img key={tries.value} class={`snapshot ${small ? "small" : ""}`} loading="lazy" src={address.replace("?", "#")} alt={small ? "" : `Picture of the alert: ${alert.summary}`} onError={() => (waiting.value = true)} />;
}

/** Who has taken note, and who wants not to be told. */
export function Marks({ alert }: { alert: Alert }) {
  const { acknowledged, silenced } = alert;
  if (!acknowledged && !silenced) return null;
  return (
    <p class="marks">
      {acknowledged && <span><Icon name="check" /> {acknowledged.by} knows{acknowledged.note && <>: “{acknowledged.note}”</>} <span class="quiet">({clock(acknowledged.at)})</span></span>}
      {silenced && <span><Icon name="quiet" /> silenced by {silenced.by} until {clock(silenced.until)}: {silenced.reason}</span>}
    </p>
  );
}

/** The silences that hold, each with a way to end it. */
export function SilenceList() {
  const section = useRef<HTMLElement>(null);
  const end = async (id: string) => {
    try {
      await send("DELETE", `/v1/silences/${encodeURIComponent(id)}`);
      toast("The silence is ended");
      // The button goes, and with the last one the list.
      (silences.value.length > 1 ? section.current : document.getElementById("main"))?.focus();
      await loadSilences();
    } catch (error) {
      toast(words(error), "bad");
    }
  };
  return (
    <section class="card" aria-label="Silences" ref={section} tabIndex={-1}>
      <ul class="list">
        {silences.value.map((s) => (
          <li key={s.id}>
            <Icon name="quiet" />
            <span class="grow">{s.rule ?? "Every rule"}{s.stream ? ` of ${s.stream}` : ", all streams"}: {s.reason} <span class="quiet">· until {clock(s.until)}, by {s.by}</span></span>
            {operator.value && <button onClick={() => void end(s.id)}>End it</button>}
          </li>
        ))}
      </ul>
    </section>
  );
}
