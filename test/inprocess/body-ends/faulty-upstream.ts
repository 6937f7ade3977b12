import { Readable } from 'node:stream';
import { CodedError } from '@sepia/base/errors';
import { delay } from '@sepia/base/lifecycle';
import { silentLogger } from '@sepia/base/log';
import type { ClusterUpstream } from '@sepia/cluster/cluster';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { parseRange } from '@sepia/oci/range';
import type { Chance } from '@sepia/swarm/core/random';
import type { Answer } from '@sepia/upstream/exchange';
import type { RegistryRead, RegistryReader } from '@sepia/upstream/transport';
import { UpstreamClient } from '@sepia/upstream/upstream-client';
import { bodyOf, type Content, type Truth } from '../../../proxy/test/support/answers.ts';

type Trouble = 'none' | 'reset' | 'end' | 'stall' | 'pauses' | 'flip' | 'double' | 'skip';

const URL_OF_BLOB = new URL('http://registry.example/v2/app/blobs/x');
const CHUNK_BYTES = 64 * 1024;
const TIMINGS: readonly Trouble[] = ['reset', 'reset', 'end', 'stall', 'pauses', 'pauses'];
const LIES: readonly Trouble[] = ['flip', 'double', 'skip'];
const FOREVER_MS = 1_000_000;

/**
 * A registry without a network, read by the client that ships. With seeded faults: refused, late and silent answers, ranges
 * that are ignored, lengths that are not told, bodies that break; with `lies` also wrong bytes.
 */
export class FaultyUpstream {
  /** As who reads it uses it. */
  readonly client: UpstreamClient;
  readonly #truth: Truth;
  readonly #manifest: Content | undefined;
  readonly #chance: Chance;
  readonly #troubles: readonly Trouble[];
  readonly #ignoresRange: boolean;
  readonly #tellsLength: boolean;

  constructor(
    truth: Truth,
    chance: Chance,
    { lies, manifest }: { readonly lies: boolean; readonly manifest?: Content },
  ) {
    this.#truth = truth;
    this.#manifest = manifest;
    this.#chance = chance;
    this.#troubles = lies ? [...TIMINGS, ...LIES] : TIMINGS;
    this.#ignoresRange = chance.next() < 0.2;
    this.#tellsLength = chance.next() < 0.85;
    const reader = { read: this.#read.bind(this) } as unknown as RegistryReader;
    const upstream = { name: 'hub', url: 'http://registry.example' } as ClusterUpstream;
    this.client = new UpstreamClient({ upstream, reader, log: silentLogger(), nowMs: Date.now });
  }

  /** As `Transport.read`. */
  async #read(call: RegistryRead, signal: AbortSignal): Promise<Answer> {
    await this.#begin(signal);
    const isManifest = call.path.startsWith('manifests/');
    const content = isManifest ? this.#manifest : this.#truth;
    if (content === undefined) throw new CodedError('MANIFEST_UNKNOWN');
    const size = content.bytes.length;
    const found = parseRange(this.#ignoresRange || isManifest ? undefined : call.headers['range'], size);
    const isPart = found.type === 'single';
    const { start, end } = isPart ? found.range : { start: 0, end: size - 1 };
    const headers = {
      ...(isManifest ? { 'content-type': OCI_MANIFEST, 'docker-content-digest': content.digest } : {}),
      ...(isPart || this.#tellsLength ? { 'content-length': String(end - start + 1) } : {}),
      ...(isPart ? { 'content-range': `bytes ${start}-${end}/${size}` } : {}),
    };
    const sent = call.method === 'HEAD' ? [] : this.#send(content.bytes, { start, end }, signal);
    const body = bodyOf(Readable.from(sent, { objectMode: true }));
    return { url: URL_OF_BLOB, method: call.method, status: isPart ? 206 : 200, headers, body };
  }

  async #begin(signal: AbortSignal): Promise<void> {
    const dice = this.#chance.below(20);
    await delay(dice === 0 ? FOREVER_MS : this.#chance.below(dice < 3 ? 9_000 : 50), signal);
    if (dice === 4) throw new CodedError('BACKEND_DOWN', { message: 'the registry answers 502' });
  }

  async *#send(
    bytes: Buffer,
    { start, end }: { readonly start: number; readonly end: number },
    signal: AbortSignal,
  ): AsyncGenerator<Buffer> {
    const chance = this.#chance;
    const trouble = chance.next() < 0.4 ? 'none' : this.#troubles[chance.below(this.#troubles.length)]!;
    const troubleAt = start + chance.below(end - start + 1);
    for (let at = start; at <= end; ) {
      const next = Math.min(end + 1, at + 1 + chance.below(CHUNK_BYTES));
      let chunk = Buffer.from(bytes.subarray(at, next));
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
