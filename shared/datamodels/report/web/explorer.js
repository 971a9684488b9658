/* The explorer of targets, and how examples look. */

const DATA = JSON.parse(document.getElementById("data").textContent);
const OUTPUT = DATA.output, PREDICTED = DATA.predicted;
const within = (value) => Math.max(PREDICTED.lowest ?? -Infinity, Math.min(PREDICTED.highest ?? Infinity, value));
const WORDS = PREDICTED && PREDICTED.directed
  ? { up: "helpful", down: "harmful", ups: "Most helpful examples", downs: "Most harmful examples", without: "Without the most helpful" }
  : { up: "raising", down: "lowering", ups: "Examples that raise it most", downs: "Examples that lower it most", without: "Without those that raise it most" };
const FEATURES_SHOWN = 6;
const BEFORE_IN_LIST = 24, BEFORE_IN_CARD = 80;

function caption(example) {
  return [example.label, example.name].filter(Boolean).join(", ");
}

function pictureOf(example) {
  return make("img", { src: `data:image/png;base64,${example.picture}`, alt: caption(example), className: "looks" });
}

/* A few features of a row: those in which `like`, a row, is farthest from the pool's mean. */
function rowOf(example, like) {
  const { names, units, mean, deviation } = DATA.features;
  const unusual = (i) => Math.abs((like[i] ?? mean[i]) - mean[i]) / (deviation[i] || 1);
  const chosen = names.map((_, i) => i).sort((a, b) => unusual(b) - unusual(a)).slice(0, FEATURES_SHOWN);
  return make("table", {}, make("tbody", {}, ...chosen.map((i) =>
    make("tr", {}, make("th", { scope: "row" }, names[i]), make("td", {}, [show(example.row[i]), units[i]].filter(Boolean).join(" "))))));
}

/* The text of an example, as nodes. The span that a target is about is marked; it is counted in code points.
   `before` is how many letters before the span are shown. */
function textOf({ text, span }, before = Infinity) {
  if (!span || span[0] === span[1]) return [text];
  const letters = Array.from(text), part = (...ends) => letters.slice(...ends).join("");
  const first = Math.max(0, span[0] - before);
  return [(first ? "… " : "") + part(first, span[0]), make("mark", {}, part(...span)), part(span[1])];
}

/* What a row shows, in words. Numbers with a mean near 0 and a deviation near 1 were standardised by somebody. */
function aboutRows({ names, units, mean, deviation }) {
  const varied = deviation.map((_, i) => i).filter((i) => deviation[i] > 0);
  const standard = varied.length && varied.every((i) => Math.abs(mean[i]) < 0.3 && Math.abs(deviation[i] - 1) < 0.3);
  return (names.length > FEATURES_SHOWN ? ` Of each row, it shows the ${FEATURES_SHOWN} numbers that differ most from the pool's mean.` : "") +
    (standard && !units.some(Boolean) ? " All numbers have a mean near 0 and a standard deviation near 1 over the pool, so they seem to be standardised: " +
      "a value is how many standard deviations it is above the mean." : "");
}

/* How an example looks: a picture, a text or a row; null if there is nothing to show. Before a span, `before` letters are. */
function looksOf(example, like, before) {
  if (example.picture) return pictureOf(example);
  if (example.text) return make("p", { className: "text" }, ...textOf(example, before));
  if (example.row && DATA.features) return rowOf(example, like || example.row);
  return null;
}

function inWords(example) { return !example.picture; }

/* An example with a number below it. It is a button if `onclick` is given. */
function card(example, number, kind, { onclick, like } = {}) {
  const body = [
    example.picture ? looksOf(example) : null,
    make("figcaption", {}, make("b", {}, number), make("span", {}, caption(example))),
    example.picture ? null : looksOf(example, like, BEFORE_IN_CARD),
  ];
  const figure = make("figure", { className: kind });
  figure.append(...(onclick ? [make("button", { type: "button", onclick }, ...body.filter(Boolean))] : body.filter(Boolean)));
  return figure;
}

function strip(title, figures, words) {
  const empty = make("p", { className: "small" }, "none");
  return [make("h3", {}, title), figures.length ? make("div", { className: words ? "strip words" : "strip" }, ...figures) : empty];
}

/* How good a target's output is: of models, else as predicted. The larger the better, or if neither is better, the higher. */
function standing(one) {
  return one.mean ? OUTPUT.sign * one.mean[0] : one.removal ? PREDICTED.sign * one.removal.mean[0] : Infinity;
}

const [LAST, BEST] = OUTPUT && OUTPUT.directed ? ["worst", "best"] : ["lowest", "highest"];

function isWrong(one) { return Boolean(one.wrong) && one.wrong[0] > 0.5; }

const ORDERS = {
  [`${LAST} output first`]: standing,
  [`${BEST} output first`]: (one) => (Number.isFinite(standing(one)) ? -standing(one) : Infinity),
  "worst predicted first": (one) => (one.score ? one.score[0] : Infinity),
  "smallest support first": (one) => (one.support && one.support.size !== null ? one.support.size : Infinity),
  "by number": (one) => one.id,
  "explained by LIME first": (one) => (one.lime ? one.id : Infinity),
};

/* LIME's weights of the parts of a target: drawn over its picture, and the strongest in a table. */
function byParts(one) {
  const { parts, squares, tokens, r2, output, models, samples } = one.lime;
  const kind = tokens ? "tokens" : squares ? "pixels" : "features";
  const place = make("div", {}, make("h3", {}, `By ${kind}: the parts that matter, by LIME`));
  if (squares) place.append(squaresOver(one, one.lime));
  place.append(make("table", {}, make("thead", {}, make("tr", {}, ...["part", "adds", "95% interval"].map((name) =>
    make("th", { scope: "col" }, name)))), make("tbody", {}, ...parts.slice(0, squares ? 5 : parts.length).map(([name, weight, low, high]) =>
    make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, signed(weight)), make("td", {}, span(low, high)))))));
  place.append(make("p", { className: "small" }, `How much each part adds to the ${OUTPUT.name}, compared with ` +
    `${tokens ? "a blank token" : "the pool's mean"} in its place. The ${OUTPUT.name} is ${show(output)}, the mean of ${models} models of the whole pool. ` +
    (squares ? "Blue parts raise it, orange parts lower it. " : "") +
    `The sum of the parts explains R² = ${show(r2)} of the outputs of ${samples.toLocaleString("en")} samples.`));
  return place;
}

class Explorer {
  constructor() {
    this.byId = new Map(DATA.targets.map((one) => [one.id, one]));
    this.list = document.getElementById("targets");
    this.view = document.getElementById("target");
    this.find = document.getElementById("find");
    this.order = document.getElementById("order");
    const usable = Object.keys(ORDERS).filter((name) => DATA.targets.some((one) => Number.isFinite(ORDERS[name](one))));
    this.order.append(...usable.map((name) => make("option", { value: name }, name)));
    this.find.oninput = this.order.onchange = () => this.fill();
    this.list.onkeydown = (event) => this.key(event);
    if (inWords(DATA.targets[0])) this.list.classList.add("words");
    this.lead();
    document.getElementById("explorer-body").hidden = false;
    this.fill();
    window.addEventListener("hashchange", () => this.fromHash());
    if (!this.fromHash() && this.shown.length) this.pick(this.first(), { hash: false });
    let width = window.innerWidth;
    window.addEventListener("resize", () => {
      if (window.innerWidth !== width && this.current) { width = window.innerWidth; this.pick(this.current, { hash: false, k: this.removed }); }
    });
  }

  /* The target to open first: one that is explained by LIME, or the one whose predictions are the surest to be good, of
     those that models get right: what follows from a poor prediction means little. */
  first() {
    const explained = this.shown.find((one) => one.lime);
    if (explained) return explained;
    const right = this.shown.filter((one) => one.nonzeros && !isWrong(one) && !(one.support && one.support.status === "wrong"));
    const sure = (one) => (one.score ? one.score[1] : one.r2 ?? -Infinity);
    return right.reduce((best, one) => (best && sure(best) >= sure(one) ? best : one), null) || this.shown[0];
  }

  lead() {
    const explained = DATA.targets.filter((one) => one.lime).map((one) => one.id);
    const sample = DATA.targets.length < DATA.of
      ? ` To keep this page small, it shows a random sample of ${DATA.targets.length.toLocaleString("en")} of ${DATA.of.toLocaleString("en")} targets.` : "";
    document.getElementById("explorer-lead").append(
      `A weight is how much the target's ${PREDICTED.name} grows, on average, when the example is in the training set. ` +
      (!PREDICTED.directed ? "Some examples raise it, others lower it."
        : PREDICTED.sign > 0 ? "Helpful examples raise it, harmful ones lower it."
          : "Lower is better: helpful examples lower it, so their weights are negative, and harmful ones raise it.") +
      (DATA.features ? aboutRows(DATA.features) : "") +
      (explained.length ? ` For target${explained.length > 1 ? "s" : ""} ${explained.join(", ")}, LIME also shows which parts of the target itself matter.` : "") + sample);
  }

  fill() {
    const wanted = this.find.value.trim().toLowerCase(), key = ORDERS[this.order.value] || ((one) => one.id);
    const number = /^(?:target\s*)?#?\s*(\d+)$/.exec(wanted);
    this.shown = DATA.targets
      .filter((one) => !wanted || (number && one.id === Number(number[1])) || `${one.label}\n${one.text || ""}`.toLowerCase().includes(wanted))
      .sort((a, b) => (key(a) === key(b) ? a.id - b.id : key(a) - key(b)));
    this.list.replaceChildren(...this.shown.map((one) => this.option(one)));
    const count = this.shown.length;
    document.getElementById("picked").textContent = (count ? `${count.toLocaleString("en")} target${count > 1 ? "s" : ""}` : "no target has this number, label or text") +
      (this.shown.some(isWrong) ? "; dashed: most models are wrong" : "");
    this.mark();
  }

  option(one) {
    const wrong = isWrong(one);
    const words = one.text ? textOf(one, BEFORE_IN_LIST) : [caption(one)];
    return make("button", {
      type: "button", role: "option", tabIndex: -1, className: wrong ? "wrong" : "", id: `option-${one.id}`,
      title: caption(one), "aria-label": caption(one) + (wrong ? ", most models are wrong" : ""), onclick: () => this.pick(one),
    }, one.picture ? pictureOf({ ...one, label: "", name: "" }) : make("span", {}, ...words));
  }

  mark() {
    for (const option of this.list.children) {
      const mine = this.current && option.id === `option-${this.current.id}`;
      option.setAttribute("aria-selected", String(Boolean(mine)));
      option.tabIndex = mine ? 0 : -1;
    }
    const chosen = this.list.querySelector("[tabindex='0']") || this.list.firstElementChild;
    if (chosen) chosen.tabIndex = 0;
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    if (!step) return;
    event.preventDefault();
    this.move(step);
    const option = document.getElementById(`option-${this.current.id}`);
    if (option) option.focus();
  }

  move(step) {
    if (!this.shown.length) return;
    const next = this.shown.indexOf(this.current) + step;
    this.pick(this.shown[Math.max(0, Math.min(this.shown.length - 1, next))]);
  }

  fromHash() {
    const found = /^#target=(\d+)(?:&k=(\d+))?$/.exec(window.location.hash);
    const one = found && this.byId.get(Number(found[1]));
    if (!one) return false;
    this.pick(one, { hash: false, k: Number(found[2] || 0) });
    document.getElementById("explorer").scrollIntoView();
    return true;
  }

  pick(one, { hash = true, k = 0 } = {}) {
    const held = this.view.contains(document.activeElement) && (document.activeElement.dataset.keep || "title");
    this.current = one;
    this.removed = 0;
    this.mark();
    const option = document.getElementById(`option-${one.id}`);
    if (option) this.list.scrollTop = Math.max(0, option.offsetTop - this.list.offsetTop - this.list.clientHeight / 2);
    if (hash) window.history.replaceState(null, "", `#target=${one.id}`);
    this.view.replaceChildren(this.head(one), ...this.influences(one));
    this.view.append(...this.alike(one));
    const after = this.view.querySelector(".influences");
    const pair = make("div", { className: "pair" });
    after.after(pair);
    if (one.removal && one.removal.k.length > 1) this.removed = new Removal(one, pair, this.view, k).removed;
    if (one.predicted) predictedAgainstTrue(one, pair);
    if (held) (this.view.querySelector(`[data-keep="${held}"]`) || this.view.querySelector("[data-keep=title]")).focus({ preventScroll: held !== "title" });
  }

  /* Keep how many examples the slider removes, for the address and for the next time that it is drawn. */
  keep(removed) {
    this.removed = removed;
    window.history.replaceState(null, "", `#target=${this.current.id}${removed ? `&k=${removed}` : ""}`);
  }

  head(one) {
    const moves = make("span", { className: "moves" },
      make("button", { type: "button", "aria-label": "previous target", "data-keep": "previous", onclick: () => this.move(-1) }, "‹"),
      make("button", { type: "button", "aria-label": "next target", "data-keep": "next", onclick: () => this.move(1) }, "›"));
    const facts = make("dl", {}, ...this.facts(one).map(([name, value, more]) =>
      make("div", {}, make("dt", {}, name), make("dd", {}, value, more ? make("small", {}, ` ${more}`) : ""))));
    const title = make("h3", { tabIndex: -1, "data-keep": "title" }, [`Target ${one.id}`, one.label].filter(Boolean).join(": "));
    const words = make("div", {}, moves, title, one.picture ? null : looksOf(one), facts);
    return make("div", { className: one.picture ? "head" : "head words" }, one.picture ? pictureOf(one) : null, words);
  }

  facts(one) {
    const found = [];
    if (one.mean) found.push([`mean ${OUTPUT.title} of models`, show(one.mean[0]), `95%: ${span(one.mean[1], one.mean[2])}`]);
    if (one.wrong) {
      const percent = (share) => `${(100 * share).toFixed(0)}%`;
      found.push(["models that are wrong", percent(one.wrong[0]), `95%: ${percent(one.wrong[1])} to ${percent(one.wrong[2])}`]);
    }
    if (one.score) found.push(["correlation with models", show(one.score[0]), `95%: ${span(one.score[1], one.score[2])}`]);
    if (one.r2 !== null) found.push(["R² on held-out models", show(one.r2), ""]);
    found.push([`${DATA.unit}s with weight`, one.nonzeros.toLocaleString("en"), one.status === "ok" ? "" : one.status.replace("_", " ")]);
    if (one.support) found.push(["support", ...this.support(one.support)]);
    if (one.own >= 0) found.push([one.span ? "is part of training example" : "is training example", `#${one.own}`, "left out of its fit"]);
    return found;
  }

  support({ status, size, limit }) {
    if (status === "found") return [`${size.toLocaleString("en")} ${DATA.unit}${size === 1 ? "" : "s"}`, `${show(100 * size / DATA.pool, 1)}% of the pool`];
    return status === "wrong" ? ["none needed", "predicted to be wrong"] : ["none found", `up to ${limit.toLocaleString("en")}`];
  }

  influences(one) {
    const list = (pairs, kind) => pairs.map(([column, weight]) => card(DATA.columns[column], signed(weight), kind, { like: one.row }));
    const helpful = list(one.helpful, WORDS.up), harmful = list(one.harmful, WORDS.down);
    const words = [...one.helpful, ...one.harmful].some(([column]) => inWords(DATA.columns[column]));
    const examples = [
      ...strip(WORDS.ups, words ? helpful.slice(0, 6) : helpful, words),
      ...strip(WORDS.downs, words ? harmful.slice(0, 6) : harmful, words)];
    if (!one.lime) return [make("div", { className: "influences" }, ...examples)];
    const title = make("h3", {}, "By data: the examples that matter, by the datamodel");
    return [make("div", { className: "influences beside" }, byParts(one), make("div", {}, title, ...examples))];
  }

  alike(one) {
    if (!one.similar.length) return [];
    const figures = one.similar.map(([id, score]) => {
      const other = this.byId.get(id), example = other || DATA.others[id];
      return card(example, show(score), "", { like: one.row, onclick: other ? () => this.pick(other) : undefined });
    });
    return strip("Targets that depend on the same examples (cosine of weights)", figures, inWords(DATA.others[one.similar[0][0]] || one));
  }
}

/* The slider: the expected output if the k most helpful examples are removed. */
class Removal {
  constructor(one, place, view, k) {
    this.one = one;
    const { k: steps } = one.removal, last = steps[steps.length - 1];
    const input = make("input", { type: "range", min: 0, max: steps.length - 1, step: 1, id: "removed", "data-keep": "slider", "aria-describedby": "expected" });
    const nearest = steps.findIndex((step) => step >= k);
    input.value = nearest < 0 ? steps.length - 1 : nearest;
    this.expected = make("output", { id: "expected", htmlFor: "removed" });
    this.chart = make("div", {});
    this.helpful = [...view.querySelectorAll(`.influences figure.${WORDS.up}`)];
    const side = make("div", {}, make("h3", {}, WORDS.without),
      make("div", { className: "slider" }, make("label", { htmlFor: "removed" }, "remove"), input),
      make("p", { className: "small" }, this.expected), this.chart);
    place.append(side);
    input.oninput = () => { this.update(Number(input.value)); window.explorer.keep(steps[input.value]); };
    this.frame(last);
    this.update(Number(input.value));
    this.removed = steps[input.value];
  }

  frame(last) {
    const { k, mean, error, one } = this.one.removal;
    const known = error.every((value) => value !== null);
    const half = (i, single) => (known ? Math.hypot(error[i], single ? one : 0) : 0);
    const ends = (single) => [-1, 1].map((sign) => mean.map((value, i) => within(value + sign * half(i, single))));
    const bounds = ends(one !== null).flat();
    const { title, threshold } = PREDICTED;
    const frame = this.plot = new Frame(`Expected ${title} as ${DATA.unit}s are removed`, widthOf(this.chart.parentElement), 230,
      [0, last * 1.02], extent(threshold === null ? bounds : [...bounds, threshold]), [`${DATA.unit}s removed`, `expected ${title}`]);
    if (known && one) frame.band(k, ...ends(true), "band wide");
    if (known) frame.band(k, ...ends(false));
    if (threshold !== null) frame.line([0, last * 1.02], [threshold, threshold], "zero");
    frame.line(k, mean.map(within));
    this.dot = frame.add("circle", { class: "now", r: 5 });
    const bands = `${one ? "Dark band" : "Band"}: 95% interval of the change in the mean output of models.${one ? " Light band: the same for one model." : ""}`;
    this.chart.replaceChildren(frame.element, make("p", { className: "small" },
      known ? `${bands} ${one ? "Neither includes" : "It leaves out"} the error at the start, which has an interval of its own: the whole pool is larger than the subsets that the weights were fitted to. datamodels counterfactual --verify trains models to check.`
            : "There are too few committed models for an interval."));
  }

  update(i) {
    const { k, mean, error, start } = this.one.removal;
    this.dot.setAttribute("cx", this.plot.x(k[i]));
    this.dot.setAttribute("cy", this.plot.y(within(mean[i])));
    const [low, high] = k[i] ? [mean[i] - error[i], mean[i] + error[i]].map(within) : start;
    const sure = error[i] === null || low === null ? "" : ` (95%: ${span(low, high)})`;
    const { sign, threshold, name } = PREDICTED;
    const seen = [...(this.one.ones || []), ...(this.one.means || [])];
    const verdict = threshold !== null && sign * mean[i] < sign * threshold ? ": wrong"
      : sign < 0 && within(mean[i]) < 0 && seen.length && Math.min(...seen) >= 0 ? ": below 0, where no model was, so about 0" : "";
    this.expected.replaceChildren(`${k[i].toLocaleString("en")} of ${DATA.pool.toLocaleString("en")} removed: expected ${name} `,
      make("strong", {}, show(within(mean[i])) + verdict), sure);
    this.helpful.forEach((figure, place) => figure.classList.toggle("gone", place < k[i]));
  }
}

function predictedAgainstTrue(one, place) {
  const chart = make("div", {});
  place.append(make("div", {}, make("h3", {}, "Predicted against true, on unseen subsets"), chart));
  const same = PREDICTED.name === OUTPUT.name, both = [...one.predicted, ...one.means];
  const frame = new Frame("Predicted against true", widthOf(chart), 260, extent(same ? both : one.predicted),
    extent(same ? both : one.means), [`predicted ${PREDICTED.title}`, `mean ${OUTPUT.title} of models`]);
  if (same) frame.diagonal();
  one.predicted.forEach((x, i) => frame.add("circle", { class: "dot", r: 3, cx: frame.x(x), cy: frame.y(one.means[i]) },
    `predicted ${show(x)}, true ${show(one.means[i])}`));
  chart.append(frame.element, make("p", { className: "small" }, `${one.predicted.length} subsets, ${one.models.toLocaleString("en")} models.` +
    (same ? " On the dashed line, predictions are exact." : "")));
}
