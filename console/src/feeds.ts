// For services without the one live connection: the caption feeds of single streams, one WebSocket each, up to a few.
import { effect } from "@preact/signals";
import { socketAddress, streamPath } from "./api.ts";
import { waitFor } from "./live.ts";
import { hub, live, route, streams } from "./state.ts";

const MOST = 12;
const open = new Map<string, { close(): void }>();

/** From now on; does nothing while there is the live connection. */
export function feedsInstead(): void {
  effect(() => {
    const at = route.value;
    const names = live.connection.value.is !== "missing" ? [] : at.view === "stream" ? [at.name] : at.view === "wall" ? (streams.value ?? []).slice(0, MOST).map((s) => s.name) : [];
    for (const [name, feed] of open) if (!names.includes(name)) {
      feed.close();
      open.delete(name);
    }
    for (const name of names) if (!open.has(name)) open.set(name, follow(name));
  });
}

function follow(name: string): { close(): void } {
  let socket: WebSocket | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let closed = false;
  let tries = 0;
  const begin = () => {
    socket = new WebSocket(socketAddress(streamPath(name, "/captions?types=captions,transcripts,status,gaps&recent=50")));
    socket.onopen = () => (tries = 0);
    socket.onmessage = (event) => hub.take(JSON.parse(String(event.data)));
    socket.onclose = () => {
      if (!closed) timer = setTimeout(begin, waitFor(++tries));
    };
  };
  begin();
  return {
    close: () => {
      closed = true;
      clearTimeout(timer);
      socket?.close();
    },
  };
}
