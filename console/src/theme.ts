// Choices of the one who reads, kept in this browser: light or dark, and how captions look.
import { effect, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";
export const CONTRASTS = ["plain", "white-on-black", "yellow-on-black", "black-on-white"] as const;
export interface CaptionLook { size: number; contrast: (typeof CONTRASTS)[number]; place: "below" | "over" }
export const SIZES = [1, 1.25, 1.5, 2, 2.5, 3, 4] as const;

export const theme = signal<Theme>(read("theme", "system", (t) => ["system", "light", "dark"].includes(t)));
export const look = signal<CaptionLook>(read("captions", { size: 1.5, contrast: "plain", place: "below" },
  (l) => typeof l?.size === "number" && (CONTRASTS as readonly string[]).includes(l.contrast) && ["below", "over"].includes(l.place)));

effect(() => {
  document.documentElement.dataset["theme"] = theme.value;
  write("theme", theme.value);
});
effect(() => write("captions", look.value));

/** How much larger the page's letters are than usual, on a large display or by the reader's wish: for what is drawn in pixels. */
export const letterScale = (): number => (parseFloat(getComputedStyle(document.documentElement).fontSize) || 15) / 15;

/** The next smaller or larger size; the same at the end. */
export function step(size: number, by: 1 | -1): number {
  const at = SIZES.findIndex((s) => s >= size);
  return SIZES[Math.min(SIZES.length - 1, Math.max(0, (at < 0 ? SIZES.length - 1 : at) + by))] ?? size;
}

function read<T>(key: string, otherwise: T, fits: (value: T) => boolean): T {
  try {
    const value = JSON.parse(localStorage.getItem(`eyewitness.${key}`) ?? "null") as T | null;
    return value !== null && fits(value) ? value : otherwise;
  } catch {
    return otherwise;
  }
}

function write(key: string, value: unknown): void {
  try {
    localStorage.setItem(`eyewitness.${key}`, JSON.stringify(value));
  } catch {
    // A browser that keeps nothing: the choice holds until the page is closed.
  }
}
