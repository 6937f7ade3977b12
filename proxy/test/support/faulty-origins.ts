import { Readable } from 'node:stream';
import { CodedError } from '@sepia/base/errors';
import { H_ATTEMPT, H_PIECE_HASH } from '@sepia/cluster/api/headers';
import { Cluster } from '@sepia/cluster/cluster';
import { parseClusterDocument } from '@sepia/cluster/load-document';
import {
  InternalClient,
  type InternalRequest,
  type InternalResponse,
  MAX_ANSWER_BYTES,
  readLimited,
} from '@sepia/http/client';
import { firstAttempt, Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceLeaves, pieceLength } from '@sepia/metainfo/tree';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { parseRange } from '@sepia/oci/range';
import type { Chance } from '@sepia/swarm/core/random';
import { bodyOf, type Content, json, sent, type Truth, wait } from './answers.ts';

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

/** The origins of a cluster behind a client without a network: answers on a virtual clock, with seeded faults. */
export class FaultyOrigins extends InternalClient {
  readonly cluster: Cluster;
  readonly #truth: Truth;
  readonly #weather: Weather;
  readonly #manifest: Content | undefined;
  readonly #chance: Chance;
  readonly #leader: string;
  readonly #startMs = Date.now();
  #progressMs = this.#startMs;
  readonly #isOld: boolean;

  /** `manifest`: what every repository has under every tag. */
  constructor(truth: Truth, weather: Weather, chance: Chance, manifest?: Content) {
    super({} as never);
    this.#manifest = manifest;
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
            ...['proxy-1', 'proxy-2'].map((id) => ({ id, role: 'proxy', urls: [`http://${id}.example:1`] })),
            ...['tracker-1', 'tracker-2'].map((id) => ({
              id,
              role: 'tracker',
              urls: [`http://${id}.example:1`],
            })),
          ],
          upstreams: [
            { name: 'local', mode: 'none' },
            { name: 'hub', mode: 'pull-through', url: 'http://registry.example' },
          ],
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

  override async bytes(
    request: InternalRequest,
    limitBytes = MAX_ANSWER_BYTES,
  ): ReturnType<InternalClient['bytes']> {
    const { status, headers, body } = await this.call(request);
    return { status, headers, bytes: await readLimited(body, limitBytes, request.url) };
  }

  override async raw(request: InternalRequest): Promise<InternalResponse> {
    const id = new URL(request.url).hostname.split('.')[0]!;
    await this.#wait(this.#chance.below(5), request.signal);
    const { pathname, searchParams } = new URL(request.path, request.url);
    if (pathname.endsWith('/where')) return json(this.#where(id));
    if (pathname.endsWith('/metainfo')) return await this.#metainfo(id, request, searchParams);
    if (pathname.endsWith('/leaves')) return await this.#leaves(id, request, searchParams);
    if (request.method === 'POST') return json({});
    if (pathname === '/v1/manifests' || pathname.startsWith('/v2/'))
      return await this.#manifestAnswer(request);
    if (pathname.includes('/pieces/')) return await this.#vouched(id, request, pathname);
    if (request.method === 'HEAD') return await this.#head(request);
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

  /** What the fetching origin knows of the blob's tree now. */
  known(): Metainfo {
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
    while (this.known().etag === known && Date.now() < untilMs) await this.#wait(50, request.signal);
    const metainfo = this.known();
    if (metainfo.etag === known) return { status: 304, headers: {}, body: sent([]) };
    this.#progressMs = Date.now();
    return { status: 200, headers: { etag: metainfo.etag }, body: sent([Buffer.from(metainfo.encode())]) };
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
      return { status: 200, headers: {}, body: sent([bytes.subarray(bytes.length >> 1)]) };
    return { status: 200, headers: {}, body: sent([bytes]) };
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
    const stream = this.#send(this.#truth.bytes, range, trouble, at, request.signal);
    const body = bodyOf(Readable.from(stream, { objectMode: true }));
    return { status: asked.type === 'single' ? 206 : 200, headers, body };
  }

  /** The size is right or missing: what no client can check, a member does not lie about. */
  async #head({ signal }: InternalRequest): Promise<InternalResponse> {
    const trouble = this.#trouble();
    if (trouble === 'stall') await this.#wait(1_000_000, signal);
    if (trouble === 'reset') throw new CodedError('PEER_HTTP', { message: 'reset' });
    if (trouble === 'end') throw new CodedError('NO_PEERS', { detail: { status: 503 } });
    const length = trouble === 'skip' ? {} : { 'content-length': String(this.#truth.bytes.length) };
    return { status: 200, headers: length, body: sent([]) };
  }

  async #manifestAnswer({ method, signal }: InternalRequest): Promise<InternalResponse> {
    if (this.#manifest === undefined) throw new CodedError('MANIFEST_UNKNOWN', { detail: { status: 404 } });
    const { bytes, digest } = this.#manifest;
    const trouble = this.#trouble();
    if (trouble === 'end') throw new CodedError('NO_PEERS', { detail: { status: 503 } });
    if (trouble === 'stall' && this.#chance.next() < 0.5) await this.#wait(1_000_000, signal);
    const tellsLength = trouble !== 'skip';
    const headers = {
      'content-type': OCI_MANIFEST,
      'docker-content-digest': digest,
      ...(tellsLength ? { 'content-length': String(bytes.length) } : {}),
    };
    if (method === 'HEAD') return { status: 200, headers, body: sent([]) };
    const end = bytes.length - 1;
    const body = this.#send(bytes, { start: 0, end }, trouble, this.#chance.below(end), signal);
    return { status: 200, headers, body: bodyOf(Readable.from(body, { objectMode: true })) };
  }

  /** A piece out of order, with its hash; now and then another one, or none. */
  async #vouched(id: string, request: InternalRequest, pathname: string): Promise<InternalResponse> {
    if (this.#weather.fetchRate !== undefined && id !== this.#leader && this.#isOpen())
      throw new CodedError('NO_PEERS', { detail: { status: 503 } });
    const index = Number(pathname.split('/').at(-1));
    while (!this.#has(index)) await this.#wait(20, request.signal);
    const { bytes, hashes } = this.#truth;
    const piece = Buffer.from(bytes.subarray(index * PIECE_BYTES, (index + 1) * PIECE_BYTES));
    const trouble = this.#trouble();
    if (trouble === 'stall') await this.#wait(1_000_000, request.signal);
    if (trouble === 'reset') throw new CodedError('PEER_HTTP', { message: 'reset' });
    if (trouble === 'flip') piece[this.#chance.below(piece.length)]! ^= 1;
    const body = trouble === 'skip' ? piece.subarray(piece.length >> 1) : piece;
    const headers = {
      [H_PIECE_HASH]: Buffer.from(hashes[index]!).toString('hex'),
      [H_ATTEMPT]: this.known().attempt,
    };
    return { status: 200, headers, body: sent(trouble === 'double' ? [] : [body]) };
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
    content: Buffer,
    range: { readonly start: number; readonly end: number },
    trouble: Trouble,
    troubleAt: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Buffer> {
    let shift = trouble === 'shift' ? 1 + this.#chance.below(100) : 0;
    for (let at = range.start; at <= range.end; ) {
      const piece = Math.floor(at / PIECE_BYTES);
      const isBlob = content === this.#truth.bytes;
      while (isBlob && !this.#has(piece)) await this.#wait(20, signal);
      const isLast = Math.floor(range.end / PIECE_BYTES) === piece;
      while (isBlob && isLast && this.#isOpen()) await this.#wait(20, signal);
      const end = Math.min(
        range.end + 1,
        at + 1 + this.#chance.below(CHUNK_BYTES),
        (piece + 1) * PIECE_BYTES,
      );
      let chunk = Buffer.from(content.subarray(at - Math.min(at, shift), end - Math.min(at, shift)));
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
