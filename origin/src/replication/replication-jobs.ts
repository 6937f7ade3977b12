import type { RecordEntry } from '@sepia/records/set/record-set';
import type { RecordStore } from '@sepia/records/store/record-store';
import { JOB_TOMBSTONE_MS } from '../deadlines/upstreams.ts';

/** One thing to bring to a target: a tag (whatever it points at then) or a manifest by digest. */
export interface ReplicationJob {
  readonly v: 1;
  readonly rule: string;
  readonly upstream: string;
  readonly repository: string;
  /** Tag or digest. */
  readonly reference: string;
  readonly kind: 'copy' | 'delete';
  /** What was pushed, of a write-back: it reaches the registry also if the tag has moved on since. */
  readonly digest?: string;
  /** Who wins a conflict, by an operator's word (write-back). `drop`: the push is given up. */
  readonly take?: 'ours' | 'theirs' | 'drop';
  /** `intent`: noted before the tag moved; it runs when that must have ended. `dead`: given up after too many failures. */
  readonly state: 'intent' | 'waiting' | 'dead';
  readonly createdAtMs: number;
  readonly tries: number;
  readonly error?: string;
}

/** A job as its owners keep it; no `job`: it is done or was cancelled. */
export interface JobEntry {
  readonly upstream: string;
  readonly repository: string;
  readonly id: string;
  readonly atMs: number;
  readonly job?: ReplicationJob | undefined;
}

/** A job that is not done. */
export type OpenJob = JobEntry & { readonly job: ReplicationJob };

const QUEUE = 'replicate';

/** The replication jobs in this origin's records: those of the shards that it owns. Job ids are never used twice. */
export class ReplicationJobs {
  readonly #records: RecordStore;
  readonly #nowMs: () => number;

  constructor(deps: { readonly records: RecordStore; readonly nowMs: () => number }) {
    this.#records = deps.records;
    this.#nowMs = deps.nowMs;
  }

  /** Takes entries over; durable when it resolves. Returns those that are later here. */
  async merge(entries: readonly JobEntry[]): Promise<JobEntry[]> {
    const later = await Promise.all(
      entries.map(async (entry) => {
        const key = keyOf(entry);
        if (await this.#records.jobSet.merge({ key, atMs: entry.atMs, value: entry.job })) return undefined;
        const own = await this.#records.jobSet.entry(key);
        return own !== undefined && (own.atMs > entry.atMs || own.value === undefined)
          ? entryOf(own)
          : undefined;
      }),
    );
    return later.filter((one) => one !== undefined && one.atMs >= 0) as JobEntry[];
  }

  /** Calls `listener` when jobs changed here, or may have where other origins write to the same table. */
  onChanged(listener: () => void): void {
    const begin = `${QUEUE}\0`;
    this.#records.onRecord((space, key) => {
      if (space === 'j1' && key.startsWith(begin)) listener();
    });
    this.#records.onForeign((key) => {
      if (key === undefined || key.startsWith(`j1\0${begin}`)) listener();
    });
  }

  async get(name: Pick<JobEntry, 'upstream' | 'repository' | 'id'>): Promise<JobEntry | undefined> {
    const own = await this.#records.jobSet.entry(keyOf(name));
    return own === undefined ? undefined : entryOf(own);
  }

  /** Jobs that are not done, of all or of one repository, in order of repository and id; ends that are old go. */
  async *open(of?: Pick<JobEntry, 'upstream' | 'repository'>): AsyncGenerator<OpenJob> {
    yield* this.#below(of === undefined ? [] : [of.upstream, of.repository]);
  }

  /**
   * One job for which `isJob` is true of each upstream for which `isMeant` is, if there is one. Jobs of other upstreams are
   * not read.
   */
  async *ofUpstreams(
    isMeant: (upstream: string) => boolean,
    isJob: (job: ReplicationJob) => boolean,
  ): AsyncGenerator<OpenJob> {
    for (let after: string | undefined; ; ) {
      const first = await firstOf(this.#records.jobSet.entries([QUEUE], after));
      if (first === undefined) return;
      after = entryOf(first).upstream;
      if (!isMeant(after)) continue;
      for await (const one of this.#below([after]))
        if (isJob(one.job)) {
          yield one;
          break;
        }
    }
  }

  async *#below(prefix: readonly string[]): AsyncGenerator<OpenJob> {
    const oldMs = this.#nowMs() - JOB_TOMBSTONE_MS;
    for await (const own of this.#records.jobSet.entries([QUEUE, ...prefix])) {
      const entry = entryOf(own);
      if (entry.job !== undefined) yield entry as OpenJob;
      else if (own.atMs < oldMs) await this.#records.jobSet.forget(own.key, own.atMs);
    }
  }
}

function keyOf({ upstream, repository, id }: Pick<JobEntry, 'upstream' | 'repository' | 'id'>): string[] {
  return [QUEUE, upstream, repository, id];
}

function entryOf({ key, atMs, value }: RecordEntry<unknown>): JobEntry {
  const [, upstream = '', repository = '', id = ''] = key;
  return { upstream, repository, id, atMs, job: value as ReplicationJob | undefined };
}

async function firstOf<T>(list: AsyncIterable<T>): Promise<T | undefined> {
  for await (const one of list) return one;
  return undefined;
}
