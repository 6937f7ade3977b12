import { CodedError } from '@sepia/base/errors';
import { ignoreFailure, isBug, throwIfBug } from '@sepia/base/failure';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import type { RecordEntry } from '@sepia/records/set/record-set';
import { type Members, QUICK_MS } from '../cluster/members.ts';
import {
  hindrance,
  isLater,
  latest,
  type MergedPage,
  mergePages,
  type OwnPage,
  readQuorum,
} from './core/record-merge.ts';

/** The repository whose owners keep the records. */
export interface ShardName {
  readonly upstream: string;
  readonly repository: string;
}

/** A record of a repository: the parts of its key behind (upstream, repository), its clock, no value for a tombstone. */
export interface ShardRecord<T> {
  readonly key: readonly string[];
  readonly atMs: number;
  readonly value?: T;
}

/** What a set asks of this origin's own database; a `RecordSet` is one. */
interface OwnSet<T> {
  entry(key: readonly string[]): Promise<RecordEntry<T> | undefined>;
  merge(entry: RecordEntry<T>): Promise<boolean>;
  entries(prefix: readonly string[], after?: string): AsyncIterable<RecordEntry<T>>;
}

/** Most records in one message, and most bytes of a page of them. */
export const MAX_RECORDS = 10_000;
const MAX_PAGE_BYTES = 2 * 1024 * 1024;
/** A clock that stands in the way is overtaken this often. */
const MAX_TRIES = 5;

interface QuorumSetDeps<T> {
  readonly members: Members;
  readonly own: OwnSet<T>;
  readonly nowMs: () => number;
}

/**
 * A set of records kept by the owners of a repository. A write is acknowledged by W of them with one clock that is
 * later than all that it replaces (a writer that is behind is told so and takes a later one); a read asks so many that
 * one of them knows it. So a delete that was acknowledged is seen by every later read, and a later put wins over it,
 * whatever the clocks of the origins say.
 */
export class QuorumSet<T> {
  readonly name: string;
  readonly #deps: QuorumSetDeps<T>;

  /** `name`: in the path of the owners' routes. */
  constructor(name: string, deps: QuorumSetDeps<T>) {
    this.name = name;
    this.#deps = deps;
  }

  /** This origin's own record, for other members. */
  async own(shard: ShardName, key: readonly string[]): Promise<ShardRecord<T> | undefined> {
    const found = await this.#deps.own.entry([shard.upstream, shard.repository, ...key]);
    return found === undefined ? undefined : toRecord(found);
  }

  /** This origin's own records below `prefix`, from behind the key part `after`; at least one if there is any. */
  async ownPage(
    shard: ShardName,
    prefix: readonly string[],
    page: { readonly after?: string | undefined; readonly limit: number },
  ): Promise<OwnPage<ShardRecord<T>>> {
    const entries: ShardRecord<T>[] = [];
    let bytes = 0;
    for await (const entry of this.#deps.own.entries(
      [shard.upstream, shard.repository, ...prefix],
      page.after,
    )) {
      if (entries.length >= page.limit || bytes > MAX_PAGE_BYTES) return { entries, more: true };
      entries.push(toRecord(entry));
      bytes += 200 + (entry.value === undefined ? 0 : JSON.stringify(entry.value).length);
    }
    return { entries, more: false };
  }

  /** Takes records of another member; durable when it resolves. Names the latest clock that stands in the way, if any. */
  async putOwn(shard: ShardName, records: readonly ShardRecord<T>[]): Promise<{ behindMs?: number }> {
    const behind = await Promise.all(
      records.map(async ({ key, atMs, value }) => {
        const full = [shard.upstream, shard.repository, ...key];
        if (await this.#deps.own.merge({ key: full, atMs, value })) return undefined;
        return hindrance({ atMs, value }, await this.#deps.own.entry(full));
      }),
    );
    const clocks = behind.filter((one) => one !== undefined);
    return clocks.length === 0 ? {} : { behindMs: Math.max(...clocks) };
  }

  /**
   * Writes values and tombstones of one repository to W of its owners; the rest follows behind. All get one clock.
   * @throws `QUORUM_LOST`, `CONFLICT`
   */
  async write(
    shard: ShardName,
    changes: readonly { readonly key: readonly string[]; readonly value?: T | undefined }[],
  ): Promise<void> {
    if (changes.length === 0) return;
    const { owners, writeQuorum } = this.#deps.members.placement(shardKey(shard.upstream, shard.repository));
    let atMs = this.#deps.nowMs();
    for (let tries = 1; ; tries++) {
      let behindMs = 0;
      const records = changes.map(({ key, value }) =>
        value === undefined ? { key, atMs } : { key, atMs, value },
      );
      try {
        await acknowledged(owners, writeQuorum, async (id) => {
          for (let at = 0; at < records.length; at += MAX_RECORDS) {
            const answer = await this.#put(id, shard, records.slice(at, at + MAX_RECORDS));
            if (answer.behindMs === undefined) continue;
            behindMs = Math.max(behindMs, answer.behindMs);
            throw new CodedError('CONFLICT', {
              message: 'a later record stands in the way',
              detail: { origin: id },
            });
          }
        });
        if (behindMs === 0) return;
      } catch (error) {
        throwIfBug(error);
        if (behindMs === 0) throw error;
      }
      if (tries >= MAX_TRIES) throw new CodedError('CONFLICT', { detail: { ...shard, tries } });
      atMs = Math.max(this.#deps.nowMs(), behindMs + 1);
    }
  }

  /**
   * The record that stands, a tombstone as such; undefined if there never was one. `lenient`: where records are not
   * deleted the first value ends it, unless a tombstone was told before. @throws `QUORUM_LOST`
   */
  async read(
    shard: ShardName,
    key: readonly string[],
    options: { readonly lenient?: boolean } = {},
  ): Promise<ShardRecord<T> | undefined> {
    const call = to(ORIGIN_RECORDS.records, { ...shard, set: this.name, key: JSON.stringify(key) });
    const ask = async (id: string, signal: AbortSignal): Promise<ShardRecord<T> | undefined> => {
      if (id === this.#deps.members.selfId) return await this.own(shard, key);
      const { record } = await this.#deps.members.json<{ record?: ShardRecord<T> }>(id, {
        ...call,
        signal,
      });
      return record;
    };
    const settles = (found: readonly (ShardRecord<T> | undefined)[]): boolean =>
      options.lenient === true && isValueAlone(found);
    const { answers, isEnough } = await this.#ask(shard, ask, settles);
    const found = latest(answers);
    if (isEnough || settles(answers)) return found;
    throw new CodedError('QUORUM_LOST', {
      message: 'too few origins answer to know this record',
      detail: { ...shard, key },
    });
  }

  /** Values and tombstones below `prefix`, in key order, as far as enough owners tell. @throws `QUORUM_LOST` */
  async page(
    shard: ShardName,
    prefix: readonly string[],
    page: { readonly after?: string | undefined; readonly limit: number },
  ): Promise<MergedPage<ShardRecord<T>>> {
    const asked = { ...shard, set: this.name, prefix: JSON.stringify(prefix), ...page };
    const call = to(ORIGIN_RECORDS.records, asked);
    const { answers, isEnough } = await this.#ask(shard, async (id, signal) => {
      if (id === this.#deps.members.selfId) return await this.ownPage(shard, prefix, page);
      return await this.#deps.members.json<OwnPage<ShardRecord<T>>>(id, { ...call, signal });
    });
    if (!isEnough)
      throw new CodedError('QUORUM_LOST', {
        message: 'too few origins answer to list records',
        detail: { ...shard },
      });
    return mergePages(answers, (entry) => entry.key.at(-1) ?? '', isLater);
  }

  /** Asks all owners at once, and waits for as many as a read needs. */
  async #ask<A>(
    shard: ShardName,
    ask: (id: string, signal: AbortSignal) => Promise<A>,
    settles?: (answers: readonly A[]) => boolean,
  ): Promise<{ answers: A[]; isEnough: boolean }> {
    const { owners, writeQuorum } = this.#deps.members.placement(shardKey(shard.upstream, shard.repository));
    return await askQuorum(owners, readQuorum(owners.length, writeQuorum), ask, settles);
  }

  async #put(
    id: string,
    shard: ShardName,
    records: readonly ShardRecord<T>[],
  ): Promise<{ behindMs?: number }> {
    if (id === this.#deps.members.selfId) return await this.putOwn(shard, records);
    return await this.#deps.members.json<{ behindMs?: number }>(id, {
      ...to(ORIGIN_RECORDS.recordsPut, { ...shard, set: this.name }),
      json: { records },
      headersTimeoutMs: QUICK_MS * 4,
    });
  }
}

/** Asks all `ids` at once; resolves when `needed` have answered, the answers settle it, or no more can come. */
export async function askQuorum<A>(
  ids: readonly string[],
  needed: number,
  ask: (id: string, signal: AbortSignal) => Promise<A>,
  settles: (answers: readonly A[]) => boolean = () => false,
): Promise<{ answers: A[]; isEnough: boolean }> {
  const stop = new AbortController();
  const answers: A[] = [];
  let open = ids.length;
  try {
    await new Promise<void>((resolve, reject) => {
      if (open === 0) resolve();
      for (const id of ids) {
        ask(id, stop.signal)
          .then((answer) => answers.push(answer), ignoreFailure)
          .then(() => {
            open -= 1;
            // The rule is asked first: one that is wrong must not be hidden by the last answer.
            if (answers.length >= needed || settles(answers) || open === 0) resolve();
          })
          .catch(reject);
      }
    });
  } finally {
    stop.abort(new CodedError('TIMEOUT', { message: 'enough owners answered' }));
  }
  return { answers: [...answers], isEnough: answers.length >= needed };
}

/**
 * Runs `write` on all ids at once; resolves when `quorum` succeeded, the others go on behind.
 * @throws `QUORUM_LOST` when that is out of reach, with the last error as cause
 */
export async function acknowledged(
  ids: readonly string[],
  quorum: number,
  write: (id: string) => Promise<void>,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    let good = 0;
    let bad = 0;
    for (const id of ids) {
      write(id).then(
        () => {
          good += 1;
          if (good >= quorum) resolve();
        },
        (cause: unknown) => {
          if (isBug(cause)) return reject(cause);
          bad += 1;
          if (ids.length - bad < quorum)
            reject(
              new CodedError('QUORUM_LOST', {
                message: 'too few origins took the write',
                detail: { owners: ids, needed: quorum },
                cause,
              }),
            );
        },
      );
    }
    if (ids.length < quorum || ids.length === 0)
      reject(new CodedError('QUORUM_LOST', { detail: { owners: ids } }));
  });
}

function isValueAlone(answers: readonly ({ readonly value?: unknown } | undefined)[]): boolean {
  const told = answers.filter((one) => one !== undefined);
  return told.length > 0 && told.every((one) => one.value !== undefined);
}

function toRecord<T>(entry: RecordEntry<T>): ShardRecord<T> {
  const key = entry.key.slice(2);
  return entry.value === undefined
    ? { key, atMs: entry.atMs }
    : { key, atMs: entry.atMs, value: entry.value };
}
