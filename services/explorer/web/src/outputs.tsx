// What models said of a target, and what is predicted of it as helpful examples are removed.
import type { Look, Neighbours, Output, RunDetail, TargetFindings } from "./api";
import { Chart, Cloud, extent } from "./chart";
import { interval, labelOf, number, Sight, titleOf } from "./parts";
import { changed, go, useAsked, type Place } from "./state";

const percent = (share: number | null): string => (share === null ? "unknown" : `${Math.round(100 * share)}%`);

/** Facts of a target beyond those of the list. */
export function factsOf({ unseen, removal }: TargetFindings, run: RunDetail): Record<string, string> {
  const found: Record<string, string> = {};
  if (unseen) {
    const { mean, wrong, score } = unseen;
    found[`mean ${titleOf(run.output)} of models`] = `${number(mean[0])} (${interval([mean[1], mean[2]])})`;
    if (wrong) found["models that are wrong"] = `${percent(wrong[0])} (${percent(wrong[1])} to ${percent(wrong[2])})`;
    if (score) found["correlation with models"] = `${number(score[0])} (${interval([score[1], score[2]])})`;
  }
  if (removal?.support) {
    const { size, limit } = removal;
    const several = (count: number | null) => `${number(count)} ${run.grouped ? "group" : "example"}${count === 1 ? "" : "s"}`;
    found["support"] = removal.support === "found" ? several(size) : removal.support === "wrong" ? "none needed: predicted to be wrong" : `none found up to ${several(limit)}`;
  }
  return found;
}

interface Asked {
  run: RunDetail;
  predicted: Output;
  of: TargetFindings;
}

export const Outputs = (props: Asked & { place: Place; look: Look }) => (
  <>
    {props.of.lime && <Lime of={props.of.lime} output={props.run.output} look={props.look} />}
    <div class="halves">
      {props.of.removal && props.of.removal.removed.length > 1 && <Removal {...props} removal={props.of.removal} />}
      {props.of.unseen && <Unseen {...props} unseen={props.of.unseen} />}
    </div>
  </>
);

const within = (output: Output, value: number): number => Math.max(output.lowest ?? -Infinity, Math.min(output.highest ?? Infinity, value));

/** How many of the most helpful examples are removed: the last step of the slider that is not beyond the number in the address. */
export function removedOf(place: Place, of: TargetFindings | null): number {
  const wanted = Number(place.query.get("k") ?? 0);
  return of?.removal?.removed.filter((k) => k <= wanted).at(-1) ?? 0;
}

function Removal({ run, predicted, removal, of, place }: Asked & { removal: NonNullable<TargetFindings["removal"]>; place: Place }) {
  const { removed: ks, mean, error, single, start } = removal;
  const k = removedOf(place, of);
  const i = Math.max(0, ks.indexOf(k));
  const [last, unit] = [ks.at(-1)!, run.grouped ? "groups" : "examples"];
  const known = error.every((value) => value !== null);
  const half = (j: number, one: boolean) => (known ? Math.hypot(error[j]!, one ? single! : 0) : 0);
  const ends = (one: boolean) => [-1, 1].map((sign) => mean.map((value, j) => within(predicted, value + sign * half(j, one)))) as [number[], number[]];
  const { threshold } = predicted;
  const sign = predicted.higher_is_better === false ? -1 : 1;
  const now = within(predicted, mean[i]!);
  const sure: [number | null, number | null] = k ? [within(predicted, mean[i]! - half(i, false)), within(predicted, mean[i]! + half(i, false))] : start;
  const least = Math.min(...(of.unseen?.means ?? [Infinity]));
  const verdict = threshold !== null && sign * mean[i]! < sign * threshold ? ": wrong" : sign < 0 && now < 0 && least >= 0 && least < Infinity ? ": below 0, where no model was, so about 0" : "";
  const title = titleOf(predicted);
  const wide = single !== null && known;
  return (
    <div class="removal">
      <h3>Without the most {predicted.effects[0]} {unit}</h3>
      <label class="slider">
        remove{" "}
        <input id="removed" type="range" min={0} max={ks.length - 1} value={i} aria-valuetext={`${k} removed`} onInput={(event) => go(changed(place.query, { k: String(ks[Number(event.currentTarget.value)] || "") }), true)} />
      </label>
      <p id="expected" aria-live="polite">
        {number(k)} of {number(run.columns)} removed: expected {predicted.name}{" "}
        <strong>
          {number(now)}
          {verdict}
        </strong>
        {known && sure[0] !== null && ` (95%: ${interval(sure)})`}
      </p>
      <Chart label={`Expected ${title} as ${unit} are removed`} xs={[0, last * 1.02]} ys={extent([...ends(wide).flat(), ...(threshold === null ? [] : [threshold])])} names={[`${unit} removed`, `expected ${title}`]} whole="across">
        {({ x, y, line, band }) => (
          <>
            {wide && <polygon class="band wide" points={band(ks, ...ends(true))} />}
            {known && <polygon class="band" points={band(ks, ...ends(false))} />}
            {threshold !== null && <polyline class="zero" points={line([0, last * 1.02], [threshold, threshold])} />}
            <polyline class="line" points={line(ks, mean.map((value) => within(predicted, value)))} />
            <circle class="now" r={5} cx={x(k)} cy={y(now)} />
          </>
        )}
      </Chart>
      <p class="quiet">
        {known
          ? `${wide ? "Dark band" : "Band"}: 95% interval of the change in the mean output of models. ${wide ? "Light band: the same for one model. Neither includes" : "It leaves out"} the error at the start, which has an interval of its own: the whole pool is larger than the subsets that the weights were fitted to. `
          : "There are too few committed models for an interval. "}
        <code>datamodels counterfactual --verify</code> trains models to check.
      </p>
    </div>
  );
}

function Unseen({ run, predicted, unseen }: Asked & { unseen: NonNullable<TargetFindings["unseen"]> }) {
  const same = predicted.name === run.output.name;
  return (
    <div>
      <h3>Predicted against true, on unseen subsets</h3>
      <Cloud label="Predicted against true" predicted={unseen.predicted} truth={unseen.means} same={same} names={[`predicted ${titleOf(predicted)}`, `mean ${titleOf(run.output)} of models`]} dots />
      <p class="quiet">
        {number(unseen.predicted.length)} subsets, {number(unseen.models)} models.{same && " On the dashed line, predictions are exact."}
      </p>
    </div>
  );
}

/** LIME's weights of the parts of a target: drawn over its picture, and the strongest in a table. */
function Lime({ of: { parts, squares, aspect, tokens, r2, output: value, models, samples }, output, look }: { of: NonNullable<TargetFindings["lime"]>; output: Output; look: Look }) {
  const kind = tokens ? "tokens" : squares ? "pixels" : "features";
  const most = Math.max(...parts.map(([, weight]) => Math.abs(weight))) || 1;
  const told = ([name, weight, low, high]: [string, number, number, number]) => `${name}: ${number(weight, true)}, 95%: ${interval([low, high])}`;
  const tall = 100 * (aspect ?? 1);
  return (
    <section class="pair">
      {squares && look.picture && (
        <svg class="squares" viewBox={`0 0 100 ${tall}`} role="img" aria-label={`LIME over the picture of ${labelOf(look)}. Strongest: ${parts.slice(0, 3).map(told).join("; ")}`}>
          <image href={look.picture} width={100} height={tall} preserveAspectRatio="none" />
          {squares.map(([x, y, width, height], i) => (
            <rect key={i} class={parts[i]![1] < 0 ? "takes" : "adds"} fill-opacity={((0.75 * Math.abs(parts[i]![1])) / most).toFixed(2)} x={100 * x} y={tall * y} width={100 * width} height={tall * height}>
              <title>{told(parts[i]!)}</title>
            </rect>
          ))}
        </svg>
      )}
      <div>
        <h2>By {kind}: the parts that matter, by LIME</h2>
        <table>
          <thead>
            <tr>
              <th>part</th>
              <th class="figure">adds</th>
              <th class="figure">95% interval</th>
            </tr>
          </thead>
          <tbody>
            {parts.slice(0, squares ? 5 : parts.length).map(([name, weight, low, high]) => (
              <tr key={name}>
                <th scope="row">{name}</th>
                <td class="figure">{number(weight, true)}</td>
                <td class="figure">{interval([low, high])}</td>
              </tr>
            ))}
          </tbody>
        </table>
        <p class="quiet">
          How much each part adds to the {output.name}, compared with {tokens ? "a blank token" : "the pool's mean"} in its place. The {output.name} is {number(value)}, the mean of {models} models of the whole pool. {squares && "Blue parts raise it, orange parts lower it. "}
          The sum of the parts explains R² = {number(r2)} of the outputs of {number(samples)} samples.
        </p>
      </div>
    </section>
  );
}

/** Targets to which the same examples matter. */
export function Alike({ run, index, fit }: { run: RunDetail; index: string; fit: string }) {
  const { found } = useAsked<Neighbours>(`/runs/${run.run}/targets/${index}/similar${fit || "?"}&k=6`);
  if (!found?.neighbours.length) return null;
  return (
    <>
      <h2>Targets that depend on the same examples</h2>
      <p class="quiet">With the cosine of their weights and those of this target: 1 if they are the same.</p>
      <ul class="cards small">
        {found.neighbours.map((one) => (
          <li key={one.index} class="card">
            <a href={`/runs/${run.run}/targets/${one.index}${fit}`}>
              <Sight look={one.look} features={run.features} />
              <span class="name">
                #{one.index} {labelOf(one.look)}
              </span>
            </a>
            <span>{number(one.score)}</span>
          </li>
        ))}
      </ul>
    </>
  );
}

/** Links to the previous and the next target. They stay on the page while another target is read. */
export function Steps({ run, index, place }: { run: string; index: string; place: Place }) {
  const fit = place.query.has("fit") ? `&fit=${place.query.get("fit")}` : "";
  const find = (where: string, sort: string) => useAsked<{ rows: { target: number }[] }>(`/runs/${run}/targets?where=target${where}${index}&sort=${sort}target&limit=1${fit}`).found?.rows[0]?.target;
  const steps = { "previous target": find("%3C", "-"), "next target": find("%3E", "") };
  return (
    <nav class="steps" aria-label="other targets">
      {Object.entries(steps).map(([name, target]) =>
        target === undefined ? (
          <span key={name} class="quiet">{name}</span>
        ) : (
          <a key={name} href={`/runs/${run}/targets/${target}${fit.replace("&", "?")}`} data-stay aria-label={name}>
            {name}
          </a>
        ),
      )}
    </nav>
  );
}
