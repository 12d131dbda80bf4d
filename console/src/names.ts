// A name for a stream, made of its address; and whether a name will do. Pure.

/** `rtsp://192.0.2.10/stream1` gives `192.0.2.10-stream1`, a file its own name; never one that is taken. */
export function suggest(address: string, taken: ReadonlySet<string>): string {
  const [, rest = address] = /^[a-z0-9+.-]+:\/\/(?:[^/@]*@)?(.*)$/i.exec(address) ?? [];
  const parts = (rest.split(/[?#]/)[0] ?? "").split("/").filter(Boolean);
  const last = (parts[parts.length - 1] ?? "").replace(/\.(m3u8|mp4|mkv|ts|mov|webm|sdp|jpe?g)$/i, "");
  const host = parts.length > 1 ? (parts[0] ?? "").replace(/:\d+$/, "") : "";
  const isFile = !/^[a-z0-9+.-]+:\/\//i.test(address) || /^(file|test):/i.test(address);
  const base = clean(isFile || !host ? last || "stream" : `${host}-${last}`) || "stream";
  if (!taken.has(base)) return base;
  for (let i = 2; ; i++) if (!taken.has(`${base}-${i}`)) return `${base}-${i}`;
}

const clean = (text: string): string => text.replace(/:\d+/, "").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[-.]+|[-.]+$/g, "").slice(0, 128);

/** Why a stream cannot be called so; null where it can. */
export function wrongName(name: string, taken: ReadonlySet<string>): string | null {
  if (name === "") return "A name is needed.";
  if (!/^[A-Za-z0-9._-]{1,128}$/.test(name)) return "Letters, digits, `.`, `_` and `-`, up to 128 of them.";
  if (taken.has(name)) return "There is a stream of this name already.";
  return null;
}

/** An address with a user, a password or a token in it: those belong into a secret. */
export function hasSecret(address: string): boolean {
  return /^[a-z0-9+.-]+:\/\/[^/?#]*@/i.test(address) || /[?&](token|password|passwd|pwd|passphrase|key|auth|secret)=[^&]+/i.test(address);
}

/** `Location=Front, Floor=2` as tags; a problem instead where it cannot be read. */
export function tags(text: string): { tags: Record<string, string> } | { problem: string } {
  const all: Record<string, string> = {};
  for (const part of text.split(/[,\n]/).map((p) => p.trim()).filter(Boolean)) {
    const [, key, value] = /^([^=:]+)[=:](.*)$/.exec(part) ?? [];
    if (!key || value === undefined) return { problem: `\`${part}\` is no tag: write key=value, such as Location=Front` };
    all[key.trim()] = value.trim();
  }
  return { tags: all };
}
