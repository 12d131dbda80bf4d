// Every stream at a glance, found by name and tags; a new one is added from here.
import { useSignal } from "@preact/signals";
import { attachable, alerts, operator, streams, streamsTrouble, workers } from "../state.ts";
import { isCalling } from "../alerts.ts";
import { fits, tagsOf } from "../filter.ts";
import type { Stream } from "../types.ts";
import { AddStream } from "../widgets/add-stream.tsx";
import { Dialog } from "../widgets/dialog.tsx";
import { Icon } from "../widgets/icon.tsx";
import { levelOf } from "../widgets/pill.tsx";
import { Tile } from "../widgets/tile.tsx";

/** So few streams get bigger tiles, and a word on what one can do. */
const FEW = 2;

export function Wall() {
  const text = useSignal("");
  const tag = useSignal("");
  const adding = useSignal(false);
  const all = streams.value;
  if (all === null) return streamsTrouble.value ? null : <p class="boot">Loading the streams…</p>;
  if (all.length === 0) return <Empty />;
  const shown = all.filter((s) => fits(s, text.value, tag.value));
  const tags = tagsOf(all);
  const may = operator.value && attachable.value;
  return (
    <>
      <div class="head">
        <h1>Wall</h1>
        <Summary all={all} />
        <div class="tools">
          <label class="search"><span class="visually-hidden">Find streams by name, state or tag</span><Icon name="search" />
            <input type="search" placeholder="Find streams" value={text.value} onInput={(e) => (text.value = e.currentTarget.value)} />
          </label>
          {tags.length > 0 && (
            <label><span class="visually-hidden">Tag</span>
              <select value={tag.value} onChange={(e) => (tag.value = e.currentTarget.value)}>
                <option value="">All tags</option>
                {tags.map((t) => <option value={t} key={t}>{t.replace(":", ": ")}</option>)}
              </select>
            </label>
          )}
          {may && <button class="primary" onClick={() => (adding.value = true)}><Icon name="plus" /> Add a stream</button>}
        </div>
      </div>
      {shown.length === 0 && <p class="empty">No stream fits. <button class="link" onClick={() => { text.value = ""; tag.value = ""; }}>Show all {all.length}</button></p>}
      {all.length <= FEW && <p class="hint">Open a stream to watch it live, with its boxes and captions, and to draw on its picture what you want to be told of. <a href="#/alerts">Alerts</a> keeps what happened, <a href="#/transcripts">Transcripts</a> finds what was said.</p>}
      <ul class={`wall ${shown.length <= FEW ? "few" : ""}`}>{shown.map((stream) => <Tile key={stream.name} stream={stream} />)}</ul>
      {adding.value && <Dialog title="Add a stream" onClose={() => (adding.value = false)}><AddStream onDone={() => (adding.value = false)} /></Dialog>}
    </>
  );
}

function Summary({ all }: { all: Stream[] }) {
  const bad = all.filter((s) => levelOf(s.state) === "bad" || levelOf(s.state) === "warn");
  const playing = all.filter((s) => s.state === "playing").length;
  const open = [...alerts.value.values()].filter(isCalling).length;
  return (
    <p class="summary">
      {all.length} {all.length === 1 ? "stream" : "streams"}, {playing} playing
      {bad.length > 0 && <>, <span class="text-bad">{bad.length} in trouble</span></>}
      {open > 0 && <>, <a href="#/alerts?state=open">{open} open {open === 1 ? "alert" : "alerts"}</a></>}
    </p>
  );
}

function Empty() {
  const why = !operator.value ? "An operator can add one." : workers.value && !attachable.value ? "This service takes no streams while it runs: write them into its configuration, under [streams]." : null;
  return (
    <div class="first">
      <h1>Attach your first camera</h1>
      <p>Paste the address of a camera, a live stream or a recording: eyewitness watches and listens, and shows here what it sees, what is said, and what you asked to be told of.</p>
      {why ? <p class="quiet">{why}</p> : <AddStream onDone={() => {}} />}
    </div>
  );
}
