// The pages: runs, a run, its lists, one training example.
import { useEffect, useRef, useState } from "preact/hooks";
import { events, type ColumnDetail, type Progress, type Run, type RunDetail } from "./api";
import { Curve } from "./findings";
import { List } from "./list";
import { Across, Cards, duration, ldsOf, money, NoWeights, number, OfSample, Prose, Show, Subject, Ways } from "./parts";
import { FILE } from "./sample";
import { changed, go, useAsked, type Place } from "./state";

const EVERY = 5000;

/** Whether models of a run are still missing, and nothing says that training has ended. */
const trains = (run: Run) => run.committed < run.models && !run.stopped.length;

/** Asks for a page of runs, again and again while one of them trains. Returns when, and with how many models, each was
 * first seen. */
function useRuns(page: string) {
  const [looks, again] = useState(0);
  const asked = useAsked<{ runs: Run[]; next: string | null }>(`/runs?limit=200${page && `&page=${encodeURIComponent(page)}`}`, undefined, looks);
  const seen = useRef(new Map<string, [number, number]>());
  useEffect(() => {
    const runs = asked.found?.runs ?? [];
    for (const run of runs) if (!seen.current.has(run.run)) seen.current.set(run.run, [Date.now(), run.committed]);
    if (FILE || !runs.some(trains)) return;
    const timer = setInterval(() => document.hidden || again(looks + 1), EVERY);
    return () => clearInterval(timer);
  }, [asked.found]);
  return { asked, seen: seen.current };
}

/** How long a run still trains, by what was seen since; empty if that is not known. */
function left(run: Run, seen: [number, number] | undefined): string {
  if (!seen || run.committed <= seen[1] || !trains(run)) return "";
  return `, about ${duration(((Date.now() - seen[0]) / 1000 / (run.committed - seen[1])) * (run.models - run.committed))} left`;
}

export function Runs({ place }: { place: Place }) {
  const { asked, seen } = useRuns(place.query.get("page") ?? "");
  const picked = place.query.getAll("pick");
  const pick = (run: string) => go(changed(place.query, { pick: picked.includes(run) ? picked.filter((one) => one !== run) : [...picked, run].slice(-2) }), true);
  return (
    <main>
      <h1 tabIndex={-1}>Runs</h1>
      <Show asked={asked}>
        {({ runs, next }) => {
          if (!runs.length) {
            return (
              <p>
                {place.query.get("page") ? "There are no more runs." : "The store has no runs yet, or none that you may read."} <code>datamodels run digits</code> makes one in a minute; start it where you started the explorer, then reload this page.
              </p>
            );
          }
          const priced = runs.some((run) => run.training?.cost != null);
          return (
            <>
              <Across name="runs">
                <thead>
                  <tr>
                    <th>run</th>
                    <th>models</th>
                    <th class="figure">LDS</th>
                    <th class="figure">examples</th>
                    <th class="figure">targets</th>
                    <th class="figure">fits</th>
                    {priced && <th class="figure">cost</th>}
                    <th>output</th>
                    {!FILE && <th>compare</th>}
                  </tr>
                </thead>
                <tbody>
                  {runs.map((run) => (
                    <tr key={run.run}>
                      <th scope="row">
                        <a href={`/runs/${run.run}`}>{run.run}</a>
                      </th>
                      <td>
                        {trains(run) && <progress max={run.models} value={run.committed} aria-label={`committed models of ${run.run}`} />}
                        {trains(run) || run.stopped.length ? `${number(run.committed)} of ${number(run.models)}${run.stopped.length ? ", stopped" : left(run, seen.get(run.run))}` : number(run.models)}
                      </td>
                      <td class="figure" title={run.quality?.verdict.replaceAll("`", "")}>
                        {run.quality && ldsOf(run)}
                      </td>
                      <td class="figure">{number(run.examples)}</td>
                      <td class="figure">{number(run.targets)}</td>
                      <td class="figure">{number(run.fits)}</td>
                      {priced && <td class="figure">{run.training?.cost != null && money(run.training.cost)}</td>}
                      <td>{run.output.name}</td>
                      {!FILE && <td>{run.fits > 0 && <input type="checkbox" aria-label={`compare ${run.run}`} checked={picked.includes(run.run)} onChange={() => pick(run.run)} />}</td>}
                    </tr>
                  ))}
                </tbody>
              </Across>
              {picked.length === 2 && (
                <p>
                  <a href={`/compare?${new URLSearchParams({ one: picked[0]!, other: picked[1]! })}`}>
                    compare {picked[0]} and {picked[1]}
                  </a>
                </p>
              )}
              {next && (
                <p>
                  <a href={changed(place.query, { page: next })}>more runs</a>
                </p>
              )}
            </>
          );
        }}
      </Show>
    </main>
  );
}

function useProgress(run: string): Progress | null {
  const [found, set] = useState<Progress | null>(null);
  useEffect(() => {
    const source = events(`/runs/${run}/events`);
    source.addEventListener("progress", (event) => set(JSON.parse((event as MessageEvent<string>).data) as Progress));
    source.addEventListener("ended", () => source.close());
    return () => source.close();
  }, [run]);
  return found;
}

/** How far a run is: its models, the time that is left, and what training takes. */
function HowFar({ run, progress }: { run: RunDetail; progress: Progress | null }) {
  const { committed, failed, training } = progress ?? run;
  const trained = committed >= run.models || run.stopped.length > 0;
  const all = !trained && training !== null;
  return (
    <>
      <p>
        {number(committed)} of {number(run.models)} models
        {failed > 0 && `, ${number(failed)} failed`}
        {!trained && progress?.rate != null && `, ${number(progress.rate)} per second`}
        {progress?.remaining ? `, about ${duration(progress.remaining)} left` : ""}
      </p>
      <progress max={run.models} value={committed} aria-label="committed models" />
      {run.stopped.map((why) => (
        <p key={why}>stopped: {why}</p>
      ))}
      {!trained && progress && progress.rate === null && (
        <p class="quiet">
          No model has arrived since this page was opened. If nothing trains the run, <code>datamodels run</code> with its spec goes on.
        </p>
      )}
      {trained && progress?.ended === false && <p>Training has ended. Its last fit, or the LDS of that fit, is not there yet.</p>}
      {training && (
        <p>
          All trainers together worked {duration(training.seconds)}
          {all && ` so far; all models take about ${duration(training.expected)}`}.{training.cost !== null && ` Cost: ${money(training.cost)}${all ? ` so far; about ${money(training.expected_cost!)} for all models` : ""}.`}
        </p>
      )}
    </>
  );
}

/** The LDS of each number of models that was fitted. */
function Quality({ run, progress }: { run: RunDetail; progress: Progress }) {
  if (!run.spec.evaluate?.subsets) return null;
  const { curve } = progress;
  return (
    <>
      <h2>LDS as models arrive</h2>
      {curve.length > 1 ? (
        <Curve text={[]} measured={curve} ahead={[]} />
      ) : (
        <p class="quiet">
          {curve.length > 0 ? (
            <>
              It was measured for one number of models. <code>datamodels curve {run.run}</code> measures it for fewer.
            </>
          ) : (
            <>
              It is measured once training has ended. If the spec has <code>until</code>, it is measured while models arrive, too: first with one model for every eight columns.
            </>
          )}
        </p>
      )}
    </>
  );
}

export function RunPage({ run }: { run: string }) {
  const progress = useProgress(run);
  const asked = useAsked<RunDetail>(`/runs/${run}`, undefined, `${progress?.fits} ${progress?.lds}`);
  return (
    <main>
      <h1 tabIndex={-1}>{run}</h1>
      <Show asked={asked}>
        {(found) => (
          <>
            <HowFar run={found} progress={progress} />
            <Ways run={found} />
            <h2>Fits</h2>
            {found.fit_list.length ? (
              <Across name="fits">
                <thead>
                  <tr>
                    <th class="figure">fit</th>
                    <th>estimator</th>
                    <th class="figure">models</th>
                    <th class="figure">LDS</th>
                    <th>what that means</th>
                  </tr>
                </thead>
                <tbody>
                  {found.fit_list.toReversed().map((fit) => (
                    <tr key={fit.fit}>
                      <td class="figure">{fit.fit}</td>
                      <td>
                        {fit.estimator}
                        {fit.chosen && <span class="quiet">, {fit.chosen}</span>}
                      </td>
                      <td class="figure">{number(fit.models)}</td>
                      <td class="figure">{ldsOf(fit)}</td>
                      <td>
                        <Prose of={fit.quality ? [fit.quality.verdict] : []} inline />
                      </td>
                    </tr>
                  ))}
                </tbody>
              </Across>
            ) : (
              <p class="quiet">none yet: weights follow once the models are trained</p>
            )}
            {progress && <Quality run={found} progress={progress} />}
            <p class="quiet">
              Outputs: {found.output.name}
              {found.output.unit && ` in ${found.output.unit}`}
              {found.output.higher_is_better === true ? ", higher is better" : found.output.higher_is_better === false ? ", lower is better" : ""}
              {found.output.threshold !== null && `, wrong past ${number(found.output.threshold)}`}
            </p>
          </>
        )}
      </Show>
    </main>
  );
}

const TARGETS = [
  { name: "target", title: "target" },
  { name: "label_name", title: "class", text: true },
  { name: "title", title: "title", text: true },
  { name: "predicted", title: "predicted" },
  { name: "heldout_r2", title: "R²" },
  { name: "lds", title: "LDS" },
  { name: "nonzeros", title: "weights" },
  { name: "strongest", title: "strongest" },
];

const COLUMNS = [
  { name: "column", title: "example" },
  { name: "label_name", title: "class", text: true },
  { name: "title", title: "title", text: true },
  { name: "targets", title: "targets" },
  { name: "helped", title: "helped" },
  { name: "harmed", title: "harmed" },
  { name: "mean", title: "mean weight" },
  { name: "strongest", title: "strongest" },
];

export function ListPage({ run, kind, place }: { run: string; kind: "targets" | "columns"; place: Place }) {
  const asked = useAsked<RunDetail>(`/runs/${run}`);
  return (
    <main class="wide">
      <h1 tabIndex={-1}>{kind === "targets" ? "Targets" : asked.found?.grouped ? "Groups" : "Training examples"}</h1>
      <Show asked={asked}>
        {(found) => (
          <>
            <OfSample run={found} kind={kind} />
            {!found.fit_list.length ? <NoWeights run={run} /> : <List
              run={run}
              kind={kind}
              place={place}
              columns={kind === "targets" ? TARGETS : COLUMNS}
              pictures={found.pictures && !(found.grouped && kind === "columns")}
              link={(index) => `/runs/${run}/${kind}/${index}${place.query.has("fit") ? `?fit=${place.query.get("fit")}` : ""}`}
            />}
          </>
        )}
      </Show>
    </main>
  );
}

export function ColumnPage({ run, index, place }: { run: string; index: string; place: Place }) {
  const fit = place.query.has("fit") ? `?fit=${place.query.get("fit")}` : "";
  const asked = useAsked<ColumnDetail>(`/runs/${run}/columns/${index}${fit}`);
  const about = useAsked<RunDetail>(`/runs/${run}`);
  const features = about.found?.features ?? [];
  const link = (one: { index: number }) => `/runs/${run}/targets/${one.index}${fit}`;
  return (
    <main>
      <h1 tabIndex={-1}>
        {about.found?.grouped ? "Group" : "Training example"} {index}
      </h1>
      <Show asked={asked}>
        {(found) => (
          <>
            <Subject look={found.look} features={features} facts={found.facts} fields={found.fields} />
            {FILE && <p class="quiet">Of the targets, this page shows those in this file to which it is one of the strongest examples.</p>}
            <h2>Targets whose output it raises most</h2>
            <Cards of={found.raises} none="None: no target has a positive weight on it." link={link} features={features} />
            <h2>Targets whose output it lowers most</h2>
            <Cards of={found.lowers} none="None: no target has a negative weight on it." link={link} features={features} />
          </>
        )}
      </Show>
    </main>
  );
}
