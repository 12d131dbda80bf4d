// What the service says, as far as the page reads it. The words are those of docs/ref and /openapi.json.

export type Word = { text: string; start_ms: number; end_ms: number; confidence?: number; stable?: boolean };

export interface Figures {
  fps: number;
  latency_ms?: number;
  speech_lag_ms?: number;
  n_decoded: number;
  n_inferred: number;
  n_dropped?: Record<string, number>;
  n_gaps: number;
}

export interface Stream {
  name: string;
  tags: Record<string, string>;
  state: string;
  detail: string | null;
  session: string | null;
  source: { video: { codec: string; width: number | null; height: number | null } | null; audio: { codec: string } | null } | null;
  speech_lag_ms: number | null;
  captions: string;
  playlist: string | null;
  url: string | null;
  profile: string | null;
  origin: "api" | "folder" | "config" | null;
  revision: number | null;
  worker: string | null;
  address: string | null;
  figures: Figures | null;
  report_age_ms: number | null;
}

/** What every record begins with. */
export interface Base {
  id: string;
  stream: string;
  session: string;
  pts_ms: number;
  captured_at: string | null;
  published_at?: string;
  epoch?: number;
}

export type Box = [x: number, y: number, width: number, height: number];
export interface Seen { class: string; score: number; box: Box; track: number | null }
export interface Detections extends Base { type: "detections"; frame: { width: number; height: number; index: number }; objects: Seen[] }
export interface Transcript extends Base {
  type: "transcript"; segment: string; revision: number; final: boolean; start_ms: number; end_ms: number; text: string; words: Word[];
}
export interface Caption extends Base {
  type: "caption"; cue: string; revision: number; start_ms: number; end_ms: number; lines: string[]; final: boolean; segment?: string;
}
export interface Status extends Base { type: "status"; state: string; detail: string | null }
export interface Gap extends Base { type: "gap"; from_pts_ms: number; to_pts_ms: number; reason: string; detail?: string | null }
export interface Lost { type: "lost"; stream?: string; n_records: number | null; detail?: string }
/** Which streams there are has changed. */
export interface Streams { type: "streams"; streams: string[] }

export interface Alert extends Base {
  type: "alert";
  alert: string;
  revision: number;
  state: "opened" | "updated" | "closed";
  rule: string;
  severity: "info" | "warning" | "critical";
  summary: string;
  tags?: Record<string, string>;
  since: string | null;
  until: string | null;
  since_ms: number | null;
  until_ms: number | null;
  closed_because: string | null;
  evidence: {
    tracks: number[];
    objects?: Seen[];
    words: Word[];
    shapes?: { name: string; points: [number, number][]; closed: boolean }[];
    snapshot: string | null;
    clip: string | null;
  };
  acknowledged?: { by: string; at: string; note: string | null } | null;
  silenced?: { id: string; by: string; until: string; reason: string } | null;
}

export type AnyRecord = Detections | Transcript | Caption | Status | Gap | Alert | Lost | Streams;

export interface Session { user: string; role: "viewer" | "operator"; token_needed: boolean; expires_at: string | null; version?: string }
export interface Profile { name: string; detect: string | null; transcribe: string | null; n_streams: number }
export interface Worker {
  id: string; is_this: boolean; capacity: number; load: number; n_streams: number; leases: number[]; draining: boolean;
  address: string | null; version: string; age_ms: number;
}
export interface Workers { workers: Worker[]; trouble: string | null; attachable: boolean }
export interface Probe {
  protocol: string;
  container: string | null;
  video: { codec: string; profile: string | null; width: number | null; height: number | null; stated_fps: number | null; measured_fps: number | null } | null;
  audio: { codec: string } | null;
  first_picture_ms: number | null;
  left_out: string | null;
  snapshot: string | null;
}
export interface Silence { id: string; stream?: string | null; rule?: string | null; by: string; until: string; reason: string }
export interface RuleView {
  name: string; origin: "configuration" | "attachment"; rule: Record<string, unknown>;
  shapes: { kind: "zone" | "line"; points: [number, number][] }[];
}
export interface Check { id: string; level: Level; subject: string | null; says: string; do: string | null }
export type Level = "ok" | "warn" | "bad";
export interface Health {
  level: Level; checks: Check[]; workers?: unknown; models?: unknown; queues?: unknown; sinks?: unknown;
}
export interface Series {
  stream: string; from: string; to: string; step_secs: number; times: (string | number)[]; fps: (number | null)[]; speech_lag_ms: (number | null)[];
  drops: Record<string, (number | null)[]>; objects: Record<string, { most: (number | null)[]; mean: (number | null)[] }>;
  gaps: { from: string; to: string; reason: string }[];
}
export interface Found {
  id: string; stream: string; session: string; start_ms: number; end_ms: number; captured_at: string | null; at: string; text: string;
  clip: { path: string; from_ms: number } | null; snippet?: { text: string; hit: boolean }[] | null; words?: Word[];
}
