import { render } from "preact";
import { useEffect } from "preact/hooks";
import { ComparePage } from "./compare";
import { FindingsPage } from "./findings";
import { MapPage } from "./map";
import { Steps } from "./outputs";
import { ColumnPage, ListPage, RunPage, Runs } from "./pages";
import { PatternsPage } from "./patterns";
import { ReviewPage } from "./review";
import { TargetPage } from "./target";
import { usePlace } from "./state";

const Nothing = () => (
  <main>
    <h1 tabIndex={-1}>No such page</h1>
    <p>
      The address names no page of the explorer. Begin at <a href="/">the runs</a>.
    </p>
  </main>
);

function App() {
  const place = usePlace();
  const [top, run, kind, index] = place.parts;
  const crumbs = [["/", "runs"]];
  if (top === "compare") crumbs.push(["/compare", "compare"]);
  if (top === "runs" && run) crumbs.push([`/runs/${run}`, run]);
  if (run && kind) crumbs.push([`/runs/${run}/${kind}`, kind === "columns" ? "examples" : kind]);
  let page = <Runs place={place} />;
  if (top === "runs" && run) {
    if (kind === "targets" && index) page = <TargetPage run={run} index={index} place={place} key={index} />;
    else if (kind === "columns" && index) page = <ColumnPage run={run} index={index} place={place} key={index} />;
    else if (kind === "targets" || kind === "columns") page = <ListPage run={run} kind={kind} place={place} key={kind} />;
    else if (kind === "review") page = <ReviewPage run={run} place={place} key={run} />;
    else if (kind === "clusters" || kind === "components") page = <PatternsPage run={run} name={kind} place={place} key={kind} />;
    else if (kind === "findings") page = <FindingsPage run={run} place={place} key={run} />;
    else if (kind === "map") page = <MapPage run={run} place={place} key={run} />;
    else if (kind) page = <Nothing />;
    else page = <RunPage run={run} key={run} />;
  } else if (top === "runs") page = <Runs place={place} />;
  else if (top === "compare") page = <ComparePage place={place} />;
  else if (top) page = <Nothing />;
  useEffect(() => {
    document.title = [...place.parts.toReversed(), "datamodels"].join(" · ");
  }, [place]);
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
        {kind === "targets" && index && <Steps run={run!} index={index} place={place} />}
      </header>
      {page}
    </>
  );
}

render(<App />, document.getElementById("app")!);
