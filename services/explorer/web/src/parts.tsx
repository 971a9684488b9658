// What several pages show: numbers, pictures, messages.
import type { ComponentChildren } from "preact";
import type { Feature, Fit, Look, Problem, Value, Weighted } from "./api";
import type { Asked } from "./state";

export function number(value: Value | undefined, signed = false): string {
  if (typeof value !== "number") return value ?? "unknown";
  const size = Math.abs(value);
  const text =
    Number.isInteger(value) && !signed
      ? size.toLocaleString("en")
      : size !== 0 && (size < 1e-4 || size >= 1e7)
        ? size.toExponential(2)
        : size.toLocaleString("en", { minimumSignificantDigits: 4, maximumSignificantDigits: 4 });
  return (value < 0 ? "\u2212" : signed && value > 0 ? "+" : "") + text;
}

export const interval = (ends: [number | null, number | null]): string =>
  ends[0] === null || ends[1] === null ? "interval unknown" : `${number(ends[0])} to ${number(ends[1])}`;

export function Show<T>({ asked, children }: { asked: Asked<T>; children: (found: T) => ComponentChildren }) {
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
    {text}
  </p>
);

/** The LDS of a fit, with its interval. */
export const ldsOf = ({ quality }: Fit): string => (quality ? `${number(quality.lds)} (${interval(quality.interval)})` : "not measured");

/** Say that a run has no weights yet, and where its progress is. */
export function NoWeights({ run }: { run: string }) {
  return (
    <p>
      This run has no weights yet. They follow once its models are trained: see <a href={`/runs/${run}`}>how far it is</a>.
    </p>
  );
}

export function labelOf(look: Look): string {
  if (look.members !== null) return `${look.members.toLocaleString("en")} examples`;
  return look.label_name || (look.value === null ? "" : `y = ${number(look.value)}`);
}

/** The picture, the text with its span, or the numbers of an example. */
export function Sight({ look, features = [], large = false }: { look: Look; features?: Feature[]; large?: boolean }) {
  if (look.picture) return <img class={large ? "picture large" : "picture"} src={look.picture} alt={labelOf(look) || look.title} loading="lazy" />;
  if (look.text !== null) {
    const [first, last] = look.span ?? [0, 0];
    return (
      <p class={large ? "words large" : "words"}>
        {look.text.slice(0, first)}
        {last > first && <mark>{look.text.slice(first, last)}</mark>}
        {look.text.slice(last)}
      </p>
    );
  }
  if (look.row) {
    const shown = large ? look.row : look.row.slice(0, 4);
    return (
      <table class="row">
        <tbody>
          {shown.map((value, i) => (
            <tr key={i}>
              <th scope="row">{features[i]?.name ?? `x${i}`}</th>
              <td>
                {number(value)} {features[i]?.unit}
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
  none: string;
  edits?: Edits;
  ways?: Edit[];
  edit?: (index: number, way: Edit) => void;
}) {
  const most = Math.max(...props.of.map((one) => Math.abs(one.weight)), 1e-300);
  if (!props.of.length) return <p class="quiet">{props.none}</p>;
  return (
    <ul class="cards">
      {props.of.map((one) => (
        <li key={one.index} class={props.edits?.has(one.index) ? "card chosen" : "card"}>
          <a href={props.link(one)}>
            <Sight look={one.look} features={props.features ?? []} />
            <span class="name">
              #{one.index} {labelOf(one.look)}
            </span>
            {one.look.title && <span class="quiet title">{one.look.title}</span>}
          </a>
          <meter min={0} max={most} value={Math.abs(one.weight)} aria-label="strength of the weight" />
          <span>
            {number(one.weight, true)} {one.interval[0] !== null && <span class="quiet ends">({interval(one.interval)})</span>}
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
