// Live captions as a deaf reader needs them: as large as wished, in the colours that are read best, calm, and said once to
// screen readers when a line is final. Words that may still change are dimmer.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { GrowingWord } from "../captions.ts";
import { hub, now } from "../state.ts";
import { CONTRASTS, look, SIZES, step } from "../theme.ts";
import { clock } from "../time.ts";
import type { Stream } from "../types.ts";

/** The words of now; over the picture or below it. */
export function Now({ name }: { name: string }) {
  const watched = hub.of(name);
  watched.changed.value;
  const { lines } = watched.captions.now(hub.skew.server(now.value), now.value);
  const { size, contrast } = look.value;
  return (
    <div class={`now ${contrast}`} style={{ fontSize: `${size}rem` }} aria-hidden="true">
      {lines.map((line, i) => <p key={i}>{line.map((word, j) => <Word key={j} word={word} />)}</p>)}
    </div>
  );
}

const Word = ({ word }: { word: GrowingWord }) => <span class={word.stable ? undefined : "unstable"}>{word.text} </span>;

export function CaptionBox({ stream }: { stream: Stream }) {
  const watched = hub.of(stream.name);
  watched.changed.value;
  const { size, contrast, place } = look.value;
  const log = useRef<HTMLDivElement>(null);
  const following = useSignal(true);
  const lines = watched.captions.lines;
  const last = lines[lines.length - 1]?.key;
  useEffect(() => {
    if (following.value && log.current) log.current.scrollTop = log.current.scrollHeight;
  }, [last, size]);
  const scrolled = () => {
    const { current } = log;
    if (current) following.value = current.scrollHeight - current.scrollTop - current.clientHeight < 40;
  };
  const listens = stream.speech_lag_ms !== null || lines.length > 0;
  return (
    <section class="captions card" aria-labelledby="captions-title">
      <div class="captions-head">
        <h2 id="captions-title">Live captions</h2>
        <Choices />
      </div>
      <div class="words">
        <div class={`log ${contrast}`} ref={log} onScroll={scrolled} tabIndex={0} role="group" aria-label="What was said" style={{ fontSize: `${Math.max(1, size * 0.75)}rem` }}>
          {lines.length === 0 && <p class="note-line">{listens ? "Nothing has been said since this page was opened." : "Nobody listens to this stream. Set `transcribe` in its profile to have captions."}</p>}
          {lines.map((line) => line.kind === "note"
            ? <p class="note-line" key={line.key}>[{line.text}]</p>
            : <p key={line.key}><time class="at">{clock(line.at)}</time> <span data-line>{line.text.replaceAll("\n", " ")}</span></p>)}
        </div>
        {!following.value && <button class="link to-now" onClick={() => { following.value = true; log.current?.scrollTo({ top: log.current.scrollHeight }); }}>To the newest words ↓</button>}
        {place === "below" && listens && <Now name={stream.name} />}
      </div>
      <Spoken name={stream.name} />
    </section>
  );
}

/** A line that comes now may have begun so long ago. */
const JUST_SAID_MS = 15_000;

/** What a screen reader says: each line once, when nothing of it changes any more. Only what comes from now on. */
function Spoken({ name }: { name: string }) {
  const watched = hub.of(name);
  watched.changed.value;
  const from = useRef<{ keys: Set<string>; at: number } | null>(null);
  from.current ??= { keys: new Set(watched.captions.lines.map((l) => l.key)), at: hub.skew.server(Date.now()) - JUST_SAID_MS };
  const { keys, at } = from.current;
  const fresh = watched.captions.lines.filter((l) => l.kind === "words" && !keys.has(l.key) && !(Date.parse(l.at ?? "") < at)).slice(-5);
  return <div class="visually-hidden" role="log" aria-live="polite" aria-label="Captions, line by line">{fresh.map((l) => <p key={l.key}>{l.text.replaceAll("\n", " ")}</p>)}</div>;
}

function Choices() {
  const { size, contrast, place } = look.value;
  const set = (change: Partial<typeof look.value>) => (look.value = { ...look.value, ...change });
  return (
    <div class="choices" role="group" aria-label="How captions look">
      <button class="chip" disabled={size <= SIZES[0]} onClick={() => set({ size: step(size, -1) })}>A−<span class="visually-hidden"> smaller captions</span></button>
      <button class="chip" disabled={size >= (SIZES[SIZES.length - 1] ?? size)} onClick={() => set({ size: step(size, 1) })}>A+<span class="visually-hidden"> larger captions</span></button>
      <label><span class="visually-hidden">Colours of captions</span>
        <select value={contrast} onChange={(e) => set({ contrast: e.currentTarget.value as (typeof CONTRASTS)[number] })}>
          {CONTRASTS.map((c) => <option key={c} value={c}>{c.replaceAll("-", " ")}</option>)}
        </select>
      </label>
      <label><span class="visually-hidden">Where captions are</span>
        <select value={place} onChange={(e) => set({ place: e.currentTarget.value as "below" | "over" })}>
          <option value="below">below the picture</option>
          <option value="over">over the picture</option>
        </select>
      </label>
    </div>
  );
}
