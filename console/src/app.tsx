// The frame around every view: bar, banners, and which view is shown.
import { useEffect, useRef } from "preact/hooks";
import { send, words } from "./api.ts";
import { pictures } from "./pictures.ts";
import { href, type Route } from "./route.ts";
import { calling, hub, live, loginNeeded, now, route, session, streams, streamsTrouble } from "./state.ts";
import { theme, type Theme } from "./theme.ts";
import { span } from "./time.ts";
import { AlertView } from "./views/alert.tsx";
import { Alerts } from "./views/alerts.tsx";
import { HealthView } from "./views/health.tsx";
import { Login } from "./views/login.tsx";
import { StreamView } from "./views/stream.tsx";
import { Transcripts } from "./views/transcripts.tsx";
import { Wall } from "./views/wall.tsx";
import { Icon } from "./widgets/icon.tsx";
import { toast, Toasts } from "./widgets/toast.tsx";

export function App() {
  if (loginNeeded.value) return <Login />;
  return (
    <>
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); document.getElementById("main")?.focus(); }}>Skip to the content</a>
      <Bar />
      <Banners />
      <Main />
      <Toasts />
    </>
  );
}

const TABS: { at: Route; is: Route["view"][]; word: string }[] = [
  { at: { view: "wall" }, is: ["wall", "stream"], word: "Wall" },
  { at: { view: "alerts", filter: {} }, is: ["alerts", "alert"], word: "Alerts" },
  { at: { view: "transcripts", filter: {} }, is: ["transcripts"], word: "Transcripts" },
  { at: { view: "health" }, is: ["health"], word: "Health" },
];

function Bar() {
  const view = route.value.view;
  const open = calling.value.length;
  return (
    <header class="bar">
      <a class="brand" href="#/"><img src="/page/icon.svg" alt="" width="22" height="22" /><span>eyewitness</span></a>
      <nav aria-label="Views">
        {TABS.map((tab) => (
          <a href={href(tab.at)} aria-current={tab.is.includes(view) ? "page" : undefined}>
            {tab.word}
            {tab.word === "Alerts" && open > 0 && <span class="count" aria-label={`, ${open} open`}>{open > 99 ? "99+" : open}</span>}
          </a>
        ))}
      </nav>
      <Carried />
      <Connected />
      <ThemeButton />
      <User />
    </header>
  );
}

/** What is shed, where not everything can be shown as it comes. */
function Carried() {
  const every = pictures.every.value;
  const shown = pictures.shown.value;
  if (every < 1600 || shown === 0) return null;
  return (
    <span class="carried">
      <span class="visually-hidden" role="status">Pictures come more slowly now.</span>
      Pictures every {Math.round(every / 1000)} s: {shown} {shown === 1 ? "stream is" : "streams are"} more than this browser or connection carries
    </span>
  );
}

function Connected() {
  const connection = live.connection.value;
  const lost = hub.lost.value;
  const [kind, word] = connection.is === "open" ? ["ok", "Live"] : connection.is === "lost" ? ["bad", "Lost"] : ["idle", "Connecting"];
  const more = lost > 0 ? `${lost} live records were left out because this page was too slow for them` : connection.is === "open" ? "What is shown comes as it happens" : "";
  return <span class={`connected ${kind}`} role="status" title={more}><span class="dot" aria-hidden="true" />{word}</span>;
}

function ThemeButton() {
  const order: Theme[] = ["system", "light", "dark"];
  const next = order[(order.indexOf(theme.value) + 1) % 3] as Theme;
  const icon = theme.value === "system" ? "auto" : theme.value === "light" ? "sun" : "moon";
  return (
    <button class="plain" aria-label={`Colours: ${theme.value}. Change to ${next}`} title={`Colours: ${theme.value}`} onClick={() => (theme.value = next)}>
      <Icon name={icon} />
    </button>
  );
}

function User() {
  const who = session.value;
  if (!who || (!who.token_needed && who.user === "local")) return null;
  const leave = async () => {
    try {
      await send("DELETE", "/v1/session");
      location.reload();
    } catch (error) {
      toast(words(error), "bad");
    }
  };
  return (
    <span class="user">
      <span title={`Role: ${who.role}`}>{who.user}{who.role === "viewer" && <small> (viewer)</small>}</span>
      {who.token_needed && <button class="plain" onClick={leave}>Log out</button>}
    </span>
  );
}

/** Only what does not change is said aloud: a number that ticks would be said twice a second. */
function Banners() {
  const connection = live.connection.value;
  if (connection.is === "lost") {
    return (
      <div class="banner bad">
        <span><span role="alert">Connection lost, trying again.</span> What is shown is {span(now.value - connection.since)} old. <small>({connection.why})</small></span>
        <button onClick={() => live.now()}>Try now</button>
      </div>
    );
  }
  if (streamsTrouble.value && streams.value === null) return <div class="banner bad" role="alert">The streams cannot be listed: {streamsTrouble.value}</div>;
  return null;
}

function Main() {
  const at = route.value;
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  const key = at.view === "stream" ? at.name : at.view === "alert" ? at.id : "";
  useEffect(() => {
    document.title = `${title(at)} · eyewitness`;
    // Whoever does not see that the view has changed is taken there.
    if (!first.current) {
      main.current?.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
    first.current = false;
  }, [at.view, key]);
  return <main id="main" ref={main} tabIndex={-1} class={`view-${at.view}`}>{viewOf(at)}</main>;
}

function viewOf(at: Route) {
  switch (at.view) {
    case "wall": return <Wall />;
    case "stream": return <StreamView key={at.name} name={at.name} />;
    case "alerts": return <Alerts filter={at.filter} />;
    case "alert": return <AlertView key={at.id} id={at.id} />;
    case "transcripts": return <Transcripts filter={at.filter} />;
    case "health": return <HealthView />;
    case "unknown": return <div class="empty"><h1>Nothing here</h1><p>There is no <code>{at.path}</code> on this page. <a href="#/">To the wall</a></p></div>;
  }
}

function title(at: Route): string {
  switch (at.view) {
    case "wall": return "Wall";
    case "stream": return at.name;
    case "alerts": return "Alerts";
    case "alert": return "Alert";
    case "transcripts": return "Transcripts";
    case "health": return "Health";
    case "unknown": return "Nothing here";
  }
}
