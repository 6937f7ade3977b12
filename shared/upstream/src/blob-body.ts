import { giveBack } from '@sepia/base/chunk';
import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { bodyChunks } from '@sepia/http/bodies/body-chunks';
import { blobSizeOf, isPage, partOf } from './answer-facts.ts';
import { flowing } from './bodies/flowing.ts';
import { codingOf, contentOf } from './content-coding.ts';
import { type Answer, discard, down, header } from './exchange.ts';
import type { BlobStream, BlobWish, UpstreamBlob } from './queries.ts';

interface BodyFacts {
  readonly upstream: string;
  readonly digest: Digest;
  /** It is decoded on its way, as its `Content-Encoding` says. */
  readonly isEncoded: boolean;
  /** Bytes that must come, where known. */
  readonly expectedBytes: number | undefined;
  /** It may be a web page, of a length that is not told, unless it is as long as this. */
  readonly pageUnlessBytes?: number | undefined;
  /** What the other side is, for messages. */
  readonly peer?: string | undefined;
}

/** What stands in for a registry is a page of this length or less. */
const MAX_PAGE_BYTES = 64 * 1024;

/**
 * The bytes of a blob as they come from the upstream; may be read once. They are not checked against the digest:
 * whoever puts them together does that. Must be read to the end, broken out of, or destroyed: it holds a connection.
 * Iterating throws `BACKEND_DOWN` when the body is cut, silent too long or only trickles, `UPSTREAM_LIES` when more bytes
 * come than announced, and the signal's reason when aborted.
 */
class BlobBody implements BlobStream {
  readonly #answer: Answer;
  readonly #facts: BodyFacts;
  readonly #signal: AbortSignal;

  constructor(answer: Answer, facts: BodyFacts, signal: AbortSignal) {
    this.#answer = answer;
    this.#facts = facts;
    this.#signal = signal;
  }

  [Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    return this.#chunks(false);
  }

  /** As iterating, but a chunk is only lent: its memory is freed when the next one is asked for. */
  lent(): AsyncGenerator<Uint8Array, void, undefined> {
    return this.#chunks(true);
  }

  async *#chunks(lend: boolean): AsyncGenerator<Uint8Array, void, undefined> {
    const { expectedBytes, digest, upstream, isEncoded, peer, pageUnlessBytes } = this.#facts;
    let found = 0;
    /** What is not handed on before it is known to be no page. */
    const held: Uint8Array[] = [];
    try {
      const body: AsyncIterable<Uint8Array> = isEncoded
        ? contentOf(this.#answer)
        : bodyChunks(this.#answer.body);
      for await (const chunk of flowing(this.#answer.url.host, body, { expectedBytes, peer })) {
        found += chunk.length;
        if (expectedBytes !== undefined && found > expectedBytes) {
          throw new CodedError('UPSTREAM_LIES', {
            message: `${this.#answer.url.host} sent more than it announced`,
            detail: { upstream, digest, expected: expectedBytes },
          });
        }
        if (pageUnlessBytes !== undefined && found <= MAX_PAGE_BYTES) {
          held.push(chunk);
          continue;
        }
        yield* held.splice(0);
        yield chunk;
        // A decoder uses its memory again itself.
        if (lend && !isEncoded) giveBack(chunk);
      }
      if (held.length > 0 && found !== pageUnlessBytes) throw pageError(this.#answer, { upstream, digest });
      yield* held;
    } catch (error) {
      throwIfBug(error);
      if (this.#signal.aborted) throw this.#signal.reason;
      throw error instanceof CodedError ? error : down(this.#answer.url, error, peer);
    } finally {
      this.destroy();
    }
    if (expectedBytes !== undefined && found < expectedBytes) {
      throw new CodedError('BACKEND_DOWN', {
        message: `${this.#answer.url.host} cut the body`,
        detail: { upstream, digest, expected: expectedBytes, found },
      });
    }
  }

  /** Lets go of the connection. Idempotent. */
  destroy(): void {
    this.#answer.body.destroy();
  }
}

/**
 * The blob, or the part of it, that an answer to a GET brings. A body that is encoded unasked is decoded and its size unknown, unless
 * its length is that of the blob: some stores call a compressed blob's own bytes so.
 * @throws {CodedError} `BACKEND_DOWN` for a web page in its place, `UPSTREAM_LIES` for another range than asked, `RANGE_INVALID` for one of the
 * encoded bytes, or that is not said: who asks for all of it may be told better
 */
export function blobOf(
  answer: Answer,
  query: BlobWish,
  upstream: string,
  signal: AbortSignal,
  peer?: string,
): UpstreamBlob {
  const facts = { upstream, digest: query.digest };
  const coding = codingOf(answer);
  if (answer.status === 200 || (query.range === undefined && isWhole(answer))) {
    const sentBytes = blobSizeOf(
      { headers: { ...answer.headers, 'content-encoding': undefined } },
      query.digest,
    );
    const isOther = sentBytes !== undefined && query.sizeBytes !== undefined && sentBytes !== query.sizeBytes;
    if (isOther && isPage(answer)) {
      discard(answer);
      throw pageError(answer, facts);
    }
    const isEncoded =
      coding !== undefined &&
      query.asSent !== true &&
      (sentBytes === undefined || sentBytes !== query.sizeBytes);
    const sizeBytes = isEncoded ? undefined : sentBytes;
    const pageUnlessBytes = sizeBytes === undefined && isPage(answer) ? query.sizeBytes : undefined;
    const told = { ...facts, peer, isEncoded, expectedBytes: sizeBytes, pageUnlessBytes };
    const body = new BlobBody(answer, told, signal);
    return { status: 'whole', start: 0, sizeBytes, body };
  }
  const range = query.range ?? { start: 0 };
  const part = partOf(answer, range);
  if (part !== undefined && (coding === undefined || part.sizeBytes === query.sizeBytes)) {
    const { start, end, sizeBytes } = part;
    const body = new BlobBody(
      answer,
      { ...facts, peer, isEncoded: false, expectedBytes: end - start + 1 },
      signal,
    );
    return { status: 'partial', start, sizeBytes, body };
  }
  discard(answer);
  const detail = {
    ...facts,
    asked: query.range === undefined ? null : `bytes=${range.start}-${range.end ?? ''}`,
    found: header(answer, 'content-range') ?? null,
  };
  if (part !== undefined)
    throw new CodedError('RANGE_INVALID', { message: `${answer.url.host} encodes what it sends`, detail });
  if (detail.found === null)
    throw new CodedError('RANGE_INVALID', {
      message: `${answer.url.host} does not say what part it sends`,
      detail,
    });
  // A cache that sends a part of what nobody asked a part of has its bad moments.
  throw new CodedError(query.range === undefined ? 'BACKEND_DOWN' : 'UPSTREAM_LIES', {
    message: `${answer.url.host} answered with another range than asked`,
    detail,
  });
}

/** True for a 206 that nobody asked for, as caches before storage may send: of all of it, as far as it says. */
function isWhole(answer: Answer): boolean {
  return header(answer, 'content-range') === undefined || partOf(answer, { start: 0 }) !== undefined;
}

/** A web page stands in for the registry: that says nothing of the blob. */
function pageError({ url: { host } }: Answer, facts: Pick<BodyFacts, 'upstream' | 'digest'>): CodedError {
  return new CodedError('BACKEND_DOWN', {
    message: `${host} sent a web page in place of the blob`,
    detail: { upstream: facts.upstream, digest: facts.digest, reason: 'page' },
  });
}
