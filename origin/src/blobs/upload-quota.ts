import { isCoded } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import { QUOTA_RENEW_MS } from '../deadlines/members.ts';
import type { Quotas } from '../records/quotas.ts';

/** Beyond what came, so much more is held, in bytes: an owner is not asked for every chunk. */
const STEP_BYTES = 16 * 1024 * 1024;

interface UploadQuotaDeps {
  readonly quotas: Pick<Quotas, 'limitsOf' | 'hold' | 'release'>;
  readonly nowMs: () => number;
}

/** Room in a repository's quota for one upload, held from its first byte on, until its blob is linked or it ends. */
export class UploadQuota {
  readonly #deps: UploadQuotaDeps;
  readonly #name: Pick<BlobName, 'upstream' | 'repository'>;
  readonly #id: string;
  #heldBytes = -1;
  #askedMs = 0;
  #isOver = false;

  /** `id`: of the upload. */
  constructor(deps: UploadQuotaDeps, name: Pick<BlobName, 'upstream' | 'repository'>, id: string) {
    this.#deps = deps;
    this.#name = name;
    this.#id = id;
  }

  /** Holds room for so many bytes and some more. @throws `QUOTA_EXCEEDED` where there is none for them */
  readonly reach = async (bytes: number): Promise<void> => {
    if (this.#deps.quotas.limitsOf(this.#name) === undefined) return;
    const isRecent = this.#deps.nowMs() - this.#askedMs < QUOTA_RENEW_MS;
    if (bytes <= this.#heldBytes && isRecent) return;
    try {
      await this.hold(Math.max(bytes + STEP_BYTES, this.#heldBytes));
    } catch (error) {
      if (!isCoded(error, 'QUOTA_EXCEEDED')) throw error;
      await this.hold(bytes);
    }
  };

  /** Holds room for exactly so many bytes. @throws `QUOTA_EXCEEDED` */
  async hold(bytes: number): Promise<void> {
    await this.#ask(bytes, {});
  }

  /** Holds what the blob has, now that it is known which it is. @throws `QUOTA_EXCEEDED` */
  async settle(digest: BlobName['digest'], bytes: number): Promise<void> {
    await this.#ask(bytes, { digest });
  }

  /** The upload is over: what is asked for at this moment is not held either. */
  release(): void {
    this.#isOver = true;
    if (this.#heldBytes >= 0) this.#deps.quotas.release(this.#name, this.#id);
    this.#heldBytes = -1;
  }

  async #ask(sizeBytes: number, which: { readonly digest?: BlobName['digest'] }): Promise<void> {
    await this.#deps.quotas.hold(this.#name, { id: this.#id, sizeBytes, ...which });
    this.#heldBytes = sizeBytes;
    this.#askedMs = this.#deps.nowMs();
    if (this.#isOver) this.release();
  }
}
