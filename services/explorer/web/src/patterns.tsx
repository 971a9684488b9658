// Long analyses of a fit: clusters of targets or examples with similar weights, and the components of all weights.
import { useEffect, useState } from "preact/hooks";
import { events, Problem, type Look, type RunDetail } from "./api";
import { labelOf, NoWeights, number, Show, Sight } from "./parts";
import { changed, submitted, useAsked, type Asked, type Place } from "./state";

export interface Analysis<T> {
  fit: number;
  models: number;
  partial: boolean;
  result: T;
}

export interface Clusters {
  cluster: number[];
  sizes: number[];
  central: number[][];
  labels: number[];
}

interface Components {
  share: number[];
  interval: [number | null, number | null][];
  high: number[][];
  low: number[][];
  high_feature: number[][];
  low_feature: number[][];
}

const SHOWN = 8;

interface Running<T> extends Asked<Analysis<T>> {
  stage: string;
  fraction: number;
}

/** Follows a long analysis from its events; none if `name` is null. */
export function useAnalysis<T>(run: string, name: string | null, parameters: string): Running<T> {
  const start: Running<T> = { found: null, problem: null, stage: "starting", fraction: 0 };
  const [state, set] = useState(start);
  useEffect(() => {
    set(start);
    if (name === null) return;
    const source = events(`/runs/${run}/analyses/${name}/events?${parameters}`);
    const on = <D,>(kind: string, then: (data: D) => void) => source.addEventListener(kind, (event) => then(JSON.parse((event as MessageEvent<string>).data) as D));
    const fail = (text: string) => {
      source.close();
      set({ ...start, problem: new Problem(0, text) });
    };
    on<{ stage: string; fraction: number }>("progress", (data) => set({ ...start, ...data }));
    on<{ detail: string }>("problem", (data) => fail(data.detail));
    on<Analysis<T>>("answer", (found) => {
      source.close();
      set({ ...start, found });
    });
    source.onerror = () => fail("the explorer has ended the analysis, or does not answer; reload the page to ask again");
    return () => source.close();
  }, [run, name, parameters]);
  return state;
}

/** A target or a training example, which is asked for by itself. */
function Member({ run, kind, index, bare }: { run: string; kind: "targets" | "columns"; index: number; bare: boolean }) {
  return (
    <li class="card">
      <a href={`/runs/${run}/${kind}/${index}`}>
        {!bare && <Shown path={`/runs/${run}/${kind === "targets" ? "targets" : "examples"}/${index}/look`} />}
        <span class="name">#{index}</span>
      </a>
    </li>
  );
}

function Shown({ path }: { path: string }) {
  const { found } = useAsked<Look>(path);
  if (!found) return null;
  return (
    <>
      <Sight look={found} />
      <span class="title">{labelOf(found)}</span>
    </>
  );
}

export function Members(props: { run: string; kind: "targets" | "columns"; of: number[]; grouped: boolean; most?: number }) {
  return (
    <ul class="cards small">
      {props.of
        .filter((index) => index >= 0)
        .slice(0, props.most ?? SHOWN)
        .map((index) => (
          <Member key={index} run={props.run} kind={props.kind} index={index} bare={props.grouped && props.kind === "columns"} />
        ))}
    </ul>
  );
}

export function PatternsPage({ run, name, place }: { run: string; name: "clusters" | "components"; place: Place }) {
  const about = useAsked<RunDetail>(`/runs/${run}`);
  const columns = place.query.get("of") === "columns";
  const k = place.query.get("k") ?? "";
  const what = columns ? (about.found?.grouped ? "groups" : "training examples") : "targets";
  return (
    <main>
      <h1 tabIndex={-1}>
        {name === "clusters" ? "Clusters" : "Components"} of {what}
      </h1>
      <p>
        {name === "clusters" ? "Those with similar weights are in one cluster: models learn about them in the same way." : "Each component is a direction in which the weights differ most: what its two ends have in common, models tell apart."}
      </p>
      <form class="tools" onSubmit={submitted}>
        <label>
          of{" "}
          <select name="of" defaultValue={columns ? "columns" : "targets"} key={String(columns)}>
            <option value="targets" selected={!columns}>
              targets
            </option>
            <option value="columns" selected={columns}>
              {about.found?.grouped ? "groups" : "training examples"}
            </option>
          </select>
        </label>
        <label>
          how many <input name="k" type="number" min={name === "clusters" ? 2 : 1} max={100} key={k} defaultValue={k} placeholder={name === "clusters" ? "by itself" : "5"} />
        </label>
        <button>show</button>
        <a href={changed(new URLSearchParams(columns ? { of: "columns" } : {}), {}).replace(`/${name}`, name === "clusters" ? "/components" : "/clusters")}>{name === "clusters" ? "components" : "clusters"} instead</a>
      </form>
      <Show asked={about}>
        {(found) =>
          found.fit_list.length ? (
            name === "clusters" ? (
              <ClusterList run={run} columns={columns} grouped={found.grouped} names={found.label_names} k={k} />
            ) : (
              <ComponentList run={run} columns={columns} grouped={found.grouped} k={k} />
            )
          ) : (
            <NoWeights run={run} />
          )
        }
      </Show>
    </main>
  );
}

interface Wanted {
  run: string;
  columns: boolean;
  grouped: boolean;
  k: string;
}

const parameters = (wanted: Wanted) => new URLSearchParams({ columns: String(wanted.columns), k: wanted.k || "0" }).toString();

export function Waiting({ stage, fraction }: { stage: string; fraction: number }) {
  return (
    <p role="status">
      {stage} … <progress max={1} value={fraction} aria-label="progress of the analysis" />
    </p>
  );
}

export const About = ({ of: found }: { of: Analysis<unknown> }) => (
  <p class="quiet">
    Fit {found.fit}, of {number(found.models)} models.{found.partial && " The run is not finished, so this may change."}
  </p>
);

function ClusterList(props: Wanted & { names: string[] }) {
  const state = useAnalysis<Clusters>(props.run, "clusters", parameters(props));
  if (!state.found && !state.problem) return <Waiting {...state} />;
  const kind = props.columns ? "columns" : "targets";
  return (
    <Show asked={state}>
      {(found) => {
        const { sizes, central, cluster, labels } = found.result;
        const alone = cluster.filter((one) => one < 0).length;
        return (
          <>
            <About of={found} />
            {!sizes.length && <p>There are no clusters: no two of them have similar weights.</p>}
            {sizes.map((size, i) => (
              <section key={i}>
                <h2>
                  Cluster {i + 1}: {number(size)} {size === 1 ? "member" : "members"}
                </h2>
                {labels.length > 0 && <p class="quiet">{classes(cluster, labels, i, props.names)}</p>}
                <Members run={props.run} kind={kind} of={central[i] ?? []} grouped={props.grouped} />
              </section>
            ))}
            {alone > 0 && <p class="quiet">{number(alone)} are similar to nothing, and so in no cluster.</p>}
          </>
        );
      }}
    </Show>
  );
}

/** Names the most frequent classes of a cluster with their shares. */
function classes(cluster: number[], labels: number[], wanted: number, names: string[]): string {
  const counts = new Map<number, number>();
  let total = 0;
  cluster.forEach((one, i) => {
    const label = labels[i];
    if (one !== wanted || label === undefined) return;
    counts.set(label, (counts.get(label) ?? 0) + 1);
    total++;
  });
  const most = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 3);
  return most.map(([label, count]) => `${names[label] ?? `class ${label}`} ${Math.round((100 * count) / total)}%`).join(", ");
}

function ComponentList(props: Wanted) {
  const state = useAnalysis<Components>(props.run, "components", parameters(props));
  if (!state.found && !state.problem) return <Waiting {...state} />;
  const [kind, other] = props.columns ? (["columns", "targets"] as const) : (["targets", "columns"] as const);
  const percent = (share: number | null) => (share === null ? "unknown" : `${(100 * share).toFixed(1)}%`);
  return (
    <Show asked={state}>
      {(found) => (
        <>
          <About of={found} />
          {found.result.share.map((share, i) => (
            <section key={i}>
              <h2>
                Component {i + 1}: {percent(share)} of the variance
              </h2>
              <p class="quiet">
                95% interval: {percent(found.result.interval[i]?.[0] ?? null)} to {percent(found.result.interval[i]?.[1] ?? null)}
              </p>
              {(["high", "low"] as const).map((end) => (
                <div key={end}>
                  <h3>At the {end} end</h3>
                  <Members run={props.run} kind={kind} of={found.result[end][i] ?? []} grouped={props.grouped} />
                  <p class="quiet">with weight {props.columns ? "on these targets" : "from these examples"}:</p>
                  <Members run={props.run} kind={other} of={found.result[`${end}_feature`][i] ?? []} grouped={props.grouped} />
                </div>
              ))}
            </section>
          ))}
        </>
      )}
    </Show>
  );
}
