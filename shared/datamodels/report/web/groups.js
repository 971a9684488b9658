/* Groups of similar targets: a map, clusters, and the ends of components. */

const COLOURS = 12;

function drawGroups({ map, clusters, components }) {
  drawMap(document.getElementById("map-body"), map, components);
  document.getElementById("clusters-body").replaceChildren(...clusters.map((one, i) => make("div", { className: "cluster" },
    make("h3", {}, make("i", { className: `swatch of${i % COLOURS}` }), `Cluster ${i + 1}: ${one.size.toLocaleString("en")} targets`),
    one.most ? make("p", { className: "small" }, one.most) : null, ends(one.central))));
  document.getElementById("components-body").replaceChildren(...components.flatMap((one, i) => {
    const [share, low, high] = one.share.map((value) => `${(100 * value).toFixed(1)}%`);
    return [make("h3", {}, `Component ${i + 1}: ${share} of the variance`, make("small", {}, ` 95%: ${low} to ${high}`)),
      make("div", { className: "ends" }, ends(one.low), make("span", { className: "against", "aria-label": "against" }, "↔"), ends(one.high))];
  }));
}

function ends(targets) {
  const words = targets.some(inWords);
  const few = words ? targets.slice(0, 3) : targets;
  return make("div", { className: words ? "strip words" : "strip" }, ...few.map((one) => {
    const there = window.explorer.byId.has(one.id);
    return card({ ...one, name: "" }, `${one.id}`, "", { onclick: there ? () => goTo(one.id) : undefined, like: one.row });
  }));
}

function drawMap(place, map, components) {
  const percent = (i) => (components[i] ? ` (${(100 * components[i].share[0]).toFixed(0)}%)` : "");
  const frame = new Frame("Targets by the first two components of their weights, coloured by cluster", widthOf(place), 380,
    extent(map.x), extent(map.y), [`component 1${percent(0)}`, `component 2${percent(1)}`]);
  map.id.forEach((id, i) => {
    const kind = map.cluster[i] < 0 ? "none" : `of${map.cluster[i] % COLOURS}`;
    const dot = frame.add("circle", { class: `place ${kind}`, r: 4, cx: frame.x(map.x[i]), cy: frame.y(map.y[i]) },
      [`target ${id}`, map.label[i], map.cluster[i] < 0 ? "no cluster" : `cluster ${map.cluster[i] + 1}`].filter(Boolean).join(", "));
    if (window.explorer.byId.has(id)) dot.addEventListener("click", () => goTo(id));
  });
  place.replaceChildren(frame.element);
}
