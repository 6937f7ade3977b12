import { randomBytes } from 'node:crypto';
import { KeyedLocks } from '@sepia/base/async/keyed-locks';
import type { Logger } from '@sepia/base/log';
import type { KeyRange, OnForeign, RecordTable, TableStep, Write } from '../record-table.ts';
import { PostgresDatabase } from './database.ts';
import type { Ask } from './schema.ts';
import { Watch } from './watch.ts';

/** Rows of the first page of a range, and of the largest: most ranges are short. */
const FIRST_PAGE = 32;
const MAX_PAGE = 1_024;
/** Longest text of a notification, in bytes; PostgreSQL takes less than 8,000. */
const MAX_NOTE_BYTES = 7_000;

/** Records in a PostgreSQL that all origins share. A change is one statement; reads are of the primary alone. */
export class PostgresTable implements RecordTable {
  readonly isShared = true;
  readonly database: PostgresDatabase;
  readonly #watch: Watch;
  /** Names this process in notifications. */
  readonly #self = randomBytes(8).toString('hex');
  /** Changes of this process do not come between each other. */
  readonly #locks = new KeyedLocks<string>();

  private constructor(deps: { readonly log: Logger; readonly database: PostgresDatabase }) {
    this.database = deps.database;
    this.#watch = new Watch({ ...deps, self: this.#self });
  }

  /** @throws `START_FAILED`, `DISK_FORMAT`: see {@link PostgresDatabase.open} */
  static async open(
    deps: { readonly log: Logger },
    options: { readonly url: string; readonly deadlineMs?: number },
  ): Promise<PostgresTable> {
    const database = await PostgresDatabase.open(deps, options);
    return new PostgresTable({ ...deps, database });
  }

  async get(key: string): Promise<string | undefined> {
    const [found] = await this.getMany([key]);
    return found;
  }

  async getMany(keys: readonly string[]): Promise<(string | undefined)[]> {
    return await this.database.run(async (ask) => await read(ask, keys));
  }

  async change<A>(
    keys: readonly string[],
    step: (found: readonly (string | undefined)[]) => TableStep<A>,
  ): Promise<A> {
    return await this.#locks.runAll(keys, async () => {
      const { answer, onDurable } = await this.database.run(async (ask) => {
        const found = await read(ask, keys);
        const made = step(found);
        if (made.writes.length > 0)
          await write(ask, new Map(keys.map((key, at) => [key, found[at]])), made.writes, this.#self);
        return made;
      });
      onDurable?.();
      return answer;
    });
  }

  async *entries(range: KeyRange): AsyncGenerator<readonly [key: string, text: string], void, void> {
    for await (const { key, value } of this.#rows(range, 'key, value')) yield [key, value!];
  }

  async *keys(range: KeyRange): AsyncGenerator<string, void, void> {
    for await (const { key } of this.#rows(range, 'key')) yield key;
  }

  onForeign(listener: OnForeign): void {
    this.#watch.onForeign(listener);
  }

  async told(): Promise<void> {
    await this.idle();
  }

  async idle(): Promise<void> {
    await this.#locks.allIdle();
  }

  /** The last thing that is asked of it. */
  async close(): Promise<void> {
    await this.idle();
    await this.#watch.stop();
    await this.database.close();
  }

  async *#rows(
    range: KeyRange,
    columns: string,
  ): AsyncGenerator<{ key: string; value?: string }, void, void> {
    const upper = range.lt ?? range.lte;
    const above = upper === undefined ? '' : ` AND key ${range.lt === undefined ? '<=' : '<'} $2`;
    let operator = range.gt === undefined ? '>=' : '>';
    let from = bytesOf(range.gt ?? range.gte ?? '');
    for (let limit = FIRST_PAGE; ; limit = Math.min(MAX_PAGE, limit * 4)) {
      const text = `SELECT ${columns} FROM sepia_records WHERE key ${operator} $1${above} ORDER BY key LIMIT ${limit}`;
      const values = upper === undefined ? [from] : [from, bytesOf(upper)];
      const rows = (await this.database.run(async (ask) => await ask(text, values))) as unknown as {
        readonly key: Buffer;
        readonly value?: string;
      }[];
      for (const { key, ...rest } of rows) yield { key: key.toString('utf8'), ...rest };
      const last = rows.at(-1);
      if (last === undefined || rows.length < limit) return;
      [operator, from] = ['>', last.key];
    }
  }
}

async function read(ask: Ask, keys: readonly string[]): Promise<(string | undefined)[]> {
  const rows = await ask('SELECT key, value FROM sepia_records WHERE key = ANY($1)', [keys.map(bytesOf)]);
  const found = new Map(rows.map(({ key, value }) => [(key as Buffer).toString('utf8'), value as string]));
  return keys.map((key) => found.get(key));
}

/** All writes, or 40001 where a text is no longer what was `found`. The last write of a key counts. */
async function write(
  ask: Ask,
  found: ReadonlyMap<string, string | undefined>,
  writes: readonly Write[],
  self: string,
): Promise<void> {
  const last = new Map(writes.map((one) => [one.key, one.type === 'put' ? one.value : undefined]));
  const changed = [...last]
    .map(([key, value]) => ({ key, bytes: bytesOf(key), old: found.get(key), value }))
    .filter(({ old, value }) => old !== value)
    .sort((a, b) => Buffer.compare(a.bytes, b.bytes));
  if (changed.length === 0) return;
  await ask('SELECT sepia_change($1::bytea[], $2::text[], $3::text[], $4)', [
    changed.map(({ bytes }) => bytes),
    changed.map(({ old }) => old ?? null),
    changed.map(({ value }) => value ?? null),
    noteOf(
      self,
      changed.map(({ key }) => key),
    ),
  ]);
}

/** What others are told: who wrote, and which keys if they are few. */
function noteOf(self: string, keys: readonly string[]): string {
  const text = `${self}\n${JSON.stringify(keys)}`;
  return Buffer.byteLength(text) <= MAX_NOTE_BYTES ? text : `${self}\n`;
}

function bytesOf(key: string): Buffer {
  return Buffer.from(key, 'utf8');
}
