/* Predicted against true outputs of all targets. Then start the page. */

const MOST_POINTS = 6000;

/* At most MOST_POINTS points, spread evenly over all targets and subsets. */
function points(field) {
  const found = DATA.targets.flatMap((one) => (one.predicted || []).map((x, i) => [x, one[field][i]]));
  const step = Math.max(1, found.length / MOST_POINTS);
  return Array.from({ length: Math.min(found.length, MOST_POINTS) }, (_, i) => found[Math.floor(i * step)]);
}

function scatter(place) {
  const kinds = { means: "means of a subset's models", ones: "single models" };
  const chart = make("div", {}), note = make("p", { className: "small" });
  const toggles = make("fieldset", { className: "toggles" }, make("legend", {}, "True outputs are"),
    ...Object.entries(kinds).map(([field, words], i) => make("label", {},
      make("input", { type: "radio", name: "truth", checked: i === 0, onchange: () => plot(field) }), ` ${words}`)));
  place.hidden = false;
  place.append(make("h3", {}, "Predicted against true, on unseen subsets"), toggles, chart, note);

  function plot(field) {
    const all = points(field), width = widthOf(chart), height = Math.min(460, width * 0.7);
    const same = PREDICTED.name === OUTPUT.name, [xs, ys] = [0, 1].map((axis) => points("ones").map((point) => point[axis]));
    const frame = new Frame(`Predicted against true ${OUTPUT.name} of all targets`, width, height,
      extent(same ? [...xs, ...ys] : xs), extent(same ? [...xs, ...ys] : ys), [`predicted ${PREDICTED.title}`, `true ${OUTPUT.title}`]);
    const d = all.map(([x, y]) => `M${frame.x(x).toFixed(1)},${frame.y(y).toFixed(1)}h0`).join("");
    frame.add("path", { class: "cloud", d });
    if (same) frame.diagonal();
    chart.replaceChildren(frame.element);
    note.textContent = `${all.length.toLocaleString("en")} points of ${DATA.targets.length.toLocaleString("en")} targets. ` +
      "Targets differ from each other more than subsets do, so this plot looks better than the LDS. The plots of single targets are below.";
  }
  plot("means");
}

if (DATA.targets && DATA.targets.length) {
  const place = document.getElementById("scatter");
  if (place && DATA.targets.some((one) => one.predicted)) scatter(place);
  window.explorer = new Explorer();
  if (DATA.groups) drawGroups(DATA.groups);
  if (DATA.leaks) drawLeaks(document.getElementById("leaks-body"), DATA.leaks);
  if (DATA.suspects) drawSuspects(document.getElementById("suspects-body"), DATA.suspects);
}
