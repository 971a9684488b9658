// Verification of a prediction: models are trained with and without a change, or the command that trains them is shown.
import { useEffect, useState } from "preact/hooks";
import { ask, type Change, type Problem, type RunDetail } from "./api";
import { interval, number, Trouble } from "./parts";
import { changed, go, useAsked, type Place } from "./state";

export interface Question {
  target: number;
  remove: number[];
  add: number[];
  relabel: number[];
  left_out: number[];
}

interface Measured {
  models: number;
  mean: number;
  interval: [number | null, number | null];
  flipped: number | null;
}

interface Verification {
  id: string;
  status: "running" | "done" | "failed";
  seconds: number;
  fault: string;
  before: Measured | null;
  after: Measured | null;
}

const EVERY = 1000;
const MODELS = "5";

/** Follows a verification until it has ended. */
function useVerification(path: string | null): { found: Verification | null; problem: Problem | null } {
  const [state, set] = useState<{ found: Verification | null; problem: Problem | null }>({ found: null, problem: null });
  useEffect(() => {
    set({ found: null, problem: null });
    if (path === null) return;
    const control = new AbortController();
    const look = () =>
      void ask<Verification>(path, undefined, control.signal)
        .then((found) => {
          set({ found, problem: null });
          if (found.status === "running") setTimeout(() => control.signal.aborted || look(), EVERY);
        })
        .catch((problem: Problem) => control.signal.aborted || set({ found: null, problem }));
    look();
    return () => control.abort();
  }, [path]);
  return state;
}

export function Verify({ run, question, change, place }: { run: RunDetail; question: Question; change: Change; place: Place }) {
  const [problem, setProblem] = useState<Problem | null>(null);
  const [wantedModels, wantedLabel, id] = [place.query.get("models") ?? MODELS, place.query.get("label"), place.query.get("verified")];
  const relabels = question.relabel.length > 0;
  const label = relabels && wantedLabel ? Number(wantedLabel) : null;
  const asked = { ...question, models: Number(wantedModels), label };
  const base = `/runs/${run.run}/verifications`;
  const asks = useAsked<{ command: string; allowed: boolean }>(relabels && label === null ? null : `${base}/command`, asked);
  const how = relabels && label === null ? { found: null, problem: null } : asks;
  const job = useVerification(id ? `${base}/${id}` : null);
  const set = (values: Record<string, string>) => go(changed(place.query, values), true);
  const start = (event: Event) => {
    event.preventDefault();
    ask<Verification>(base, asked)
      .then((found) => (setProblem(null), set({ verified: found.id })))
      .catch(setProblem);
  };
  const stop = () => ask(`${base}/${id}/stop`, {}).catch(setProblem);
  const running = job.found?.status === "running";
  return (
    <>
      <h3>Verify by training</h3>
      <form class="tools" onSubmit={start}>
        <label>
          models of each set <input name="models" type="number" min={2} max={1000} required value={wantedModels} onChange={(event) => set({ models: event.currentTarget.value, verified: "" })} />
        </label>
        {relabels && (
          <label>
            the other label{" "}
            {run.label_names.length ? (
              <select required value={wantedLabel ?? ""} onChange={(event) => set({ label: event.currentTarget.value, verified: "" })}>
                <option value="">choose one</option>
                {run.label_names.map((name, i) => (
                  <option key={i} value={i}>
                    {name}
                  </option>
                ))}
              </select>
            ) : (
              <input type="number" min={0} required placeholder="class" value={wantedLabel ?? ""} onChange={(event) => set({ label: event.currentTarget.value, verified: "" })} />
            )}
          </label>
        )}
        {how.found?.allowed && !running && <button>train and compare</button>}
        {running && (
          <button type="button" onClick={stop}>
            stop
          </button>
        )}
      </form>
      {(problem ?? how.problem ?? job.problem) && <Trouble text={(problem ?? how.problem ?? job.problem)!.message} />}
      <div role="status">
        {running && <p>training … {number(Math.round(job.found!.seconds))} seconds</p>}
        {job.found?.status === "failed" && <Trouble text={job.found.fault} />}
        {job.found?.before && job.found.after && <Found before={job.found.before} after={job.found.after} change={change} seconds={job.found.seconds} />}
      </div>
      {how.found && (
        <p class="quiet">
          {how.found.allowed ? "The same as a command:" : "This explorer trains nothing. On a machine that has the code of the run:"} <code class="command">{how.found.command}</code>
        </p>
      )}
    </>
  );
}

function Found({ before, after, change, seconds }: { before: Measured; after: Measured; change: Change; seconds: number }) {
  const wrong = (one: Measured) => (one.flipped === null ? "" : `; ${one.flipped} of ${one.models} are wrong`);
  const found = after.mean - before.mean;
  const [low, high] = change.change_interval;
  return (
    <table>
      <thead>
        <tr>
          <td />
          <th>predicted</th>
          <th>{number(after.models)} trained models, {number(Math.round(seconds))} seconds</th>
        </tr>
      </thead>
      <tbody>
        <tr>
          <th scope="row">before</th>
          <td>
            {number(change.before)} ({interval(change.before_interval)})
          </td>
          <td>
            {number(before.mean)} ({interval(before.interval)}){wrong(before)}
          </td>
        </tr>
        <tr>
          <th scope="row">after</th>
          <td>{number(change.after)}</td>
          <td>
            {number(after.mean)} ({interval(after.interval)}){wrong(after)}
          </td>
        </tr>
        <tr>
          <th scope="row">change</th>
          <td>
            {number(change.change, true)} ({interval(change.change_interval)})
          </td>
          <td>
            <b>{number(found, true)}</b>
            {low !== null && high !== null && (found >= low && found <= high ? ", in the predicted interval" : ", not in the predicted interval; few models leave much to chance")}
          </td>
        </tr>
      </tbody>
    </table>
  );
}
