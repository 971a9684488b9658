// What a run has found as a whole: how good its weights are, how fragile predictions are, what harms what.
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Findings, Method, RunDetail } from "./api";
import { Chart, Cloud } from "./chart";
import { CLASSES } from "./colours";
import { Across, duration, fitOf, fixed, interval, number, Prose, Show, titleOf, Ways } from "./parts";
import { FILE } from "./sample";
import { changed, useAsked, type Place } from "./state";

const percent = (share: number): string => `${Math.round(100 * share)}%`;

/** The parts of the page that a run has, each with a word for the link to it and a title. */
function partsOf(run: RunDetail, found: Findings): [string, string, ComponentChildren][] {
  const { quality, curve, fragility, conflicts, baselines, seconds } = found;
  const parts: [string, string, ComponentChildren][] = [];
  if (quality) parts.push(["quality", "How good are the predictions?", <Quality run={run} found={quality} fit={found.fit} />]);
  if (curve) parts.push(["models", "LDS of fewer and of more models", <Curve {...curve} />]);
  if (fragility) parts.push(["fragility", "How many examples does a prediction depend on?", <Fragility {...fragility} unit={run.grouped ? "groups" : "examples"} />]);
  if (baselines) parts.push(["baselines", "Compared with other methods", <Baselines of={baselines} />]);
  if (conflicts) parts.push(["conflicts", "Classes that harm each other", <Conflicts {...conflicts} />]);
  if (Object.keys(seconds).length) parts.push(["seconds", "What it took", <Seconds of={seconds} />]);
  parts.push(["spec", "Spec of the run", <pre tabIndex={0}>{found.spec}</pre>]);
  return parts;
}

export function FindingsPage({ run, place }: { run: string; place: Place }) {
  const fit = place.query.has("fit") ? `?fit=${place.query.get("fit")}` : "";
  const asked = useAsked<Findings>(`/runs/${run}/findings${fit}`);
  const about = useAsked<RunDetail>(`/runs/${run}`);
  const at = place.query.get("at");
  useEffect(() => {
    if (at && asked.found && about.found) document.getElementById(at)?.scrollIntoView();
  }, [at, asked.found, about.found]);
  return (
    <main>
      <h1 tabIndex={-1}>Findings</h1>
      {!asked.found && !asked.problem && <p class="quiet">The first answer about a fit takes some seconds.</p>}
      <Show asked={asked}>
        {(found) => (
          <>
            <Prose of={found.text} />
            <ul class="figures">
              {found.figures.map(([value, what]) => (
                <li key={what}>
                  <b>{value}</b> <span class="quiet">{what}</span>
                </li>
              ))}
            </ul>
            {about.found && FILE && <Ways run={about.found} />}
            <Begin run={run} fit={fit} first={found.first} explained={found.explained} judged={about.found?.output.threshold != null} />
            {about.found && <Parts of={partsOf(about.found, found)} place={place} />}
          </>
        )}
      </Show>
    </main>
  );
}

/** Names targets to begin with. */
function Begin({ run, fit, first, explained, judged }: { run: string; fit: string; first: number | null; explained: number[]; judged: boolean }) {
  const link = (target: number) => <a href={`/runs/${run}/targets/${target}${fit}`}>{target}</a>;
  return (
    <p>
      {first !== null && <span class="first">Begin with target {link(first)}: it is among the best predicted{explained.length === 0 && judged && ", and models get it right"}. </span>}
      {explained.length > 0 && <>LIME explains {explained.map((one, i) => [i > 0 && ", ", link(one)])}.</>}
    </p>
  );
}

const Parts = ({ of: parts, place }: { of: [string, string, ComponentChildren][]; place: Place }) => (
  <>
    <nav class="contents" aria-label="parts of this page">
      {parts.map(([name]) => (
        <a key={name} href={changed(place.query, { at: name })} data-stay>
          {name}
        </a>
      ))}
    </nav>
    {parts.map(([name, title, body]) => (
      <section key={name} id={name} aria-labelledby={`${name}-title`}>
        <h2 id={`${name}-title`}>{title}</h2>
        {body}
      </section>
    ))}
  </>
);

function Quality({ run, found, fit }: { run: RunDetail; found: NonNullable<Findings["quality"]>; fit: number | null }) {
  const [field, setField] = useState<"mean" | "single">("mean");
  const { scores, points, lds } = found;
  const predicted = fitOf(run, fit)?.predicted ?? run.output;
  const truths = { mean: "means of a subset's models", single: "single models" };
  return (
    <>
      {found.word && (
        <p>
          <strong>{found.word[0]!.toUpperCase() + found.word.slice(1)}</strong>: <Prose of={found.text.slice(0, 1)} inline />
        </p>
      )}
      <Prose of={found.word ? found.text.slice(1) : found.text} />
      <div class="halves">
        {scores && lds !== null && (
          <div>
            <h3>Targets by their correlation</h3>
            <Chart label="Targets by correlation" xs={[scores.edges[0]!, scores.edges.at(-1)!]} ys={[0, Math.max(1, ...scores.counts) * 1.05]} names={["correlation of predicted and true outputs", "targets"]} height={320} whole="up">
              {({ x, y }) => (
                <>
                  {scores.counts.map((count, i) => {
                    const [low, high] = [scores.edges[i]!, scores.edges[i + 1]!];
                    return (
                      count > 0 && (
                        <rect key={i} class="mark" x={x(low) + 0.5} y={y(count)} width={Math.max(1, x(high) - x(low) - 1)} height={y(0) - y(count)}>
                          <title>{`${count} targets, ${fixed(low, 3)} to ${fixed(high, 3)}`}</title>
                        </rect>
                      )
                    );
                  })}
                  <line class="rule" x1={x(lds)} x2={x(lds)} y1={14} y2={y(0)} />
                  <text x={x(lds) - 6} y={12} text-anchor="end">{`LDS ${fixed(lds, 3)}`}</text>
                </>
              )}
            </Chart>
          </div>
        )}
        {points && (
          <div>
            <h3>Predicted against true, on unseen subsets</h3>
            <fieldset>
              <legend>True outputs are</legend>
              {(["mean", "single"] as const).map((one) => (
                <label key={one}>
                  <input type="radio" name="truth" checked={field === one} onChange={() => setField(one)} /> {truths[one]}
                </label>
              ))}
            </fieldset>
            <Cloud label={`Predicted against true ${run.output.name} of all targets`} predicted={points.predicted} truth={points[field]} same={predicted.name === run.output.name} names={[`predicted ${titleOf(predicted)}`, `true ${titleOf(run.output)}`]} height={284} />
            <p class="quiet">
              {number(points.target.length)} points. Targets differ from each other more than subsets do, so this plot looks better than the LDS. The pages of targets have plots of their own.
            </p>
          </div>
        )}
      </div>
    </>
  );
}

/** Points of a curve that have their number beside them, at most. */
const NAMED = 8;

export function Curve({ text, measured, ahead }: NonNullable<Findings["curve"]>) {
  const all = [...measured, ...ahead];
  const place = (models: number) => Math.log2(models);
  const [first, last] = [measured[0]![0], measured.at(-1)![0]];
  const most = ahead.length ? ahead.at(-1)![0] : last;
  const bottom = Math.floor(Math.min(...measured.map(([, , low]) => low)) * 10) / 10;
  const named = measured.filter((_, i) => (measured.length - 1 - i) % Math.ceil(measured.length / NAMED) === 0);
  const counted = [...named.map(([models]) => models), ...(ahead.length ? [2 * last, most] : [])];
  return (
    <>
      <Prose of={text} />
      <Chart
        label="LDS by number of models"
        xs={[place(first / 1.2), place(most * 1.15)]}
        ys={[bottom, Math.max(1, ...all.map(([, , , high]) => high))]}
        names={["models, on a logarithmic scale", "LDS"]}
        across={counted.map((models) => [place(models), number(Math.round(models))])}
      >
        {({ x, y, line, band }) => (
          <>
            {ahead.length > 0 && (
              <>
                <polygon class="band" points={band(ahead.map(([models]) => place(models)), ahead.map(([, , low]) => low), ahead.map(([, , , high]) => high))} />
                <polyline class="line" stroke-dasharray="6 5" points={line(ahead.map(([models]) => place(models)), ahead.map(([, lds]) => lds))} />
                {[ahead[Math.floor(ahead.length / 2)]!, ahead.at(-1)!].map(([models, lds, , high]) => (
                  <text key={models} x={x(place(models))} y={y(high) - 8} text-anchor="middle">
                    {fixed(lds, 3)}
                  </text>
                ))}
              </>
            )}
            {measured.map(([models, lds, low, high]) => (
              <g key={models}>
                <line class="line" x1={x(place(models))} x2={x(place(models))} y1={y(low)} y2={y(high)} />
                <circle class="mark" r={4} cx={x(place(models))} cy={y(lds)}>
                  <title>{`${number(models)} models: LDS ${fixed(lds, 3)}, ${fixed(low, 3)} to ${fixed(high, 3)}`}</title>
                </circle>
              </g>
            ))}
            {named.map(([models, lds, , high]) => (
              <text key={models} x={x(place(models))} y={y(high) - 8} text-anchor="middle">
                {fixed(lds, 3)}
              </text>
            ))}
          </>
        )}
      </Chart>
    </>
  );
}

/** Repeats each value until the next place, so that a line through them has steps. */
const stairs = <T,>(values: T[], before: boolean): T[] => values.flatMap((value, i) => (i === 0 ? [value] : [before ? values[i - 1]! : value, value]));

function Fragility({ text, removed, share, interval: ends, unit }: NonNullable<Findings["fragility"]> & { unit: string }) {
  const xs = stairs(removed, false);
  return (
    <>
      <Prose of={text} />
      {removed.length > 0 && (
        <Chart label={`Share of targets predicted to be wrong by number of ${unit} removed`} xs={[0, Math.max(1, removed.at(-1)!)]} ys={[0, 1]} names={[`most helpful ${unit} removed`, "targets predicted to be wrong"]} up={percent} whole="across">
          {({ line, band }) => (
            <>
              <polygon class="band" points={band(xs, stairs(ends.map(([low]) => low), true), stairs(ends.map(([, high]) => high), true))} />
              <polyline class="line" points={line(xs, stairs(share, true))} />
            </>
          )}
        </Chart>
      )}
    </>
  );
}

const KNOWN = new Set(["lds", "unsure"]);

function Baselines({ of: methods }: { of: Method[] }) {
  const flips = Object.keys(methods[0]!.figures).filter((name) => !KNOWN.has(name));
  const removed = (name: string) => name.replace(/^.*_/, "");
  const said = [methods[0]!.few ?? "", ...methods.map((one) => (one.doubt ? `${one.method}: ${one.doubt}` : ""))].filter(Boolean);
  const colour = (i: number) => CLASSES[i % CLASSES.length];
  return (
    <>
      <p>
        Each method scores the training examples of each target. The LDS says how well the scores predict unseen subsets.
        {flips.length > 0 && " The columns after it give the share of targets that flip, i.e. that models get wrong, if the examples with the highest scores are removed from training."} Small figures are 95% intervals. A star marks a figure above that of the datamodels, if the interval of the difference is above 0.
      </p>
      {said.map((text) => (
        <p key={text}>
          <strong>{text}.</strong>
        </p>
      ))}
      {flips.length > 0 && (
        <Chart label="Share of targets that flip, by method and number of examples removed" xs={[0, flips.length]} ys={[0, 1]} names={["examples removed", "targets that flip"]} up={percent} across={flips.map((name, i) => [i + 0.5, removed(name)])}>
          {({ x, y }) =>
            flips.flatMap((name, column) =>
              methods.map((one, i) => {
                const figure = one.figures[name];
                const at = x(column + (i + 1) / (methods.length + 1));
                return (
                  figure && (
                    <g key={`${name} ${i}`}>
                      <line class="whisker" x1={at} x2={at} y1={y(figure.interval[0])} y2={y(figure.interval[1])} />
                      <circle class="place" fill={colour(i)} r={5} cx={at} cy={y(figure.value)}>
                        <title>{`${one.method}, ${removed(name)} removed: ${percent(figure.value)}`}</title>
                      </circle>
                    </g>
                  )
                );
              }),
            )
          }
        </Chart>
      )}
      <Across name="methods">
        <thead>
          <tr>
            <th>method</th>
            <th class="figure">LDS</th>
            {flips.map((name) => (
              <th key={name} class="figure">
                {removed(name)} removed
              </th>
            ))}
            <th class="figure">seconds</th>
          </tr>
        </thead>
        <tbody>
          {methods.map((one, i) => (
            <tr key={one.method}>
              <th scope="row">
                <span class="sign" style={{ background: colour(i) }} /> {one.method.replaceAll("_", " ")}
              </th>
              {["lds", ...flips].map((name) => {
                const figure = one.figures[name];
                return (
                  <td key={name} class="figure">
                    {figure && (
                      <>
                        {fixed(figure.value, 2)}
                        {(figure.less_datamodels?.interval[0] ?? 0) > 0 && "*"} <small class="quiet">{figure.interval.map((end) => fixed(end, 2)).join(" to ")}</small>
                      </>
                    )}
                  </td>
                );
              })}
              <td class="figure">{one.seconds.toFixed(1)}</td>
            </tr>
          ))}
        </tbody>
      </Across>
    </>
  );
}

const Conflicts = ({ text, pairs }: NonNullable<Findings["conflicts"]>) => (
  <>
    <Prose of={text} />
    {pairs.length > 0 && (
      <Across name="pairs of classes">
        <thead>
          <tr>
            <th>examples of</th>
            <th>harm targets of</th>
            <th class="figure">mean effect</th>
            <th class="figure">95%, all pairs at once</th>
            <th class="figure">targets harmed</th>
          </tr>
        </thead>
        <tbody>
          {pairs.map((pair) => (
            <tr key={`${pair.source} ${pair.target}`}>
              <th scope="row">{pair.source}</th>
              <td>{pair.target}</td>
              <td class="figure">{number(pair.effect, true)}</td>
              <td class="figure">{interval(pair.interval)}</td>
              <td class="figure">{percent(pair.harmed)}</td>
            </tr>
          ))}
        </tbody>
      </Across>
    )}
  </>
);

function Seconds({ of: seconds }: { of: Record<string, number> }) {
  const most = Math.max(...Object.values(seconds), 1e-9);
  return (
    <table>
      <tbody>
        {Object.entries(seconds).map(([stage, value]) => (
          <tr key={stage}>
            <th scope="row">{stage}</th>
            <td class="figure">{duration(value)}</td>
            <td class="bar">
              <meter min={0} max={most} value={value} aria-label={`seconds of ${stage}`} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
