// What was said, found again by its words; from each a way to the moment, and all of it to take along.
import type { JSX } from "preact";
import { useSignal } from "@preact/signals";
import { useEffect, useId, useRef } from "preact/hooks";
import { get, query, Refused, words } from "../api.ts";
import { goOn } from "../focus.ts";
import { href } from "../route.ts";
import { streams } from "../state.ts";
import { clock, position } from "../time.ts";
import type { Found } from "../types.ts";
import { OtherWorkers } from "../widgets/other-workers.tsx";

interface Answer { transcripts: Found[]; after: string | null }
const PAGE = 50;
const FORMATS = [["vtt", "WebVTT", true], ["srt", "SRT", true], ["jsonl", "JSON Lines", false], ["csv", "CSV", false]] as const;

export function Transcripts({ filter }: { filter: Record<string, string> }) {
  const id = useId();
  const found = useSignal<Found[] | null>(null);
  const after = useSignal<string | null>(null);
  const trouble = useSignal<string | null>(null);
  const missing = useSignal(false);
  const busy = useSignal(false);
  const asked = { q: filter["q"], stream: filter["stream"], from: iso(filter["from"]), to: iso(filter["to"]) };
  const key = JSON.stringify(asked);
  const list = useRef<HTMLOListElement>(null);
  const asking = useRef(new AbortController());
  const load = async (more: boolean) => {
    // More of a search that is no longer the one that is shown is not wanted.
    const { signal } = asking.current;
    busy.value = true;
    try {
      const answer = await get<Answer>(`/v1/history/transcripts${query({ ...asked, limit: PAGE, after: more ? after.value : null })}`, { signal });
      if (signal.aborted) return;
      found.value = more ? [...(found.value ?? []), ...answer.transcripts].slice(-2000) : answer.transcripts;
      after.value = answer.after;
      // The button goes with the last of them: the first new one has the focus, as far as it is kept.
      if (more) setTimeout(() => goOn(list.current?.children[list.current.children.length - answer.transcripts.length]?.querySelector("button")));
      trouble.value = null;
    } catch (error) {
      if (signal.aborted) return;
      missing.value = error instanceof Refused && error.missing;
      trouble.value = words(error);
    }
    busy.value = false;
  };
  useEffect(() => {
    asking.current = new AbortController();
    void load(false);
    return () => asking.current.abort();
  }, [key]);
  const submit = (event: JSX.TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    location.hash = href({ view: "transcripts", filter: Object.fromEntries([...form].map(([k, v]) => [k, String(v).trim()])) });
  };
  if (missing.value) return <><div class="head"><h1>Transcripts</h1></div><div class="empty"><p>This service keeps no history of what was said. Switch it on with <code>[history]</code> in its configuration.</p></div></>;
  return (
    <>
      <div class="head"><h1>Transcripts</h1></div>
      <OtherWorkers what="Words" at={{ view: "transcripts", filter }} />
      <form class="search-form card" role="search" onSubmit={submit} key={key}>
        <div class="grow"><label for={`${id}-q`}>Words</label><input id={`${id}-q`} name="q" type="search" defaultValue={filter["q"] ?? ""} placeholder="ask not what your country" autocomplete="off" /></div>
        <div><label for={`${id}-s`}>Stream</label><select id={`${id}-s`} name="stream" defaultValue={filter["stream"] ?? ""}><option value="">All streams</option>{(streams.value ?? []).map((s) => <option key={s.name} value={s.name} selected={s.name === filter["stream"]}>{s.name}</option>)}</select></div>
        <div><label for={`${id}-f`}>From</label><input id={`${id}-f`} name="from" type="datetime-local" defaultValue={filter["from"] ?? ""} /></div>
        <div><label for={`${id}-t`}>To</label><input id={`${id}-t`} name="to" type="datetime-local" defaultValue={filter["to"] ?? ""} /></div>
        <button class="primary">Search</button>
      </form>
      {trouble.value && <p class="note bad" role="alert">{trouble.value}</p>}
      {found.value && (
        <>
          <div class="row results-head">
            <p role="status" class="quiet">{found.value.length === 0 ? "Nothing was said that fits." : `${found.value.length}${after.value ? " or more" : ""} ${found.value.length === 1 ? "stretch" : "stretches"} of speech, newest first`}</p>
            {found.value.length > 0 && <Exports asked={asked} />}
          </div>
          <ol class="found" ref={list}>{found.value.map((t) => <Row key={t.id} found={t} />)}</ol>
          {after.value && <button disabled={busy.value} onClick={() => void load(true)}>{busy.value ? "Loading…" : "More"}</button>}
        </>
      )}
    </>
  );
}

/** All of it as a file. Those with a timeline hold one stream. */
function Exports({ asked }: { asked: Record<string, string | undefined> }) {
  return (
    <p class="exports">
      <span class="quiet">Take it along:</span>
      {FORMATS.filter(([, , timeline]) => !timeline || asked["stream"]).map(([format, word]) => <a key={format} download href={`/v1/history/transcripts${query({ ...asked, format })}`}>{word}</a>)}
      {!asked["stream"] && <span class="quiet">and, of one stream, WebVTT and SRT</span>}
    </p>
  );
}

function Row({ found }: { found: Found }) {
  const open = useSignal(false);
  return (
    <li>
      <p class="quiet"><time dateTime={found.at}>{clock(found.at)}</time> · <a href={href({ view: "stream", name: found.stream })}>{found.stream}</a> · at {position(found.start_ms)} of its session · <button class="link" aria-expanded={open.value} onClick={() => (open.value = !open.value)}>{open.value ? "less" : "the moment"}</button></p>
      <p class="text">{found.snippet ? found.snippet.map((part, i) => (part.hit ? <mark key={i}>{part.text}</mark> : part.text)) : found.text}</p>
      {open.value && <Moment found={found} />}
    </li>
  );
}

/** Before it and after it so long is shown, too. */
const AROUND_MS = 45_000;
/** The clip is played from so long before the first word. */
const LEAD_MS = 500;

/** Its picture and sound, and what was said around it. */
function Moment({ found }: { found: Found }) {
  const context = useSignal<Found[] | null>(null);
  useEffect(() => {
    const abort = new AbortController();
    const near = (ms: number) => new Date(Date.parse(found.at) + ms).toISOString();
    get<Answer>(`/v1/history/transcripts${query({ stream: found.stream, from: near(-AROUND_MS), to: near(AROUND_MS), limit: 50 })}`, { signal: abort.signal })
      .then((answer) => (context.value = [...answer.transcripts].sort((a, b) => Date.parse(a.at) - Date.parse(b.at))), () => (context.value ??= [found]));
    return () => abort.abort();
  }, [found.id]);
  if (context.value === null) return <p class="quiet">Loading…</p>;
  // Its clip may have been made since the search.
  const clip = (context.value.find((t) => t.id === found.id) ?? found).clip;
  return (
    <div class="moment">
      {clip
        ? <Clip found={found} clip={clip} />
        : <p class="quiet">No picture is kept of this moment. Clips are made some seconds after the last word, of streams with H.264, and the oldest go first.</p>}
      <ol>{context.value.map((t) => <li key={t.id} class={t.id === found.id ? "this" : ""}><time dateTime={t.at}>{clock(t.at)}</time> {t.text}</li>)}</ol>
    </div>
  );
}

/** Plays it from its first word on, and shows which word is being said. */
function Clip({ found, clip }: { found: Found; clip: NonNullable<Found["clip"]> }) {
  const played = useSignal(found.start_ms);
  const begin = (video: HTMLVideoElement) => {
    video.currentTime = Math.max(0, (found.start_ms - LEAD_MS - clip.from_ms) / 1000);
    // Where the browser wants to be asked first, there is the button.
    void video.play().catch(() => {});
  };
  return (
    <figure>
      <video
        class="clip" controls playsInline preload="auto" src={clip.path} aria-label={`${found.stream} at ${clock(found.at)}`}
        onPlay={(e) => document.querySelectorAll<HTMLVideoElement>(".moment video").forEach((other) => other !== e.currentTarget && other.pause())}
        onLoadedMetadata={(e) => begin(e.currentTarget)} onTimeUpdate={(e) => (played.value = clip.from_ms + 1000 * e.currentTarget.currentTime)}
      />
      <figcaption class="said">{(found.words ?? []).flatMap((word, i) => [<span key={i} class={word.start_ms <= played.value && played.value < word.end_ms ? "saying" : undefined}>{word.text}</span>, " "])}</figcaption>
    </figure>
  );
}

/** A local time of a form as RFC 3339; nothing where it is none. */
function iso(local: string | undefined): string | undefined {
  const at = local ? new Date(local) : null;
  return at && !Number.isNaN(at.getTime()) ? at.toISOString() : undefined;
}
