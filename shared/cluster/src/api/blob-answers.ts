import { DIGEST } from '@sepia/base/names/digest-schema';
import { z } from 'zod';

/** Answer of `POST /v1/blobs/<digest>/fetch`: how far the owners' copies of a blob are, asked for again until it is `final`. */
export interface BlobFetchState {
  /** `final`: stored wherever it was wanted, or failed there; `running`: ask again. */
  readonly state: 'final' | 'running';
  readonly sizeBytes: number;
  readonly haveBytes: number;
  /** Origins that have the whole blob on disk. */
  readonly holders: readonly string[];
  /** Owners that did not get their copy, and why; it stays owed to them. */
  readonly failed: Readonly<Record<string, string>>;
}

/**
 * Answer of `GET /v1/blobs/<digest>/where`: what one origin has of a blob at this moment; nothing is fetched for it. `open`: it is
 * being fetched.
 */
export interface Where {
  readonly state: 'final' | 'open' | 'none';
  readonly sizeBytes?: number;
  /** Of a fetch under way: what the upstream sent for it so far. */
  readonly fetchedBytes?: number;
  /** By this origin's own record alone: a guess where links can be deleted. */
  readonly linked: boolean;
  /** What was read of it under that upstream's names within a day came out wrong: clients may hold some of that. */
  readonly cameWrong?: boolean;
  /** Of a blob that is here: whether it was pushed (to an upstream of mode write-back: to that), or may go. */
  readonly class?: 'pushed' | 'cached';
  /** Of a blob that is here: the upstreams whose repositories brought it. */
  readonly upstreams?: readonly string[];
}

/** Most links in one call; more go in several. */
export const MAX_WORDS = 128;

const ASKED = z.object({
  upstream: z.string().min(1).max(64),
  repository: z.string().min(1).max(255),
  digest: DIGEST,
  etag: z.string().max(256).optional(),
});

/** What is asked of one link: what is there of its blob; with `etag`, whether link and metainfo are as they were. */
export type WordAsked = z.output<typeof ASKED>;

/** Body of `POST /v1/words`: up to {@link MAX_WORDS} links that are asked about at once. */
export const WORDS_BODY = z.object({ asked: z.array(ASKED).max(MAX_WORDS) });

/** What was told of one link. Null: it is to be asked for alone, for it takes longer or is another answer than yes. */
export type Word = Where | 'same' | null;

/** Answer of `POST /v1/words`, in the order of what was asked. */
export interface WordsAnswer {
  readonly told: readonly Word[];
}
