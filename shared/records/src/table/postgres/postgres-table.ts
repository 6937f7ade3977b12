import { KeyedLocks } from '@sepia/base/async/keyed-locks';
import type { TextSource } from '@sepia/base/config/live-texts';
import { CodedError } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import { LATE_MS } from '../../deadlines.ts';
import type { KeyRange, OnForeign, RecordTable, TableStep } from '../record-table.ts';
import { areMade, type Change, changesOf } from './core/changes.ts';
import { isInDoubt, PostgresDatabase } from './database.ts';
import { OwnNotes } from './own-notes.ts';
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
  readonly #notes = new OwnNotes();
  /** Changes of this process do not come between each other. */
  readonly #locks = new KeyedLocks<string>();
  readonly #lateMs: number;

  private constructor(
    deps: { readonly log: Logger; readonly database: PostgresDatabase },
    options: { readonly lateMs?: number },
  ) {
    this.database = deps.database;
    this.#lateMs = options.lateMs ?? LATE_MS;
    this.#watch = new Watch({ ...deps, isHeard: (id) => this.#notes.isTold(id) });
  }

  /** @throws `START_FAILED`, `DISK_FORMAT`: see {@link PostgresDatabase.open} */
  static async open(
    deps: { readonly log: Logger },
    options: { readonly url: TextSource; readonly deadlineMs?: number; readonly lateMs?: number },
  ): Promise<PostgresTable> {
    const database = await PostgresDatabase.open(deps, options);
    return new PostgresTable({ ...deps, database }, options);
  }

  async get(key: string): Promise<string | undefined> {
    const [found] = await this.getMany([key]);
    return found;
  }

  async getMany(keys: readonly string[]): Promise<(string | undefined)[]> {
    const { found } = await this.database.run(async (ask) => await read(ask, keys));
    return keys.map((key) => found.get(key));
  }

  async change<A>(
    keys: readonly string[],
    step: (found: readonly (string | undefined)[]) => TableStep<A>,
    beside: readonly string[] = [],
  ): Promise<A> {
    const asked = [...keys, ...beside];
    const askedAtMs = performance.now();
    return await this.#locks.runAll(keys, async () => {
      let lost: { readonly made: TableStep<A>; readonly changes: readonly Change[] } | undefined;
      try {
        const { answer, onDurable } = await this.database.run(
          async (ask) => {
            const { found, readAtS } = await read(ask, asked);
            if (lost !== undefined && areMade(lost.changes, found)) {
              const { made } = lost;
              lost = undefined;
              return made;
            }
            const made = step(asked.map((key) => found.get(key)));
            const changes = changesOf(found, made.writes);
            const onDoubt = (): void => {
              lost = { made, changes };
            };
            const untilS = beside.length === 0 ? undefined : readAtS + this.#lateMs / 1_000;
            if (changes.length > 0) await this.#write(ask, changes, untilS, onDoubt);
            return made;
          },
          { askedAtMs },
        );
        onDurable?.();
        return answer;
      } finally {
        // It may be there, and nobody heard of it.
        if (lost !== undefined) for (const { key } of lost.changes) this.#watch.tell(key);
      }
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

  /**
   * All changes, or 40001 where a text is no longer what it was. `untilS`: not after this time of the server's clock.
   * `onDoubt`: they may be made though this fails.
   */
  async #write(
    ask: Ask,
    changes: readonly Change[],
    untilS: number | undefined,
    onDoubt: () => void,
  ): Promise<void> {
    const rows = changes
      .map(({ key, old, value }) => ({ bytes: bytesOf(key), old, value }))
      .sort((a, b) => Buffer.compare(a.bytes, b.bytes));
    const id = this.#notes.next();
    const isInTime = untilS === undefined ? '' : ' WHERE statement_timestamp() < to_timestamp($5)';
    let done: readonly unknown[];
    try {
      done = await ask(`SELECT sepia_change($1::bytea[], $2::text[], $3::text[], $4)${isInTime}`, [
        rows.map(({ bytes }) => bytes),
        rows.map(({ old }) => old ?? null),
        rows.map(({ value }) => value ?? null),
        noteOf(
          id,
          changes.map(({ key }) => key),
        ),
        ...(untilS === undefined ? [] : [untilS]),
      ]);
    } catch (error) {
      if (isInDoubt(error)) {
        this.#notes.doubt(id);
        onDoubt();
      }
      throw error;
    }
    if (done.length === 0) throw new CodedError('BACKEND_DOWN', { message: 'what was read is too old' });
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

/** Texts, all of one moment, and when that was by the server's clock, at the latest. */
async function read(
  ask: Ask,
  keys: readonly string[],
): Promise<{ readonly found: Map<string, string | undefined>; readonly readAtS: number }> {
  const rows = await ask(
    'SELECT key, value FROM sepia_records WHERE key = ANY($1) UNION ALL SELECT NULL, extract(epoch FROM statement_timestamp())::text',
    [keys.map(bytesOf)],
  );
  const found = new Map<string, string | undefined>();
  let readAtS = 0;
  for (const { key, value } of rows as { readonly key: Buffer | null; readonly value: string }[])
    if (key === null) readAtS = Number(value);
    else found.set(key.toString('utf8'), value);
  return { found, readAtS };
}

/** What others are told: who wrote, and which keys if they are few. */
function noteOf(id: string, keys: readonly string[]): string {
  const text = `${id}\n${JSON.stringify(keys)}`;
  return Buffer.byteLength(text) <= MAX_NOTE_BYTES ? text : `${id}\n`;
}

function bytesOf(key: string): Buffer {
  return Buffer.from(key, 'utf8');
}
