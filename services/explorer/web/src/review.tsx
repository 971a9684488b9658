// The review queue: one suspect after the other, by mouse or by keyboard alone.
import { useEffect, useRef, useState } from "preact/hooks";
import { ask, type Problem, type Queue as Suspects, type Suspect, type Verdict } from "./api";
import { labelOf, number, Prose, Show, Sight, Trouble } from "./parts";
import { FILE } from "./sample";
import { changed, go, useAsked, type Place } from "./state";

const KINDS: Record<string, string> = {
  label: "Labels that may be wrong",
  leak: "Targets that may have leaked",
  duplicate: "Training examples that are the same",
  fragile: "Targets that few examples decide",
};

const OF_TARGETS = new Set(["leak", "fragile"]);

const name = (one: Suspect) => `${one.kind}-${one.index}-${one.other}`;

const subject = (one: Suspect) => `${OF_TARGETS.has(one.kind) ? "target" : "example"} #${one.index}${one.other < 0 ? "" : ` and example #${one.other}`}`;

export function ReviewPage({ run, place }: { run: string; place: Place }) {
  const asked = useAsked<Suspects>(`/runs/${run}/queue?k=50`);
  return (
    <main>
      <h1 tabIndex={-1}>Review</h1>
      {!FILE && <p>
        Verdicts: <a href={`/api/v1/runs/${run}/verdicts.csv`} download>CSV</a>, <a href={`/api/v1/runs/${run}/verdicts`} download={`${run}-verdicts.json`}>JSON</a>,{" "}
        <a href={`/api/v1/runs/${run}/next.yaml`} download={`${run}-next.yaml`}>
          spec of the next run
        </a>
        , which leaves out what is wrong and has the labels that you fix
      </p>}
      {FILE && <Prose of={[`\`datamodels explore ${run}\` stores verdicts on these, and makes the spec of the next run of them.`]} />}
      <Show asked={asked}>{(found) => <Queue run={run} place={place} {...found} />}</Show>
    </main>
  );
}

function Queue(props: Suspects & { run: string; place: Place }) {
  const [said, setSaid] = useState(new Map<string, Verdict>(props.suspects.flatMap((one) => (one.verdict ? [[name(one), one.verdict]] : []))));
  const [problem, setProblem] = useState<Problem | null>(null);
  const [told, setTold] = useState("");
  const order = Object.keys(KINDS).flatMap((kind) => props.suspects.filter((one) => one.kind === kind));
  const wanted = order.findIndex((one) => name(one) === props.place.query.get("at"));
  const at = Math.max(0, wanted);
  const list = useRef<HTMLDivElement>(null);

  const pick = (i: number) => {
    const one = order[Math.min(Math.max(i, 0), order.length - 1)];
    if (!one) return;
    go(changed(props.place.query, { at: name(one) }), true);
    list.current?.querySelector<HTMLElement>(`[data-name="${name(one)}"]`)?.focus();
  };

  const say = (one: Suspect, verdict: string, note: string, label: number | null = null) =>
    ask<Verdict>(`/runs/${props.run}/verdicts`, { kind: one.kind, index: one.index, other: one.other, verdict, label, note })
      .then((stored) => {
        setSaid((before) => {
          const next = new Map(before);
          if (verdict === "open") next.delete(name(one));
          else next.set(name(one), stored);
          return next;
        });
        setProblem(null);
        setTold(`${subject(one)}: ${verdict === "open" ? "undecided" : verdict}`);
        return true;
      })
      .catch((found: Problem) => (setProblem(found), false));

  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      const place = event.target as HTMLElement;
      if (FILE || event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(place.tagName)) return;
      const here = order.findIndex((one) => name(one) === place.closest<HTMLElement>("[data-name]")?.dataset["name"]);
      const i = here < 0 ? at : here;
      const one = order[i];
      if (!one) return;
      const note = () => list.current?.querySelector<HTMLInputElement>(`[data-name="${name(one)}"] input`);
      const decide = (verdict: string, label: number | null = null) =>
        void say(one, verdict, note()?.value ?? "", label).then((done) => done && verdict !== "open" && pick(i + 1));
      switch (event.key) {
        case "j":
        case "ArrowDown":
          pick(here < 0 && wanted < 0 ? 0 : i + 1);
          break;
        case "k":
        case "ArrowUp":
          pick(i - 1);
          break;
        case "1":
          decide("keep");
          break;
        case "2":
        case "w":
          decide("wrong");
          break;
        case "3":
        case "f":
          if (one.suggested === null) setTold(`${subject(one)}: the weights suggest no label`);
          else decide("fix", one.suggested);
          break;
        case "0":
        case "u":
          decide("open");
          break;
        case "n":
          note()?.focus();
          break;
        default:
          return;
      }
      event.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  });

  return (
    <>
      {!FILE && <p class="quiet">
        Keys: <kbd>j</kbd> next, <kbd>k</kbd> previous, <kbd>1</kbd> keep, <kbd>2</kbd> or <kbd>w</kbd> wrong, <kbd>3</kbd> or <kbd>f</kbd> fix to the suggested label, <kbd>0</kbd> or <kbd>u</kbd> undo, <kbd>n</kbd> note
        (<kbd>Escape</kbd> leaves it).
      </p>}
      {problem && <Trouble text={problem.message} />}
      {!FILE && <p aria-live="polite">
        {number(said.size)} of {number(order.length)} decided. {told}
      </p>}
      <div ref={list}>
        {Object.entries(KINDS).map(([kind, title]) => {
          const some = order.filter((one) => one.kind === kind);
          return (
            <section key={kind}>
              <h2>{title}</h2>
              {props.left_out[kind] ? <p class="quiet"><Prose of={[`None: ${props.left_out[kind]}`]} inline /></p> : !some.length && <p class="quiet">Nothing is suspect.</p>}
              {some.length > 0 && <Prose of={[props.ranked[kind] ?? ""]} />}
              <ul class="suspects">
                {some.map((one) => (
                  <Item key={name(one)} run={props.run} one={one} said={said.get(name(one)) ?? null} current={order[at] === one && wanted >= 0} say={say} back={() => pick(order.indexOf(one))} />
                ))}
              </ul>
            </section>
          );
        })}
      </div>
    </>
  );
}

function Item(props: {
  run: string;
  one: Suspect;
  said: Verdict | null;
  current: boolean;
  say: (one: Suspect, verdict: string, note: string, label?: number | null) => Promise<boolean>;
  back: () => void;
}) {
  const { one, said } = props;
  const [note, setNote] = useState(said?.note ?? "");
  const typed = (event: KeyboardEvent) => {
    if (event.key === "Enter" && said) void props.say(one, said.verdict, note, said.label);
    if (event.key === "Enter" || event.key === "Escape") props.back();
  };
  return (
    <li data-name={name(one)} tabIndex={-1} class={said ? "done" : ""} aria-current={props.current || undefined}>
      <a href={`/runs/${props.run}/${OF_TARGETS.has(one.kind) ? "targets" : "columns"}/${one.index}`}>
        <Sight look={one.look} /> #{one.index} {labelOf(one.look)}
      </a>
      {one.other_look && (
        <a href={`/runs/${props.run}/columns/${one.other}`}>
          <Sight look={one.other_look} /> #{one.other} {labelOf(one.other_look)}
        </a>
      )}
      <span>{one.why}</span>
      {one.suggested_name && <span class="rather">rather {one.suggested_name}?</span>}
      {!FILE && <span class="say">
        <input value={note} maxLength={1000} placeholder="note" aria-label={`note on ${subject(one)}`} onInput={(event) => setNote(event.currentTarget.value)} onKeyDown={typed} />{" "}
        {said ? (
          <>
            <b>
              {said.verdict}
              {said.who && ` (${said.who})`}
            </b>{" "}
            <button aria-label={`undo: ${subject(one)}`} onClick={() => props.say(one, "open", note)}>
              undo
            </button>
          </>
        ) : (
          <>
            <button aria-label={`keep: ${subject(one)}`} onClick={() => props.say(one, "keep", note)}>
              keep
            </button>{" "}
            <button aria-label={`wrong: ${subject(one)}`} onClick={() => props.say(one, "wrong", note)}>
              wrong
            </button>{" "}
            {one.suggested !== null && (
              <button aria-label={`fix to ${one.suggested_name}: ${subject(one)}`} onClick={() => props.say(one, "fix", note, one.suggested)}>
                fix to {one.suggested_name}
              </button>
            )}
          </>
        )}
      </span>}
    </li>
  );
}
