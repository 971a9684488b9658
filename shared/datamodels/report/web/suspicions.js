/* Examples to check: pairs that may have leaked, and labels that may be wrong. */

function drawLeaks(place, { by, pairs }) {
  const score = by === "inputs" ? "distance" : "share";
  const couples = pairs.map((pair) => make("div", { className: "couple" },
    make("p", { className: "small" }, make("b", {}, `${score} ${show(pair.score)}`), `${pair.same ? `, ${pair.same},` : ""} weight ${signed(pair.weight ?? 0)}`),
    make("div", { className: "strip" },
      card(pair.target, "target", "", { onclick: window.explorer && window.explorer.byId.has(pair.id) ? () => goTo(pair.id) : undefined, like: pair.target.row }),
      card(pair.example, "training", "", { like: pair.target.row }))));
  place.replaceChildren(...couples);
}

function goTo(id) { window.location.hash = `target=${id}`; }

function drawSuspects(place, { suspects }) {
  const words = suspects.some(({ example }) => inWords(example));
  place.className = words ? "strip words" : "strip";
  place.replaceChildren(...suspects.map(({ example, score, suggested }) => {
    const figure = card(example, show(score), "harmful");
    if (suggested) figure.querySelector("figcaption").append(make("span", { className: "rather" }, `rather ${suggested}?`));
    return figure;
  }));
}
