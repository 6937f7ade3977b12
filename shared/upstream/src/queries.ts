import type { Digest } from '@sepia/base/digest';
import type { RepositoryName, Tag } from '@sepia/base/names/repository';
import type { Reference } from '@sepia/oci/route';
import type { Authorizer } from './authenticator.ts';
import { BODY_MS, CONNECT_MS, HEADERS_MS, QUEUE_MS } from './deadlines/upstreams.ts';
import type { Answer } from './exchange.ts';

/** How patient a client of an upstream is, and how many may wait for it; {@link UPSTREAM_CLIENT_DEFAULTS} for what is left out. */
export interface UpstreamClientOptions {
  readonly connectTimeoutMs?: number;
  /** Until an answer's headers, in ms, once a connection is free. */
  readonly headersTimeoutMs?: number;
  /** Longest silence in a body that is being read, in ms. */
  readonly bodyTimeoutMs?: number;
  /** Requests that may wait for a connection. */
  readonly queueLimit?: number;
  /** Longest wait for a connection, in ms. */
  readonly queueTimeoutMs?: number;
  readonly userAgent?: string;
}

/** Ten seconds without progress are too many ("How a body ends"). */
export const UPSTREAM_CLIENT_DEFAULTS = Object.freeze({
  connectTimeoutMs: CONNECT_MS,
  headersTimeoutMs: HEADERS_MS,
  bodyTimeoutMs: BODY_MS,
  queueLimit: 1_000,
  queueTimeoutMs: QUEUE_MS,
  userAgent: 'sepia/0.1',
});

/** Which manifest is asked for, and in whose name. */
export interface ManifestQuery {
  readonly repository: RepositoryName;
  readonly reference: Reference;
  /** `Accept`; default all four types, which registries need to answer with the stored one. */
  readonly accept?: string;
  /** In whose name; default: as the client was set up. */
  readonly as?: Authorizer | undefined;
  /** Aborted when nobody waits for it any more: it leaves the queue, and ends with the reason. What was sent goes on to its end. */
  readonly unwanted?: AbortSignal | undefined;
}

/** A manifest as the upstream has it. `bytes` match `digest`; by tag, `digest` is computed from them. */
export interface UpstreamManifest {
  readonly bytes: Buffer;
  readonly mediaType: string;
  readonly digest: Digest;
  readonly headers: Answer['headers'];
}

/** What a HEAD tells of a manifest. `digest` is always there: without the header the manifest itself is fetched. */
export interface UpstreamManifestHead {
  readonly digest: Digest;
  readonly mediaType: string | undefined;
  readonly sizeBytes: number | undefined;
}

/** Which blob is asked for, and in whose name. */
export interface BlobQuery {
  readonly repository: RepositoryName;
  readonly digest: Digest;
  /** As of {@link ManifestQuery}. */
  readonly as?: Authorizer | undefined;
  readonly unwanted?: AbortSignal | undefined;
}

/** A page of tags: the first, of at most `n`, or a further one. */
export interface TagsQuery extends Pick<ManifestQuery, 'repository' | 'as' | 'unwanted'> {
  readonly n?: number | undefined;
  /** `next` of the page before. */
  readonly page?: string | undefined;
}

/** Bytes `start` … `end`, both inclusive; without `end` to the end of the blob. */
export interface BlobRange {
  readonly start: number;
  readonly end?: number | undefined;
}

/** Which part of a blob is asked for: all of it without `range`. */
export interface BlobWish extends BlobQuery {
  readonly range?: BlobRange | undefined;
  /** Size of the blob as far as it is known: a body of that length is the blob, whatever it is said to be encoded with. */
  readonly sizeBytes?: number | undefined;
  /** The body as it came is the blob, whatever it is said to be encoded with. */
  readonly asSent?: boolean | undefined;
}

/** The bytes of a blob on their way, to be read once; see `BlobBody`. */
export interface BlobStream extends AsyncIterable<Uint8Array> {
  /** As iterating, but a chunk is only lent: its memory is freed when the next one is asked for. */
  lent(): AsyncGenerator<Uint8Array, void, undefined>;
  /** Lets go of what it holds open. Idempotent. */
  destroy(): void;
}

/** `whole`: from byte 0, also where a range was asked but ignored. `partial`: from `start` as asked. */
export interface UpstreamBlob {
  readonly status: 'whole' | 'partial';
  readonly start: number;
  /** Size of the whole blob, where the upstream told it. */
  readonly sizeBytes: number | undefined;
  readonly body: BlobStream;
}

/** A page of an upstream's tags (distribution-spec, "Listing Tags"), and how to ask for the next. */
export interface TagPage {
  readonly tags: readonly Tag[];
  /** Query of the next page as the upstream names it, if there is one. */
  readonly next: string | undefined;
}
