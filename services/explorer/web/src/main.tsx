import { render } from "preact";
import { ColumnPage, ListPage, RunPage, Runs } from "./pages";
import { ReviewPage } from "./review";
import { TargetPage } from "./target";
import { usePlace } from "./state";

function App() {
  const place = usePlace();
  const [top, run, kind, index] = place.parts;
  const crumbs = [["/", "runs"]];
  if (top === "runs" && run) crumbs.push([`/runs/${run}`, run]);
  if (run && kind) crumbs.push([`/runs/${run}/${kind}`, kind === "columns" ? "examples" : kind]);
  let page = <Runs />;
  if (top === "runs" && run) {
    if (kind === "targets" && index) page = <TargetPage run={run} index={index} place={place} key={index} />;
    else if (kind === "columns" && index) page = <ColumnPage run={run} index={index} key={index} />;
    else if (kind === "targets" || kind === "columns") page = <ListPage run={run} kind={kind} place={place} key={kind} />;
    else if (kind === "review") page = <ReviewPage run={run} place={place} key={run} />;
    else page = <RunPage run={run} key={run} />;
  }
  return (
    <>
      <header>
        <nav aria-label="where you are">
          {crumbs.map(([address, name], i) => (
            <a key={address} href={address} aria-current={i === crumbs.length - 1 && !index ? "page" : undefined}>
              {name}
            </a>
          ))}
        </nav>
      </header>
      {page}
    </>
  );
}

render(<App />, document.getElementById("app")!);
