// The answers that the file of a report holds, for a sample of its targets and for the columns that these name.
import type { Findings, Look, Progress, Queue, RunDetail, Suspect, TargetFindings, Value, Weighted } from "./api";

type Weight = [number, number, number | null, number | null, number | null];

interface Kept {
  helpful: Weight[];
  harmful: Weight[];
  interval: [number | null, number | null];
  similar: [number, number][];
  findings: TargetFindings;
}

interface Table {
  fields: Record<string, string>;
  rows: Value[][];
}

interface Sample {
  run: RunDetail;
  progress: Progress;
  findings: Findings;
  targets: Record<string, Kept>;
  tables: { targets: Table; columns: Table };
  looks: { targets: Record<string, Partial<Look>>; examples: Record<string, Partial<Look>> };
  analyses: Record<string, unknown>;
  values: Record<string, Value[]>;
  queue: { suspects: Suspect[] } & Queue;
}

const text = document.getElementById("sample")?.textContent;
const sample: Sample | null = text ? (JSON.parse(text) as Sample) : null;

/** Whether this page is the file of a report, which no server answers. */
export const FILE = sample !== null;
export const START = sample ? `/runs/${sample.run.run}/findings` : "/";

/** What `ask` throws if the file does not hold an answer. */
class Missing extends Error {
  readonly status = 404;
}

const missing = (): Missing =>
  new Missing(`This file does not hold that: it has ${count("targets")} of ${sample!.run.targets.toLocaleString("en")} targets, with the examples that matter most to them. The command datamodels explore ${sample!.run.run} shows all.`);

/** How many targets or columns the file holds. */
export const count = (kind: "targets" | "columns"): number => sample!.tables[kind].rows.length;

export const kept = (kind: "targets" | "examples", index: number): string => sample!.looks[kind][index]?.picture ?? "";

const NOTHING: Look = { role: "pool", index: 0, label: null, label_name: "", value: null, title: "", picture: null, text: null, span: null, row: null, members: null };

const look = (kind: "targets" | "examples", index: number): Look => ({ ...NOTHING, role: kind === "targets" ? "target" : "pool", index, ...sample!.looks[kind][index] });

const row = ({ fields }: Table, values: Value[]): Record<string, Value> => Object.fromEntries(Object.keys(fields).map((name, i) => [name, values[i] ?? null]));

const weighted = (kind: "targets" | "examples", [index, weight, measured, ...interval]: Weight): Weighted => ({ index, weight, measured, interval, look: look(kind, index) });

/** The row of a target or a column, by its number. */
function facts(kind: "targets" | "columns", index: number): Record<string, Value> {
  const table = sample!.tables[kind];
  const found = table.rows.find(([first]) => first === index);
  if (!found) throw missing();
  return row(table, found);
}

function target(index: number): unknown {
  const [its, known] = [facts("targets", index), sample!.targets[index]!];
  const side = (of: Weight[]) => of.map((one) => weighted("examples", one));
  return { fit: known.findings.fit, facts: its, fields: sample!.tables.targets.fields, look: look("targets", index), predicted_interval: known.interval, helpful: side(known.helpful), harmful: side(known.harmful) };
}

/** A column, with those of the file's targets that name it. */
function column(index: number): unknown {
  const its = facts("columns", index);
  const moved = Object.entries(sample!.targets).flatMap(([target, known]) =>
    [...known.helpful, ...known.harmful].filter(([one]) => one === index).map(([, ...rest]) => weighted("targets", [Number(target), ...rest])),
  );
  moved.sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight));
  return { fit: sample!.findings.fit, facts: its, fields: sample!.tables.columns.fields, look: look("examples", index), raises: moved.filter((one) => one.weight > 0), lowers: moved.filter((one) => one.weight < 0) };
}

const CONDITION = /^\s*([a-z_0-9]+)\s*(<=|>=|!=|==|=|<|>)\s*(.*)$/s;
const HOLDS: Record<string, (a: number | string, b: number | string) => boolean> = {
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
  "=": (a, b) => a === b,
  "==": (a, b) => a === b,
  "!=": (a, b) => a !== b,
};

/** Filters, searches and sorts as the server does, over the rows of the file. */
function list(kind: "targets" | "columns", query: URLSearchParams): unknown {
  const table = sample!.tables[kind];
  const names = Object.keys(table.fields);
  const place = (name: string): number => {
    if (!names.includes(name)) throw new Missing(`There is no field '${name}'; the fields are ${names.join(", ")}.`);
    return names.indexOf(name);
  };
  let rows = table.rows;
  for (const given of query.getAll("where")) {
    const found = CONDITION.exec(given);
    if (!found) throw new Missing(`'${given}': must be FIELD, one of = != < <= > >=, and a value: heldout_r2>=0.5`);
    const [, name, operator, value] = found as unknown as [string, string, string, string];
    const at = place(name);
    rows = rows.filter((one) => one[at] !== null && HOLDS[operator]!(one[at]!, typeof one[at] === "number" ? Number(value) : value));
  }
  const wanted = (query.get("search") ?? "").trim().toLowerCase();
  const numbered = /^(?:(?:target|example)\s*)?#?\s*(\d+)$/.exec(wanted);
  const [label, title] = [place("label_name"), place("title")];
  const looks = sample!.looks[kind === "targets" ? "targets" : "examples"];
  const words = (one: Value[]) => [one[label], one[title], looks[one[0] as number]?.text].filter(Boolean).join("\n").toLowerCase();
  if (wanted) rows = rows.filter((one) => (numbered && one[0] === Number(numbered[1])) || words(one).includes(wanted));
  const order = query.getAll("sort").map((name): [number, number] => [place(name.replace(/^-/, "")), name.startsWith("-") ? -1 : 1]);
  rows = rows.toSorted((a, b) => {
    for (const [at, sign] of order) {
      const [one, other] = [a[at]!, b[at]!];
      if (one === other) continue;
      if (one === null || other === null) return one === null ? 1 : -1;
      return one < other ? -sign : sign;
    }
    return 0;
  });
  const offset = Number(query.get("offset") ?? 0);
  const shown = rows.slice(offset, offset + Number(query.get("limit") ?? 100));
  return { fit: sample!.findings.fit, total: rows.length, rows: shown.map((one) => row(table, one)), next: null, fields: table.fields };
}

function queue(): Queue {
  const of_target = (one: Suspect) => one.kind === "leak" || one.kind === "fragile";
  const found = sample!.queue;
  return { ...found, suspects: found.suspects.map((one) => ({ ...one, verdict: null, look: look(of_target(one) ? "targets" : "examples", one.index), other_look: one.other < 0 ? null : look("examples", one.other) })) };
}

/** Answers as the server does, from the file. Throws what is no answer. */
export async function answer(path: string, body?: unknown): Promise<unknown> {
  const [where = "", asked = ""] = path.split("?");
  const query = new URLSearchParams(asked);
  const [top, run, kind, index, part] = where.split("/").slice(1);
  if (body !== undefined || top !== "runs") throw missing();
  if (!run) return { runs: [sample!.run], next: null };
  if (run !== sample!.run.run) throw missing();
  const number = Number(index);
  if (kind === undefined) return sample!.run;
  if (kind === "progress" || kind === "events") return sample!.progress;
  if (kind === "findings") return sample!.findings;
  if (kind === "queue") return queue();
  if (kind === "analyses" && index && query.get("columns") !== "true" && Number(query.get("k") ?? 0) === 0 && sample!.analyses[index]) return sample!.analyses[index];
  if (kind === "targets" || kind === "columns") {
    if (index === undefined) return list(kind, query);
    if (index === "values" && kind === "targets" && sample!.values[query.get("field")!]) return { field: query.get("field"), values: sample!.values[query.get("field")!] };
    if (part === undefined && index !== "values") return kind === "targets" ? target(number) : column(number);
  }
  if ((kind === "targets" || kind === "examples") && part === "look" && sample!.looks[kind][number]) return look(kind, number);
  const known = kind === "targets" ? sample!.targets[number] : undefined;
  if (known && part === "findings") return known.findings;
  if (known && part === "similar") return { neighbours: known.similar.map(([other, score]) => ({ index: other, score, look: look("targets", other) })) };
  throw missing();
}

/** What pages use of an EventSource. */
export interface Events {
  addEventListener(kind: string, then: (event: Event) => void): void;
  close(): void;
  onerror: ((event: Event) => unknown) | null;
}

/** Sends the answer of a path as the events that a server sends. */
export function told(path: string): Events {
  const target = new EventTarget();
  const send = (kind: string, data: unknown) => target.dispatchEvent(new MessageEvent(kind, { data: JSON.stringify(data) }));
  const analysis = path.includes("/analyses/");
  answer(analysis ? path.replace(/\/events(?=\?|$)/, "") : path)
    .then((found) => (send(analysis ? "answer" : "progress", found), send("ended", {})))
    .catch((problem: Error) => send("problem", { detail: problem.message }));
  return { addEventListener: (kind, then) => target.addEventListener(kind, then), close: () => undefined, onerror: null };
}
