// Two fits side by side: how alike their weights are, and which is better.
import { type Fit, type Run } from "./api";
import { Across, ldsOf, number, Prose, Show } from "./parts";
import { submitted, useAsked, type Place } from "./state";

interface Side {
  run: string;
  fit: Fit;
}

interface Comparison {
  one: Side;
  other: Side;
  differ: string;
  targets: number;
  cosine: (number | null)[];
  shared: number | null;
  least: [number, number][];
}

const QUANTILES = ["least", "25%", "median", "75%", "most"];

export function ComparePage({ place }: { place: Place }) {
  const [one, other] = [place.query.get("one") ?? "", place.query.get("other") ?? ""];
  const asked = useAsked<{ runs: Run[] }>("/runs?limit=1000");
  return (
    <main>
      <h1 tabIndex={-1}>Compare two fits</h1>
      <form class="tools" onSubmit={submitted}>
        {[
          ["one", one, "one fit"],
          ["other", other, "another fit"],
        ].map(([name, value, title]) => (
          <label key={name}>
            {title} <input name={name} key={value} defaultValue={value} required list="runs" placeholder="RUN or RUN@FIT" />
          </label>
        ))}
        <button>compare</button>
        <datalist id="runs">
          {asked.found?.runs.filter((run) => run.fits).map((run) => <option key={run.run} value={run.run} />)}
        </datalist>
      </form>
      {one && other ? <Result key={`${one} ${other}`} one={one} other={other} /> : <p class="quiet">Give the names of two runs, such as digits, or of two fits of one run, such as digits@0 and digits@1. A run alone means its newest fit.</p>}
    </main>
  );
}

function Result({ one, other }: { one: string; other: string }) {
  const asked = useAsked<Comparison>(`/comparison?${new URLSearchParams({ one, other })}`);
  return (
    <Show asked={asked}>
      {(found) => (
        <>
          <Across name="the two fits">
            <thead>
              <tr>
                <th>fit</th>
                <th>estimator</th>
                <th class="figure">models</th>
                <th class="figure">LDS</th>
                <th>what that means</th>
              </tr>
            </thead>
            <tbody>
              {[found.one, found.other].map((side, i) => (
                <tr key={i}>
                  <th scope="row">
                    <a href={`/runs/${side.run}`}>{side.run}</a>, fit {side.fit.fit}
                  </th>
                  <td>{side.fit.estimator}</td>
                  <td class="figure">{number(side.fit.models)}</td>
                  <td class="figure">{ldsOf(side.fit)}</td>
                  <td>
                    <Prose of={side.fit.quality ? [side.fit.quality.verdict] : []} inline />
                  </td>
                </tr>
              ))}
            </tbody>
          </Across>
          {found.differ ? (
            <p>Their weights cannot be compared: {found.differ}</p>
          ) : found.targets === 0 ? (
            <p>No target has weights in both.</p>
          ) : (
            <>
              <h2>How alike their weights are</h2>
              <p>
                {number(found.targets)} targets have weights in both. On average, both fits have {found.shared === null ? "an unknown share" : `${Math.round(100 * found.shared)}%`} of the five strongest examples of a target.
              </p>
              <Across name="cosines">
                <caption>Cosine of the weights of a target in the two fits: 1 if they are the same</caption>
                <thead>
                  <tr>
                    {QUANTILES.map((name) => (
                      <th key={name} class="figure">
                        {name}
                      </th>
                    ))}
                  </tr>
                </thead>
                <tbody>
                  <tr>
                    {QUANTILES.map((name, i) => (
                      <td key={name} class="figure">
                        {number(found.cosine[i] ?? null)}
                      </td>
                    ))}
                  </tr>
                </tbody>
              </Across>
              <h2>Targets on which they agree least</h2>
              <Across name="targets">
                <thead>
                  <tr>
                    <th>target</th>
                    <th class="figure">cosine</th>
                    <th>its page</th>
                  </tr>
                </thead>
                <tbody>
                  {found.least.map(([target, cosine]) => (
                    <tr key={target}>
                      <th scope="row">#{target}</th>
                      <td class="figure">{number(cosine)}</td>
                      <td>
                        {[found.one, found.other].map((side, i) => (
                          <span key={i}>
                            {i > 0 && ", "}
                            <a href={`/runs/${side.run}/targets/${target}?fit=${side.fit.fit}`}>
                              {side.run}, fit {side.fit.fit}
                            </a>
                          </span>
                        ))}
                      </td>
                    </tr>
                  ))}
                </tbody>
              </Across>
            </>
          )}
        </>
      )}
    </Show>
  );
}
