import { firstAnswer } from '@sepia/base/async/ask-many';
import { type Digest, digestAlgorithm, digestOf } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import {
  isSignedBinding,
  LAYER_BINDING,
  type LayerBinding,
  type LayerFault,
} from '@sepia/cluster/api/layer-binding';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { headTo, to } from '@sepia/cluster/api/route';
import { isDefinite } from '@sepia/cluster/core/answers';
import type { Registers } from '@sepia/records/jobs/job-queue';
import type { Origins } from '../cluster/origins.ts';
import { HEDGE_MS, PROVE_MS, STORE_MS } from '../deadlines.ts';

interface Deps {
  readonly registers: Registers;
  readonly origins: Origins;
  readonly clusterKey: Uint8Array;
  readonly nowMs: () => number;
}

/**
 * Bindings of layers: for each layer one register on a quorum of origins, by the layer's digest. Only those to whom the layer
 * itself would be served are told its binding: the repository must have a link to it, proven as for its bytes.
 */
export class LayerBindings {
  readonly #deps: Deps;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /**
   * What is on record of a layer; nothing where its index went with the repository that it was kept in: it is made again
   * then. @throws `BLOB_UNKNOWN` without a link, `QUORUM_LOST`, `CONFLICT`, `NO_PEERS`
   */
  async get(name: BlobName, signal: AbortSignal): Promise<LayerBinding | undefined> {
    const read = async (): Promise<LayerBinding | undefined> => {
      const found = this.#believed(await this.#deps.registers.read<unknown>(keyOf(name.digest)));
      return found === undefined || (await this.#hasIndex(found, signal)) ? found : undefined;
    };
    const [found] = await Promise.all([read(), this.#prove(name, signal)]);
    return found;
  }

  /** Keeps a binding; one of the same index stays bad if it was. @throws `SIGNATURE_INVALID`, as {@link get} */
  async bind(name: BlobName, binding: LayerBinding, signal: AbortSignal): Promise<void> {
    if (binding.layer !== name.digest)
      throw new CodedError('REQUEST_INVALID', {
        message: 'binding.layer: is another layer than the path names',
      });
    if (!isSignedBinding(this.#deps.clusterKey, binding))
      throw new CodedError('SIGNATURE_INVALID', {
        message: 'the binding is not signed with this cluster key',
      });
    await this.#prove(name, signal);
    const { bad: _bad, ...facts } = binding;
    await this.#deps.registers.change<unknown>(keyOf(name.digest), (current) => {
      const bad = this.#believed(current)?.bad;
      return bad === undefined || bad.index !== binding.index ? facts : { ...facts, bad };
    });
  }

  /** Notes that an index is wrong; of one that is not the layer's any more nothing is noted. @throws as {@link get} */
  async complain(name: BlobName, fault: Omit<LayerFault, 'atMs'>, signal: AbortSignal): Promise<void> {
    await this.#prove(name, signal);
    await this.#deps.registers.change<unknown>(keyOf(name.digest), (current) => {
      const known = this.#believed(current);
      if (known === undefined || known.index !== fault.index || known.bad !== undefined) return current;
      return { ...known, bad: { ...fault, atMs: this.#deps.nowMs() } };
    });
  }

  /** Stores an index under a repository, on a quorum. @throws `DIGEST_MISMATCH`, what origins say */
  async store(name: BlobName, bytes: Buffer, signal: AbortSignal): Promise<void> {
    const found = digestOf(bytes, digestAlgorithm(name.digest));
    if (found !== name.digest)
      throw new CodedError('DIGEST_MISMATCH', { detail: { expected: name.digest, found } });
    const put = to(ORIGIN_BLOBS.blobPut, { ...name, made: true });
    await this.#ask(
      name.digest,
      async (id, abort) => {
        const call = { ...put, body: bytes, headersTimeoutMs: STORE_MS, signal: abort };
        await (await this.#deps.origins.call(id, call)).body.dump();
      },
      signal,
      STORE_MS,
    );
  }

  /** The repository has the layer, and the upstream itself showed it where that is what counts. */
  async #prove(name: BlobName, signal: AbortSignal): Promise<void> {
    await this.#ask(
      name.digest,
      async (id, abort) => {
        const call = { headersTimeoutMs: PROVE_MS, signal: abort } as const;
        const { origins } = this.#deps;
        await (await origins.call(id, { ...call, ...headTo(ORIGIN_BLOBS.blob, name) })).body.dump();
        await (await origins.call(id, { ...call, ...to(ORIGIN_BLOBS.delivery, name) })).body.dump();
      },
      signal,
    );
  }

  /** False where it is certain that nobody has the index any more. */
  async #hasIndex({ index, home }: LayerBinding, signal: AbortSignal): Promise<boolean> {
    if (index === undefined) return true;
    const head = headTo(ORIGIN_BLOBS.blob, {
      upstream: home.upstream,
      repository: parseRepositoryName(home.repository),
      digest: index,
    });
    const ask = async (id: string, abort: AbortSignal): Promise<void> => {
      const call = { headersTimeoutMs: PROVE_MS, signal: abort, ...head } as const;
      await (await this.#deps.origins.call(id, call)).body.dump();
    };
    try {
      await this.#ask(index, ask, signal);
    } catch (error) {
      throwIfBug(error);
      signal.throwIfAborted();
      // Who is silent says nothing. The home of the index may have left the cluster document: the layer has others.
      return !isCoded(error, 'BLOB_UNKNOWN') && !isCoded(error, 'UPSTREAM_UNKNOWN');
    }
    return true;
  }

  async #ask(
    digest: Digest,
    ask: (id: string, abort: AbortSignal) => Promise<void>,
    signal: AbortSignal,
    hedgeAfterMs = HEDGE_MS,
  ): Promise<void> {
    const { origins } = this.#deps;
    const order = origins.tries(digest);
    await firstAnswer(order, ask, { hedgeAfterMs, signal, isFinal: isDefinite });
  }

  /** A record that no holder of the key signed counts for nothing. */
  #believed(value: unknown): LayerBinding | undefined {
    const parsed = LAYER_BINDING.safeParse(value);
    return parsed.success && isSignedBinding(this.#deps.clusterKey, parsed.data) ? parsed.data : undefined;
  }
}

function keyOf(layer: Digest): string {
  return `layer\0${layer}`;
}
