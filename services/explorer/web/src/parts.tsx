// What several pages show: numbers, pictures, messages.
import type { ComponentChildren } from "preact";
import type { Feature, Fit, Look, Output, Problem, Quality, RunDetail, Value, Weighted } from "./api";
import { count, FILE } from "./sample";
import type { Asked } from "./state";

export function number(value: Value | undefined, signed = false): string {
  if (typeof value !== "number") return value ?? "unknown";
  const size = Math.abs(value);
  const text =
    value === 0 || (Number.isInteger(value) && !signed)
      ? size.toLocaleString("en")
      : size !== 0 && (size < 1e-4 || size >= 1e7)
        ? size.toExponential(2)
        : size.toLocaleString("en", { minimumSignificantDigits: 4, maximumSignificantDigits: 4 });
  return (value < 0 ? "\u2212" : signed && value > 0 ? "+" : "") + text;
}

/** Seconds as people say them: 41 seconds, 12 minutes, 3.4 hours. */
export function duration(seconds: number): string {
  const [size, unit] = seconds < 99 ? [1, "second"] : seconds < 99 * 60 ? [60, "minute"] : [3600, "hour"];
  const count = seconds / size;
  const text = count < 9.95 ? String(Number(count.toPrecision(2))) : Math.round(count).toLocaleString("en");
  return `${text} ${unit}${text === "1" ? "" : "s"}`;
}

export const money = (cost: number): string => cost.toLocaleString("en", cost < 0.1 ? { maximumSignificantDigits: 2 } : { minimumFractionDigits: 2, maximumFractionDigits: 2 });

// With as many decimals, a minus sign, and none before what is 0 in so many.
export const fixed = (value: number, decimals: number): string => {
  const text = Math.abs(value).toFixed(decimals);
  return value < 0 && Number(text) ? `\u2212${text}` : text;
};

export const interval = (ends: [number | null, number | null]): string =>
  ends[0] === null || ends[1] === null ? "interval unknown" : `${number(ends[0])} to ${number(ends[1])}`;

/** Status of an answer that needs weights, if the run has none. */
const NOT_READY = 409;

export function Show<T>({ asked, children }: { asked: Asked<T>; children: (found: T) => ComponentChildren }) {
  const run = /^\/runs\/([^/]+)/.exec(location.pathname)?.[1];
  if (run && asked.problem?.status === NOT_READY) return <NoWeights run={run} />;
  if (asked.problem) return <Failed problem={asked.problem} />;
  return asked.found === null ? <p class="quiet">reading …</p> : <>{children(asked.found)}</>;
}

/** What is wrong, and where to go from here. */
const Failed = ({ problem }: { problem: Problem }) => (
  <>
    <Trouble text={problem.message} />
    <p>
      {problem.status === 401 || problem.status === 403 ? (
        <>
          Open the address that <code>datamodels explore</code> printed when it started: it has the token.
        </>
      ) : problem.status === 0 || problem.status >= 500 || problem.status === 429 ? (
        <button onClick={() => location.reload()}>try again</button>
      ) : (
        <>
          Go on from <a href="/">the runs</a>.
        </>
      )}
    </p>
  </>
);

/** A table that scrolls sideways in a narrow window, also by keyboard. */
export const Across = ({ name, children }: { name: string; children: ComponentChildren }) => (
  <div class="across" role="group" aria-label={name} tabIndex={0}>
    <table>{children}</table>
  </div>
);

export const Trouble = ({ text }: { text: string }) => (
  <p class="trouble" role="alert">
    <Prose of={[text]} inline />
  </p>
);

export const titleOf = (output: Output): string => (output.unit ? `${output.name} (${output.unit})` : output.name);

/** A fit of a run by its number; the newest if that is null. */
export const fitOf = (run: RunDetail, fit: number | null): Fit | undefined => (fit === null ? run.fit_list.at(-1) : run.fit_list.find((one) => one.fit === fit));

/** Texts, with what is between backticks as code: a paragraph each, or none. */
export const Prose = ({ of: texts, inline = false }: { of: string[]; inline?: boolean }) => (
  <>
    {texts.map((text) => {
      const parts = text.split("`").map((part, i) => (i % 2 ? <code key={i}>{part}</code> : part));
      return inline ? parts : <p key={text}>{parts}</p>;
    })}
  </>
);

/** Says how many targets, or columns, a file has, if it does not have all. */
export const OfSample = ({ run, kind }: { run: RunDetail; kind: "targets" | "columns" }) =>
  FILE && count(kind) < run[kind] ? (
    <p class="quiet">
      To keep this file small, it has {number(count(kind))} of {number(run[kind])} {kind === "targets" ? "targets, a random sample" : `${run.grouped ? "groups" : "training examples"}: those that matter most to its targets`}.
    </p>
  ) : null;

/** Where to go from a run. */
export function Ways({ run: found }: { run: RunDetail }) {
  const run = found.run;
  return (
    <ul class="ways">
      {!FILE && (
        <li>
          <a href={`/runs/${run}/findings`}>findings</a>: how good the weights are, and what they say as a whole
        </li>
      )}
      <li>
        <a href={`/runs/${run}/targets?sort=-strongest`}>{number(found.targets)} targets</a>: what drives each prediction
      </li>
      <li>
        <a href={`/runs/${run}/columns?sort=-targets`}>
          {number(found.columns)} {found.grouped ? "groups" : "training examples"}
        </a>
        : what each of them drives
      </li>
      <li>
        <a href={`/runs/${run}/review`}>review</a>: labels that may be wrong, leaks, duplicates, fragile targets
      </li>
      <li>
        <a href={`/runs/${run}/map`}>map</a>: all targets or examples at once, those with similar weights near each other
      </li>
      <li>
        <a href={`/runs/${run}/clusters`}>clusters</a> and <a href={`/runs/${run}/components`}>components</a>: what models learn about in the same way
      </li>
      {!FILE && (
        <li>
          <a href={`/compare?one=${run}`}>compare</a> with another run, or two fits
        </li>
      )}
    </ul>
  );
}

/** The LDS of a fit, with its interval. */
export const ldsOf = ({ quality }: { quality: Quality | null }): string => (quality ? `${fixed(quality.lds, 3)} (${quality.interval.map((end) => (end === null ? "unknown" : fixed(end, 3))).join(" to ")})` : "not measured");

/** Say that a run has no weights yet, and where its progress is. */
export function NoWeights({ run }: { run: string }) {
  return (
    <p>
      This run has no weights yet. They follow once its models are trained: see <a href={`/runs/${run}`}>how far it is</a>. If nothing trains or fits it, <code>datamodels run</code> with its spec goes on.
    </p>
  );
}

export function labelOf(look: Look): string {
  if (look.members !== null) return `${look.members.toLocaleString("en")} examples`;
  return look.label_name || (look.value === null ? "" : `y = ${number(look.value)}`);
}

const SOME = 4;

/** Places of a few numbers of a row: those in which `like`, a row, is farthest from the pool's mean. */
function unusual(features: Feature[], like: (number | null)[]): number[] {
  const far = (i: number) => {
    const { mean, deviation } = features[i] ?? {};
    return Math.abs((like[i] ?? mean ?? 0) - (mean ?? 0)) / (deviation || 1);
  };
  return like.map((_, i) => i).sort((a, b) => far(b) - far(a)).slice(0, SOME);
}

/** Says that numbers without units seem to be standardised: over the pool, each has a mean near 0 and a deviation near 1. */
export function AboutRows({ features }: { features: Feature[] }) {
  const varied = features.filter((one) => one.deviation !== null && one.deviation > 0);
  const standard = varied.every((one) => Math.abs(one.mean ?? 1) < 0.3 && Math.abs(one.deviation! - 1) < 0.3);
  if (!varied.length || !standard || features.some((one) => one.unit)) return null;
  return <p class="quiet">All numbers have a mean near 0 and a standard deviation near 1 over the pool, so they seem to be standardised: a value is how many standard deviations it is above the mean.</p>;
}

/** The picture, the text with its span, or the numbers of an example. Of the numbers, those in which `like` is unusual. */
export function Sight({ look, features = [], large = false, like }: { look: Look; features?: Feature[]; large?: boolean; like?: (number | null)[] | null }) {
  if (look.picture) return <img class={large ? "picture large" : "picture"} src={look.picture} alt={labelOf(look) || look.title} loading="lazy" />;
  if (look.text !== null) {
    const [first, last] = look.span ?? [0, 0];
    const letters = Array.from(look.text); // a span counts letters, some of which are two units of a string
    return (
      <p class={large ? "words large" : "words"}>
        {letters.slice(0, first).join("")}
        {last > first && <mark>{letters.slice(first, last).join("")}</mark>}
        {letters.slice(last).join("")}
      </p>
    );
  }
  if (look.row) {
    const row = look.row;
    const shown = large ? row.map((_, i) => i) : unusual(features, like ?? row);
    return (
      <table class="row">
        <tbody>
          {shown.map((i) => (
            <tr key={i}>
              <th scope="row">{features[i]?.name ?? `x${i}`}</th>
              <td>
                {number(row[i])} {features[i]?.unit}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    );
  }
  return null;
}

/** Facts that stand beside the picture already. */
const SAID = new Set(["target", "column", "label", "label_name", "title"]);

const Facts = ({ facts, fields }: { facts: Record<string, Value>; fields: Record<string, string> }) => (
  <dl class="facts">
    {Object.entries(facts)
      .filter(([name, value]) => value !== null && value !== "" && !SAID.has(name) && !(name === "own" && value === -1))
      .map(([name, value]) => (
        <div key={name}>
          <dt title={fields[name]}>{name.replaceAll("_", " ")}</dt>
          <dd>{number(value)}</dd>
        </div>
      ))}
  </dl>
);

/** A target or a training example beside the facts about it. */
export const Subject = (props: { look: Look; features: Feature[]; facts: Record<string, Value>; fields: Record<string, string> }) => (
  <section class="pair">
    <div>
      <Sight look={props.look} features={props.features} large />
      <p>
        {labelOf(props.look)} <span class="quiet">{props.look.title}</span>
      </p>
      {props.look.row && <AboutRows features={props.features} />}
    </div>
    <Facts facts={props.facts} fields={props.fields} />
  </section>
);

/** What happens to an example in a what-if question; `without` leaves it out before and after. */
export type Edit = "remove" | "relabel" | "add" | "without";
export type Edits = Map<number, Edit>;

/** Examples with their weights: a bar each, as long as the weight is strong. */
export function Cards(props: {
  of: Weighted[];
  link: (one: Weighted) => string;
  features?: Feature[];
  like?: Look;
  gone?: number;
  none: string;
  edits?: Edits;
  ways?: Edit[];
  edit?: (index: number, way: Edit) => void;
}) {
  const most = Math.max(...props.of.map((one) => Math.abs(one.weight)), 1e-300);
  if (!props.of.length) return <p class="quiet">{props.none}</p>;
  return (
    <ul class="cards">
      {props.of.map((one, i) => (
        <li key={one.index} class={`card${props.edits?.has(one.index) ? " chosen" : ""}${i < (props.gone ?? 0) ? " gone" : ""}`}>
          <a href={props.link(one)}>
            <Sight look={one.look} features={props.features ?? []} like={props.like?.row ?? null} />
            <span class="name">
              #{one.index} {labelOf(one.look)}
            </span>
            {one.look.title && <span class="quiet title">{one.look.title}</span>}
          </a>
          <meter min={0} max={most} value={Math.abs(one.weight)} aria-label="strength of the weight" />
          <span>
            {number(one.weight, true)} {one.interval[0] !== null && <span class="quiet ends">({interval(one.interval)})</span>}
            {one.measured !== null && <span class="quiet ends">prior {number(one.weight - one.measured, true)}</span>}
          </span>
          {props.ways?.map((way) => (
            <label key={way}>
              <input type="checkbox" checked={props.edits?.get(one.index) === way} onChange={() => props.edit?.(one.index, way)} /> {way}
              <span class="unseen"> #{one.index}</span>
            </label>
          ))}
        </li>
      ))}
    </ul>
  );
}
