// Every state of a page is its address: parts of the path, and parameters.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { options, type VNode } from "preact";
import { ask, Problem } from "./api";
import { FILE, START } from "./sample";

export interface Place {
  parts: string[];
  query: URLSearchParams;
}

/** The path and the query of this page. A file has no paths, so there they stand behind #. */
function address(): [string, string] {
  const [path = "", query = ""] = (FILE ? location.hash.slice(1) || START : location.pathname + location.search).split(/\?(.*)/s);
  return [path, query];
}

function here(): Place {
  const [path, query] = address();
  return { parts: path.split("/").filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query) };
}

if (FILE) {
  options.vnode = (vnode: VNode<{ href?: string }>) => {
    if (vnode.type === "a" && vnode.props.href?.startsWith("/")) vnode.props.href = `#${vnode.props.href}`;
  };
}

const MOVED = "moved";

/** Goes to an address of this application. */
export function go(address: string, replace = false): void {
  history[replace ? "replaceState" : "pushState"](null, "", FILE ? `#${address}` : address);
  dispatchEvent(new Event(MOVED));
}

/** Returns the address of this page with other parameters; an empty one is left out. */
export function changed(query: URLSearchParams, values: Record<string, string | string[]>): string {
  const next = new URLSearchParams(query);
  for (const [name, value] of Object.entries(values)) {
    next.delete(name);
    for (const one of Array.isArray(value) ? value : [value]) if (one) next.append(name, one);
  }
  const text = next.toString();
  return address()[0] + (text ? `?${text}` : "");
}

/** Goes to the address that a form asks for, without loading the page anew. */
export function submitted(event: SubmitEvent): void {
  event.preventDefault();
  const fields = [...new FormData(event.target as HTMLFormElement)].map(([name, value]) => [name, String(value)]);
  go(changed(new URLSearchParams(), Object.fromEntries(fields)));
}

export function usePlace(): Place {
  const [place, set] = useState(here);
  const left = useRef(false);
  useLayoutEffect(() => {
    if (!left.current) return;
    left.current = false;
    scrollTo(0, 0);
    document.querySelector<HTMLElement>("h1")?.focus();
  }, [place]);
  useEffect(() => {
    const moved = () => set(here());
    const clicked = (event: MouseEvent) => {
      const link = (event.target as Element).closest("a");
      const plain = !event.defaultPrevented && event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey);
      const own = link && (FILE ? link.hash : link.origin === location.origin && !link.pathname.startsWith("/api/") && !link.hasAttribute("download"));
      if (!plain || !own || link.target) return;
      event.preventDefault();
      left.current = !("stay" in link.dataset); // the focus stays on such a link
      go(FILE ? link.hash.slice(1) : link.pathname + link.search);
    };
    addEventListener("popstate", moved);
    addEventListener(MOVED, moved);
    document.addEventListener("click", clicked);
    return () => {
      removeEventListener("popstate", moved);
      removeEventListener(MOVED, moved);
      document.removeEventListener("click", clicked);
    };
  }, []);
  return place;
}

export interface Asked<T> {
  found: T | null;
  problem: Problem | null;
}

/** Asks for a path, unless it is null, whenever it or `again` changes. What was found stays until the next answer is there,
 * unless it is the answer to a question, which is posted. */
export function useAsked<T>(path: string | null, question?: unknown, again: string | number = 0): Asked<T> {
  const [state, set] = useState<Asked<T>>({ found: null, problem: null });
  const body = JSON.stringify(question);
  useEffect(() => {
    if (path === null) return;
    if (body !== undefined) set({ found: null, problem: null });
    const control = new AbortController();
    ask<T>(path, body === undefined ? body : JSON.parse(body), control.signal)
      .then((found) => set({ found, problem: null }))
      .catch((problem: Problem) => control.signal.aborted || set({ found: null, problem }));
    return () => control.abort();
  }, [path, body, again]);
  return state;
}
