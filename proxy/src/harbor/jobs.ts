import { randomBytes, randomInt } from 'node:crypto';
import { CodedError, isCoded } from '@sepia/base/errors';
import { isBug, logFailure, throwIfBug } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { Cluster } from '@sepia/cluster/cluster';
import type { NodeCommands } from '@sepia/cluster/node-commands';
import { parseReference, referenceText } from '@sepia/oci/route';
import type { Origins } from '../cluster/origins.ts';
import type { Conversions } from '../conversions/conversions.ts';
import { JOB_MS, JOB_RENEW_MS } from '../deadlines.ts';
import type { ImageName } from './core/image-url.ts';
import {
  boundedRows,
  claimSlot,
  dropHold,
  endJob,
  isAbandoned,
  JOB_SERIALS,
  JOB_SLOTS,
  type JobRecord,
  type JobRow,
  type NewJob,
  renewHold,
  slotOf,
  takeOver,
} from './core/job-slots.ts';
import type { Scope } from './core/messages.ts';
import { nodeRows } from './core/rows.ts';
import { Preheat } from './preheat.ts';
import type { Records } from './records.ts';

/** Jobs that this proxy runs at once. */
const MAX_RUNNING = 64;
/** Slots that are tried for a new job. */
const CLAIM_TRIES = 16;
const MAX_ERROR_CHARS = 1_000;

interface JobsDeps {
  readonly cluster: Cluster;
  readonly origins: Origins;
  readonly commands: NodeCommands;
  readonly conversions: Conversions;
  readonly records: Records;
  readonly memberId: string;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly dateMs: () => number;
}

interface Running {
  readonly preheat: Preheat;
  readonly abort: AbortController;
  done: Promise<void>;
}

/** Preheat jobs: run here, told by any proxy, carried on by another when this one goes away. */
export class Jobs {
  readonly #deps: JobsDeps;
  readonly #deadlineMs: number;
  readonly #holder: string;
  readonly #running = new Map<number, Running>();
  /** Jobs on their way onto the record: they begin here. */
  readonly #claims = new Set<Promise<JobRecord>>();
  #stopping = false;

  constructor(deps: JobsDeps, options: { readonly deadlineMs?: number } = {}) {
    this.#deps = deps;
    this.#deadlineMs = options.deadlineMs ?? JOB_MS;
    this.#holder = `${deps.memberId}.${randomBytes(8).toString('hex')}`;
  }

  get size(): number {
    return this.#running.size;
  }

  /** A new job, on record and begun; `url` is shown to whoever asks. @throws `OVERLOADED`, `QUORUM_LOST` */
  async create(
    image: ImageName,
    url: string,
    scope: Scope,
    authorization: string | undefined,
  ): Promise<JobRecord> {
    if (this.#stopping) throw new CodedError('DRAINING');
    // Those on their way onto the record will run, too.
    if (this.#running.size + this.#claims.size >= MAX_RUNNING)
      throw new CodedError('OVERLOADED', {
        message: `${MAX_RUNNING} preheat jobs run here; try again later`,
      });
    const job = {
      url,
      upstream: image.upstream,
      repository: image.repository,
      reference: referenceText(image.reference),
      scope,
      hadToken: authorization !== undefined,
      holder: this.#holder,
    };
    return await this.#claiming(async () => await this.#claim(job, image, authorization));
  }

  async #claim(job: NewJob, image: ImageName, authorization: string | undefined): Promise<JobRecord> {
    const { records, dateMs } = this.#deps;
    for (let tries = 0; tries < CLAIM_TRIES; tries++) {
      const slot = randomInt(JOB_SLOTS);
      const serial = randomInt(1, JOB_SERIALS);
      let claimed: JobRecord | undefined;
      await records.change<JobRecord>(keyOf(slot), (current) => {
        claimed = claimSlot(current, { slot, serial }, job, dateMs());
        return claimed ?? current;
      });
      if (claimed === undefined) continue;
      this.#begin(claimed, image, authorization);
      return claimed;
    }
    throw new CodedError('OVERLOADED', { message: 'too many preheat jobs are on record; try again later' });
  }

  /**
   * A job as it stands, with its rows; one whose proxy went away is taken over.
   * @throws `COMMAND_UNKNOWN`, `QUORUM_LOST`
   */
  async get(id: number): Promise<{ job: JobRecord; rows: readonly JobRow[] }> {
    const { records, dateMs } = this.#deps;
    let job = await records.read<JobRecord>(keyOf(slotOf(id)));
    if (job === undefined || job.id !== id)
      throw new CodedError('COMMAND_UNKNOWN', { message: `no job ${id} is known`, detail: { id } });
    if (isAbandoned(job, dateMs()) && !this.#running.has(id) && !this.#stopping)
      job = await this.#claiming(async () => await this.#takeOver(job!));
    return { job, rows: job.state === 'PENDING' ? await this.#liveRows(job) : job.rows };
  }

  /** Gives up what runs: the next proxy that is asked carries it on. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const { abort } of this.#running.values()) abort.abort(new CodedError('DRAINING'));
    await Promise.allSettled(this.#claims);
    await Promise.allSettled([...this.#running.values()].map(({ done }) => done));
  }

  /** What begins beside {@link stop} is waited for there, and given up at once. */
  async #claiming(claim: () => Promise<JobRecord>): Promise<JobRecord> {
    const claiming = claim();
    this.#claims.add(claiming);
    try {
      return await claiming;
    } finally {
      this.#claims.delete(claiming);
    }
  }

  async #takeOver(job: JobRecord): Promise<JobRecord> {
    const { records, dateMs, log } = this.#deps;
    const taken = await records.change<JobRecord>(keyOf(slotOf(job.id)), (current) =>
      takeOver(current, job.id, this.#holder, dateMs()),
    );
    if (taken?.id !== job.id) throw new CodedError('COMMAND_UNKNOWN', { detail: { id: job.id } });
    if (taken.state === 'PENDING' && taken.holder === this.#holder && !this.#running.has(job.id)) {
      log.warn({ job: job.id, before: job.holder }, 'preheat job taken over: its proxy went away');
      this.#begin(taken, imageOf(taken), undefined);
    }
    return taken;
  }

  async #liveRows(job: JobRecord): Promise<readonly JobRow[]> {
    const running = this.#running.get(job.id);
    if (running !== undefined) {
      const { originBytes } = running.preheat;
      const origins: JobRow = { id: 'origins', role: 'origin', ip: '', state: 'running', ...originBytes };
      const isFetching = originBytes.totalBytes === 0 || originBytes.doneBytes < originBytes.totalBytes;
      const rows = running.preheat.rows();
      return isFetching ? [origins, ...rows.filter(({ role }) => role === 'agent')] : rows;
    }
    if (job.scope !== 'all_peers') return [];
    return nodeRows((await this.#deps.commands.view(commandIdOf(job.id))).nodes, () => false);
  }

  #begin(job: JobRecord, image: ImageName, authorization: string | undefined): void {
    const preheat = new Preheat(this.#deps, {
      image,
      scope: job.scope,
      authorization,
      commandId: commandIdOf(job.id),
    });
    const abort = new AbortController();
    if (this.#stopping) abort.abort(new CodedError('DRAINING'));
    const running: Running = { preheat, abort, done: Promise.resolve() };
    this.#running.set(job.id, running);
    running.done = this.#run(job, preheat, abort)
      .catch((error: unknown) =>
        logFailure(this.#deps.log, error, 'preheat job not recorded', { job: job.id }, 'error'),
      )
      .finally(() => this.#running.delete(job.id));
  }

  async #run(job: JobRecord, preheat: Preheat, abort: AbortController): Promise<void> {
    const { log } = this.#deps;
    const over = new AbortController();
    const late = setTimeout(
      () => abort.abort(new CodedError('TIMEOUT', { message: this.#lateText(preheat) })),
      this.#deadlineMs,
    );
    const renewing = this.#renew(job.id, abort, over.signal);
    let error: string | undefined;
    try {
      await preheat.run(abort.signal);
    } catch (thrown) {
      error = textOf(thrown);
      if (isBug(thrown)) logFailure(log, thrown, 'preheat job met a bug', { job: job.id });
      if (job.runs > 1 && job.hadToken && isCoded(thrown, 'UPSTREAM_DENIED'))
        error = `the proxy that took this job is gone, and with it the token that came along; with the origins' own credentials: ${error}`;
    } finally {
      clearTimeout(late);
      over.abort(new CodedError('TIMEOUT', { message: 'job is over' }));
    }
    await renewing;
    if (isCoded(abort.signal.reason, 'CONFLICT')) return;
    if (isCoded(abort.signal.reason, 'DRAINING'))
      return await this.#change(job.id, (current) => dropHold(current, job.id, this.#holder));
    log.info({ job: job.id, scope: job.scope, error }, 'preheat job ended');
    const end = {
      state: error === undefined ? ('SUCCESS' as const) : ('FAILURE' as const),
      ...boundedRows(preheat.rows()),
      ...(error === undefined ? {} : { error: error.slice(0, MAX_ERROR_CHARS) }),
    };
    await this.#change(job.id, (current) => endJob(current, job.id, this.#holder, end, this.#deps.dateMs()));
  }

  /** Keeps the hold until `over`; a job that another proxy has taken ends here. */
  async #renew(id: number, abort: AbortController, over: AbortSignal): Promise<void> {
    const { dateMs, log, records } = this.#deps;
    while (await pause(JOB_RENEW_MS, over)) {
      try {
        await records.change<JobRecord>(keyOf(slotOf(id)), (current) =>
          renewHold(current, id, this.#holder, dateMs()),
        );
      } catch (error) {
        if (isCoded(error, 'CONFLICT') && error.detail['key'] === undefined) abort.abort(error);
        else logFailure(log, error, 'hold of a preheat job not renewed', { job: id });
      }
    }
  }

  /** The last word on a job is worth several tries. */
  async #change(id: number, change: (current: JobRecord | undefined) => JobRecord): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        await this.#deps.records.change<JobRecord>(keyOf(slotOf(id)), change);
        return;
      } catch (error) {
        throwIfBug(error);
        if (isCoded(error, 'CONFLICT') && error.detail['key'] === undefined) return;
        if (tries >= 3 || this.#stopping) throw error;
      }
    }
  }

  #lateText(preheat: Preheat): string {
    const { done, all } = preheat.counts;
    const open = preheat.rows().filter(({ state }) => state === 'pending' || state === 'running').length;
    return `not done within ${Math.round(this.#deadlineMs / 60_000)} min (${done} of ${all} blobs at the origins, ${open} nodes to go); what has begun goes on`;
  }
}

function keyOf(slot: number): string {
  return `preheat\0${slot}`;
}

function commandIdOf(id: number): string {
  return `preheat-${id}`;
}

function imageOf(job: JobRecord): ImageName {
  return {
    upstream: job.upstream,
    repository: parseRepositoryName(job.repository),
    reference: parseReference(job.reference),
  };
}

function textOf(thrown: unknown): string {
  return isCoded(thrown) ? `${thrown.code}: ${thrown.message}` : 'internal error';
}
