// The pages: runs, a run, its lists, one training example.
import { useEffect, useState } from "preact/hooks";
import { events, type ColumnDetail, type Progress, type Run, type RunDetail } from "./api";
import { List } from "./list";
import { Across, Cards, ldsOf, number, OfSample, Show, Subject, Ways } from "./parts";
import { FILE } from "./sample";
import { useAsked, type Place } from "./state";

export function Runs() {
  const asked = useAsked<{ runs: Run[] }>("/runs?limit=1000");
  return (
    <main>
      <h1 tabIndex={-1}>Runs</h1>
      <Show asked={asked}>
        {({ runs }) =>
          runs.length ? (
            <Across name="runs">
              <thead>
                <tr>
                  <th>run</th>
                  <th class="figure">models</th>
                  <th class="figure">examples</th>
                  <th class="figure">targets</th>
                  <th class="figure">fits</th>
                  <th>output</th>
                </tr>
              </thead>
              <tbody>
                {runs.map((run) => (
                  <tr key={run.run}>
                    <td>
                      <a href={`/runs/${run.run}`}>{run.run}</a>
                    </td>
                    <td class="figure">{number(run.models)}</td>
                    <td class="figure">{number(run.examples)}</td>
                    <td class="figure">{number(run.targets)}</td>
                    <td class="figure">{number(run.fits)}</td>
                    <td>{run.output.name}</td>
                  </tr>
                ))}
              </tbody>
            </Across>
          ) : (
            <p>
              The store has no runs yet. <code>datamodels run digits</code> makes one in a minute; start it where you started the explorer, then reload this page.
            </p>
          )
        }
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

export function RunPage({ run }: { run: string }) {
  const progress = useProgress(run);
  const asked = useAsked<RunDetail>(`/runs/${run}${progress?.fits ? `?fits=${progress.fits}` : ""}`);
  return (
    <main>
      <h1 tabIndex={-1}>{run}</h1>
      <Show asked={asked}>
        {(found) => (
          <>
            <p>
              {number(progress?.committed ?? found.committed)} of {number(found.models)} models
              {found.failed > 0 && `, ${number(found.failed)} failed`}
              {progress?.remaining ? `, about ${number(Math.ceil(progress.remaining / 60))} minutes left` : ""}
            </p>
            <progress max={found.models} value={progress?.committed ?? found.committed} aria-label="committed models" />
            {found.stopped.map((why) => (
              <p key={why}>stopped: {why}</p>
            ))}
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
                      <td>{fit.quality?.verdict}</td>
                    </tr>
                  ))}
                </tbody>
              </Across>
            ) : (
              <p class="quiet">none yet: weights follow once the models are trained</p>
            )}
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
            <List
              run={run}
              kind={kind}
              place={place}
              columns={kind === "targets" ? TARGETS : COLUMNS}
              pictures={found.pictures && !(found.grouped && kind === "columns")}
              link={(index) => `/runs/${run}/${kind}/${index}${place.query.has("fit") ? `?fit=${place.query.get("fit")}` : ""}`}
            />
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
