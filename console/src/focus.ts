// Where the focus goes when what had it has gone.

/** On to there, unless somebody has gone on elsewhere meanwhile. */
export function goOn(to: HTMLElement | null | undefined): void {
  const at = document.activeElement;
  if (!at || at === document.body || (at as HTMLButtonElement).disabled) to?.focus();
}
