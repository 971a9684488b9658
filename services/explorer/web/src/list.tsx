// A list of targets or training examples that scrolls through any number of rows: only those in view exist.
import { useEffect, useRef, useState } from "preact/hooks";
import { ask, pictureAt, type Problem, type Rows } from "./api";
import { number, Trouble } from "./parts";
import { changed, go, type Place } from "./state";

const HEIGHT = 40;
const PAGE = 100;

interface Column {
  name: string;
  title: string;
  text?: boolean;
}

export function List(props: {
  run: string;
  kind: "targets" | "columns";
  columns: Column[];
  pictures: boolean;
  place: Place;
  link: (index: number) => string;
}) {
  const { place } = props;
  const query = new URLSearchParams();
  for (const name of ["sort", "where", "search", "fit"]) for (const value of place.query.getAll(name)) query.append(name, value);
  const path = `/runs/${props.run}/${props.kind}?${query}`;
  const [pages, setPages] = useState(new Map<number, Rows>());
  const [problem, setProblem] = useState<Problem | null>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);
  const box = useRef<HTMLDivElement>(null);
  const asked = useRef(new Set<string>());

  useEffect(() => {
    asked.current.clear();
    setPages(new Map());
    setProblem(null);
    box.current?.scrollTo(0, 0);
  }, [path]);

  useEffect(() => {
    const measured = () => setHeight(box.current?.clientHeight ?? 600);
    measured();
    addEventListener("resize", measured);
    return () => removeEventListener("resize", measured);
  }, []);

  const total = pages.values().next().value?.total ?? 0;
  const fields = pages.values().next().value?.fields ?? {};
  const first = Math.floor(top / HEIGHT);
  const last = first + Math.ceil(height / HEIGHT) + 1;

  useEffect(() => {
    for (let page = Math.floor(first / PAGE); page <= Math.floor(last / PAGE); page++) {
      const wanted = `${path}&offset=${page * PAGE}&limit=${PAGE}`;
      if (asked.current.has(wanted) || (page && page * PAGE >= total)) continue;
      asked.current.add(wanted);
      const mine = path;
      ask<Rows>(wanted)
        .then((found) => mine === path && setPages((before) => new Map(before).set(page, found)))
        .catch(setProblem);
    }
  }, [path, first, last, total]);

  const sort = place.query.get("sort") ?? "";
  const key = props.kind === "targets" ? "target" : "column";
  const rows = [];
  for (let i = first; i < Math.min(last, total); i++) {
    const row = pages.get(Math.floor(i / PAGE))?.rows[i % PAGE];
    const index = row?.[key] as number | undefined;
    rows.push(
      <div class="line" role="row" aria-rowindex={i + 2} key={i} style={{ top: `${i * HEIGHT}px` }}>
        {row === undefined || index === undefined ? (
          <span class="quiet">…</span>
        ) : (
          <>
            {props.pictures && (
              <span role="cell" class="cell thumb">
                <img src={pictureAt(props.run, props.kind === "targets" ? "targets" : "examples", index)} alt="" loading="lazy" />
              </span>
            )}
            {props.columns.map((column, c) => (
              <span role="cell" key={column.name} class={column.text ? "cell" : "cell figure"}>
                {c === 0 ? <a href={props.link(index)}>#{index}</a> : row[column.name] === null ? "" : number(row[column.name])}
              </span>
            ))}
          </>
        )}
      </div>,
    );
  }
  const search = (event: Event) => go(changed(place.query, { search: (event.target as HTMLInputElement).value }), true);
  const filter = (event: Event) => {
    event.preventDefault();
    const text = new FormData(event.target as HTMLFormElement).get("where") as string;
    go(changed(place.query, { where: text.split(/[\s,]+/).filter(Boolean) }));
  };
  return (
    <>
      <form class="tools" onSubmit={filter} role="search">
        <label>
          search <input type="search" value={place.query.get("search") ?? ""} onInput={search} placeholder="#13, a class, a title" />
        </label>
        <label>
          filter{" "}
          <input name="where" key={place.query.getAll("where").join(" ")} defaultValue={place.query.getAll("where").join(" ")} placeholder="heldout_r2>=0.5 label=3" />
        </label>
        <button>apply</button>
        <span aria-live="polite">{number(total)} rows</span>
      </form>
      {problem && <Trouble text={problem.message} />}
      {!problem && pages.has(0) && total === 0 && (
        <p>
          No row is like this.{" "}
          {(place.query.get("search") || place.query.has("where")) && (
            <>
              Filters may use <code>=</code>, <code>!=</code>, <code>&lt;</code>, <code>&lt;=</code>, <code>&gt;</code>, <code>&gt;=</code> with: {Object.keys(fields).join(", ")}. <a href={changed(place.query, { search: "", where: [] })}>Show all</a>
            </>
          )}
        </p>
      )}
      <div class="list" role="table" aria-rowcount={total + 1} aria-label={props.kind}>
        <div class="line head" role="row">
          {props.pictures && <span role="columnheader" class="cell thumb">
              <span class="unseen">picture</span>
            </span>}
          {props.columns.map((column) => (
            <span role="columnheader" key={column.name} class={column.text ? "cell" : "cell figure"} aria-sort={sort === column.name ? "ascending" : sort === `-${column.name}` ? "descending" : "none"}>
              <a href={changed(place.query, { sort: sort === `-${column.name}` ? column.name : `-${column.name}` })} title={fields[column.name]}>
                {column.title}
                {sort === column.name ? " ▲" : sort === `-${column.name}` ? " ▼" : ""}
              </a>
            </span>
          ))}
        </div>
        <div class="scroller" role="rowgroup" aria-label="rows" ref={box} onScroll={(event) => setTop((event.target as HTMLElement).scrollTop)} tabIndex={0}>
          <div class="all" role="presentation" style={{ height: `${total * HEIGHT}px` }}>
            {rows}
          </div>
        </div>
      </div>
    </>
  );
}
