import { Readable } from 'node:stream';
import { CodedError } from '@sepia/base/errors';
import { delay } from '@sepia/base/lifecycle';
import { parseRange } from '@sepia/oci/range';
import type { Chance } from '@sepia/swarm/core/random';
import { blobOf } from '@sepia/upstream/blob-body';
import type { UpstreamBlob, UpstreamClient } from '@sepia/upstream/upstream-client';
import type { Truth } from '../../../proxy/test/support/faulty-origins.ts';

type BlobWish = Parameters<UpstreamClient['getBlob']>[0];
type Trouble = 'none' | 'reset' | 'end' | 'stall' | 'pauses' | 'flip' | 'double' | 'skip';

const URL_OF_BLOB = new URL('http://registry.example/v2/app/blobs/x');
const CHUNK_BYTES = 64 * 1024;
const TIMINGS: readonly Trouble[] = ['reset', 'reset', 'end', 'stall', 'pauses', 'pauses'];
const LIES: readonly Trouble[] = ['flip', 'double', 'skip'];
const FOREVER_MS = 1_000_000;

/**
 * A registry behind a fetch: its answers are read as the client that ships reads them. With seeded faults: refused, late
 * and silent answers, ranges that are ignored, lengths that are not told, bodies that break; with `lies` also wrong bytes.
 */
export class FaultyUpstream {
  readonly #truth: Truth;
  readonly #chance: Chance;
  readonly #troubles: readonly Trouble[];
  readonly #ignoresRange: boolean;
  readonly #tellsLength: boolean;

  constructor(truth: Truth, chance: Chance, lies: boolean) {
    this.#truth = truth;
    this.#chance = chance;
    this.#troubles = lies ? [...TIMINGS, ...LIES] : TIMINGS;
    this.#ignoresRange = chance.next() < 0.2;
    this.#tellsLength = chance.next() < 0.85;
  }

  /** As a fetch asks for it. */
  get client(): UpstreamClient {
    return this as unknown as UpstreamClient;
  }

  /** As `UpstreamClient.headBlob`. */
  async headBlob(_wish: unknown, signal: AbortSignal): Promise<{ readonly sizeBytes: number | undefined }> {
    await this.#begin(signal);
    return { sizeBytes: this.#tellsLength ? this.#truth.bytes.length : undefined };
  }

  /** As `UpstreamClient.getBlob`. */
  async getBlob(wish: BlobWish, signal: AbortSignal): Promise<UpstreamBlob> {
    await this.#begin(signal);
    const size = this.#truth.bytes.length;
    const { range } = wish;
    const asked = range === undefined ? undefined : `bytes=${range.start}-${range.end ?? ''}`;
    const found = parseRange(this.#ignoresRange ? undefined : asked, size);
    const { start, end } = found.type === 'single' ? found.range : { start: 0, end: size - 1 };
    const isPart = found.type === 'single';
    const headers = {
      ...(isPart || this.#tellsLength ? { 'content-length': String(end - start + 1) } : {}),
      ...(isPart ? { 'content-range': `bytes ${start}-${end}/${size}` } : {}),
    };
    const body = Readable.from(this.#send(start, end, signal), { objectMode: true });
    const status = isPart ? 206 : 200;
    return blobOf(
      { url: URL_OF_BLOB, method: 'GET', status, headers, body: body as never },
      wish,
      'hub',
      signal,
    );
  }

  async #begin(signal: AbortSignal): Promise<void> {
    const dice = this.#chance.below(20);
    await delay(dice === 0 ? FOREVER_MS : this.#chance.below(dice < 3 ? 9_000 : 50), signal);
    if (dice === 4) throw new CodedError('BACKEND_DOWN', { message: 'the registry answers 502' });
  }

  async *#send(start: number, end: number, signal: AbortSignal): AsyncGenerator<Buffer> {
    const chance = this.#chance;
    const trouble = chance.next() < 0.4 ? 'none' : this.#troubles[chance.below(this.#troubles.length)]!;
    const troubleAt = start + chance.below(end - start + 1);
    for (let at = start; at <= end; ) {
      const next = Math.min(end + 1, at + 1 + chance.below(CHUNK_BYTES));
      let chunk = Buffer.from(this.#truth.bytes.subarray(at, next));
      if (trouble === 'pauses' && chance.next() < 0.2) await delay(chance.below(12_000), signal);
      if (at <= troubleAt && troubleAt < next) {
        if (trouble === 'reset') throw Object.assign(new Error('reset'), { code: 'ECONNRESET' });
        if (trouble === 'end') return;
        if (trouble === 'stall') await delay(FOREVER_MS, signal);
        if (trouble === 'flip') chunk[chance.below(chunk.length)]! ^= 1;
        if (trouble === 'double') yield Buffer.from(chunk);
        if (trouble === 'skip') chunk = chunk.subarray(chunk.length >> 1);
      }
      yield chunk;
      at = next;
    }
  }
}
