import type { Digest } from '@sepia/base/digest';
import type { BlobName } from '@sepia/base/names/blob-name';
import { shardKey } from '@sepia/cluster/cluster';

/** After the disk was full nothing is stored for this long, in ms. */
const FULL_MS = 5_000;

interface Blob<Start, Run> {
  start: Start | undefined;
  run: Run | undefined;
  /** (upstream, repository) under which the cluster was asked for it. */
  readonly names: Set<string>;
}

/** What a request for a blob that is not in the cache does next. `isProven`: its own name was vouched for. */
export type Turn<Start, Run> =
  | { readonly type: 'read'; readonly run: Run; readonly isProven: boolean }
  | { readonly type: 'join'; readonly start: Start; readonly isProven: boolean }
  | { readonly type: 'begin' };

/**
 * The blobs that are on their way to this node: `absent → starting → running → absent`, one start at a time for each, and
 * the names under which they may be shared. Pure: time is passed in; `Start` and `Run` are the caller's.
 */
export class OnTheWay<Start, Run extends { readonly isRunning: boolean }> {
  readonly #blobs = new Map<Digest, Blob<Start, Run>>();
  #fullUntilMs = Number.NEGATIVE_INFINITY;

  /** How many there are, starting or running. */
  get size(): number {
    return this.#blobs.size;
  }

  /** Those that run. */
  *runs(): Generator<Run> {
    for (const { run } of this.#blobs.values()) if (run !== undefined) yield run;
  }

  runOf(digest: Digest): Run | undefined {
    return this.#blobs.get(digest)?.run;
  }

  next(name: BlobName): Turn<Start, Run> {
    const blob = this.#blobs.get(name.digest);
    const isProven = this.isProven(name);
    if (blob?.run?.isRunning === true) return { type: 'read', run: blob.run, isProven };
    if (blob?.start !== undefined) return { type: 'join', start: blob.start, isProven };
    return { type: 'begin' };
  }

  /** `absent → starting`: the cluster is asked for it by this name. */
  begin(name: BlobName, start: Start): void {
    this.#of(name.digest).start = start;
    this.prove(name);
  }

  /** `starting → running`. */
  run(digest: Digest, run: Run): void {
    this.#of(digest).run = run;
  }

  /** `starting → absent`, or what runs goes on. */
  started(digest: Digest): void {
    const blob = this.#blobs.get(digest);
    if (blob !== undefined) blob.start = undefined;
    this.#forget(digest);
  }

  /** `running → absent`; what was begun anew meanwhile goes on. */
  ended(digest: Digest, run: Run): void {
    const blob = this.#blobs.get(digest);
    if (blob?.run === run) blob.run = undefined;
    this.#forget(digest);
  }

  /** The cluster vouched for a name of a blob that is on its way. */
  prove({ digest, upstream, repository }: BlobName): void {
    this.#blobs.get(digest)?.names.add(shardKey(upstream, repository));
  }

  isProven({ digest, upstream, repository }: BlobName): boolean {
    return this.#blobs.get(digest)?.names.has(shardKey(upstream, repository)) === true;
  }

  /** True if it was asked for under another repository of the upstream. */
  isProvenFor({ digest, upstream }: BlobName): boolean {
    const names = this.#blobs.get(digest)?.names ?? [];
    return [...names].some((key) => key.startsWith(shardKey(upstream, '')));
  }

  /** The disk had no room. */
  noteFull(nowMs: number): void {
    this.#fullUntilMs = nowMs + FULL_MS;
  }

  /** Blobs are passed on and not kept. */
  isFull(nowMs: number): boolean {
    return nowMs < this.#fullUntilMs;
  }

  #of(digest: Digest): Blob<Start, Run> {
    let blob = this.#blobs.get(digest);
    if (blob === undefined) {
      blob = { start: undefined, run: undefined, names: new Set() };
      this.#blobs.set(digest, blob);
    }
    return blob;
  }

  #forget(digest: Digest): void {
    const blob = this.#blobs.get(digest);
    if (blob?.start === undefined && blob?.run === undefined) this.#blobs.delete(digest);
  }
}
