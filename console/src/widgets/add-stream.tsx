// A stream is added: an address is tried first, shown with its picture or with the reason why not, and only then kept.
import type { JSX } from "preact";
import { useSignal } from "@preact/signals";
import { useEffect, useId, useRef } from "preact/hooks";
import { Refused, send, streamPath, words } from "../api.ts";
import { hasSecret, suggest, tags as readTags, wrongName } from "../names.ts";
import { href } from "../route.ts";
import { loadStreams, profiles, streams } from "../state.ts";
import { span } from "../time.ts";
import type { Probe } from "../types.ts";
import { Text } from "./text.tsx";
import { toast } from "./toast.tsx";

export function AddStream({ onDone }: { onDone: () => void }) {
  const id = useId();
  const url = useSignal("");
  const credentials = useSignal("");
  const busy = useSignal(false);
  const probe = useSignal<Probe | null>(null);
  const picture = useSignal<string | null>(null);
  const trouble = useSignal<{ text: string; hint?: string } | null>(null);
  /** Which attempt counts: what an earlier one finds is not about the address that stands there now. */
  const attempts = useRef(0);
  useEffect(() => () => {
    attempts.current += 1;
    if (picture.value) URL.revokeObjectURL(picture.value);
  }, []);

  const forget = () => {
    attempts.current += 1;
    busy.value = false;
    probe.value = null;
    trouble.value = null;
    if (picture.value) URL.revokeObjectURL(picture.value);
    picture.value = null;
  };
  const tryIt = async (event: JSX.TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    forget();
    const address = url.value.trim();
    if (hasSecret(address)) {
      trouble.value = { text: "The address holds a user, a password or a token. Those never go through this page.", hint: "Leave them out of the address; put them into the service's [secrets.NAME], and write that NAME under “Secret”." };
      return;
    }
    busy.value = true;
    const attempt = attempts.current;
    try {
      const got = await send<Probe>("POST", "/v1/probe", { url: address, ...(credentials.value ? { credentials: credentials.value } : {}) });
      if (attempt !== attempts.current) return;
      picture.value = got.snapshot ? jpeg(got.snapshot) : null;
      probe.value = got;
    } catch (error) {
      if (attempt !== attempts.current) return;
      trouble.value = { text: words(error), hint: hint(error) };
    }
    busy.value = false;
  };

  return (
    <div class="add">
      <form onSubmit={tryIt} aria-describedby={`${id}-trouble`}>
        <label for={`${id}-url`}>Address</label>
        <div class="row">
          <input id={`${id}-url`} class="grow" name="url" required autofocus spellcheck={false} autocomplete="off" placeholder="rtsp://192.0.2.10/stream1" value={url.value}
            onInput={(e) => { url.value = e.currentTarget.value; forget(); }} />
          <button class={probe.value ? "" : "primary"} disabled={busy.value || url.value.trim() === ""}>{busy.value ? "Trying…" : "Try it"}</button>
        </div>
        <p class="quiet">RTSP, HLS, RTMP, SRT, HTTP, or the path of a recording on the service's machine.</p>
        <details>
          <summary>It needs a user and password</summary>
          <label for={`${id}-secret`}>Secret</label>
          <input id={`${id}-secret`} value={credentials.value} spellcheck={false} autocomplete="off" placeholder="yard-camera" onInput={(e) => { credentials.value = e.currentTarget.value; forget(); }} />
          <p class="quiet">The name of a <code>[secrets.NAME]</code> in the service's configuration. User and password themselves are never typed in here.</p>
        </details>
      </form>
      <div id={`${id}-trouble`} role="alert">
        {trouble.value && <div class="note bad"><p><strong>It cannot be added.</strong> <Text of={trouble.value.text} /></p>{trouble.value.hint && <p><Text of={trouble.value.hint} /></p>}</div>}
      </div>
      {busy.value && <p class="quiet" role="status">Connecting as the stream would. This takes up to 20 seconds.</p>}
      {probe.value && <Keep key={url.value} url={url.value.trim()} credentials={credentials.value} probe={probe.value} picture={picture.value} onDone={onDone} />}
    </div>
  );
}

function Keep({ url, credentials, probe, picture, onDone }: { url: string; credentials: string; probe: Probe; picture: string | null; onDone: () => void }) {
  const id = useId();
  const taken = new Set((streams.value ?? []).map((s) => s.name));
  const name = useSignal(suggest(url, taken));
  const tags = useSignal("");
  const profile = useSignal("");
  const trouble = useSignal<string | null>(null);
  const busy = useSignal(false);
  const wrong = wrongName(name.value, taken);
  const keep = async (event: JSX.TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const read = readTags(tags.value);
    if ("problem" in read) return void (trouble.value = read.problem);
    busy.value = true;
    try {
      await send("PUT", streamPath(name.value), { url, tags: read.tags, ...(credentials ? { credentials } : {}), ...(profile.value ? { profile: profile.value } : {}) }, { "If-None-Match": "*" });
      toast(`${name.value} is attached`);
      void loadStreams();
      onDone();
      location.hash = href({ view: "stream", name: name.value });
    } catch (error) {
      trouble.value = words(error);
    }
    busy.value = false;
  };
  return (
    <form class="keep" onSubmit={keep}>
      <div class="probe">
        {picture ? <img src={picture} alt="The first picture of the stream" /> : <div class="no-picture">No picture</div>}
        <p role="status"><strong>It plays.</strong> {facts(probe)}{probe.left_out && <><br /><span class="text-warn">{probe.left_out}</span></>}</p>
      </div>
      <div class="fields">
        <label for={`${id}-name`}>Name</label>
        <div><input id={`${id}-name`} value={name.value} spellcheck={false} autocomplete="off" aria-invalid={wrong ? true : undefined} aria-describedby={`${id}-wrong`} onInput={(e) => (name.value = e.currentTarget.value)} />
          <span id={`${id}-wrong`} class="text-bad">{wrong}</span></div>
        <label for={`${id}-tags`}>Tags</label>
        <input id={`${id}-tags`} value={tags.value} placeholder="Location=Front, Floor=2" autocomplete="off" onInput={(e) => (tags.value = e.currentTarget.value)} />
        <label for={`${id}-profile`}>What to run</label>
        <select id={`${id}-profile`} value={profile.value} onChange={(e) => (profile.value = e.currentTarget.value)}>
          <option value="">The profile that fits</option>
          {profiles.value.map((p) => <option key={p.name} value={p.name}>{p.name}: {[p.detect && `looks (${p.detect})`, p.transcribe && `listens (${p.transcribe})`].filter(Boolean).join(", ") || "nothing"}</option>)}
        </select>
      </div>
      <p class="trouble" role="alert">{trouble.value && <Text of={trouble.value} />}</p>
      <button class="primary" disabled={busy.value || wrong !== null}>{busy.value ? "Adding…" : "Add it"}</button>
    </form>
  );
}

function facts(probe: Probe): string {
  const { video, audio } = probe;
  const fps = video?.measured_fps ?? video?.stated_fps;
  return [
    video ? [video.codec.toUpperCase(), video.width && video.height ? `${video.width} × ${video.height}` : null, fps ? `${Math.round(fps)} pictures a second` : null].filter(Boolean).join(", ") : "No pictures",
    audio ? `sound ${audio.codec.toUpperCase()}` : "no sound",
    probe.first_picture_ms ? `first picture after ${span(probe.first_picture_ms)}` : null,
  ].filter(Boolean).join("; ");
}

/** What to do about it, where the reason alone does not say so. */
function hint(error: unknown): string | undefined {
  if (!(error instanceof Refused)) return undefined;
  if (error.status === 422 && /401|unauthori[sz]ed|password|credential/i.test(error.message)) return "The camera wants a user and a password: name their secret below the address.";
  if (error.status === 422 && /refused|unreachable|no route|resolve|timed? ?out/i.test(error.message)) return "Can the machine on which the service runs reach that address? Try it there with `eyewitness probe`.";
  if (error.status === 403) return "Adding streams is an operator's.";
  return undefined;
}

/** A data URL as an address that the page's policy allows; the caller gives it back. */
function jpeg(dataUrl: string): string {
  const bytes = Uint8Array.from(atob(dataUrl.slice(dataUrl.indexOf(",") + 1)), (c) => c.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
}
