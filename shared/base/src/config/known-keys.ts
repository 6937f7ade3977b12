import { z } from 'zod';

/** What is looked at of a JSON schema. */
interface Shape {
  readonly properties?: Readonly<Record<string, Shape>>;
  readonly items?: Shape;
  readonly anyOf?: readonly Shape[];
  readonly additionalProperties?: boolean | Shape;
}

/** Letters that a key may be off by, at most, to be taken for another one. */
const MOST_EDITS = 2;
/** A key this long that another one begins with, or that begins with it, is taken for that. */
const MIN_PREFIX = 4;

/** The keys that a schema has at `path`; none where it has no section there. */
export function keysAt(schema: z.ZodType, path: readonly PropertyKey[]): readonly string[] {
  let shapes = [z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Shape].flatMap(each);
  for (const part of path) shapes = shapes.flatMap((shape) => inner(shape, part)).flatMap(each);
  return shapes.flatMap(({ properties = {} }) => Object.keys(properties));
}

/** The one of `keys` that `key` is most likely a slip of; undefined where none is near. */
export function nearestKey(key: string, keys: readonly string[]): string | undefined {
  const most = Math.min(MOST_EDITS, Math.floor(key.length / 2));
  const written = key.toLowerCase().replaceAll('_', '-');
  const near = keys
    .filter((one) => Math.abs(one.length - written.length) <= most)
    .map((one) => ({ one, edits: editsBetween(written, one) }))
    .filter(({ edits }) => edits <= most)
    .sort((a, b) => a.edits - b.edits)[0];
  return near?.one ?? keys.find((one) => isPrefix(one, written) || isPrefix(written, one));
}

function each(shape: Shape): Shape[] {
  return [shape, ...(shape.anyOf ?? []).flatMap(each)];
}

function inner({ properties = {}, items, additionalProperties }: Shape, part: PropertyKey): Shape[] {
  const named = Object.hasOwn(properties, part) ? properties[part as string] : undefined;
  const found = named ?? items ?? additionalProperties;
  return typeof found === 'object' ? [found] : [];
}

function isPrefix(short: string, long: string): boolean {
  return short.length >= MIN_PREFIX && long.startsWith(short);
}

/** Letters to put in, take out, change, or swap with their neighbour, to make `b` of `a` (optimal string alignment). */
function editsBetween(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, at) => at)];
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const change = rows[i - 1]![j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swap = isSwap ? rows[i - 2]![j - 2]! + 1 : change;
      row.push(Math.min(rows[i - 1]![j]! + 1, row[j - 1]! + 1, change, swap));
    }
    rows.push(row);
  }
  return rows[a.length]![b.length]!;
}
