// Short answers to what somebody has just done; said by screen readers, gone after some seconds.
import { signal } from "@preact/signals";

interface Toast { id: number; text: string; level: "ok" | "bad" }

const toasts = signal<Toast[]>([]);
let last = 0;

export function toast(text: string, level: Toast["level"] = "ok"): void {
  const id = ++last;
  toasts.value = [...toasts.value.slice(-3), { id, text, level }];
  setTimeout(() => dismiss(id), level === "bad" ? 12_000 : 5000);
}

const dismiss = (id: number): void => void (toasts.value = toasts.value.filter((t) => t.id !== id));

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map((t) => (
        <div key={t.id} class={`toast ${t.level}`}>
          <span>{t.text}</span>
          <button class="plain" aria-label="Close this message" onClick={() => dismiss(t.id)}>×</button>
        </div>
      ))}
    </div>
  );
}
