// With many workers: whose streams a view speaks of, and where the others' are.
import { href, type Route } from "../route.ts";
import { workers } from "../state.ts";

export function OtherWorkers({ what, at }: { what: string; at: Route }) {
  const others = (workers.value?.workers ?? []).filter((w) => !w.is_this);
  if (others.length === 0) return null;
  return (
    <p class="quiet others">
      {what} of streams that this worker has run. Those of others:{" "}
      {others.map((w, i) => <span key={w.id}>{i > 0 && ", "}{w.address ? <a href={`${base(w.address)}/${href(at)}`}>{w.id}</a> : w.id}</span>)}
    </p>
  );
}

/** Where its page is; an address may come without its scheme. */
export const base = (address: string): string => (address.includes("://") ? address : `${location.protocol}//${address}`).replace(/\/$/, "");
