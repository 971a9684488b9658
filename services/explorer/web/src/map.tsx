// The map: targets or training examples by the two directions in which their weights differ most.
import { useMemo, useState } from "preact/hooks";
import { type Look, type RunDetail, type Value } from "./api";
import { ofClasses, ofNumbers, type Key } from "./colours";
import { labelOf, NoWeights, number, Show, Sight } from "./parts";
import { About, Members, useAnalysis, Waiting, type Analysis, type Clusters } from "./patterns";
import { Plot } from "./plot";
import { asText, cornersOf, inside, viewOf, whole, type Points } from "./points";
import { changed, go, useAsked, type Asked, type Place } from "./state";

interface Drawn extends Points {
  share: number[];
}

type Kind = "targets" | "columns";

/** How points can be coloured: a field of the list, or their clusters. */
const WAYS: Record<Kind, Record<string, string>> = {
  targets: { label_name: "class", cluster: "cluster", predicted: "predicted output", heldout_r2: "R²", lds: "LDS", strongest: "strongest weight", nonzeros: "number of weights" },
  columns: { label_name: "class", cluster: "cluster", mean: "mean weight", strongest: "strongest weight", targets: "number of targets", harmed: "targets that it harms" },
};
const LISTED = 24;
const MOST_NUMBERS = 10_000;

export function MapPage({ run, place }: { run: string; place: Place }) {
  const about = useAsked<RunDetail>(`/runs/${run}`);
  const kind: Kind = place.query.get("of") === "columns" ? "columns" : "targets";
  const what = { targets: "targets", columns: about.found?.grouped ? "groups" : "training examples" };
  const by = WAYS[kind][place.query.get("by") ?? ""] ? place.query.get("by")! : "label_name";
  const set = (values: Record<string, string>) => go(changed(place.query, values), true);
  return (
    <main class="map">
      <h1 tabIndex={-1}>Map of {what[kind]}</h1>
      <div class="tools">
        <label>
          of{" "}
          <select value={kind} onChange={(event) => set({ of: event.currentTarget.value, by: "", only: "", lasso: "", view: "" })}>
            {(["targets", "columns"] as const).map((one) => (
              <option key={one} value={one}>
                {what[one]}
              </option>
            ))}
          </select>
        </label>
        <label>
          colour by{" "}
          <select value={by} onChange={(event) => set({ by: event.currentTarget.value, only: "" })}>
            {Object.entries(WAYS[kind]).map(([name, title]) => (
              <option key={name} value={name}>
                {title}
              </option>
            ))}
          </select>
        </label>
      </div>
      <Show asked={about}>
        {(found) =>
          found.fit_list.length ? (
            <Positions key={kind} run={found} kind={kind} by={by} place={place} what={what[kind]} />
          ) : (
            <NoWeights run={run} />
          )
        }
      </Show>
    </main>
  );
}

interface Wanted {
  run: RunDetail;
  kind: Kind;
  by: string;
  place: Place;
  what: string;
}

function Positions(props: Wanted) {
  const state = useAnalysis<Drawn>(props.run.run, "map", `columns=${props.kind === "columns"}`);
  if (!state.found && !state.problem) return <Waiting {...state} />;
  return <Show asked={state}>{(found) => <Coloured {...props} drawn={found} />}</Show>;
}

interface Values {
  field: string;
  values: Value[];
}

function Coloured(props: Wanted & { drawn: Analysis<Drawn> }) {
  const { run, kind, by, drawn } = props;
  const values = (field: string) => `/runs/${run.run}/${kind}/values?field=${field}&fit=${drawn.fit}`;
  const classes = useAsked<Values>(values("label_name"));
  const wanted = by === "cluster" ? "label_name" : by;
  const field = useAsked<Values>(values(wanted));
  const clusters = useAnalysis<Clusters>(run.run, by === "cluster" ? "clusters" : null, `columns=${kind === "columns"}`);
  const numbers = by === "cluster" ? clusters.found?.result.cluster : field.found?.field === wanted ? field.found.values : undefined;
  const key = useMemo<Key | null>(() => {
    if (!numbers) return null;
    if (by === "cluster") return ofClasses((numbers as number[]).map((one) => (one < 0 ? "" : `cluster ${one + 1}`)));
    if (by === "label_name") return ofClasses(numbers as string[]);
    return ofNumbers(numbers as (number | null)[], number);
  }, [numbers, by]);
  if (by === "cluster" && !key && !clusters.problem) return <Waiting {...clusters} />;
  const asked: Asked<[Key, Value[]]> = { found: key && classes.found && [key, classes.found.values], problem: classes.problem ?? field.problem ?? clusters.problem };
  return <Show asked={asked}>{([shown, names]) => <Picture {...props} shown={shown} names={names as string[]} values={numbers as Value[]} />}</Show>;
}

function Picture({ run, kind, by, place, what, drawn, shown: key, names, values }: Wanted & { drawn: Analysis<Drawn>; shown: Key; names: string[]; values: Value[] }) {
  const points = drawn.result;
  const [looked, look] = useState(-1);
  const set = (changes: Record<string, string>) => go(changed(place.query, changes), true);
  const [lassoText, viewText, only] = [place.query.get("lasso"), place.query.get("view"), place.query.get("only")];
  const everything = useMemo(() => whole(points), [points]);
  const view = useMemo(() => viewOf(viewText) ?? everything, [viewText, everything]);
  const lasso = useMemo(() => cornersOf(lassoText), [lassoText]);
  const groups = by === "label_name" || by === "cluster" ? (by === "label_name" ? names : (values as number[]).map((one) => (one < 0 ? "" : `cluster ${one + 1}`))) : null;
  const shown = useMemo(() => (i: number) => only === null || groups === null || groups[i] === only, [only, values, by]);
  const chosen = useMemo(() => (lasso.length ? inside(points, lasso).filter(shown) : null), [points, lasso, shown]);
  const among = useMemo(() => chosen && new Set(chosen), [chosen]);
  const share = (i: number) => `${(100 * (points.share[i] ?? 0)).toFixed(1)}%`;
  return (
    <>
      <p class="quiet">
        Points near each other have similar weights: models learn about them in the same way. Across: component 1, {share(0)} of the variance; up: component 2, {share(1)}.
      </p>
      <About of={drawn} />
      <div class="mapped">
        <Plot
          points={points}
          colours={key.colours}
          shown={shown}
          chosen={among}
          view={view}
          lasso={lasso}
          label={`map of ${number(points.x.length)} ${what}`}
          look={look}
          open={(i) => go(`/runs/${run.run}/${kind}/${i}?fit=${drawn.fit}`)}
          setView={(next) => set({ view: next ? asText(next) : "" })}
          setLasso={(corners) => set({ lasso: asText(corners.flat()) })}
        />
        <div class="beside">
          <Legend entries={key.entries} classes={groups !== null} only={only} set={set} />
          <Looked run={run} kind={kind} at={looked} value={groups || looked < 0 ? null : (values[looked] as number | null)} />
        </div>
      </div>
      <details>
        <summary>Pointer and keys</summary>
        <p id="map-keys">
          Drag to draw a lasso, click a point to open it, turn the wheel to zoom. By keyboard, on the map: arrows move a cross (with <kbd>Shift</kbd> faster), <kbd>Enter</kbd> opens the point at the cross, <kbd>Space</kbd> sets a corner of a lasso and <kbd>Enter</kbd> then closes it, <kbd>+</kbd> and{" "}
          <kbd>-</kbd> zoom, <kbd>0</kbd> shows all, <kbd>Escape</kbd> takes the lasso away.
        </p>
      </details>
      <p class="tools">
        {viewText && <button onClick={() => set({ view: "" })}>show all</button>}
        {lasso.length > 0 && <button onClick={() => set({ lasso: "" })}>take the lasso away</button>}
      </p>
      <div aria-live="polite">{chosen && <Chosen run={run} kind={kind} of={chosen} what={what} names={names} values={groups ? null : (values as (number | null)[])} total={points.x.length} />}</div>
    </>
  );
}

const SHOWN = 12;

function Legend({ entries, classes, only, set }: { entries: Key["entries"]; classes: boolean; only: string | null; set: (changes: Record<string, string>) => void }) {
  const sign = (colour: string) => <span class="sign" style={{ background: colour }} />;
  return (
    <ul class="legend" aria-label="what the colours mean">
      {entries.slice(0, SHOWN).map((one) => (
        <li key={one.name}>
          {classes && one.name ? (
            <button aria-pressed={only === one.name} onClick={() => set({ only: only === one.name ? "" : one.name })}>
              {sign(one.colour)} {one.name} <span class="quiet">{number(one.count)}</span>
            </button>
          ) : (
            <span>
              {sign(one.colour)} {one.name || "none"} {one.count !== null && <span class="quiet">{number(one.count)}</span>}
            </span>
          )}
        </li>
      ))}
      {entries.length > SHOWN && <li class="quiet">and {entries.length - SHOWN} more</li>}
    </ul>
  );
}

function Looked({ run, kind, at, value }: { run: RunDetail; kind: Kind; at: number; value: number | null }) {
  const grouped = run.grouped && kind === "columns";
  const { found } = useAsked<Look>(at < 0 || grouped ? null : `/runs/${run.run}/${kind === "targets" ? "targets" : "examples"}/${at}/look`);
  return (
    <div class="looked" aria-live="polite">
      {at < 0 ? (
        <span class="quiet">Point at something.</span>
      ) : (
        <>
          {found?.index === at && <Sight look={found} features={run.features} />}
          <span>
            #{at} {found?.index === at && `${labelOf(found)} ${found.title}`} {value !== null && number(value)}
          </span>
        </>
      )}
    </div>
  );
}

function Chosen(props: { run: RunDetail; kind: Kind; of: number[]; what: string; names: string[]; values: (number | null)[] | null; total: number }) {
  const { of: chosen, names } = props;
  const counts = new Map<string, number>();
  for (const i of chosen) if (names[i]) counts.set(names[i], (counts.get(names[i]) ?? 0) + 1);
  const shares = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 5).map(([name, count]) => `${name} ${Math.round((100 * count) / chosen.length)}%`);
  const known = (props.values ? chosen.map((i) => props.values![i]) : []).filter((value) => typeof value === "number").sort((a, b) => a - b);
  return (
    <section>
      <h2>
        {number(chosen.length)} of {number(props.total)} {props.what} inside
      </h2>
      {shares.length > 0 && <p>{shares.join(", ")}</p>}
      {known.length > 0 && <p>median {number(known[Math.floor(known.length / 2)])}</p>}
      <Members run={props.run.run} kind={props.kind} of={chosen} grouped={props.run.grouped} most={LISTED} />
      {chosen.length > 0 && (
        <details>
          <summary>Their numbers</summary>
          <textarea readOnly rows={4} aria-label="numbers of those inside" value={chosen.slice(0, MOST_NUMBERS).join(",")} />
        </details>
      )}
    </section>
  );
}
