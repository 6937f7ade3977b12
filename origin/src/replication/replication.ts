import { answersOf, askAll } from '@sepia/base/async/ask-many';
import { Passes } from '@sepia/base/async/passes';
import { boundedMs } from '@sepia/base/bounded-ms';
import { CodedError, isCoded } from '@sepia/base/errors';
import { isBug, logFailure, throwIfBug } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import type { Logger } from '@sepia/base/log';
import type { PassEnd } from '@sepia/base/metrics';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { headTo, to } from '@sepia/cluster/api/route';
import type { RetryRules } from '@sepia/records/jobs/core/job-lane';
import type { Members } from '../cluster/members.ts';
import { EMPTY_SCAN_MS, LONG_SCAN_MS, MOST_ASKED_MS, SCAN_MS } from '../deadlines/upstreams.ts';
import { failurePlan, waitOf } from './core/replication.ts';
import type { CopyProgress, ImageCopy } from './image-copy.ts';
import { type Backlog, type Group, groupKey, QueueLook } from './queue-look.ts';
import type { JobEntry, OpenJob, ReplicationJob, ReplicationJobs } from './replication-jobs.ts';
import { MAX_JOBS, type ReplicationQueue } from './replication-queue.ts';
import { Strikes } from './strikes.ts';
import { isWriteBackRule, type Target } from './targets.ts';

/** A queue longer than this is looked through more seldom, for a small part of the time. */
const LONG_QUEUE = 2_000;
const LONG_SCAN_SHARE = 4;
/** Jobs of one rule that run at once here. */
const RUNNING_PER_RULE = 4;
/** Groups whose failures are remembered. */
const MAX_FAILING = 20_000;
const MAX_ERROR_CHARS = 300;

interface Running {
  readonly stop: AbortController;
  readonly ids: ReadonlySet<string>;
  readonly progress: () => CopyProgress | undefined;
}

/** Jobs that an operator means. */
export type WhichJobs = (job: ReplicationJob, id: string) => boolean;

/** A job as status shows it. */
export interface ShownJob extends Omit<ReplicationJob, 'state' | 'v'> {
  readonly id: string;
  readonly state: ReplicationJob['state'] | 'running' | 'backoff';
  readonly nextTryAtMs?: number;
  readonly progress?: CopyProgress;
}

/** Does what jobs of one group want; done again it does nothing. */
export type CarryOut = (
  jobs: readonly OpenJob[],
  target: Target,
  copy: ImageCopy,
  signal: AbortSignal,
) => Promise<void>;

interface ReplicationDeps {
  readonly members: Members;
  readonly jobs: ReplicationJobs;
  readonly queue: ReplicationQueue;
  readonly targets: ReadonlyMap<string, Target>;
  readonly newCopy: (target: Target, signal: AbortSignal) => ImageCopy;
  readonly carryOut: CarryOut;
  readonly log: Logger;
  readonly nowMs: () => number;
  /** 0 ≤ x < 1. */
  readonly chance: () => number;
  readonly onOutcome: (rule: string, outcome: 'done' | 'failed' | 'dead') => void;
}

/**
 * Brings what is pushed to other registries. Jobs lie on the owners of their repository's shard; the first healthy one
 * runs them, another takes over when it is gone. Done at least once, and doing it again sends nothing.
 */
export class Replication {
  readonly #deps: ReplicationDeps;
  readonly #passes: Passes;
  readonly #running = new Map<string, Running>();
  readonly #look: QueueLook;
  /** What the last look found to begin, in its order. */
  #ready: Group[] = [];
  #isLong = false;
  /** True if the queue was empty at the last look, and nothing runs. */
  #isEmpty = false;
  /** Jobs changed since the last look began. */
  #hasNews = false;
  readonly #backoff = new LatestMap<string, number>(MAX_FAILING);
  readonly #pausedUntilMs = new Map<string, number>();
  readonly #strikes = new Strikes({ limit: MAX_FAILING });
  readonly #copies = new Set<Promise<void>>();
  #counts = { waiting: 0, dead: 0 };
  #backlogs: ReadonlyMap<string, Backlog> = new Map();

  constructor(deps: ReplicationDeps) {
    this.#deps = deps;
    this.#look = new QueueLook({ ...deps, rules: deps.targets });
    this.#passes = new Passes({
      name: 'replication',
      pass: async () => await this.#pass(),
      rest: (last) => this.#restAfter(last),
      log: deps.log,
      failed: 'replication queue cannot be read',
    });
    deps.jobs.onChanged(() => {
      this.#hasNews = true;
      if (this.#isEmpty) this.#passes.wake();
    });
  }

  /** Of the replication rules. */
  get counts(): { readonly waiting: number; readonly dead: number; readonly running: number } {
    const running = [...this.#running.keys()].filter((key) => !isWriteBackRule(key)).length;
    return { ...this.#counts, running };
  }

  /** What waits in the shards that this origin leads, by the name of its rule, as of the last look. */
  get backlogs(): ReadonlyMap<string, Backlog> {
    return this.#backlogs;
  }

  start(): void {
    this.#passes.start();
  }

  async stop(): Promise<void> {
    await this.#passes.stop();
    await Promise.allSettled(this.#copies);
    await Promise.all([...this.#deps.targets.values()].map(async ({ client }) => await client.close()));
  }

  /** Ends jobs; those under way are aborted. Returns how many were open here. */
  async cancel(which: WhichJobs, atMs: number): Promise<number> {
    return await this.#change(which, atMs, (one) => ({ ...one, job: undefined }));
  }

  /** Tries jobs again now, dead ones too, with all tries before them; an intent waits for its push, which is under way. */
  async retry(which: WhichJobs, atMs: number, take?: ReplicationJob['take']): Promise<number> {
    this.#pausedUntilMs.clear();
    this.#strikes.clear();
    const isMeant: WhichJobs = (job, id) => job.state !== 'intent' && which(job, id);
    return await this.#change(isMeant, atMs, (one) => {
      this.#backoff.delete(groupKey(one.job));
      const { error: _error, ...job } = one.job;
      const taken = take === undefined ? job : { ...job, take };
      return { ...one, job: { ...taken, state: 'waiting', tries: 0 } };
    });
  }

  /** The clock of `nextTryAtMs`. */
  nowMs(): number {
    return this.#deps.nowMs();
  }

  isRunning(key: string): boolean {
    return this.#running.has(key);
  }

  /** This origin's jobs, at most `limit`, of the rules that are meant. */
  async shown(isMeant: (rule: string) => boolean, limit: number): Promise<ShownJob[]> {
    const found: ShownJob[] = [];
    for await (const { id, job } of this.#deps.jobs.open()) {
      if (!isMeant(job.rule)) continue;
      if (found.length >= limit) break;
      const key = groupKey(job);
      const running = this.#running.get(key);
      const nextTryAtMs = this.#waitsUntilMs(key, job.rule);
      const { v: _v, ...facts } = job;
      const progress = running?.progress();
      if (running?.ids.has(id) === true)
        found.push({ ...facts, id, state: 'running', ...(progress === undefined ? {} : { progress }) });
      else if (nextTryAtMs !== undefined && job.state !== 'dead')
        found.push({ ...facts, id, state: 'backoff', nextTryAtMs });
      else found.push({ ...facts, id });
    }
    return found;
  }

  /** Looks at the queue at once; at a long one when it is time. */
  wake(): void {
    if (!this.#isLong) this.#passes.wake();
  }

  /** Every owner is asked the same with the same clock: what one has done since then stays done. */
  async #change(which: WhichJobs, atMs: number, to: (one: OpenJob) => JobEntry): Promise<number> {
    const { jobs, queue } = this.#deps;
    let changed = 0;
    let some: JobEntry[] = [];
    const write = async (): Promise<void> => {
      await queue.write(some);
      some = [];
    };
    for await (const one of jobs.open()) {
      if (!which(one.job, one.id)) continue;
      changed += 1;
      const [last] = some;
      const isOther = last?.upstream !== one.upstream || last.repository !== one.repository;
      if (isOther || some.length >= MAX_JOBS) await write();
      some.push({ ...to(one), atMs: Math.max(atMs, one.atMs + 1) });
    }
    await write();
    this.#passes.wake();
    return changed;
  }

  #restAfter({ isFailed, tookMs }: PassEnd): { ms: number; deafMs: number } {
    if (!isFailed && this.#isEmpty && !this.#hasNews) return { ms: EMPTY_SCAN_MS, deafMs: 0 };
    if (isFailed || !this.#isLong) return { ms: SCAN_MS, deafMs: 0 };
    // Pushes wake it all the time: it must not do nothing else.
    return { ms: tookMs + Math.max(LONG_SCAN_MS, LONG_SCAN_SHARE * tookMs), deafMs: tookMs };
  }

  async #pass(): Promise<void> {
    this.#hasNews = false;
    this.#isEmpty = false;
    const size = await this.#scan();
    this.#isLong = size > LONG_QUEUE;
    this.#isEmpty = size === 0 && this.#running.size === 0;
  }

  /** One look at the queue: begins what is due and led by this origin, tells leaders of what is theirs. */
  async #scan(): Promise<number> {
    const ids = new Set([...this.#running.values()].flatMap((one) => [...one.ids]));
    const found = await this.#look.look(ids, (key, rule) => this.#mayBegin(key, rule));
    this.#counts = found.counts;
    this.#backlogs = found.backlogs;
    // What began meanwhile was not asked about.
    for (const running of this.#running.values())
      if ([...running.ids].every((id) => ids.has(id) && !found.open.has(id)))
        running.stop.abort(new CodedError('CONFLICT', { message: 'cancelled' }));
    await Promise.all([...found.foreign].map(async ([leader, list]) => await this.#tellLeader(leader, list)));
    this.#ready = [...found.groups];
    this.#beginReady();
    return found.size;
  }

  /** A leader with work that does not answer counts as failing from here on: the next owner leads. */
  async #tellLeader(leader: string, list: readonly OpenJob[]): Promise<void> {
    const { members, queue } = this.#deps;
    try {
      if (list.length > 0) await queue.tell(leader, list);
      else await (await members.raw(leader, headTo(ORIGIN_RECORDS.cluster))).body.dump();
      this.#look.told(list);
    } catch (error) {
      throwIfBug(error);
      this.#deps.log.debug({ leader, reason: String(error) }, 'leader of replication jobs does not answer');
      this.wake();
    }
  }

  #mayBegin(key: string, rule: string): boolean {
    return !this.#running.has(key) && (this.#waitsUntilMs(key, rule) ?? 0) <= this.#deps.nowMs();
  }

  /** Begins as many as may run at once; the others stay ready, but for those that are to wait. */
  #beginReady(): void {
    if (this.#passes.signal.aborted) return;
    const running = new Map<string, number>();
    for (const key of this.#running.keys()) {
      const rule = key.slice(0, key.indexOf('\n'));
      running.set(rule, (running.get(rule) ?? 0) + 1);
    }
    this.#ready = this.#ready.filter((group) => {
      const { rule } = group.jobs[0]!.job;
      if (!this.#mayBegin(group.key, rule)) return false;
      const count = running.get(rule) ?? 0;
      if (count >= RUNNING_PER_RULE) return true;
      running.set(rule, count + 1);
      this.#begin(group);
      return false;
    });
  }

  #begin(group: Group): void {
    const { rule } = group.jobs[0]!.job;
    const stop = new AbortController();
    const signal = AbortSignal.any([stop.signal, this.#passes.signal]);
    let copy: ImageCopy | undefined;
    const ids = new Set(group.jobs.map(({ id }) => id));
    this.#running.set(group.key, { stop, ids, progress: () => copy?.progress });
    const target = this.#deps.targets.get(rule)!;
    const work = this.#work(group, signal, () => {
      copy = this.#deps.newCopy(target, signal);
      return copy;
    }).finally(() => {
      this.#running.delete(group.key);
      this.#copies.delete(work);
      this.#beginReady();
      // Of a long queue all that was found is begun first.
      if (!this.#isLong || this.#ready.length === 0) this.#passes.wake();
    });
    this.#copies.add(work);
  }

  /** When the next try may begin, if failures put it off. */
  #waitsUntilMs(key: string, rule: string): number | undefined {
    const untilMs = Math.max(this.#backoff.get(key) ?? 0, this.#pausedUntilMs.get(rule) ?? 0);
    return untilMs > this.#deps.nowMs() || this.#backoff.has(key) ? untilMs : undefined;
  }

  async #work(found: Group, signal: AbortSignal, newCopy: () => ImageCopy): Promise<void> {
    const { queue, log, onOutcome, targets } = this.#deps;
    const { job } = found.jobs[0]!;
    let group = found;
    try {
      if (await this.#runsElsewhere(group)) {
        this.#backoff.set(group.key, this.#deps.nowMs() + SCAN_MS * (1 + this.#deps.chance()));
        return;
      }
      group = { key: found.key, jobs: await this.#stillOpen(found) };
      if (group.jobs.length === 0) return;
      const copy = newCopy();
      await this.#deps.carryOut(group.jobs, targets.get(job.rule)!, copy, signal);
      // The end has the clock of what was done: a job that was written again since stays.
      await queue.write(group.jobs.map((one) => ({ ...one, job: undefined })));
      this.#succeeded(group);
      onOutcome(job.rule, 'done');
      const { rule, repository, reference, kind } = job;
      log.info({ rule, repository, reference, kind, ...copy.progress }, 'replicated');
    } catch (error) {
      if (signal.aborted) return;
      if (isBug(error)) logFailure(log, error, 'replication job met a bug', { rule: job.rule });
      await this.#failed(group, error).catch((cause: unknown) =>
        logFailure(log, cause, 'failure of a replication job not noted', { rule: job.rule }),
      );
    }
  }

  /** A group may have been ready for long: another origin or an operator may have ended some of its jobs. */
  async #stillOpen(group: Group): Promise<OpenJob[]> {
    const now = await Promise.all(group.jobs.map(async (one) => await this.#deps.jobs.get(one)));
    return now.filter((one): one is OpenJob => one?.job !== undefined && one.job.state !== 'dead');
  }

  /** What waited for a silent target need not wait for its own turn when it answers again. */
  #succeeded(group: Group): void {
    const { rule } = group.jobs[0]!.job;
    this.#backoff.delete(group.key);
    this.#strikes.delete(group.key);
    if (!this.#strikes.delete(rule)) return;
    this.#pausedUntilMs.delete(rule);
    for (const key of [...this.#backoff.keys()])
      if (key.startsWith(`${rule}\n`) && this.#strikes.delete(key)) this.#backoff.delete(key);
  }

  /** A target that does not answer is asked by few jobs, at growing distances. */
  #pause(rule: string, leastMs: number, rules: RetryRules): void {
    const { nowMs, chance } = this.#deps;
    const pausedUntilMs = this.#pausedUntilMs.get(rule) ?? 0;
    const isFirst = pausedUntilMs <= nowMs() && isWriteBackRule(rule);
    const waitMs = isFirst ? waitOf(this.#strikes.add(rule), rules, chance()) : 0;
    this.#pausedUntilMs.set(rule, Math.max(pausedUntilMs, nowMs() + Math.max(leastMs, waitMs)));
  }

  /** True if another owner is at it: one that led the shard a moment ago, or will. */
  async #runsElsewhere(group: Group): Promise<boolean> {
    const { members, queue } = this.#deps;
    const { owners } = queue.owners(group.jobs[0]!);
    const call = to(ORIGIN_RECORDS.replicationRunning, { key: group.key });
    const others = owners.filter((id) => id !== members.selfId && !members.isSuspect(id));
    const ask = async (id: string) => await members.json<{ running: boolean }>(id, call);
    return answersOf(await askAll(others, ask)).some(({ running }) => running === true);
  }

  async #failed(group: Group, thrown: unknown): Promise<void> {
    const { queue, log, nowMs, chance, onOutcome, targets } = this.#deps;
    const { job } = group.jobs[0]!;
    const { rule, writeBack } = targets.get(job.rule)!;
    const error = isCoded(thrown) ? thrown : new CodedError('INTERNAL', { cause: thrown });
    if (error.code === 'INTERNAL') log.error({ err: thrown, rule: job.rule }, 'replication failed by a bug');
    const seconds = Number(error.detail['retryAfterSeconds'] ?? Number.NaN);
    const retryAfterMs = Number.isNaN(seconds) ? undefined : boundedMs(seconds * 1_000, 0, MOST_ASKED_MS);
    const rules = { firstMs: rule.retry.first, maxMs: rule.retry.max, tries: rule.retry.tries };
    const failure = {
      code: error.code,
      tries: Math.max(...group.jobs.map((one) => one.job.tries)),
      strikes: this.#strikes.add(group.key),
      ...{ retryAfterMs, chance: chance() },
    };
    const { next, tries, pauses } = failurePlan(failure, rules, writeBack !== undefined);
    if (pauses) this.#pause(job.rule, retryAfterMs ?? 0, rules);
    if (next !== 'dead') this.#backoff.set(group.key, nowMs() + next);
    else this.#backoff.delete(group.key);
    const text = `${error.code}: ${error.message}`.slice(0, MAX_ERROR_CHARS);
    onOutcome(job.rule, next === 'dead' ? 'dead' : 'failed');
    const { repository, reference } = job;
    log.warn({ rule: job.rule, repository, reference, tries, error: text, next }, 'replication failed');
    const state = next === 'dead' ? 'dead' : 'waiting';
    await queue.write(
      group.jobs.map((one) => ({
        ...one,
        atMs: one.atMs + 1,
        job: { ...one.job, state, tries, error: text },
      })),
    );
  }
}
