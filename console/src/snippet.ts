// The words that were searched for, marked in what was found: the service puts them between U+27E6 and U+27E7, `<mark>` or `**`.
// Pure; nothing of it is ever taken for markup.

export interface Part { text: string; hit: boolean }

export function marked(snippet: string): Part[] {
  const parts = snippet.split(/⟦(.*?)⟧|<mark>(.*?)<\/mark>|<b>(.*?)<\/b>|\*\*(.*?)\*\*|\u0002(.*?)\u0003/s);
  // `split` gives: text, then one slot for each form of marks, then text again.
  const out: Part[] = [];
  for (let i = 0; i < parts.length; i++) {
    const text = parts[i];
    if (text !== undefined && text !== "") out.push({ text, hit: i % 6 !== 0 });
  }
  return out;
}
