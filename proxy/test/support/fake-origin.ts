import { randomBytes } from 'node:crypto';
import { type Digest, digestAlgorithm, digestOf, parseDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { type Cluster, shardKey } from '@sepia/cluster/cluster';
import { createApp } from '@sepia/http/app';
import { MemoryBlob } from '@sepia/http/bodies/memory-blob';
import type { ReadableBlob } from '@sepia/http/bodies/readable-blob';
import { createGate } from '@sepia/http/gate';
import { HttpListener } from '@sepia/http/listener';
import { serveBlob } from '@sepia/http/serve-blob';
import { CallVerifier } from '@sepia/http/sign';
import { bodyOf, queryValue, readBody } from '@sepia/http/signed';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, PieceHasher, pieceCount, pieceLeaves } from '@sepia/metainfo/tree';
import { parseManifest } from '@sepia/oci/manifest';
import type { Context } from 'koa';

/** What the origins of a fake cluster share: records and the upstream behind them. */
export interface FakeRecords {
  /** shard + digest */
  readonly links: Set<string>;
  /** shard → tag → digest */
  readonly tags: Map<string, Map<string, Digest>>;
  readonly types: Map<Digest, string>;
  /** Blobs that only the upstream has; fetching one takes `upstreamDelayMs` to the first byte. */
  readonly upstream: Map<Digest, Buffer>;
  upstreamDelayMs: number;
  upstreamFetches: number;
}

export function newRecords(): FakeRecords {
  return {
    links: new Set(),
    tags: new Map(),
    types: new Map(),
    upstream: new Map(),
    upstreamDelayMs: 0,
    upstreamFetches: 0,
  };
}

interface Target {
  readonly upstream: string;
  readonly repository: string;
  readonly shard: string;
}

/** One origin of a fake cluster: the contract of docs/internal-api.md in memory, with faults on demand. */
export class FakeOrigin {
  readonly id: string;
  readonly blobs = new Map<Digest, Buffer>();
  readonly uploads = new Map<string, Buffer[]>();
  /** Every call as "METHOD path-without-query". */
  readonly calls: string[] = [];
  /** How often its metainfo was asked for. */
  metainfoCalls = 0;
  /** Once this many pieces were served in all, answers stall or are cut. */
  fault: { readonly type: 'stall' | 'cut'; readonly afterPieces: number } | undefined;
  loseAnswers = false;
  readonly #records: FakeRecords;
  readonly #key: Uint8Array;
  #listener: HttpListener | undefined;
  #cluster: Cluster | undefined;
  #others: ReadonlyMap<string, FakeOrigin> = new Map();
  #thaw: (() => void) | undefined;
  #frozen: Promise<void> | undefined;
  #served = 0;

  constructor(id: string, key: Uint8Array, records: FakeRecords) {
    this.id = id;
    this.#key = key;
    this.#records = records;
  }

  get url(): string {
    return this.#listener!.url;
  }

  async start(address = '127.0.0.1:0'): Promise<void> {
    const gate = createGate({
      open: {},
      verifier: new CallVerifier({ clusterKey: this.#key, selfId: this.id }),
    });
    const app = createApp({ log: silentLogger(), gate });
    app.use(async (_ctx, next) => {
      await this.#gate();
      await next();
    });
    app.use(async (ctx) => await this.#route(ctx));
    this.#listener = await HttpListener.start(app.callback(), address, 'listen');
  }

  join(cluster: Cluster, others: ReadonlyMap<string, FakeOrigin>): void {
    this.#cluster = cluster;
    this.#others = others;
  }

  async stop(): Promise<void> {
    this.thaw();
    await this.#listener?.stop(0);
  }

  /** As SIGSTOP: connections are taken, nothing moves. */
  freeze(): void {
    this.#frozen ??= new Promise((resolve) => {
      this.#thaw = resolve;
    });
  }

  thaw(): void {
    this.#thaw?.();
    this.#frozen = undefined;
  }

  async #gate(): Promise<void> {
    while (this.#frozen !== undefined) await this.#frozen;
  }

  async #route(ctx: Context): Promise<void> {
    this.calls.push(`${ctx.method} ${ctx.path}`);
    const parts = ctx.path.split('/').slice(2);
    const [what, name = '', verb] = parts;
    if (what === 'cluster' || what === 'status')
      ctx.body = { id: this.id, version: 1, uptimeSeconds: 5, fetches: [] };
    else if (what === 'blobs' && verb === 'where') this.#where(ctx, parseDigest(name));
    else if (what === 'blobs' && verb === 'leaves') await this.#leaves(ctx, parseDigest(name));
    else if (what === 'blobs' && verb === 'metainfo') await this.#metainfo(ctx, parseDigest(name));
    else if (what === 'blobs' && ctx.method === 'PUT') await this.#putBlob(ctx, parseDigest(name));
    else if (what === 'blobs' && ctx.method === 'DELETE') this.#delete(ctx, name);
    else if (what === 'blobs') await this.#getBlob(ctx, parseDigest(name));
    else if (what === 'uploads' && name === '') this.#begin(ctx);
    else if (what === 'uploads') await this.#upload(ctx, name);
    else if (what === 'mounts') this.#mount(ctx);
    else if (what === 'manifests' && ctx.method === 'PUT') await this.#putManifest(ctx);
    else if (what === 'manifests' && ctx.method === 'DELETE')
      this.#delete(ctx, queryValue(ctx, 'reference') ?? '');
    else if (what === 'manifests') this.#getManifest(ctx);
    else if (what === 'tags') this.#tags(ctx);
  }

  #where(ctx: Context, digest: Digest): void {
    const blob = this.blobs.get(digest);
    const linked = this.#records.links.has(linkKey(target(ctx).shard, digest));
    ctx.body = {
      state: blob === undefined ? 'none' : 'final',
      linked,
      ...(blob === undefined ? {} : { sizeBytes: blob.length }),
    };
  }

  async #metainfo(ctx: Context, digest: Digest): Promise<void> {
    this.metainfoCalls += 1;
    const hasher = new PieceHasher();
    const bytes = await this.#bytesOf(ctx, digest);
    hasher.update(bytes);
    ctx.body = Buffer.from(Metainfo.final(digest, bytes.length, hasher.finish()).encode());
  }

  async #getBlob(ctx: Context, digest: Digest): Promise<void> {
    await serveBlob(ctx, this.#readable(ctx, digest, await this.#bytesOf(ctx, digest)), {
      contentType: 'application/octet-stream',
      stallMs: 60_000,
      firstPieceMs: 60_000,
    });
  }

  /** Content that is linked here, fetched from the upstream if need be. */
  async #bytesOf(ctx: Context, digest: Digest): Promise<Buffer> {
    const { shard } = target(ctx);
    let bytes = this.blobs.get(digest) ?? this.#copyOfOthers(digest);
    if (bytes === undefined && this.#records.upstream.has(digest)) {
      this.#records.upstreamFetches += 1;
      await new Promise((resolve) => setTimeout(resolve, this.#records.upstreamDelayMs));
      await this.#gate();
      bytes = this.#records.upstream.get(digest)!;
      this.blobs.set(digest, bytes);
      this.#records.links.add(linkKey(shard, digest));
    }
    if (bytes === undefined || !this.#records.links.has(linkKey(shard, digest)))
      throw new CodedError('BLOB_UNKNOWN', { detail: { digest } });
    return bytes;
  }

  #readable(ctx: Context, digest: Digest, bytes: Buffer): ReadableBlob {
    const blob = new MemoryBlob(digest, bytes);
    const leaves = blob.leaves.bind(blob);
    blob.leaves = async (piece) => {
      await this.#gate();
      if (this.fault !== undefined && this.#served >= this.fault.afterPieces) {
        if (this.fault.type === 'cut') ctx.res.destroy();
        await new Promise(() => undefined);
      }
      this.#served += 1;
      return await leaves(piece);
    };
    return blob;
  }

  async #leaves(ctx: Context, digest: Digest): Promise<void> {
    const bytes = await this.#bytesOf(ctx, digest);
    const first = Number(queryValue(ctx, 'from'));
    const end = Math.min(first + Number(queryValue(ctx, 'count')), pieceCount(bytes.length));
    const told = Array.from({ length: end - first }, (_, index) => {
      const at = (first + index) * PIECE_BYTES;
      return pieceLeaves(bytes.subarray(at, at + PIECE_BYTES));
    });
    ctx.body = Buffer.concat(told);
  }

  async #putBlob(ctx: Context, digest: Digest): Promise<void> {
    const chunks: Buffer[] = [];
    await this.#collect(ctx, chunks);
    this.#keep(target(ctx).shard, digest, Buffer.concat(chunks));
    ctx.status = 201;
  }

  #begin(ctx: Context): void {
    const uploadId = `${this.id}.${randomBytes(12).toString('hex')}`;
    this.uploads.set(uploadId, []);
    ctx.body = { uploadId };
  }

  async #upload(ctx: Context, id: string): Promise<void> {
    const chunks = this.uploads.get(id);
    if (chunks === undefined) throw new CodedError('UPLOAD_UNKNOWN', { detail: { uploadId: id } });
    const offset = (): number => chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    const range = /^(\d+)-/.exec(ctx.get('content-range'));
    if (range !== null && Number(range[1]) !== offset())
      throw new CodedError('UPLOAD_OUT_OF_ORDER', { detail: { offset: offset() } });
    if (ctx.method === 'DELETE') {
      this.uploads.delete(id);
      ctx.status = 204;
      return;
    }
    if (ctx.method !== 'GET') await this.#collect(ctx, chunks);
    if (ctx.method === 'PUT') {
      this.uploads.delete(id);
      this.#keep(target(ctx).shard, parseDigest(queryValue(ctx, 'digest') ?? ''), Buffer.concat(chunks));
      ctx.status = 201;
      return;
    }
    ctx.body = { offset: offset() };
  }

  async #collect(ctx: Context, chunks: Buffer[]): Promise<void> {
    for await (const chunk of bodyOf(ctx)) {
      await this.#gate();
      chunks.push(Buffer.from(chunk));
    }
  }

  /** Checks the digest, copies to the owners that are not frozen, links. */
  #keep(shard: string, digest: Digest, bytes: Buffer): void {
    const found = digestOf(bytes, digestAlgorithm(digest));
    if (found !== digest) throw new CodedError('DIGEST_MISMATCH', { detail: { expected: digest, found } });
    const { owners, standIns, writeQuorum } = this.#cluster!.origins(digest);
    let copies = 0;
    for (const id of [...owners, ...standIns]) {
      const owner = this.#others.get(id)!;
      if (owner.#frozen !== undefined || copies === owners.length) continue;
      owner.blobs.set(digest, bytes);
      copies += 1;
    }
    if (copies < writeQuorum) throw new CodedError('QUORUM_LOST');
    this.#records.links.add(linkKey(shard, digest));
  }

  #mount(ctx: Context): void {
    const { upstream, shard } = target(ctx);
    const digest = parseDigest(queryValue(ctx, 'digest') ?? '');
    const from = shardKey(upstream, queryValue(ctx, 'from') ?? '');
    if (!this.#records.links.has(linkKey(from, digest))) throw new CodedError('BLOB_UNKNOWN');
    this.#records.links.add(linkKey(shard, digest));
    ctx.status = 201;
    ctx.body = {};
  }

  async #putManifest(ctx: Context): Promise<void> {
    const { shard } = target(ctx);
    const bytes = await readBody(ctx, 4 * 1024 * 1024);
    const { descriptors } = parseManifest(bytes, ctx.get('content-type'));
    for (const { digest, foreign } of descriptors) {
      if (!foreign && !this.#records.links.has(linkKey(shard, digest)))
        throw new CodedError('MANIFEST_BLOB_MISSING', { detail: { digest } });
    }
    const reference = queryValue(ctx, 'reference') ?? '';
    const digest = reference.includes(':') ? parseDigest(reference) : digestOf(bytes);
    this.#keep(shard, digest, bytes);
    this.#records.types.set(digest, ctx.get('content-type'));
    if (!reference.includes(':')) tagsOf(this.#records, shard).set(reference, digest);
    ctx.set('Docker-Content-Digest', digest);
    ctx.status = 201;
  }

  #getManifest(ctx: Context): void {
    const { shard } = target(ctx);
    const reference = queryValue(ctx, 'reference') ?? '';
    const digest = reference.includes(':')
      ? parseDigest(reference)
      : tagsOf(this.#records, shard).get(reference);
    if (digest === undefined) throw new CodedError('TAG_UNKNOWN');
    const bytes = this.blobs.get(digest) ?? this.#copyOfOthers(digest);
    if (bytes === undefined || !this.#records.links.has(linkKey(shard, digest)))
      throw new CodedError('MANIFEST_UNKNOWN');
    ctx.body = bytes;
    ctx.set('Content-Type', this.#records.types.get(digest) ?? 'application/octet-stream');
    ctx.set('Docker-Content-Digest', digest);
  }

  /** `loseAnswers`: the delete is made, but its caller never hears of it. */
  #delete(ctx: Context, reference: string): void {
    const { shard } = target(ctx);
    const gone = reference.includes(':')
      ? this.#records.links.delete(linkKey(shard, parseDigest(reference)))
      : tagsOf(this.#records, shard).delete(reference);
    if (!gone) throw new CodedError(reference.includes(':') ? 'MANIFEST_UNKNOWN' : 'TAG_UNKNOWN');
    if (this.loseAnswers) ctx.res.destroy();
    ctx.status = 204;
  }

  #copyOfOthers(digest: Digest): Buffer | undefined {
    for (const other of this.#others.values())
      if (other.#frozen === undefined && other.blobs.has(digest)) return other.blobs.get(digest);
    return undefined;
  }

  #tags(ctx: Context): void {
    const { shard } = target(ctx);
    if (!this.#records.tags.has(shard)) throw new CodedError('REPOSITORY_UNKNOWN');
    const last = queryValue(ctx, 'last') ?? '';
    const all = [...tagsOf(this.#records, shard).keys()].sort().filter((tag) => tag > last);
    ctx.body = { tags: all.slice(0, Number(queryValue(ctx, 'n') ?? all.length)) };
  }
}

function target(ctx: Context): Target {
  const upstream = queryValue(ctx, 'upstream') ?? '';
  const repository = queryValue(ctx, 'repository') ?? '';
  return { upstream, repository, shard: shardKey(upstream, repository) };
}

function linkKey(shard: string, digest: Digest): string {
  return `${shard}\n${digest}`;
}

function tagsOf(records: FakeRecords, shard: string): Map<string, Digest> {
  const known = records.tags.get(shard) ?? new Map<string, Digest>();
  records.tags.set(shard, known);
  return known;
}
