// Colours of points: each has a contrast of at least 3 to the light page and to the dark one.

/** Colours of classes; the last is for those that are in none, or one of too many. */
export const CLASSES = ["#2a7ad4", "#d2610a", "#23913f", "#e0383e", "#9457d6", "#8a6d00", "#d4439b", "#0d8a99", "#9c5a4a", "#5f7f2a"];
export const NONE = "#7d8590";
/** Colours of numbers, from low to high. */
const RAMP = ["#4a68e8", "#0d87b5", "#1c9065", "#8a8400", "#d2610a", "#e0303e"];
const [LOW, HIGH] = [0.02, 0.98];

/** The colour of an image's pixel, as a little-endian number. */
export function pixel(colour: string, alpha = 255): number {
  const value = parseInt(colour.slice(1), 16);
  return ((alpha << 24) | ((value & 255) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
}

function between(share: number): string {
  const at = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1);
  const [one, other] = [RAMP[Math.floor(at)]!, RAMP[Math.ceil(at)]!].map((colour) => parseInt(colour.slice(1), 16)) as [number, number];
  const mixed = [16, 8, 0].map((shift) => Math.round(((one >> shift) & 255) * (1 - (at % 1)) + ((other >> shift) & 255) * (at % 1)));
  return `#${mixed.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}

/** What colours mean. entries: the names of classes, largest first, or some numbers from low to high. */
export interface Key {
  entries: { name: string; colour: string; count: number | null }[];
  colours: string[];
}

/** Gives each class a colour, the largest first. names: of the class of each point; empty for none. */
export function ofClasses(names: string[]): Key {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  const sorted = [...counts].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const colour = new Map(sorted.filter(Boolean).map((name, i) => [name, CLASSES[i] ?? NONE]));
  return {
    entries: sorted.map((name) => ({ name, colour: colour.get(name) ?? NONE, count: counts.get(name) ?? 0 })),
    colours: names.map((name) => colour.get(name) ?? NONE),
  };
}

const STEPS = 6;

/** Gives numbers colours from low to high; those beyond 2% and 98% have the colours of the ends. */
export function ofNumbers(values: (number | null)[], shown: (value: number) => string): Key {
  const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
  const [low, high] = [LOW, HIGH].map((share) => sorted[Math.floor(share * (sorted.length - 1))] ?? 0) as [number, number];
  const share = (value: number) => (high > low ? (value - low) / (high - low) : 0.5);
  const steps = sorted.length ? Array.from({ length: high > low ? STEPS : 1 }, (_, i) => low + ((high - low) * i) / (STEPS - 1)) : [];
  const unknown = values.length - sorted.length;
  return {
    entries: [...steps.map((value) => ({ name: shown(value), colour: between(share(value)), count: null })), ...(unknown ? [{ name: "unknown", colour: NONE, count: unknown }] : [])],
    colours: values.map((value) => (value === null ? NONE : between(share(value)))),
  };
}
