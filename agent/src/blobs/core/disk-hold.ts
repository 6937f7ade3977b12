import type { CodedError } from '@sepia/base/errors';

/** What refuses a file where bytes are free, and what to do. */
const LIMITS: Readonly<Record<string, string>> = {
  EDQUOT: 'has no room left within a quota: raise it, or lower cache.budget',
  EFBIG: 'took no file as large as a blob: raise the limit of file sizes (ulimit -f, LimitFSIZE of systemd)',
};

/** Whether the disk takes blobs, as far as writes have told: one that did not is left alone for a while. */
export class DiskHold {
  readonly #dir: string;
  readonly #holdMs: number;
  #untilMs = Number.NEGATIVE_INFINITY;
  #refusal: CodedError | undefined;

  /** After a refusal nothing is stored for `holdMs`. */
  constructor(dir: string, holdMs: number) {
    this.#dir = dir;
    this.#holdMs = holdMs;
  }

  /** A write was refused, by a full disk or by one that takes none. */
  refused(error: CodedError, nowMs: number): void {
    this.#refusal = error;
    this.#untilMs = nowMs + this.#holdMs;
  }

  /** Notes that a blob was stored: the disk takes writes again. */
  took(): void {
    this.#refusal = undefined;
  }

  /** True while nothing is to be stored. */
  holds(nowMs: number): boolean {
    return nowMs < this.#untilMs;
  }

  /** For `/readyz`: from a refusal until a blob is stored. */
  get warnings(): readonly string[] {
    if (this.#refusal === undefined) return [];
    const { code, detail } = this.#refusal;
    const limit = LIMITS[String(detail['system'])];
    const why =
      code === 'DISK_FULL'
        ? (limit ?? 'is full: make room, give it a larger one, or lower cache.budget')
        : `takes no writes (${String(detail['system'] ?? 'see the log')}): look after it, or replace it`;
    return [`the disk of ${this.#dir} ${why}; blobs are passed on and not kept`];
  }
}
