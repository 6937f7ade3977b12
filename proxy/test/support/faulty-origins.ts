import { Readable } from 'node:stream';
import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { Cluster } from '@sepia/cluster/cluster';
import { parseClusterDocument } from '@sepia/cluster/load-document';
import type { InternalRequest, InternalResponse } from '@sepia/http/client';
import { firstAttempt, Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceHash, pieceLeaves, pieceLength } from '@sepia/metainfo/tree';
import { parseRange } from '@sepia/oci/range';
import type { Chance } from '@sepia/swarm/core/random';

/** Content and its tree. */
export interface Truth {
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly hashes: readonly Uint8Array[];
}

export function truthOf(bytes: Buffer): Truth {
  const hashes: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += PIECE_BYTES)
    hashes.push(pieceHash(bytes.subarray(at, at + PIECE_BYTES)));
  return { bytes, digest: digestOf(bytes), hashes };
}

/** What the origins of a run are like. */
export interface Weather {
  /** Origins whose answers break, stall or come late, as chance has it. */
  readonly timing: boolean;
  /** Origins that also send wrong, doubled, missing or shifted bytes. */
  readonly wrong: boolean;
  /** Bytes per second at which a fetching origin gets the blob; undefined: every origin has it. */
  readonly fetchRate: number | undefined;
  /** All origins die after this time: what they send breaks, they take no more calls. In ms. */
  readonly livesMs?: number;
}

const ORIGINS = ['origin-1', 'origin-2', 'origin-3'];
const CHUNK_BYTES = 64 * 1024;
/** Around the silence after which another source is looked for, and a few others. */
const PAUSES_MS = [0, 1, 5, 40, 900, 990, 999, 1_000, 1_001, 1_010, 1_100, 2_500, 6_000];

type Trouble = 'none' | 'reset' | 'end' | 'stall' | 'pauses' | 'flip' | 'double' | 'skip' | 'shift';

/** The origins of a cluster behind a fake client: answers on a virtual clock, with seeded faults. */
export class FaultyOrigins {
  readonly cluster: Cluster;
  readonly #truth: Truth;
  readonly #weather: Weather;
  readonly #chance: Chance;
  readonly #leader: string;
  readonly #startMs = Date.now();
  #progressMs = this.#startMs;
  readonly #isOld: boolean;

  constructor(truth: Truth, weather: Weather, chance: Chance) {
    this.#truth = truth;
    this.#weather = weather;
    this.#chance = chance;
    this.#isOld = chance.next() < 0.1;
    this.cluster = new Cluster(
      parseClusterDocument(
        JSON.stringify({
          version: 1,
          members: [
            ...ORIGINS.map((id) => ({ id, role: 'origin', urls: [`http://${id}.example:1`] })),
            { id: 'proxy-1', role: 'proxy', urls: ['http://proxy-1.example:1'] },
          ],
          upstreams: [{ name: 'local', mode: 'none' }],
        }),
        'test',
      ),
    );
    this.#leader = this.cluster.origins(truth.digest).owners[0]!;
  }

  /** For how long nothing of the blob has left any origin, in ms. */
  get silentMs(): number {
    return Date.now() - this.#progressMs;
  }

  /** As `InternalClient.call`. */
  async call(request: InternalRequest): Promise<InternalResponse> {
    const id = new URL(request.url).hostname.split('.')[0]!;
    await this.#wait(this.#chance.below(5), request.signal);
    const { pathname, searchParams } = new URL(request.path, request.url);
    if (pathname.endsWith('/where')) return json(this.#where(id));
    if (pathname.endsWith('/metainfo')) return await this.#metainfo(id, request, searchParams);
    if (pathname.endsWith('/leaves')) return await this.#leaves(id, request, searchParams);
    if (request.method === 'POST') return json({});
    if (pathname.startsWith('/v1/blobs/')) return await this.#blob(id, request);
    return json({});
  }

  /** Lets time pass. @throws when the origins are dead */
  async #wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
    const leftMs = this.#startMs + (this.#weather.livesMs ?? Number.POSITIVE_INFINITY) - Date.now();
    await wait(Math.min(ms, Math.max(0, leftMs)), signal);
    if (ms >= leftMs) throw new CodedError('PEER_HTTP', { message: 'the origin is dead' });
  }

  #isOpen(): boolean {
    const { fetchRate } = this.#weather;
    return fetchRate !== undefined && this.#landedBytes() < this.#truth.bytes.length;
  }

  #landedBytes(): number {
    const { fetchRate } = this.#weather;
    const size = this.#truth.bytes.length;
    if (fetchRate === undefined) return size;
    return Math.min(size, Math.floor(((Date.now() - this.#startMs) / 1000) * fetchRate));
  }

  #has(index: number): boolean {
    const end = index * PIECE_BYTES + pieceLength(this.#truth.bytes.length, index);
    return this.#landedBytes() >= end;
  }

  #where(id: string): unknown {
    const sizeBytes = this.#truth.bytes.length;
    if (this.#weather.fetchRate === undefined) return { state: 'final', linked: true, sizeBytes };
    if (id !== this.#leader) return { state: 'none', linked: true };
    return { state: this.#isOpen() ? 'open' : 'final', linked: true, sizeBytes };
  }

  #known(): Metainfo {
    const { digest, bytes, hashes } = this.#truth;
    const known = Metainfo.open(digest, bytes.length, firstAttempt(digest));
    hashes.forEach((one, index) => {
      if (this.#has(index)) known.addHash(index, one);
    });
    if (!this.#isOpen()) known.finalize();
    return known;
  }

  async #metainfo(id: string, request: InternalRequest, query: URLSearchParams): Promise<InternalResponse> {
    if (this.#weather.fetchRate !== undefined && id !== this.#leader)
      throw new CodedError('NO_PEERS', { detail: { status: 503 } });
    const known = request.headers?.['if-none-match'];
    const untilMs = Date.now() + Number(query.get('wait') ?? 0);
    while (this.#known().etag === known && Date.now() < untilMs) await this.#wait(50, request.signal);
    const metainfo = this.#known();
    if (metainfo.etag === known) return { status: 304, headers: {}, body: bodyOf([]) };
    this.#progressMs = Date.now();
    return { status: 200, headers: { etag: metainfo.etag }, body: bodyOf([Buffer.from(metainfo.encode())]) };
  }

  /** Now and then an answer is silent, wrong or cut, or the member too old to give one. */
  async #leaves(id: string, request: InternalRequest, query: URLSearchParams): Promise<InternalResponse> {
    if (this.#weather.fetchRate !== undefined && id !== this.#leader && this.#isOpen())
      throw new CodedError('NO_PEERS', { detail: { status: 503 } });
    if (this.#isOld) throw new CodedError('ROUTE_UNKNOWN', { detail: { status: 404 } });
    const first = Number(query.get('from'));
    while (!this.#has(first)) await this.#wait(20, request.signal);
    const told: Uint8Array[] = [];
    const end = Math.min(first + Number(query.get('count')), this.#truth.hashes.length);
    for (let piece = first; piece < end && this.#has(piece); piece++) {
      const at = piece * PIECE_BYTES;
      told.push(pieceLeaves(this.#truth.bytes.subarray(at, at + PIECE_BYTES)));
    }
    const bytes = Buffer.concat(told);
    const trouble = this.#trouble();
    if (trouble === 'stall') await this.#wait(1_000_000, request.signal);
    if (trouble === 'reset') throw new CodedError('PEER_HTTP', { message: 'reset' });
    this.#progressMs = Date.now();
    if (trouble === 'flip') bytes[this.#chance.below(bytes.length)]! ^= 1;
    if (trouble === 'skip')
      return { status: 200, headers: {}, body: bodyOf([bytes.subarray(bytes.length >> 1)]) };
    return { status: 200, headers: {}, body: bodyOf([bytes]) };
  }

  async #blob(id: string, request: InternalRequest): Promise<InternalResponse> {
    if (this.#weather.fetchRate !== undefined && id !== this.#leader && this.#isOpen())
      throw new CodedError('NO_PEERS', { detail: { status: 503 } });
    const size = this.#truth.bytes.length;
    const asked = parseRange(request.headers?.['range'], size);
    const range = asked.type === 'single' ? asked.range : { start: 0, end: size - 1 };
    while (!this.#has(Math.floor(range.start / PIECE_BYTES))) await this.#wait(20, request.signal);
    const length = range.end - range.start + 1;
    const headers = {
      'content-length': String(length),
      'content-type': 'application/octet-stream',
      ...(asked.type === 'single' ? { 'content-range': `bytes ${range.start}-${range.end}/${size}` } : {}),
    };
    const trouble = this.#trouble();
    const at = this.#chance.below(length);
    const stream = Readable.from(this.#send(range, trouble, at, request.signal), { objectMode: true });
    return { status: asked.type === 'single' ? 206 : 200, headers, body: stream as InternalResponse['body'] };
  }

  #trouble(): Trouble {
    const { timing, wrong } = this.#weather;
    if (this.#chance.next() < 0.4 || (!timing && !wrong)) return 'none';
    const timings: Trouble[] = ['reset', 'end', 'stall', 'pauses', 'pauses'];
    const wrongs: Trouble[] = ['flip', 'double', 'skip', 'shift'];
    const all = [...(timing ? timings : []), ...(wrong ? wrongs : [])];
    return all[this.#chance.below(all.length)]!;
  }

  async *#send(
    range: { readonly start: number; readonly end: number },
    trouble: Trouble,
    troubleAt: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Buffer> {
    let shift = trouble === 'shift' ? 1 + this.#chance.below(100) : 0;
    for (let at = range.start; at <= range.end; ) {
      const piece = Math.floor(at / PIECE_BYTES);
      while (!this.#has(piece)) await this.#wait(20, signal);
      const isLast = Math.floor(range.end / PIECE_BYTES) === piece;
      while (isLast && this.#isOpen()) await this.#wait(20, signal);
      const end = Math.min(
        range.end + 1,
        at + 1 + this.#chance.below(CHUNK_BYTES),
        (piece + 1) * PIECE_BYTES,
      );
      let chunk = Buffer.from(
        this.#truth.bytes.subarray(at - Math.min(at, shift), end - Math.min(at, shift)),
      );
      if (trouble === 'pauses' && this.#chance.next() < 0.2)
        await this.#wait(PAUSES_MS[this.#chance.below(PAUSES_MS.length)]!, signal);
      if (at - range.start <= troubleAt && end - range.start > troubleAt) {
        if (trouble === 'reset') throw Object.assign(new Error('reset'), { code: 'ECONNRESET' });
        if (trouble === 'end') return;
        if (trouble === 'stall') await this.#wait(1_000_000, signal);
        if (trouble === 'flip') chunk[this.#chance.below(chunk.length)]! ^= 1;
        if (trouble === 'double') yield Buffer.from(chunk);
        if (trouble === 'skip') chunk = chunk.subarray(chunk.length >> 1);
      }
      this.#progressMs = Date.now();
      yield chunk;
      at = end;
      shift = Math.min(shift, at);
    }
  }
}

function json(value: unknown): InternalResponse {
  return { status: 200, headers: {}, body: bodyOf([Buffer.from(JSON.stringify(value))]) };
}

function bodyOf(chunks: readonly Buffer[]): InternalResponse['body'] {
  const stream = Readable.from(chunks, { objectMode: true });
  return Object.assign(stream, {
    dump: async () => void stream.resume(),
  }) as unknown as InternalResponse['body'];
}

async function wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  if (ms === 0) return;
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener(
      'abort',
      () => {
        clearTimeout(timer);
        reject(signal.reason);
      },
      { once: true },
    );
  });
}
