import type { Digest } from '@sepia/base/digest';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { LayerBinding } from '@sepia/cluster/api/layer-binding';
import { PROXY } from '@sepia/cluster/api/proxy';
import { to } from '@sepia/cluster/api/route';
import { RECORD_MS, STORE_MS } from '../deadlines.ts';
import type { Proxies } from './proxies.ts';

const MAX_ANSWER_BYTES = 64 * 1024;

/** What the cluster knows of layers, through its proxies. Every call @throws what a proxy named, `NO_PEERS` */
export class LayerRecords {
  readonly #proxies: Proxies;

  constructor(proxies: Proxies) {
    this.#proxies = proxies;
  }

  async get(layer: BlobName, signal: AbortSignal): Promise<LayerBinding | undefined> {
    const { binding } = await this.#proxies.json<{ binding?: LayerBinding }>({
      ...to(PROXY.layer, ofLayer(layer)),
      headersTimeoutMs: RECORD_MS,
      signal,
    });
    return binding;
  }

  async bind(layer: BlobName, binding: LayerBinding, signal: AbortSignal): Promise<void> {
    await this.#proxies.json({
      ...to(PROXY.layerBind, ofLayer(layer)),
      json: { binding },
      headersTimeoutMs: RECORD_MS,
      signal,
    });
  }

  /** Stores the bytes of an index in the repository of its layer. */
  async store(layer: BlobName, digest: Digest, bytes: Buffer, signal: AbortSignal): Promise<void> {
    const call = {
      ...to(PROXY.layerIndex, { ...ofLayer(layer), digest }),
      body: bytes,
      headers: { 'content-type': 'application/octet-stream' },
      headersTimeoutMs: STORE_MS,
      signal,
    };
    await this.#proxies.bytes(call, MAX_ANSWER_BYTES);
  }
}

function ofLayer({ upstream, repository, digest }: BlobName) {
  return { upstream, repository, layer: digest };
}
