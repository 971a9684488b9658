// One target: what drives its output, and what if some of that were removed, added, or had another label.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { ask, type Change, type Problem, type RunDetail, type Support, type TargetDetail, type TargetFindings } from "./api";
import { Alike, factsOf, Outputs, removedOf } from "./outputs";
import { Cards, fitOf, interval, number, Show, Subject, Trouble, type Edit, type Edits } from "./parts";
import { FILE } from "./sample";
import { changed, go, useAsked, type Place } from "./state";
import { Verify, type Question } from "./verify";

const WAYS: Record<Edit, string> = { remove: "remove", relabel: "relabel", add: "add", without: "leave out" };
const NAMES = Object.keys(WAYS) as Edit[];

function editsOf(query: URLSearchParams): Edits {
  return new Map(NAMES.flatMap((way) => (query.get(way) ?? "").split(",").filter(Boolean).map((text): [number, Edit] => [Number(text), way])));
}

const of = (edits: Edits, way: Edit): number[] => [...edits].filter(([, its]) => its === way).map(([column]) => column);

export function TargetPage({ run, index, place }: { run: string; index: string; place: Place }) {
  const fit = place.query.has("fit") ? `?fit=${place.query.get("fit")}` : "";
  const asked = useAsked<TargetDetail>(`/runs/${run}/targets/${index}${fit}`);
  const about = useAsked<RunDetail>(`/runs/${run}`);
  const edits = editsOf(place.query);
  const set = (next: Edits) => go(changed(place.query, { verified: "", ...Object.fromEntries(NAMES.map((way) => [way, of(next, way).join(",")])) }), true);
  const edit = (column: number, way: Edit) => {
    const next = new Map(edits);
    if (next.get(column) === way) next.delete(column);
    else next.set(column, way);
    set(next);
  };
  const more = useAsked<TargetFindings>(asked.found ? `/runs/${run}/targets/${index}/findings${fit}` : null).found;
  const features = about.found?.features ?? [];
  const link = (one: { index: number }) => `/runs/${run}/columns/${one.index}${fit}`;
  return (
    <main>
      <h1 tabIndex={-1}>Target {index}</h1>
      <Show asked={asked}>
        {(found) => {
          const labelled = found.look.label !== null && about.found?.grouped === false;
          const its = about.found && fitOf(about.found, found.fit);
          const effects = its?.predicted.effects ?? ["helpful", "harmful"];
          const ticks: Edit[] = FILE ? [] : labelled ? ["remove", "relabel"] : ["remove"];
          const cards = { link, features, edits, ways: ticks, edit, like: found.look };
          return (
            <>
              <Subject
                look={found.look}
                features={features}
                facts={{ ...found.facts, predicted_interval: interval(found.predicted_interval), ...(more && about.found && factsOf(more, about.found)) }}
                fields={{ ...found.fields, predicted_interval: "95% interval of the mean output of models trained on the whole pool" }}
              />
              {about.found && !FILE && <WhatIf run={about.found} fit={fit} target={Number(index)} edits={edits} set={set} ways={NAMES.filter((way) => way !== "relabel" || labelled)} place={place} />}
              {its?.chosen && <p class="quiet">How these weights were made: {its.chosen}.</p>}
              <h2>Most {effects[0]} training examples</h2>
              <p class="quiet">
                A weight is how much the {its?.predicted.name ?? "output"} grows, on average, if the example is in the training set.
                {its?.predicted.higher_is_better === false && " Lower is better, so helpful examples have negative weights."} Bars are as long as weights are strong; in brackets, their 95% intervals.
                {found.helpful.concat(found.harmful).some((one) => one.measured !== null) && " The prior is the part that inputs, and gradients, say; the rest was measured by training models."}
              </p>
              <Cards of={found.helpful} none={`None: the weights know of no ${effects[0]} example.`} gone={removedOf(place, more)} {...cards} />
              <h2>Most {effects[1]} training examples</h2>
              <Cards of={found.harmful} none={`None: the weights know of no ${effects[1]} example.`} {...cards} />
              {more && its && about.found && <Outputs run={about.found} predicted={its.predicted} of={more} place={place} look={found.look} />}
              {about.found && <Alike run={about.found} index={index} fit={fit} />}
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

/** Says how models are trained, as part of a sentence. */
function How({ run, edits }: { run: string; edits: Edits }) {
  const texts: [Edit, (numbers: ComponentChildren) => ComponentChildren][] = [
    ["remove", (numbers) => <>without {numbers}</>],
    ["add", (numbers) => <>with {numbers} added</>],
    ["relabel", (numbers) => <>with other labels of {numbers}</>],
    ["without", (numbers) => <>on a pool that lacks {numbers} before, too</>],
  ];
  const parts = texts.flatMap(([way, text]) => (of(edits, way).length ? [text(<Numbers run={run} of={of(edits, way)} />)] : []));
  return (
    <>
      {parts.map((part, i) => (
        <span key={i}>
          {i > 0 && ", "}
          {part}
        </span>
      ))}
    </>
  );
}

/** Predicts the output of a target if some examples are removed, added, or get another label. */
function WhatIf(props: { run: RunDetail; fit: string; target: number; edits: Edits; set: (edits: Edits) => void; ways: Edit[]; place: Place }) {
  const { edits } = props;
  const { run, output } = props.run;
  const [failed, setFailed] = useState<Problem | null>(null);
  const [told, setTold] = useState("");
  const [remove, add, relabel, without] = (["remove", "add", "relabel", "without"] as const).map((way) => of(edits, way)) as [number[], number[], number[], number[]];
  const changes = remove.length + add.length + relabel.length > 0;
  const question: Question = { target: props.target, remove, add, relabel, left_out: without };
  const asked = useAsked<{ changes: Change[] }>(changes ? `/runs/${run}/counterfactual${props.fit}` : null, { targets: [props.target], remove, add, relabel, left_out: [...without, ...add] });
  const change = changes ? (asked.found?.changes[0] ?? null) : null;
  const problem = failed ?? (changes ? asked.problem : null);

  const find = (way: Edit) =>
    ask<Support>(`/runs/${run}/targets/${props.target}/support${props.fit || "?"}${way === "relabel" ? "&mislabel=true" : ""}`)
      .then((found) => {
        const done = way === "remove" ? `without these ${found.columns.length}` : `if these ${found.columns.length} are labelled ${found.label_name}`;
        const texts: Record<string, string> = {
          found: `It is predicted to be wrong ${done}.`,
          wrong: "It is predicted to be wrong with nothing changed.",
          none: "No set that is small enough makes it wrong.",
          no_weights: "It has no weights.",
        };
        setTold(texts[found.status] ?? found.status);
        setFailed(null);
        if (found.status === "found") props.set(new Map(found.columns.map((column) => [column, way])));
      })
      .catch(setFailed);

  const take = (event: Event) => {
    event.preventDefault();
    const form = event.target as HTMLFormElement;
    const given = new FormData(form);
    const next = new Map(edits);
    for (const text of String(given.get("numbers")).match(/\d+/g) ?? []) next.set(Number(text), given.get("way") as Edit);
    props.set(next);
    form.reset();
  };

  return (
    <section class="whatif">
      <h2>What if?</h2>
      <div aria-live="polite">
        {problem && <Trouble text={problem.message} />}
        {!changes && (
          <p>
            Tick examples below to {props.ways.includes("relabel") ? "remove or relabel" : "remove"} them, or give the numbers of any examples to remove or to add: those to add are left out before.
            {without.length > 0 && " Examples that are left out are so before and after a change."}
          </p>
        )}
        {changes && !change && !problem && <p class="quiet">predicting …</p>}
        {change && (
          <p>
            If models are trained <How run={run} edits={edits} />, the mean output changes by <b>{number(change.change, true)}</b> ({interval(change.change_interval)}), from {number(change.before)} ({interval(change.before_interval)}) to <b>{number(change.after)}</b>.{" "}
            {change.after_interval[0] !== null && `One model is expected in ${interval(change.after_interval)}. Intervals are at 95%.`}
          </p>
        )}
        {change && relabel.length > 0 && <p class="quiet">Another label is predicted to have twice the effect of removal. That is a rule, which the intervals do not doubt.</p>}
        {told && <p>{told}</p>}
      </div>
      <form class="tools" onSubmit={take}>
        <label>
          examples <input name="numbers" required pattern="[#0-9, ]*[0-9][#0-9, ]*" placeholder="13, 45" />
        </label>
        <select name="way" aria-label="what happens to them">
          {props.ways.map((way) => (
            <option key={way} value={way}>
              {WAYS[way]}
            </option>
          ))}
        </select>
        <button>change</button>
      </form>
      <p class="tools">
        {output.threshold !== null && <button onClick={() => find("remove")}>find the fewest to remove that make it wrong</button>}
        {output.threshold !== null && props.ways.includes("relabel") && <button onClick={() => find("relabel")}>find the fewest labels that make it wrong</button>}
        {edits.size > 0 && <button onClick={() => (setTold(""), props.set(new Map()))}>change nothing</button>}
      </p>
      {change && <Verify run={props.run} question={question} change={change} place={props.place} />}
    </section>
  );
}
