// A sentence of the service, with what it puts between backticks shown as code.
export function Text({ of }: { of: string }) {
  return <>{of.split("`").map((part, i) => (i % 2 === 1 ? <code key={i}>{part}</code> : part))}</>;
}
