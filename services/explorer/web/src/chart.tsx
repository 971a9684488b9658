// Charts with axes, as wide as their place. Each mark has a contrast of at least 3 to the page.
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { number } from "./parts";

type Pair = [number, number];

/** Where values are in a chart. */
export interface Frame {
  x: (value: number) => number;
  y: (value: number) => number;
  line: (xs: number[], ys: number[]) => string;
  band: (xs: number[], low: number[], high: number[]) => string;
}

export function extent(values: (number | null)[], room = 0.04): Pair {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) if (value !== null && Number.isFinite(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
  if (!(low < high)) [low, high] = low === high ? [low - 1, high + 1] : [0, 1];
  return [low - (high - low) * room, high + (high - low) * room];
}

/** About `count` round numbers between low and high; whole ones if they count something. */
function ticks([low, high]: Pair, count: number, whole: boolean): number[] {
  const rough = Math.max((high - low) / Math.max(1, count), whole ? 1 : 0);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough * 0.999)!;
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(10)));
}

const written = (value: number): string => value.toLocaleString("en", { maximumSignificantDigits: 6 }).replace("-", "\u2212");
const WIDE = 64;
const HIGH = 45;

/**
 * label: what the chart shows, in words. names: of the axes, across and up. across: numbers below the chart with their
 * texts; round ones by default. up: writes the numbers at its left. whole: the axis that counts something.
 */
export function Chart(props: {
  label: string;
  xs: Pair;
  ys: Pair;
  names: Pair | [string, string];
  height?: number;
  across?: [number, string][];
  up?: (value: number) => string;
  whole?: "across" | "up";
  children: (frame: Frame) => ComponentChildren;
}) {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const measured = () => box.current!.clientWidth && setWidth(box.current!.clientWidth);
    measured();
    const watch = new ResizeObserver(measured);
    watch.observe(box.current!);
    return () => watch.disconnect();
  }, []);
  const { xs, ys, names } = props;
  const unit = parseFloat(getComputedStyle(document.documentElement).fontSize) / 15; // texts are larger on large screens
  const height = unit * (props.height ?? 260);
  const up = ticks(ys, height / HIGH / unit, props.whole === "up").map((value): [number, string] => [value, (props.up ?? written)(value)]);
  const [left, right, top, bottom] = [28 + 7 * Math.max(...up.map(([, text]) => text.length)), 14, 20, 40].map((size) => size * unit) as [number, number, number, number];
  const x = (value: number) => left + ((value - xs[0]) / (xs[1] - xs[0])) * (width - left - right);
  const y = (value: number) => top + (height - top - bottom) * (1 - (value - ys[0]) / (ys[1] - ys[0]));
  const points = (across: number[], values: number[]) => across.map((one, i) => `${x(one).toFixed(1)},${y(values[i]!).toFixed(1)}`);
  const across = props.across ?? ticks(xs, width / WIDE / unit, props.whole === "across").map((value): [number, string] => [value, written(value)]);
  const frame: Frame = {
    x,
    y,
    line: (a, b) => points(a, b).join(" "),
    band: (a, low, high) => [...points(a, high), ...points(a, low).reverse()].join(" "),
  };
  const middle = (top + height - bottom) / 2;
  return (
    <div class="chart" ref={box}>
      {width > 0 && (
        <svg viewBox={`0 0 ${width} ${height}`} role="img" aria-label={props.label}>
          {up.map(([value, text]) => (
            <g key={value}>
              <line class="grid" x1={left} x2={width - right} y1={y(value)} y2={y(value)} />
              <text x={left - 6} y={y(value) + 4} text-anchor="end">
                {text}
              </text>
            </g>
          ))}
          {across.map(([value, text]) => (
            <text key={value} x={x(value)} y={height - bottom + 16 * unit} text-anchor="middle">
              {text}
            </text>
          ))}
          <text x={(left + width - right) / 2} y={height - 4} text-anchor="middle">
            {names[0]}
          </text>
          <text x={12 * unit} y={middle} text-anchor="middle" transform={`rotate(-90 ${12 * unit} ${middle})`}>
            {names[1]}
          </text>
          {props.children(frame)}
        </svg>
      )}
    </div>
  );
}

/** Points of a predicted and a true value each; on the dashed line both are the same. */
export function Cloud(props: { label: string; predicted: (number | null)[]; truth: (number | null)[]; same: boolean; names: [string, string]; height?: number; dots?: boolean }) {
  const all = props.predicted.flatMap((x, i): Pair[] => (x === null || props.truth[i] == null ? [] : [[x, props.truth[i]!]]));
  const [across, up] = [all.map(([x]) => x), all.map(([, y]) => y)];
  const [xs, ys] = props.same ? [extent([...across, ...up]), extent([...across, ...up])] : [extent(across), extent(up)];
  return (
    <Chart label={props.label} xs={xs} ys={ys} names={props.names} height={props.height ?? 320}>
      {({ x, y, line }) => (
        <>
          {props.dots ? (
            all.map(([a, b], i) => (
              <circle key={i} class="dot" r={3} cx={x(a)} cy={y(b)}>
                <title>{`predicted ${number(a)}, true ${number(b)}`}</title>
              </circle>
            ))
          ) : (
            <path class="cloud" d={all.map(([a, b]) => `M${x(a).toFixed(1)},${y(b).toFixed(1)}h0`).join("")} />
          )}
          {props.same && <polyline class="zero" points={line(xs, xs)} />}
        </>
      )}
    </Chart>
  );
}
