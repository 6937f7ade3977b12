import { type BlobBackend, type BlobContent, isBlob } from '@sepia/backend/blob-backend';
import { fewAtOnce } from '@sepia/base/async/few-at-once';
import { Passes } from '@sepia/base/async/passes';
import type { Digest } from '@sepia/base/digest';
import { type ErrorCode, isCoded } from '@sepia/base/errors';
import { logFailure, throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { BlobHandle } from '@sepia/store/blob-handle';
import type { BlobStore } from '@sepia/store/blob-store';
import type { Provenance } from '@sepia/store/sidecar';
import type { BlobIndex } from '../blobs/blob-index.ts';
import type { Members } from '../cluster/members.ts';
import {
  BACKEND_FAILED_MS,
  BACKEND_HALF_MS,
  BACKEND_LOOK_MS,
  BACKEND_OWNED_MS,
  BACKEND_REST_MS,
  BACKEND_RETRY_MS,
  BACKEND_TAKE_OVER_MS,
  BACKEND_TIDY_MS,
  MAX_BACKEND_RETRY_MS,
  MIN_BACKEND_REST_MS,
} from '../deadlines/upstreams.ts';
import type { Fence } from '../fence/core/fence.ts';
import { OwedPlan } from './core/owed-plan.ts';

const TIMES = {
  lookMs: BACKEND_LOOK_MS,
  takeOverMs: BACKEND_TAKE_OVER_MS,
  firstRetryMs: BACKEND_RETRY_MS,
  maxRetryMs: MAX_BACKEND_RETRY_MS,
};
/** Owed blobs that are held in memory; what is more waits on record. */
const MAX_KNOWN = 10_000;
/** Blobs that are written at once. */
const WRITES_AT_ONCE = 2;
/** A backlog that is older is told of. */
const SLOW_SECONDS = 60;
/** What says of the backend as a whole that it takes nothing now; every other failure is one of the blob. */
const WHOLE: ReadonlySet<ErrorCode> = new Set([
  'BACKEND_DOWN',
  'UPSTREAM_LIMITED',
  'UPSTREAM_DENIED',
  'DISK_FULL',
  'DISK_FAILED',
]);
/** A backend that goes on failing is logged again after so many times. */
const TOLD_EVERY = 10;

export interface WriteBehindDeps {
  /** Of upstreams of mode none, by name. */
  readonly backends: ReadonlyMap<string, BlobBackend>;
  /** Name of this cluster at backends. */
  readonly owner: string;
  /** True for an upstream whose pushes only origins have until its registry does: no backend stands in for them. */
  readonly keepsPushes: (upstream: string) => boolean;
  readonly index: Pick<BlobIndex, 'list' | 'onAdded' | 'unlist'>;
  readonly store: BlobStore;
  readonly members: Pick<Members, 'leaderOf' | 'selfId'>;
  /** A garbage collection may be taking out of a backend what is looked for there. */
  readonly fence: Pick<Fence, 'trust' | 'done'>;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly dateMs: () => number;
  /** Looks whether the copy here is damaged, and mends it. */
  readonly lookAgain: (digest: Digest) => Promise<void>;
  /** A backend was seen to be one. */
  readonly onSeen: (upstream: string) => Promise<void>;
  readonly onWritten: (upstream: string, bytes: number) => void;
  readonly onFailed: (upstream: string) => void;
}

/** The backlog of one origin. */
export interface Backlog {
  readonly blobs: number;
  readonly bytes: number;
  readonly oldestSeconds: number;
  /** Blobs that are being written. */
  readonly writing: number;
  /** What the last failure said, while there is one. */
  readonly problem?: string;
}

/** A backend as one origin sees it. */
export interface BackendState {
  readonly upstream: string;
  readonly kind: BlobBackend['kind'];
  readonly place: string;
  /** Pushed blobs here that the backend is not known to have. */
  readonly blobs: number;
  readonly bytes: number;
  readonly oldestSeconds: number;
  /** True while it is given a rest after failures. */
  readonly isFailing: boolean;
  /** What the last failure said, while there is one. */
  readonly problem?: string;
}

/**
 * Brings pushed blobs to the backend of their upstream, behind the acknowledgement. What is owed is what the blob index
 * holds: pushed blobs that are durable here. Once this origin saw that the backend has a blob, its copy is a cached one, which
 * may be evicted and is read back from there.
 */
export class WriteBehind {
  readonly #deps: WriteBehindDeps;
  readonly #plan = new OwedPlan({ times: TIMES, maxKnown: MAX_KNOWN });
  readonly #passes: Passes;
  readonly #tidying: Passes;
  #writing = 0;
  #hasSettled = false;
  /** What the last failure of an upstream's backend said. */
  readonly #problems = new Map<string, string>();
  /** Backends that were found to belong to this cluster, by upstream: until when that is believed. */
  readonly #ownedUntilMs = new Map<string, number>();

  constructor(deps: WriteBehindDeps) {
    this.#deps = deps;
    const { nowMs, log } = deps;
    this.#passes = new Passes({
      name: 'write-behind',
      pass: async () => await this.#turn(),
      rest: ({ isFailed }) => {
        const deafMs = isFailed ? BACKEND_FAILED_MS : 0;
        const restMs = Math.min(this.#plan.nextMs(nowMs()) ?? BACKEND_REST_MS, BACKEND_REST_MS);
        return { ms: deafMs + Math.max(MIN_BACKEND_REST_MS, restMs), deafMs };
      },
      log,
      failed: 'what is owed to backends was not looked through; it is again',
    });
    this.#tidying = new Passes({
      name: 'backend-tidying',
      pass: async (signal) => await this.#tidy(signal),
      firstMs: BACKEND_TIDY_MS,
      rest: () => BACKEND_TIDY_MS,
      log,
      failed: 'backends were not tidied',
    });
    if (deps.backends.size === 0) return;
    deps.index.onAdded((digest, sizeBytes) => {
      if (this.#plan.add(digest, sizeBytes, deps.nowMs())) this.#passes.wake();
    });
  }

  get backlog(): Backlog {
    const { size: blobs, bytes, oldestMs } = this.#plan;
    const { nowMs } = this.#deps;
    const oldestSeconds = oldestMs === undefined ? 0 : Math.round((nowMs() - oldestMs) / 1_000);
    const [said] = this.#problems.values();
    const problem = said === undefined || blobs === 0 ? {} : { problem: said };
    return { blobs, bytes, oldestSeconds, writing: this.#writing, ...problem };
  }

  /** Each backend that is written to. */
  get states(): BackendState[] {
    const { backends, nowMs } = this.#deps;
    return [...backends].map(([upstream, { kind, place }]) => {
      const { blobs, bytes, oldestMs = nowMs() } = this.#plan.sumOf(upstream);
      const problem = this.#problems.get(upstream);
      return {
        ...{ upstream, kind, place, blobs, bytes },
        oldestSeconds: Math.round((nowMs() - oldestMs) / 1_000),
        isFailing: this.#plan.retryMs(upstream, nowMs()) !== undefined,
        ...(problem === undefined ? {} : { problem }),
      };
    });
  }

  /** For `/readyz`: what waits because the backend fails, or waits for long. */
  get warnings(): string[] {
    const { blobs, bytes, oldestSeconds, problem } = this.backlog;
    if (blobs === 0 || (problem === undefined && oldestSeconds < SLOW_SECONDS)) return [];
    const why = problem === undefined ? '' : `: ${problem}`;
    const waits = `backend: ${blobs} pushed blobs (${bytes} bytes) wait for ${oldestSeconds} s to be written${why}`;
    const rests = this.states.flatMap(({ upstream, place, isFailing }) => {
      const seconds = Math.ceil((this.#plan.retryMs(upstream, this.#deps.nowMs()) ?? 0) / 1_000);
      return isFailing ? [`backend of ${upstream} (${place}) fails; it is asked again in ${seconds} s`] : [];
    });
    return [waits, ...rests];
  }

  start(): void {
    if (this.#deps.backends.size === 0) return;
    this.#passes.start();
    this.#tidying.start();
  }

  async stop(): Promise<void> {
    await Promise.all([this.#passes.stop(), this.#tidying.stop()]);
  }

  async #turn(): Promise<void> {
    const { nowMs, log, store } = this.#deps;
    this.#hasSettled = false;
    if (this.#plan.wantsMore)
      await this.#readOwed().catch((error: unknown) =>
        logFailure(log, error, 'what is owed to backends cannot be read', {}, 'error'),
      );
    await fewAtOnce(
      this.#plan.due(nowMs()) as Digest[],
      WRITES_AT_ONCE,
      async (digest) => await this.#look(digest),
      this.#passes.signal,
    );
    // What is cached since may be more than the disk is to hold.
    if (this.#hasSettled) await store.evict();
  }

  /** Takes up what is on record. Entries of blobs that are cached by now are left over from a stop in between. */
  async #readOwed(): Promise<void> {
    const { index, store, nowMs } = this.#deps;
    for await (const digest of index.list()) {
      if (this.#passes.signal.aborted) return;
      const stat = await store.stat(digest);
      if (stat === undefined) continue;
      const { attrs } = stat;
      if (attrs.class !== 'pushed') await index.unlist(store, digest);
      else if (attrs.writtenBack && this.#isKept(attrs.provenance)) continue;
      else if (this.#backendOf(attrs.provenance) !== undefined) {
        if (!this.#plan.add(digest, stat.sizeBytes, nowMs())) return;
      }
    }
    this.#plan.allRead();
  }

  #backendOf(
    provenance: readonly Provenance[],
  ): { readonly backend: BlobBackend; readonly name: Provenance } | undefined {
    for (const name of provenance) {
      const backend = this.#deps.backends.get(name.upstream);
      if (backend !== undefined) return { backend, name };
    }
    return undefined;
  }

  /** It may wait for a registry as well, which reads it from origins alone. */
  #isKept(provenance: readonly Provenance[]): boolean {
    return provenance.some(({ upstream }) => this.#deps.keepsPushes(upstream));
  }

  async #look(digest: Digest): Promise<void> {
    try {
      await this.#lookAt(digest);
    } catch (error) {
      if (this.#passes.signal.aborted) return;
      const failures = this.#plan.failed(digest, patienceOf(error), this.#deps.nowMs());
      const isTold = failures % TOLD_EVERY === 1 && !(isCoded(error) && WHOLE.has(error.code));
      const message = 'blob was not written to its backend; it is tried again';
      logFailure(this.#deps.log, error, message, { digest, failures }, isTold ? 'warn' : 'debug');
      // What was read here is not the blob: it is mended, or no later try is better.
      if (isCoded(error, 'DISK_CORRUPT')) await this.#deps.lookAgain(digest);
    }
  }

  async #lookAt(digest: Digest): Promise<void> {
    const { store, members, nowMs } = this.#deps;
    const stat = await store.stat(digest);
    const place = stat?.attrs.class === 'pushed' ? this.#backendOf(stat.attrs.provenance) : undefined;
    if (stat === undefined || place === undefined) return this.#plan.done(digest);
    if (!this.#plan.at(digest, place.name.upstream, nowMs())) return;
    const step = this.#plan.step(digest, members.leaderOf(digest) === members.selfId, nowMs());
    if (step === 'wait') return;
    const handle = await store.open(digest, { isLook: true });
    if (handle === undefined) return this.#plan.done(digest);
    const { fence } = this.#deps;
    try {
      if (!fence.trust(digest, nowMs())) return this.#plan.notYet(digest, nowMs());
      await this.#bring(handle, place, step).finally(() => fence.done([digest]));
    } finally {
      await handle.close();
    }
  }

  async #bring(
    handle: BlobHandle,
    { backend, name }: { readonly backend: BlobBackend; readonly name: Provenance },
    step: 'write' | 'look',
  ): Promise<void> {
    const { log, nowMs, onSeen, onWritten, onFailed } = this.#deps;
    const { digest, sizeBytes } = handle;
    const { upstream } = name;
    const content: BlobContent = {
      repository: parseRepositoryName(name.repository),
      digest,
      sizeBytes,
      read: async (at, into) => await handle.read(at, into),
    };
    this.#writing += 1;
    try {
      const { signal } = this.#passes;
      await this.#claim(upstream, backend);
      if (step === 'look' && !(await isThere(backend, content, signal))) {
        this.#answered(upstream, backend.place);
        return this.#plan.notYet(digest, nowMs());
      }
      let put = await backend.putBlob(content, signal);
      // It is there from before, and was pushed again: perhaps since it can no longer be read.
      if (put === 'there' && step === 'write' && !(await isBlob(backend, content, signal))) {
        log.warn(
          { digest, upstream, place: backend.place },
          'the backend has wrong content; it is written over',
        );
        put = await backend.putBlob(content, signal, true);
      }
      if (put === 'written') {
        onWritten(upstream, sizeBytes);
        log.info({ digest, upstream, place: backend.place, sizeBytes }, 'blob written to its backend');
      }
      this.#answered(upstream, backend.place);
      await onSeen(upstream);
      await this.#settle(digest);
    } catch (error) {
      if (!this.#passes.signal.aborted) {
        onFailed(upstream);
        this.#noteFailure(upstream, backend.place, error);
      }
      throw error;
    } finally {
      this.#writing -= 1;
    }
  }

  /** Beside another cluster nothing is written, and nothing there counts: it collects what it does not know. */
  async #claim(upstream: string, backend: BlobBackend): Promise<void> {
    const { owner, nowMs } = this.#deps;
    if ((this.#ownedUntilMs.get(upstream) ?? 0) > nowMs()) return;
    await backend.claim(owner, this.#passes.signal);
    this.#ownedUntilMs.set(upstream, nowMs() + BACKEND_OWNED_MS);
  }

  #answered(upstream: string, place: string): void {
    this.#problems.delete(upstream);
    if (this.#plan.answered(upstream)) this.#deps.log.info({ upstream, place }, 'backend answers again');
  }

  /** A backend that fails as a whole is left alone for a while, and told of once for all that waits for it. */
  #noteFailure(upstream: string, place: string, error: unknown): void {
    const { log, nowMs } = this.#deps;
    this.#problems.set(upstream, isCoded(error) ? error.message : 'internal error; see the log');
    if (!isCoded(error) || !WHOLE.has(error.code)) return;
    const failures = this.#plan.paused(upstream, patienceOf(error), nowMs());
    if (failures === 0) return;
    const message = 'backend takes nothing; what is owed to it waits';
    const level = failures % TOLD_EVERY === 1 ? 'warn' : 'debug';
    logFailure(log, error, message, { upstream, place, failures }, level);
  }

  /** The backend has the blob: the copy here becomes a cached one. */
  async #settle(digest: Digest): Promise<void> {
    const { store, nowMs } = this.#deps;
    this.#plan.done(digest);
    this.#hasSettled = true;
    const attrs = await store.setAttrs(digest, (now) => {
      if (now.class !== 'pushed') return now;
      const isKept = this.#isKept(now.provenance);
      return { ...now, class: isKept ? 'pushed' : 'cached', writtenBack: true };
    });
    // Pushed again in between: it is looked for once more.
    const stat = attrs === undefined ? undefined : await store.stat(digest);
    if (stat?.attrs.class === 'pushed' && !stat.attrs.writtenBack)
      this.#plan.add(digest, stat.sizeBytes, nowMs());
  }

  async #tidy(signal: AbortSignal): Promise<void> {
    const { backends, dateMs, log } = this.#deps;
    for (const [upstream, backend] of backends) {
      try {
        const count = await backend.tidy(dateMs() - BACKEND_HALF_MS, signal);
        if (count > 0) log.info({ upstream, count }, 'uploads that nobody went on with were ended');
      } catch (error) {
        throwIfBug(error);
        log.debug({ upstream, err: error }, 'backend was not tidied');
      }
    }
  }
}

/** How much patience an answer asks for, in ms. */
function patienceOf(error: unknown): number | undefined {
  const after = isCoded(error) ? error.detail['retryAfterSeconds'] : undefined;
  return typeof after === 'number' ? after * 1_000 : undefined;
}

async function isThere(backend: BlobBackend, content: BlobContent, signal: AbortSignal): Promise<boolean> {
  try {
    const { sizeBytes } = await backend.headBlob(content, signal);
    return sizeBytes === undefined || sizeBytes === content.sizeBytes;
  } catch (error) {
    if (isCoded(error, 'BLOB_UNKNOWN')) return false;
    throw error;
  }
}
