// Many points on a canvas: where they are, which are near a place, and which are inside a lasso.

/** What the canvas shows, in the units of the map: left, bottom, right, top. */
export type View = [number, number, number, number];
export type Corner = [number, number];

export interface Points {
  x: number[];
  y: number[];
}

export interface Size {
  width: number;
  height: number;
}

const MARGIN = 0.04;

/** Returns the view that shows all points, with a margin. */
export function whole({ x, y }: Points): View {
  let [left, bottom, right, top] = [Infinity, Infinity, -Infinity, -Infinity];
  for (let i = 0; i < x.length; i++) {
    left = Math.min(left, x[i]!);
    right = Math.max(right, x[i]!);
    bottom = Math.min(bottom, y[i]!);
    top = Math.max(top, y[i]!);
  }
  const [wide, high] = [(right - left || 1) * MARGIN, (top - bottom || 1) * MARGIN];
  return [left - wide, bottom - high, right + wide, top + high];
}

/** Returns a view that is `factor` as large, in which a place stays where it is. */
export function zoomed([left, bottom, right, top]: View, factor: number, [x, y]: Corner): View {
  return [x - (x - left) * factor, y - (y - bottom) * factor, x + (right - x) * factor, y + (top - y) * factor];
}

/** Returns the place of the map at a pixel of the canvas, and the reverse. */
export const placeAt = ([left, bottom, right, top]: View, { width, height }: Size, px: number, py: number): Corner => [left + ((right - left) * px) / width, top - ((top - bottom) * py) / height];
export const pixelAt = ([left, bottom, right, top]: View, { width, height }: Size, [x, y]: Corner): Corner => [((x - left) / (right - left)) * width, ((top - y) / (top - bottom)) * height];

/** Returns the number of the point nearest to a pixel, at most `reach` pixels away; -1 if there is none. */
export function nearest(points: Points, shown: (i: number) => boolean, view: View, size: Size, [px, py]: Corner, reach: number): number {
  let [found, least] = [-1, reach * reach];
  const [x, y] = placeAt(view, size, px, py);
  const [wide, high] = [size.width / (view[2] - view[0]), size.height / (view[3] - view[1])];
  for (let i = 0; i < points.x.length; i++) {
    const [dx, dy] = [(points.x[i]! - x) * wide, (points.y[i]! - y) * high];
    const away = dx * dx + dy * dy;
    if (away <= least && shown(i)) [found, least] = [i, away];
  }
  return found;
}

/** Returns the numbers of the points inside a lasso, by counting its edges to the right of each. */
export function inside({ x, y }: Points, lasso: Corner[]): number[] {
  const found: number[] = [];
  for (let i = 0; i < x.length; i++) {
    const [px, py] = [x[i]!, y[i]!];
    let odd = false;
    for (let a = 0, b = lasso.length - 1; a < lasso.length; b = a++) {
      const [[ax, ay], [bx, by]] = [lasso[a]!, lasso[b]!];
      if (ay > py !== by > py && px < ((bx - ax) * (py - ay)) / (by - ay) + ax) odd = !odd;
    }
    if (odd) found.push(i);
  }
  return found;
}

/** Paints squares of `side` pixels into an image. colours: one for each point, as the image has them; 0 leaves it out. */
export function paint(image: ImageData, points: Points, colours: Uint32Array, view: View, side: number): void {
  const pixels = new Uint32Array(image.data.buffer);
  const { width, height } = image;
  const [wide, high] = [width / (view[2] - view[0]), height / (view[3] - view[1])];
  for (let i = 0; i < points.x.length; i++) {
    const colour = colours[i]!;
    if (!colour) continue;
    const column = Math.round((points.x[i]! - view[0]) * wide - side / 2);
    const row = Math.round((view[3] - points.y[i]!) * high - side / 2);
    if (column < 0 || row < 0 || column + side > width || row + side > height) continue;
    for (let r = row; r < row + side; r++) pixels.fill(colour, r * width + column, r * width + column + side);
  }
}

/** Returns every k-th corner of a lasso, so that its address stays short. */
export const thinned = (lasso: Corner[], most: number): Corner[] => lasso.filter((_, i) => i % Math.ceil(lasso.length / most) === 0);

export const asText = (numbers: number[]): string => numbers.map((value) => Number(value.toPrecision(4))).join(",");

export function numbersOf(text: string | null): number[] {
  const found = (text ?? "").split(",").filter(Boolean).map(Number);
  return found.every(Number.isFinite) ? found : [];
}

export function cornersOf(text: string | null): Corner[] {
  const found = numbersOf(text);
  return found.length < 6 ? [] : Array.from({ length: Math.floor(found.length / 2) }, (_, i): Corner => [found[2 * i]!, found[2 * i + 1]!]);
}

/** Returns a view from an address; null if it shows nothing. */
export function viewOf(text: string | null): View | null {
  const [left, bottom, right, top] = numbersOf(text);
  return top !== undefined && right! > left! && top > bottom! ? [left!, bottom!, right!, top] : null;
}
