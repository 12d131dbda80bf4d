// Parts of alerts that several views show: the picture, what people did with them, and silences.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { alertPath, send, words } from "../api.ts";
import { loadSilences, operator, silences } from "../state.ts";
import { clock } from "../time.ts";
import type { Alert } from "../types.ts";
import { Icon } from "./icon.tsx";
import { toast } from "./toast.tsx";

/** The picture of an alert; it comes a moment after the alert itself, and is made better some seconds later. */
export function Snapshot({ alert, small }: { alert: Alert; small?: boolean }) {
  const tries = useSignal(0);
  const there = useSignal(false);
  const { snapshot } = alert.evidence;
  useEffect(() => {
    if (there.value || !snapshot || tries.value === 0 || tries.value > 4) return;
    const timer = setTimeout(() => (tries.value += 1), 1500);
    return () => clearTimeout(timer);
  }, [tries.value]);
  if (!snapshot || tries.value > 4) return <div class={`snapshot none ${small ? "small" : ""}`}>{small ? "" : "No picture was kept."}</div>;
  const address = `${alertPath(alert.alert, "/snapshot.jpg")}?r=${alert.revision}.${tries.value}`;
  // The service takes no parameters here; a fragment makes the browser ask again all the same.
  return <img key={tries.value} class={`snapshot ${small ? "small" : ""}`} loading="lazy" src={address.replace("?", "#")} alt={small ? "" : `Picture of the alert: ${alert.summary}`} onLoad={() => (there.value = true)} onError={() => (tries.value += 1)} />;
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
  const end = async (id: string) => {
    try {
      await send("DELETE", `/v1/silences/${encodeURIComponent(id)}`);
      toast("The silence is ended");
      await loadSilences();
    } catch (error) {
      toast(words(error), "bad");
    }
  };
  return (
    <section class="card" aria-label="Silences">
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
