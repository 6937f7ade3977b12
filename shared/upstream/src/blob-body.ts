import { giveBack } from '@sepia/base/chunk';
import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { type Answer, down } from './exchange.ts';

interface BodyFacts {
  readonly upstream: string;
  readonly digest: Digest;
  /** Bytes that must come, where known. */
  readonly expectedBytes: number | undefined;
}

/**
 * The bytes of a blob as they come from the upstream; may be read once. They are not checked against the digest:
 * whoever puts them together does that. Must be read to the end, broken out of, or destroyed: it holds a connection.
 * Iterating throws `BACKEND_DOWN` when the body is cut or silent too long, `UPSTREAM_LIES` when more bytes come
 * than announced, and the signal's reason when aborted.
 */
export class BlobBody implements AsyncIterable<Uint8Array> {
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
    const { expectedBytes, digest, upstream } = this.#facts;
    let found = 0;
    try {
      for await (const chunk of this.#answer.body as AsyncIterable<Uint8Array>) {
        found += chunk.length;
        if (expectedBytes !== undefined && found > expectedBytes) {
          throw new CodedError('UPSTREAM_LIES', {
            message: `${this.#answer.url.host} sent more than it announced`,
            detail: { upstream, digest, expected: expectedBytes },
          });
        }
        yield chunk;
        if (lend) giveBack(chunk);
      }
    } catch (error) {
      throwIfBug(error);
      if (this.#signal.aborted) throw this.#signal.reason;
      throw error instanceof CodedError ? error : down(this.#answer.url, error);
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
