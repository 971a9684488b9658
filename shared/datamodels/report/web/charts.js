"use strict";

/* Make elements and charts. Text becomes text nodes, never HTML. */

function make(tag, fields = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(fields)) {
    if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = document.getElementById("namespace").namespaceURI;

function draw(tag, fields = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(fields)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function show(value, digits = 2) {
  if (value === null || value === undefined) return "unknown";
  const size = Math.abs(value);
  const text = size >= 100 ? Math.round(value).toLocaleString("en") : size >= 0.1 || !size ? value.toFixed(digits) : value.toPrecision(2);
  return text.replace("-", "−");
}

function signed(value, digits = 3) {
  return (value > 0 ? "+" : "") + (Math.abs(value) < 0.01 ? show(value) : value.toFixed(digits).replace("-", "−"));
}

function span(low, high, digits = 2) {
  return `${show(low, digits)} to ${show(high, digits)}`;
}

function extent(values) {
  const known = values.filter((value) => value !== null && Number.isFinite(value));
  let low = Infinity, high = -Infinity;
  for (const value of known) { low = Math.min(low, value); high = Math.max(high, value); }
  if (!(low < high)) { low -= 1; high += 1; }
  const room = (high - low) * 0.04;
  return [low - room, high + room];
}

/* About `count` round numbers between low and high. */
function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) found.push(i * step);
  return found.map((value) => Number(value.toPrecision(10)));
}

/* A chart with axes. x and y convert values to positions. */
class Frame {
  constructor(label, width, height, xs, ys, names) {
    const places = ticks(...ys, height / 45), written = places.map((tick) => tick.toLocaleString("en", { maximumFractionDigits: 6 }).replace("-", "−"));
    this.left = 26 + 7 * Math.max(...written.map((name) => name.length)); this.right = 12; this.top = 8; this.bottom = 38;
    this.width = width; this.height = height; this.xs = xs; this.ys = ys;
    this.element = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
    places.forEach((tick, i) => {
      this.add("line", { class: "grid", x1: this.left, x2: width - this.right, y1: this.y(tick), y2: this.y(tick) });
      this.text(this.left - 6, this.y(tick) + 4, written[i], "end");
    });
    for (const tick of ticks(...xs, width / 64)) {
      this.text(this.x(tick), height - this.bottom + 16, tick.toLocaleString("en").replace("-", "−"), "middle");
    }
    this.text((this.left + width - this.right) / 2, height - 4, names[0], "middle");
    const y = (this.top + height - this.bottom) / 2;
    this.text(11, y, names[1], "middle").setAttribute("transform", `rotate(-90 11 ${y})`);
  }
  x(value) { return this.left + (value - this.xs[0]) / (this.xs[1] - this.xs[0]) * (this.width - this.left - this.right); }
  y(value) {
    const inside = this.height - this.top - this.bottom;
    return this.top + inside * (1 - (value - this.ys[0]) / (this.ys[1] - this.ys[0]));
  }
  add(tag, fields, title) {
    const element = draw(tag, fields);
    if (title) element.append(draw("title", {}, title));
    this.element.append(element);
    return element;
  }
  text(x, y, words, anchor) {
    const element = this.add("text", { x, y, "text-anchor": anchor });
    element.append(words);
    return element;
  }
  path(xs, ys) { return xs.map((x, i) => `${this.x(x).toFixed(1)},${this.y(ys[i]).toFixed(1)}`); }
  line(xs, ys, kind = "line") { this.add("polyline", { class: kind, points: this.path(xs, ys).join(" ") }); }
  band(xs, low, high, kind = "band") {
    const points = [...this.path(xs, high), ...this.path(xs, low).reverse()];
    this.add("polygon", { class: kind, points: points.join(" ") });
  }
  diagonal() {
    const low = Math.max(this.xs[0], this.ys[0]), high = Math.min(this.xs[1], this.ys[1]);
    if (low < high) this.line([low, high], [low, high], "zero");
  }
}

/* The picture of a target, covered by squares [x, y, width, height] (fractions of its size), coloured by the weights of parts [name, weight, low, high]. */
function squaresOver(example, { parts, squares, aspect }) {
  const most = Math.max(...parts.map(([, weight]) => Math.abs(weight))) || 1;
  const told = ([name, weight, low, high]) => `${name}: ${signed(weight)}, 95%: ${span(low, high)}`;
  const label = `LIME over the picture of ${caption(example)}. Strongest: ${parts.slice(0, 3).map(told).join("; ")}`;
  return draw("svg", { class: "squares", viewBox: `0 0 100 ${100 * aspect}`, role: "img", "aria-label": label },
    draw("image", { href: `data:image/png;base64,${example.picture}`, width: 100, height: 100 * aspect, preserveAspectRatio: "none" }),
    ...squares.map(([x, y, width, height], i) => draw("rect", {
      class: parts[i][1] < 0 ? "takes" : "adds", "fill-opacity": (0.75 * Math.abs(parts[i][1]) / most).toFixed(2),
      x: 100 * x, y: 100 * aspect * y, width: 100 * width, height: 100 * aspect * height,
    }, draw("title", {}, told(parts[i])))));
}

function widthOf(element) { return Math.max(260, Math.floor(element.clientWidth || 600)); }
