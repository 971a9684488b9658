// The canvas of a map: points, a lasso by pointer or by keyboard, and one point that is looked at.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { pixel } from "./colours";
import { nearest, paint, pixelAt, placeAt, thinned, zoomed, type Corner, type Points, type Size, type View } from "./points";

const REACH = 12;
const FADED = 45;
const MOST_CORNERS = 60;
const STEP = 1 / 40;
const ZOOM = 0.7;

export function Plot(props: {
  points: Points;
  colours: string[];
  shown: (i: number) => boolean;
  chosen: Set<number> | null;
  view: View;
  lasso: Corner[];
  label: string;
  look: (i: number) => void;
  open: (i: number) => void;
  setView: (view: View | null) => void;
  setLasso: (lasso: Corner[]) => void;
}) {
  const { points, colours, shown, chosen, view, lasso } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const [size, setSize] = useState<Size>({ width: 0, height: 0 });
  const [cross, setCross] = useState<Corner | null>(null);
  const [drawn, setDrawn] = useState<Corner[]>([]);
  const pointer = useRef<{ id: number; moved: boolean } | null>(null);
  const ratio = devicePixelRatio;

  useLayoutEffect(() => {
    const box = canvas.current!;
    const watch = new ResizeObserver(() => setSize({ width: box.clientWidth, height: box.clientHeight }));
    watch.observe(box);
    return () => watch.disconnect();
  }, []);

  const image = useMemo(() => {
    if (!size.width || !size.height) return null;
    const made = new ImageData(Math.round(size.width * ratio), Math.round(size.height * ratio));
    const side = Math.max(2, Math.round(ratio * Math.max(1, size.width / 1200) * Math.min(8, Math.max(2, 500 / Math.sqrt(points.x.length)))));
    const some = (wanted: (i: number) => boolean, alpha: number) => Uint32Array.from(colours, (colour, i) => (shown(i) && wanted(i) ? pixel(colour, alpha) : 0));
    paint(made, points, some((i) => chosen !== null && !chosen.has(i), FADED), view, side);
    paint(made, points, some((i) => chosen === null || chosen.has(i), 255), view, side);
    return made;
  }, [points, colours, shown, chosen, ...view, size, ratio]);

  useEffect(() => {
    const box = canvas.current!;
    const context = box.getContext("2d");
    if (!image || !context) return;
    box.width = image.width;
    box.height = image.height;
    context.putImageData(image, 0, 0);
    context.scale(ratio, ratio);
    context.strokeStyle = getComputedStyle(box).color;
    context.lineWidth = 1.5;
    const corners = drawn.length ? drawn : lasso;
    context.beginPath();
    for (const [px, py] of corners.map((corner) => pixelAt(view, size, corner))) context.lineTo(px, py);
    if (!drawn.length && lasso.length) context.closePath();
    context.setLineDash([6, 4]);
    context.stroke();
    context.setLineDash([]);
    if (cross) {
      const [px, py] = pixelAt(view, size, cross);
      context.beginPath();
      for (const [dx, dy] of [[12, 0], [0, 12]] as const) {
        context.moveTo(px - dx, py - dy);
        context.lineTo(px + dx, py + dy);
      }
      context.stroke();
    }
  });

  const find = (place: Corner) => nearest(points, shown, view, size, pixelAt(view, size, place), REACH);
  const at = (event: MouseEvent): Corner => placeAt(view, size, event.offsetX, event.offsetY);

  const down = (event: PointerEvent) => {
    if (event.button !== 0) return;
    canvas.current!.setPointerCapture(event.pointerId);
    pointer.current = { id: event.pointerId, moved: false };
    setCross(null);
    setDrawn([at(event)]);
  };
  const move = (event: PointerEvent) => {
    if (pointer.current?.id !== event.pointerId) {
      if (event.pointerType === "mouse") props.look(find(at(event)));
      return;
    }
    const [px, py] = pixelAt(view, size, drawn[drawn.length - 1]!);
    if (Math.hypot(event.offsetX - px, event.offsetY - py) < 5) return;
    pointer.current.moved = true;
    setDrawn([...drawn, at(event)]);
  };
  const up = (event: PointerEvent) => {
    if (pointer.current?.id !== event.pointerId) return;
    const { moved } = pointer.current;
    pointer.current = null;
    setDrawn([]);
    if (moved && drawn.length > 2) props.setLasso(thinned(drawn, MOST_CORNERS));
    else if (!moved && event.type === "pointerup") pick(find(at(event)));
  };
  const pick = (i: number) => (i < 0 ? lasso.length > 0 && props.setLasso([]) : props.open(i));

  const wheel = (event: WheelEvent) => {
    event.preventDefault();
    props.setView(zoomed(view, event.deltaY > 0 ? 1 / ZOOM : ZOOM, at(event)));
  };
  useEffect(() => {
    const box = canvas.current!;
    box.addEventListener("wheel", wheel, { passive: false });
    return () => box.removeEventListener("wheel", wheel);
  });

  const step = (dx: number, dy: number, fast: boolean) => {
    const [wide, high] = [view[2] - view[0], view[3] - view[1]];
    const far = fast ? 5 * STEP : STEP;
    const next: Corner = cross ? [cross[0] + dx * far * wide, cross[1] + dy * far * high] : [(view[0] + view[2]) / 2, (view[1] + view[3]) / 2];
    if (next[0] < view[0] || next[0] > view[2]) props.setView([view[0] + (dx * wide) / 2, view[1], view[2] + (dx * wide) / 2, view[3]]);
    if (next[1] < view[1] || next[1] > view[3]) props.setView([view[0], view[1] + (dy * high) / 2, view[2], view[3] + (dy * high) / 2]);
    setCross(next);
    props.look(find(next));
  };
  const zoom = (factor: number) => props.setView(zoomed(view, factor, cross ?? [(view[0] + view[2]) / 2, (view[1] + view[3]) / 2]));
  const keys: Record<string, (fast: boolean) => void> = {
    ArrowLeft: (fast) => step(-1, 0, fast),
    ArrowRight: (fast) => step(1, 0, fast),
    ArrowUp: (fast) => step(0, 1, fast),
    ArrowDown: (fast) => step(0, -1, fast),
    "+": () => zoom(ZOOM),
    "=": () => zoom(ZOOM),
    "-": () => zoom(1 / ZOOM),
    "0": () => props.setView(null),
    " ": () => cross && setDrawn([...drawn, cross]),
    Enter: () => {
      if (drawn.length > 2) props.setLasso(thinned(drawn, MOST_CORNERS));
      else if (cross && !drawn.length) pick(find(cross));
      setDrawn([]);
    },
    Escape: () => {
      if (!drawn.length && lasso.length) props.setLasso([]);
      setDrawn([]);
    },
  };
  const pressed = (event: KeyboardEvent) => {
    const act = event.ctrlKey || event.metaKey || event.altKey ? undefined : keys[event.key];
    if (!act) return;
    event.preventDefault();
    act(event.shiftKey);
  };

  return (
    <canvas
      ref={canvas}
      class="plot"
      tabIndex={0}
      role="application"
      aria-label={props.label}
      aria-describedby="map-keys"
      onPointerDown={down}
      onPointerMove={move}
      onPointerUp={up}
      onPointerCancel={up}
      onPointerLeave={() => !pointer.current && props.look(-1)}
      onKeyDown={pressed}
    />
  );
}
