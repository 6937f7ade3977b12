import { createHash } from 'node:crypto';
import { type Duplex, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { SingleFlight } from '@sepia/base/async/single-flight';
import { type Digest, digestAlgorithm } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import { createZstdFrames } from '@sepia/base/zstd/zstd-stream';
import { compressionOf } from '@sepia/lazy/compression';
import type { AgentSource, LayerName } from '../layers/agent-source.ts';

/** Bytes of a layer that are asked for at once. */
const PART_BYTES = 4 * 1024 * 1024;
/** Layers that are read at a time; more wait in no queue: their images are told to come again. */
export const MAX_PROOFS = 4;
const MAX_PROVEN = 10_000;
/** Larger tars are not read for a proof. */
const MAX_TAR_BYTES = 64 * 1024 ** 3;

/** A layer as an image names it. */
export interface NamedLayer {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

/**
 * What layers really hold, found out by reading all of them: for layers that no record of the cluster speaks of, while
 * their image names a diffID that is shown here. What was read once is known until the daemon ends.
 */
export class LayerProofs {
  readonly #source: Pick<AgentSource, 'readIfThere'>;
  readonly #proven = new LatestMap<Digest, Digest>(MAX_PROVEN);
  readonly #running = new SingleFlight<Digest, void>();
  readonly #abort = new AbortController();

  constructor(deps: { readonly source: Pick<AgentSource, 'readIfThere'> }) {
    this.#source = deps.source;
  }

  /** Digest of the layer's tar, if it was found out. */
  diffIdOf(layer: Digest): Digest | undefined {
    return this.#proven.get(layer);
  }

  /**
   * Reads a layer whole, unless that is under way; goes on when nobody waits, so that the next pull finds the result.
   * @throws {CodedError} `MEMBER_BUSY` where enough is read already, `DIGEST_MISMATCH`, `LAYER_INVALID`, as `AgentSource.readIfThere`
   */
  async prove(image: Omit<LayerName, 'digest'>, layer: NamedLayer): Promise<void> {
    if (this.#proven.has(layer.digest)) return;
    if (!this.#running.has(layer.digest) && this.#running.size >= MAX_PROOFS)
      throw new CodedError('MEMBER_BUSY', { message: 'other layers are read whole at this moment' });
    await this.#running.share(layer.digest, async () => await this.#prove(image, layer));
  }

  async stop(): Promise<void> {
    this.#abort.abort(new CodedError('DRAINING'));
    await this.#running.idle();
  }

  async #prove(image: Omit<LayerName, 'digest'>, layer: NamedLayer): Promise<void> {
    const blob = createHash(digestAlgorithm(layer.digest));
    const tar = createHash('sha256');
    const parts = this.#parts({ ...image, digest: layer.digest }, layer.sizeBytes);
    const first = await parts.next();
    const head = first.value ?? Buffer.alloc(0);
    const all = async function* (): AsyncGenerator<Buffer> {
      for (let part = head; ; ) {
        blob.update(part);
        yield part;
        const next = await parts.next();
        if (next.done === true) return;
        part = next.value;
      }
    };
    const hashed = async (bytes: AsyncIterable<Buffer>): Promise<void> => {
      let length = 0;
      for await (const chunk of bytes) {
        length += chunk.length;
        if (length > MAX_TAR_BYTES)
          throw new CodedError('LAYER_INVALID', { message: 'its tar is too large' });
        tar.update(chunk);
      }
    };
    try {
      const inflate = inflaterFor(head);
      if (inflate === undefined) await hashed(all());
      else await pipeline(Readable.from(all()), inflate, hashed);
    } catch (error) {
      throwIfBug(error);
      if (error instanceof CodedError) throw error;
      throw new CodedError('LAYER_INVALID', { detail: { digest: layer.digest }, cause: error });
    }
    const found = `${digestAlgorithm(layer.digest)}:${blob.digest('hex')}`;
    if (found !== layer.digest)
      throw new CodedError('DIGEST_MISMATCH', { detail: { expected: layer.digest, found } });
    this.#proven.set(layer.digest, `sha256:${tar.digest('hex')}` as Digest);
  }

  async *#parts(layer: LayerName, sizeBytes: number): AsyncGenerator<Buffer, undefined> {
    for (let at = 0; at < sizeBytes; at += PART_BYTES)
      yield await this.#source.readIfThere(
        layer,
        at,
        Math.min(sizeBytes, at + PART_BYTES),
        this.#abort.signal,
      );
    return undefined;
  }
}

/** By the first bytes: gzip, zstd, or undefined for a plain tar. */
function inflaterFor(head: Buffer): Duplex | undefined {
  const compression = compressionOf(head);
  if (compression === 'gzip') return createGunzip();
  return compression === 'zstd' ? createZstdFrames() : undefined;
}
