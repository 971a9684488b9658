// One target: what drives its output, and what if some of that were removed or had another label.
import { useEffect, useState } from "preact/hooks";
import { ask, type Change, type Problem, type RunDetail, type Support, type TargetDetail } from "./api";
import { Cards, Facts, interval, labelOf, number, Show, Sight, Trouble, type Edit, type Edits } from "./parts";
import { changed, go, useAsked, type Place } from "./state";

const WAYS: Edit[] = ["remove", "relabel"];

function editsOf(query: URLSearchParams): Edits {
  return new Map(WAYS.flatMap((way) => (query.get(way) ?? "").split(",").filter(Boolean).map((text): [number, Edit] => [Number(text), way])));
}

const of = (edits: Edits, way: Edit): number[] => [...edits].filter(([, its]) => its === way).map(([column]) => column);

export function TargetPage({ run, index, place }: { run: string; index: string; place: Place }) {
  const fit = place.query.has("fit") ? `?fit=${place.query.get("fit")}` : "";
  const asked = useAsked<TargetDetail>(`/runs/${run}/targets/${index}${fit}`);
  const about = useAsked<RunDetail>(`/runs/${run}`);
  const edits = editsOf(place.query);
  const set = (next: Edits) => go(changed(place.query, Object.fromEntries(WAYS.map((way) => [way, of(next, way).join(",")]))), true);
  const edit = (column: number, way: Edit) => {
    const next = new Map(edits);
    if (next.get(column) === way) next.delete(column);
    else next.set(column, way);
    set(next);
  };
  const effects = about.found?.output.effects ?? ["helpful", "harmful"];
  const features = about.found?.features ?? [];
  const link = (one: { index: number }) => `/runs/${run}/columns/${one.index}${fit}`;
  return (
    <main>
      <h1 tabIndex={-1}>Target {index}</h1>
      <Show asked={asked}>
        {(found) => {
          const ways = found.look.label === null || about.found?.grouped !== false ? WAYS.slice(0, 1) : WAYS;
          return (
            <>
              <section class="pair">
                <div>
                  <Sight look={found.look} features={features} large />
                  <p>
                    {labelOf(found.look)} <span class="quiet">{found.look.title}</span>
                  </p>
                </div>
                <Facts facts={{ ...found.facts, predicted_interval: interval(found.predicted_interval) }} fields={{ ...found.fields, predicted_interval: "95% interval of the mean output of models trained on the whole pool" }} />
              </section>
              <WhatIf run={run} fit={fit} target={Number(index)} edits={edits} set={set} ways={ways} threshold={about.found?.output.threshold ?? null} />
              <h2>Most {effects[0]} training examples</h2>
              <Cards of={found.helpful} none={`None: the weights know of no ${effects[0]} example.`} link={link} features={features} edits={edits} ways={ways} edit={edit} />
              <h2>Most {effects[1]} training examples</h2>
              <Cards of={found.harmful} none={`None: the weights know of no ${effects[1]} example.`} link={link} features={features} edits={edits} ways={ways} edit={edit} />
            </>
          );
        }}
      </Show>
    </main>
  );
}

const MOST = 20;

function Numbers({ run, of: columns }: { run: string; of: number[] }) {
  return (
    <>
      {columns.slice(0, MOST).map((column, i) => (
        <span key={column}>
          {i > 0 && ", "}
          <a href={`/runs/${run}/columns/${column}`}>#{column}</a>
        </span>
      ))}
      {columns.length > MOST && ` and ${columns.length - MOST} more`}
    </>
  );
}

/** Predicts the output of a target if some examples are removed or get another label. */
function WhatIf(props: { run: string; fit: string; target: number; edits: Edits; set: (edits: Edits) => void; ways: Edit[]; threshold: number | null }) {
  const [change, setChange] = useState<Change | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [told, setTold] = useState("");
  const remove = of(props.edits, "remove");
  const relabel = of(props.edits, "relabel");
  const asked = JSON.stringify({ targets: [props.target], remove, relabel });
  useEffect(() => {
    setProblem(null);
    setChange(null);
    if (!props.edits.size) return;
    const control = new AbortController();
    ask<{ changes: Change[] }>(`/runs/${props.run}/counterfactual${props.fit}`, JSON.parse(asked), control.signal)
      .then((found) => setChange(found.changes[0] ?? null))
      .catch((found: Problem) => control.signal.aborted || setProblem(found));
    return () => control.abort();
  }, [props.run, props.fit, asked]);

  const find = (way: Edit) =>
    ask<Support>(`/runs/${props.run}/targets/${props.target}/support${props.fit || "?"}${way === "relabel" ? "&mislabel=true" : ""}`)
      .then((found) => {
        const done = way === "remove" ? `without these ${found.columns.length}` : `if these ${found.columns.length} are labelled ${found.label_name}`;
        const texts: Record<string, string> = {
          found: `It is predicted to be wrong ${done}.`,
          wrong: "It is predicted to be wrong with nothing changed.",
          none: "No set that is small enough makes it wrong.",
          no_weights: "It has no weights.",
        };
        setTold(texts[found.status] ?? found.status);
        setProblem(null);
        if (found.status === "found") props.set(new Map(found.columns.map((column) => [column, way])));
      })
      .catch(setProblem);

  const add = (event: Event) => {
    event.preventDefault();
    const form = event.target as HTMLFormElement;
    const given = new FormData(form);
    const next = new Map(props.edits);
    for (const text of String(given.get("numbers")).match(/\d+/g) ?? []) next.set(Number(text), given.get("way") as Edit);
    props.set(next);
    form.reset();
  };

  return (
    <section class="whatif">
      <h2>What if?</h2>
      <div aria-live="polite">
        {problem && <Trouble text={problem.message} />}
        {!props.edits.size && <p>Tick examples below to {props.ways.join(" or ")} them, or give the numbers of any examples.</p>}
        {props.edits.size > 0 && !change && !problem && <p class="quiet">predicting …</p>}
        {change && (
          <p>
            {remove.length > 0 && (
              <>
                Without <Numbers run={props.run} of={remove} />
              </>
            )}
            {relabel.length > 0 && (
              <>
                {remove.length ? ", and with" : "With"} other labels of <Numbers run={props.run} of={relabel} />
              </>
            )}
            , the mean output changes by <b>{number(change.change, true)}</b> ({interval(change.change_interval)}), from {number(change.before)} ({interval(change.before_interval)}) to <b>{number(change.after)}</b>. One model is expected in{" "}
            {interval(change.after_interval)}. Intervals are at 95%.
          </p>
        )}
        {change && relabel.length > 0 && <p class="quiet">Another label is predicted to have twice the effect of removal. That is a rule, which the intervals do not doubt.</p>}
        {told && <p>{told}</p>}
      </div>
      <form class="tools" onSubmit={add}>
        <label>
          examples <input name="numbers" required pattern="[#0-9, ]*[0-9][#0-9, ]*" placeholder="13, 45" />
        </label>
        <select name="way" aria-label="what happens to them">
          {props.ways.map((way) => (
            <option key={way}>{way}</option>
          ))}
        </select>
        <button>change</button>
      </form>
      <p class="tools">
        {props.threshold !== null && <button onClick={() => find("remove")}>find the fewest to remove that make it wrong</button>}
        {props.threshold !== null && props.ways.includes("relabel") && <button onClick={() => find("relabel")}>find the fewest labels that make it wrong</button>}
        {props.edits.size > 0 && <button onClick={() => (setTold(""), props.set(new Map()))}>change nothing</button>}
      </p>
    </section>
  );
}
