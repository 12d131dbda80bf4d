// The few pictures of the interface, as strokes in the text's colour. Always beside words or a label: hidden from readers.
const PATHS: Record<string, string> = {
  sun: "M12 4V2m0 20v-2m8-8h2M2 12h2m13.7-5.7 1.4-1.400M4.9 19.100l1.4-1.400m0-11.400L4.9 4.900m14.2 14.2-1.4-1.400M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z",
  moon: "M20 14.500A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.500z",
  auto: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm0 0v18m0-14 5.5 5.500M12 12l3.5 3.5",
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6 6 18",
  back: "M15 5l-7 7 7 7",
  play: "M7 5l12 7-12 7z",
  pause: "M8 5v14M16 5v14",
  muted: "M4 9v6h4l5 4V5L8 9H4zm13 1 4 4m0-4-4 4",
  loud: "M4 9v6h4l5 4V5L8 9H4zm12.5 0a4 4 0 0 1 0 6M19 6.500a8 8 0 0 1 0 11",
  full: "M4 9V4h5m6 0h5v5m0 6v5h-5m-6 0H4v-5",
  bell: "M6 16V11a6 6 0 0 1 12 0v5l2 2H4l2-2zm4 4a2 2 0 0 0 4 0",
  quiet: "M6 16V11a6 6 0 0 1 9-5.200M18 11v5l2 2H9M4 4l16 16",
  check: "M5 12.5 10 17 19 7",
  alert: "M12 4 2.5 20h19L12 4zm0 6v5m0 2.500v.500",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zm5 12 5 5",
  zone: "M5 6l13-2 2 12-9 4-6-6z",
  line: "M4 19 20 5M4 19h.01M20 5h.01",
  ear: "M7 12a5 5 0 0 1 10 0c0 4-4 4-4 7a2.5 2.5 0 0 1-5 0",
  eye: "M2.5 12S6 5.500 12 5.500 21.500 12 21.500 12 18 18.500 12 18.500 2.500 12 2.500 12zm9.500-2.500a2.500 2.500 0 1 0 0 5 2.500 2.500 0 0 0 0-5z",
  info: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm0 8v5m0-8.500v.500",
};

export function Icon({ name }: { name: string }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" width="18" height="18" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
      <path d={PATHS[name] ?? ""} />
    </svg>
  );
}
