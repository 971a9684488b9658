// Types of the explorer's API, as /api/v1/openapi.json describes them, and how to ask it. In the file of a report, the
// answers are in the file.
import { answer, FILE, kept, told, type Events } from "./sample";

export interface Output {
  name: string;
  unit: string;
  higher_is_better: boolean | null;
  threshold: number | null;
  lowest: number | null;
  highest: number | null;
  effects: [string, string];
}

export interface Quality {
  lds: number;
  interval: [number | null, number | null];
  ceiling: number | null;
  verdict: string;
}

export interface Fit {
  fit: number;
  estimator: string;
  models: number;
  seconds: number;
  predicted: Output;
  chosen: string;
  quality: Quality | null;
}

/** What training takes, of all trainers together: seconds, and costs if the explorer knows a price. */
export interface Training {
  seconds: number;
  expected: number;
  cost: number | null;
  expected_cost: number | null;
}

export interface Run {
  run: string;
  examples: number;
  columns: number;
  grouped: boolean;
  targets: number;
  models: number;
  committed: number;
  failed: number;
  stopped: string[];
  fits: number;
  quality: Quality | null;
  training: Training | null;
  output: Output;
  looks: boolean;
}

export interface Feature {
  name: string;
  unit: string;
  mean: number | null;
  deviation: number | null;
}

export interface RunDetail extends Run {
  label_names: string[];
  spec: { evaluate?: { subsets: number } };
  fit_list: Fit[];
  features: Feature[];
  pictures: boolean;
}

export interface Progress {
  models: number;
  committed: number;
  failed: number;
  stopped: string[];
  fits: number;
  fitted: number;
  lds: [number, number, number] | null;
  curve: [number, number, number, number][];
  training: Training | null;
  rate: number | null;
  remaining: number | null;
  ended: boolean;
}

export type Value = string | number | null;

export interface Rows {
  fit: number;
  total: number;
  rows: Record<string, Value>[];
  next: number | null;
  fields: Record<string, string>;
}

export interface Look {
  role: "pool" | "target";
  index: number;
  label: number | null;
  label_name: string;
  value: number | null;
  title: string;
  picture: string | null;
  text: string | null;
  span: [number, number] | null;
  row: (number | null)[] | null;
  members: number | null;
}

export interface Weighted {
  index: number;
  weight: number;
  /** How much of the weight was measured; null if the fit has no prior. */
  measured: number | null;
  interval: [number | null, number | null];
  look: Look;
}

export interface TargetDetail {
  fit: number;
  facts: Record<string, Value>;
  fields: Record<string, string>;
  look: Look;
  predicted_interval: [number | null, number | null];
  helpful: Weighted[];
  harmful: Weighted[];
}

export interface ColumnDetail {
  fit: number;
  facts: Record<string, Value>;
  fields: Record<string, string>;
  look: Look;
  raises: Weighted[];
  lowers: Weighted[];
}

type Span = [number | null, number | null, number | null];

export interface TargetFindings {
  fit: number;
  unseen: { predicted: number[]; means: number[]; models: number; mean: Span; wrong: Span | null; score: Span | null } | null;
  removal: {
    removed: number[];
    mean: number[];
    error: (number | null)[];
    single: number | null;
    start: [number | null, number | null];
    support: string | null;
    size: number | null;
    limit: number;
  } | null;
  lime: {
    parts: [string, number, number, number][];
    squares: [number, number, number, number][] | null;
    aspect: number | null;
    tokens: boolean;
    r2: number;
    output: number;
    models: number;
    samples: number;
  } | null;
}

export interface Neighbours {
  neighbours: { index: number; score: number; look: Look }[];
}

export interface Figure {
  value: number;
  interval: [number, number];
  less_datamodels?: { interval: [number, number] };
}

export interface Method {
  method: string;
  seconds: number;
  few: string | null;
  doubt: string | null;
  figures: Record<string, Figure | null>;
}

export interface Findings {
  fit: number | null;
  text: string[];
  figures: [string, string][];
  quality: {
    text: string[];
    word: string;
    lds: number | null;
    scores: { edges: number[]; counts: number[] } | null;
    points: { target: number[]; predicted: number[]; single: number[]; mean: number[] } | null;
  } | null;
  curve: { text: string[]; measured: [number, number, number, number][]; ahead: [number, number, number, number][] } | null;
  fragility: { text: string[]; removed: number[]; share: number[]; interval: [number, number][] } | null;
  conflicts: { text: string[]; pairs: { source: string; target: string; effect: number; interval: [number, number]; harmed: number }[] } | null;
  baselines: Method[] | null;
  first: number | null;
  explained: number[];
  seconds: Record<string, number>;
  spec: string;
}

export interface Change {
  target: number;
  before: number;
  before_interval: [number | null, number | null];
  change: number;
  change_interval: [number | null, number | null];
  after: number;
  after_interval: [number | null, number | null];
}

export interface Support {
  status: string;
  columns: number[];
  curve: number[];
  label: number | null;
  label_name: string;
}

export interface Verdict {
  kind: string;
  index: number;
  other: number;
  verdict: string;
  label: number | null;
  note: string;
  who: string;
  when: number;
}

export interface Suspect {
  kind: string;
  index: number;
  other: number;
  why: string;
  suggested: number | null;
  suggested_name: string;
  look: Look;
  other_look: Look | null;
  verdict: Verdict | null;
}

export interface Queue {
  suspects: Suspect[];
  ranked: Record<string, string>;
  left_out: Record<string, string>;
}

/** An answer that is no success, in the words of the server. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    detail: string,
  ) {
    super(detail);
  }
}

export const PREFIX = "/api/v1";

/** Asks the API; a body is posted as JSON. Throws Problem. */
export async function ask<T>(path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  if (FILE) return (await answer(path, body)) as T;
  const init: RequestInit = { signal: signal ?? null };
  if (body !== undefined) {
    Object.assign(init, { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } });
  }
  let response: Response;
  try {
    response = await fetch(PREFIX + path, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, "the explorer does not answer; is the command that started it still running?");
  }
  if (response.ok) return (await response.json()) as T;
  const problem = (await response.json().catch(() => ({}))) as { detail?: string };
  throw new Problem(response.status, problem.detail ?? response.statusText);
}

export const events = (path: string): Events => (FILE ? told(path) : new EventSource(PREFIX + path));

/** Where the picture of an example is. */
export const pictureAt = (run: string, kind: "targets" | "examples", index: number): string => (FILE ? kept(kind, index) : `${PREFIX}/runs/${run}/${kind}/${index}/picture`);
