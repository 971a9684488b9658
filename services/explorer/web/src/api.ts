// Types of the explorer's API, as /api/v1/openapi.json describes them, and how to ask it.

export interface Output {
  name: string;
  unit: string;
  higher_is_better: boolean | null;
  threshold: number | null;
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
  chosen: string;
  quality: Quality | null;
}

export interface Run {
  run: string;
  examples: number;
  columns: number;
  grouped: boolean;
  targets: number;
  models: number;
  fits: number;
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
  committed: number;
  failed: number;
  stopped: string[];
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
  score: number;
  suggested: number | null;
  suggested_name: string;
  look: Look;
  other_look: Look | null;
  verdict: Verdict | null;
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

const PREFIX = "/api/v1";

/** Asks the API; a body is posted as JSON. Throws Problem. */
export async function ask<T>(path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const init: RequestInit = { signal: signal ?? null };
  if (body !== undefined) {
    Object.assign(init, { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } });
  }
  let answer: Response;
  try {
    answer = await fetch(PREFIX + path, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, "the explorer does not answer; is the command that started it still running?");
  }
  if (answer.ok) return (await answer.json()) as T;
  const problem = (await answer.json().catch(() => ({}))) as { detail?: string };
  throw new Problem(answer.status, problem.detail ?? answer.statusText);
}

export const events = (path: string): EventSource => new EventSource(PREFIX + path);
