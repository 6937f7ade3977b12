/** What a client was told of a write: `done` and `refused` are certain, `doubt` may have happened or happen yet. */
export type WriteOutcome = 'done' | 'refused' | 'doubt';

/** A write of a tag: the digest that it is set to, '' for a delete. Times of one clock, in ms. */
interface TagWrite {
  readonly value: string;
  readonly beganAt: number;
  endedAt: number;
  outcome: WriteOutcome | 'open';
}

/** What an answer of a reader says about the cluster. */
export type Verdict = 'ok' | 'lost' | 'stale' | 'corrupt';

/**
 * What clients were told, and so what readers must see. A write in doubt may take effect at any time after its begin;
 * a write counts as overwritten only by one that began after it had certainly ended.
 */
export class History {
  readonly #tags = new Map<string, TagWrite[]>();
  readonly #content = new Map<string, Blob>();
  readonly #manifests = new Map<string, readonly string[]>();
  readonly #acknowledged = new Set<string>();

  begin(tag: string, value: string, now: number): (outcome: WriteOutcome, now: number) => void {
    const write: TagWrite = { value, beganAt: now, endedAt: Number.POSITIVE_INFINITY, outcome: 'open' };
    this.#tags.set(tag, [...(this.#tags.get(tag) ?? []), write]);
    return (outcome, endedAt) => {
      write.outcome = outcome;
      if (outcome === 'done') write.endedAt = endedAt;
      if (outcome === 'refused')
        this.#tags.set(
          tag,
          this.#tags.get(tag)!.filter((one) => one !== write),
        );
    };
  }

  /** A reader saw `value` ('' for none) between `beganAt` and `endedAt`. */
  read(tag: string, value: string, beganAt: number, endedAt: number): Verdict {
    const writes = this.#tags.get(tag) ?? [];
    const gone = (endOfWrite: number): boolean =>
      writes.some(
        (other) => other.outcome === 'done' && other.beganAt > endOfWrite && other.endedAt < beganAt,
      );
    // Nobody wrote before the first write: that value ended at the beginning of time.
    if (value === '' && !gone(Number.NEGATIVE_INFINITY)) return 'ok';
    const same = writes.filter((one) => one.value === value && one.beganAt < endedAt);
    if (same.some((one) => !gone(one.endedAt))) return 'ok';
    if (value === '') return 'lost';
    return this.#manifests.has(value) ? 'stale' : 'corrupt';
  }

  /** Content that was sent: a reader may see it from now on. */
  sent(digest: string, facts: Blob): void {
    this.#content.set(digest, facts);
  }

  /** A manifest that was sent, with the blobs that it names. */
  sentManifest(digest: string, blobs: readonly string[]): void {
    this.#manifests.set(digest, blobs);
  }

  /** A 201 for content: it must never be lost. */
  acknowledged(digest: string): void {
    this.#acknowledged.add(digest);
  }

  isAcknowledged(digest: string): boolean {
    return this.#acknowledged.has(digest);
  }

  blob(digest: string): Blob | undefined {
    return this.#content.get(digest);
  }

  blobsOf(manifest: string): readonly string[] {
    return this.#manifests.get(manifest) ?? [];
  }

  /** Blobs and manifests with a 201, in order. */
  get content(): string[] {
    return [...this.#acknowledged];
  }

  get blobs(): string[] {
    return this.content.filter((digest) => this.#content.has(digest));
  }

  get manifests(): string[] {
    return this.content.filter((digest) => this.#manifests.has(digest));
  }

  get tags(): string[] {
    return [...this.#tags.keys()];
  }
}

/** How the bytes of a blob are made again. */
export interface Blob {
  readonly seed: number;
  readonly sizeBytes: number;
}
