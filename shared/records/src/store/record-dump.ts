import { CodedError, laterFormat } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { type Entry, joinFields, joinWhole } from '../core/join.ts';
import type { RecordSpace } from '../core/record-space.ts';
import type { RecordSet } from '../set/record-set.ts';
import type { RecordTable } from '../table/record-table.ts';

/** One record as it is on the disk: its key behind the space, and what is stored there. */
export interface DumpedRecord {
  readonly key: string;
  readonly stored: unknown;
}

/** Records of one space in the order of their keys, at most about 1 MiB. */
export interface DumpPage {
  readonly entries: readonly DumpedRecord[];
  /** False at the end of the space. */
  readonly more: boolean;
}

const PAGE_BYTES = 1024 * 1024;
/** So far may a record's clock be ahead of ours, in ms: a later one could never be replaced. */
const MAX_AHEAD_MS = 24 * 3_600_000;

interface RecordDumpDeps {
  readonly table: RecordTable;
  readonly sets: Readonly<Record<Exclude<RecordSpace, 'r1'>, RecordSet<never> | RecordSet<unknown>>>;
}

/** Reads the records of one origin page by page, and takes those of a backup. */
export class RecordDump {
  readonly #deps: RecordDumpDeps;

  constructor(deps: { readonly table: RecordTable; readonly sets: Readonly<Record<string, unknown>> }) {
    this.#deps = deps as RecordDumpDeps;
  }

  /** Records of a space behind the key `after`, in the order of their bytes; at most `limit` and about 1 MiB. */
  async page(space: RecordSpace, after: string | undefined, limit: number): Promise<DumpPage> {
    const prefix = `${space}\0`;
    const range = {
      ...(after === undefined ? { gte: prefix } : { gt: prefix + after }),
      lt: `${space}\x01`,
    };
    const entries: DumpedRecord[] = [];
    let bytes = 0;
    for await (const [key, text] of this.#deps.table.entries(range)) {
      if (entries.length >= limit || bytes > PAGE_BYTES) return { entries, more: true };
      entries.push({ key: key.slice(prefix.length), stored: parsedRecord(key, text) });
      bytes += key.length + text.length;
    }
    return { entries, more: false };
  }

  /** Takes a record of a set over if it is later than what is here. @throws `REQUEST_INVALID`, `DISK_FORMAT` */
  async take(space: Exclude<RecordSpace, 'r1'>, record: DumpedRecord, nowMs: number): Promise<boolean> {
    const fault = clockFault(space, record, nowMs);
    if (fault !== undefined) throw new CodedError('REQUEST_INVALID', { message: fault });
    const { v, atMs, value, fieldMs, deadMs } = (record.stored ?? {}) as Partial<Entry> & { v?: unknown };
    if (typeof v === 'number' && v > 1) throw laterFormat('a record', v, 1, { space });
    if (v !== 1 || typeof atMs !== 'number')
      throw new CodedError('REQUEST_INVALID', { message: `${space}: a record has no clock` });
    const key = record.key.split('\0');
    if (key.some((part) => part === '' || part.includes('\x01')))
      throw new CodedError('REQUEST_INVALID', { message: `${space}: a key is not valid` });
    return await (this.#deps.sets[space] as RecordSet<unknown>).merge({
      key,
      atMs,
      value,
      ...(fieldMs === undefined ? {} : { fieldMs }),
      ...(deadMs === undefined ? {} : { deadMs }),
    });
  }
}

/** Why the clock of a set's record cannot be taken over, naming the record; undefined if it can. */
export function clockFault(
  space: RecordSpace,
  { key, stored }: DumpedRecord,
  nowMs: number,
): string | undefined {
  const { atMs } = (stored ?? {}) as { atMs?: unknown };
  if (space === 'r1' || typeof atMs !== 'number') return undefined;
  if (Number.isFinite(atMs) && atMs >= 0 && atMs <= nowMs + MAX_AHEAD_MS) return undefined;
  const name = key.replaceAll('\0', ' ').slice(0, 300);
  return `${space}: the clock of record ${name} (${atMs}) is negative or more than a day ahead`;
}

/** Merges two stored records of one key: of a set as {@link RecordSet} does, of a register by the higher accepted ballot. */
export function laterRecord(space: RecordSpace, a: unknown, b: unknown): unknown {
  if (space === 'r1') return ballotOf(b) > ballotOf(a) ? b : a;
  const join = space === 'l1' ? joinFields : joinWhole;
  const [one, other] = [a, b] as ({ readonly v: 1; readonly deleted?: true } & Entry)[];
  const { v, deleted: _, ...entry } = one!;
  const { v: __, deleted: ___, ...newer } = other!;
  const joined = join(entry, newer);
  return { v, ...joined, ...(joined.value === undefined ? { deleted: true } : {}) };
}

/** Text that orders as ballots do. */
function ballotOf(stored: unknown): string {
  const { counter = 0, proposer = '' } =
    (stored as { accepted?: { counter?: number; proposer?: string } }).accepted ?? {};
  return `${String(counter).padStart(16, '0')} ${proposer}`;
}

/** A record as it is stored, read. @throws {CodedError} `DISK_CORRUPT`, with its key, for what is no JSON */
export function parsedRecord(key: string, text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('DISK_CORRUPT', { detail: { key }, cause });
  }
}
