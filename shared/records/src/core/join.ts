/**
 * One entry of a set as it is stored and exchanged. Live while `value` is there; a tombstone else. What is unset is as
 * old as `atMs`.
 */
export interface Entry {
  /** Clock of the value's newest part, or of the tombstone. */
  readonly atMs: number;
  /** Undefined for a tombstone. */
  readonly value?: unknown;
  /** Clocks of the fields that are older than `atMs` (sets that join by field). */
  readonly fieldMs?: Readonly<Record<string, number>>;
  /** Clock of the newest tombstone that the value came after. */
  readonly deadMs?: number;
}

/** Merges two entries of one key: commutative, associative, idempotent. Returns `a` itself if `b` says nothing new. */
export type Join = (a: Entry, b: Entry) => Entry;

/** The later entry stands; at the same time a tombstone, then the greater canonical bytes. */
export const joinWhole: Join = (a, b) => {
  if (a.atMs !== b.atMs) return a.atMs > b.atMs ? a : b;
  if ((a.value === undefined) !== (b.value === undefined)) return a.value === undefined ? a : b;
  return canonicalJson(a.value ?? null) >= canonicalJson(b.value ?? null) ? a : b;
};

/** Each field has its own clock; the newest tombstone hides whatever is not later than it. Values are objects. */
export const joinFields: Join = (a, b) => {
  const deadMs = Math.max(deadOf(a), deadOf(b));
  const fields = new Map<string, { readonly atMs: number; readonly value: unknown }>();
  let liveMs = Number.NEGATIVE_INFINITY;
  for (const entry of [a, b]) {
    if (entry.value === undefined) continue;
    if (entry.atMs > deadMs) liveMs = Math.max(liveMs, entry.atMs);
    for (const [name, value] of fieldsOf(entry.value as object)) {
      const atMs = entry.fieldMs?.[name] ?? entry.atMs;
      const other = fields.get(name);
      if (atMs > deadMs && (other === undefined || isLaterField({ atMs, value }, other)))
        fields.set(name, { atMs, value });
    }
  }
  const joined = liveMs > deadMs ? liveEntry(liveMs, deadMs, fields) : { atMs: deadMs };
  return isSameEntry(joined, a) ? a : joined;
};

/** True if all that `wanted` says stands in `standing`: a tombstone as such, each field of a value as it is. */
export function isShown(wanted: Entry, standing: Entry | undefined, byField: boolean): boolean {
  if (standing === undefined) return false;
  if (wanted.value === undefined || standing.value === undefined) return wanted.value === standing.value;
  if (!byField) return canonicalJson(wanted.value) === canonicalJson(standing.value);
  const shown = standing.value as Record<string, unknown>;
  return fieldsOf(wanted.value as object).every(
    ([name, value]) => shown[name] !== undefined && canonicalJson(shown[name]) === canonicalJson(value),
  );
}

/** True for entries whose bytes on disk are the same. */
function isSameEntry(a: Entry, b: Entry): boolean {
  return a === b || canonicalJson(a) === canonicalJson(b);
}

/** What a value says of its fields. One that is undefined says nothing: on the disk and on the wire it is not there. */
export function fieldsOf(value: object): [name: string, value: unknown][] {
  return Object.entries(value).filter(([, one]) => one !== undefined);
}

/** JSON whose bytes are the same for equal values: {@link fieldsOf | fields} by name. What is undefined as a whole is as null. */
export function canonicalJson(value: unknown): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  if (Array.isArray(value)) return `[${value.map((one) => canonicalJson(one ?? null)).join(',')}]`;
  // By hand, not by entries and their filter: every record that is written comes by here several times.
  let fields = '';
  for (const name of Object.keys(value).sort()) {
    const one = (value as Record<string, unknown>)[name];
    if (one !== undefined)
      fields += `${fields === '' ? '' : ','}${JSON.stringify(name)}:${canonicalJson(one)}`;
  }
  return `{${fields}}`;
}

function deadOf(entry: Entry): number {
  return entry.value === undefined ? entry.atMs : (entry.deadMs ?? Number.NEGATIVE_INFINITY);
}

function isLaterField(
  a: { readonly atMs: number; readonly value: unknown },
  b: { readonly atMs: number; readonly value: unknown },
): boolean {
  return a.atMs === b.atMs ? canonicalJson(a.value) > canonicalJson(b.value) : a.atMs > b.atMs;
}

function liveEntry(
  atMs: number,
  deadMs: number,
  fields: ReadonlyMap<string, { readonly atMs: number; readonly value: unknown }>,
): Entry {
  const names = [...fields.keys()].sort();
  const value = Object.fromEntries(names.map((name) => [name, fields.get(name)!.value]));
  const older = names.filter((name) => fields.get(name)!.atMs !== atMs);
  return {
    atMs,
    value,
    ...(older.length === 0
      ? {}
      : { fieldMs: Object.fromEntries(older.map((name) => [name, fields.get(name)!.atMs])) }),
    ...(deadMs === Number.NEGATIVE_INFINITY ? {} : { deadMs }),
  };
}
