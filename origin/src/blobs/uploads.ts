import { randomBytes } from 'node:crypto';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded, takesNoWrites } from '@sepia/base/errors';
import { logFailure, readElsewhere } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { RepositoryName } from '@sepia/base/names/repository';
import { takesPushes } from '@sepia/cluster/write-back';
import type { ByteRange } from '@sepia/oci/range';
import type { Beside } from '@sepia/store/blob-files';
import type { BlobStore } from '@sepia/store/blob-store';
import type { DiskRoom } from '@sepia/store/disk-room';
import { type BlobAttrs, withProvenance } from '@sepia/store/sidecar';
import type { UploadFile } from '@sepia/store/upload-file';
import { UPLOAD_SWEEP_MS } from '../deadlines/own.ts';
import type { ContentGuard } from '../fence/content-guard.ts';
import type { Links } from '../records/links.ts';
import type { Quotas } from '../records/quotas.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import { appendBody } from './append-body.ts';
import { admitSession, isOver, type SessionLimits } from './core/session-room.ts';
import type { Replicator } from './replicator.ts';
import { smallBlob } from './sent-blob.ts';
import { UploadQuota } from './upload-quota.ts';

/** Copies up to this size (manifests, mostly) are tried on a full disk as well. */
const SMALL_COPY_BYTES = 64 * 1024;

interface Session {
  readonly id: string;
  readonly client: string;
  readonly upstream: string;
  readonly repository: RepositoryName;
  readonly file: UploadFile;
  readonly quota: UploadQuota;
  busy: boolean;
  /** The request that ends it, while it runs. */
  finishing: { readonly digest: Digest; readonly end: Promise<{ sizeBytes: number }> } | undefined;
  usedAtMs: number;
  readonly offset: number;
}

/** A session as a request names it: its id opens it only in the repository that it was begun for. */
export interface UploadName {
  readonly id: string;
  readonly upstream: string;
  readonly repository: RepositoryName;
}

/** A request's body. */
export interface UploadBody {
  readonly bytes: AsyncIterable<Uint8Array>;
  /** How long it says it is; 0: it does not say. */
  readonly length: number;
  /** Which bytes of the upload it says it is. */
  readonly range?: ByteRange | undefined;
}

interface UploadsDeps {
  readonly selfId: string;
  readonly store: BlobStore;
  readonly links: Links;
  readonly quotas: Pick<Quotas, 'limitsOf' | 'hold' | 'release'>;
  readonly replicator: Replicator;
  readonly guard: Pick<ContentGuard, 'writing'>;
  readonly upstreams: Upstreams;
  readonly room: Pick<DiskRoom, 'check' | 'require'>;
  readonly log: Logger;
  readonly nowMs: () => number;
}

interface UploadsOptions {
  readonly places: SessionLimits;
  readonly idleMs: number;
  readonly maxBlobBytes: number;
}

/**
 * Upload sessions of this stager. A session lives in this process alone: its id names the stager, so that any
 * proxy finds it, and it is gone with it (`UPLOAD_UNKNOWN`: the push begins again).
 */
export class Uploads {
  readonly #deps: UploadsDeps;
  #options: UploadsOptions;
  readonly #sessions = new Map<string, Session>();
  readonly #sweep: NodeJS.Timeout;
  /** Whose each blob is that comes in one go. */
  readonly #oneGo = new Map<symbol, string>();

  constructor(deps: UploadsDeps, options: UploadsOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#sweep = setInterval(() => void this.#dropIdle(), Math.min(UPLOAD_SWEEP_MS, options.idleMs));
    this.#sweep.unref();
  }

  /** New limits, for what comes from now on. */
  adjust(options: UploadsOptions): void {
    this.#options = options;
  }

  get open(): number {
    return this.#sessions.size + this.#oneGo.size;
  }

  /** `roomBytes`: room that the disk is to have. @throws `OVERLOADED`, `UPSTREAM_READ_ONLY`, `DISK_FULL` */
  async begin(upstream: string, repository: RepositoryName, roomBytes: number, client = ''): Promise<string> {
    this.#checkWritable(upstream);
    this.#makeRoom(client);
    this.#deps.room.check(roomBytes);
    const id = `${this.#deps.selfId}.${randomBytes(16).toString('hex')}`;
    return await this.#placed(client, async () => {
      const file = await this.#deps.store.createUpload(id);
      this.#sessions.set(id, {
        id,
        client,
        upstream,
        repository,
        file,
        quota: new UploadQuota(this.#deps, { upstream, repository }, id),
        busy: false,
        finishing: undefined,
        usedAtMs: this.#deps.nowMs(),
        get offset() {
          return file.offset;
        },
      });
      return id;
    });
  }

  /** Bytes stored so far. @throws `UPLOAD_UNKNOWN` */
  offset(upload: UploadName): number {
    return this.#get(upload).file.offset;
  }

  /**
   * Appends a body; what arrived before a cut stays, as does what fits of one that is not as long as its range.
   * @throws `UPLOAD_UNKNOWN`, `UPLOAD_OUT_OF_ORDER`, `SIZE_MISMATCH`, `UPLOAD_INVALID` while another request writes, `QUOTA_EXCEEDED`
   */
  async append(upload: UploadName, body: UploadBody): Promise<number> {
    return await this.#exclusive(upload, async (session) => {
      this.#checkStart(session, body.range?.start);
      await this.#take(session.file, body, session.quota);
      return session.file.offset;
    });
  }

  /**
   * Ends a session: last bytes, digest, copies, link. Resolves when W members have the blob durably. Asked for the same
   * meanwhile (a balancer gives a slow request to another proxy, too) it is ended once, and both hear of it.
   */
  async finish(upload: UploadName, body: UploadBody, digest: Digest): Promise<{ sizeBytes: number }> {
    const { finishing } = this.#get(upload);
    if (finishing?.digest === digest) {
      for await (const _ of body.bytes);
      return await finishing.end;
    }
    return await this.#exclusive(upload, async (session) => {
      this.#checkStart(session, body.range?.start);
      const end = this.#finish(session, body, digest);
      readElsewhere(end);
      session.finishing = { digest, end };
      try {
        return await end;
      } finally {
        session.finishing = undefined;
      }
    });
  }

  async #finish(session: Session, body: UploadBody, digest: Digest): Promise<{ sizeBytes: number }> {
    const { file, quota, upstream, repository } = session;
    await this.#take(file, body, quota);
    try {
      await quota.settle(digest, file.offset);
      return await this.#place(file, { upstream, repository, digest });
    } finally {
      // A digest that does not match cannot be mended, and a committed upload is no session any more.
      await this.#end(session);
    }
  }

  /** Returns if there is a place for one more push of a client. @throws `OVERLOADED` */
  checkPlace(client: string): void {
    this.#admission(client);
  }

  /** An upload in one go, without session. `roomBytes`: how long the body says it is; `signal`: nobody waits for this origin any more. */
  async putWhole(
    name: BlobName,
    body: AsyncIterable<Uint8Array>,
    roomBytes: number,
    { client = '', signal }: { readonly client?: string; readonly signal?: AbortSignal } = {},
  ): Promise<{ sizeBytes: number }> {
    this.#checkWritable(name.upstream);
    this.#makeRoom(client);
    this.#deps.room.require(roomBytes);
    return await this.#placed(client, async () => {
      const id = `put-${randomBytes(12).toString('hex')}`;
      const file = await this.#deps.store.createUpload(id);
      const quota = new UploadQuota(this.#deps, name, id);
      try {
        if (roomBytes > 0) await quota.settle(name.digest, roomBytes);
        await this.#take(file, { bytes: body, length: 0 }, quota);
        await quota.settle(name.digest, file.offset);
        return await this.#place(file, name, signal);
      } finally {
        quota.release();
        await file.drop();
      }
    });
  }

  /**
   * What a member made of content that is here (the index of a layer): kept as if it were pushed, under a link of the
   * repository, whatever the upstream's mode. Resolves when W members have it durably.
   */
  async putMade(name: BlobName, body: AsyncIterable<Uint8Array>, roomBytes: number): Promise<void> {
    this.#deps.room.require(roomBytes);
    const file = await this.#deps.store.createUpload(`made-${randomBytes(12).toString('hex')}`);
    try {
      await appendBody(file, body, { maxBytes: this.#options.maxBlobBytes });
      await this.#place(file, name);
    } finally {
      await file.drop();
    }
  }

  /** A copy that another member sends: durable when it resolves; neither linked nor passed on. */
  async putCopy(
    name: BlobName,
    body: AsyncIterable<Uint8Array>,
    facts: {
      readonly class: BlobAttrs['class'];
      /** Further repositories that brought it. */
      readonly brought: BlobAttrs['provenance'];
      readonly mediaType: string | undefined;
      /** How long the body says it is. */
      readonly roomBytes: number;
      /** What is to be durable with it. */
      readonly beside?: Beside | undefined;
    },
  ): Promise<void> {
    if (facts.roomBytes > SMALL_COPY_BYTES) this.#deps.room.require(facts.roomBytes);
    const file = await this.#deps.store.createUpload(`copy-${randomBytes(12).toString('hex')}`);
    try {
      await appendBody(file, body);
      const own = attrsOf(name, facts.class, facts.mediaType);
      const attrs = { ...own, provenance: facts.brought.reduce(withProvenance, own.provenance) };
      const commit = async (): Promise<unknown> => await file.commit(name.digest, attrs, facts.beside);
      await this.#deps.guard.writing(name.digest, commit);
    } finally {
      await file.drop();
    }
  }

  /** @throws `UPLOAD_UNKNOWN` */
  async cancel(upload: UploadName): Promise<void> {
    await this.#end(this.#get(upload));
  }

  async stop(): Promise<void> {
    clearInterval(this.#sweep);
    for (const session of this.#sessions.values()) await session.file.drop();
    this.#sessions.clear();
  }

  /** Appends a body for which the quota has room: of one that says how long it is, before its first byte. */
  async #take(file: UploadFile, { bytes, length, range }: UploadBody, quota: UploadQuota): Promise<void> {
    if (length > 0) await quota.hold(file.offset + length);
    await appendBody(file, bytes, { maxBytes: this.#options.maxBlobBytes, reach: quota.reach, range });
  }

  async #place(file: UploadFile, name: BlobName, signal?: AbortSignal): Promise<{ sizeBytes: number }> {
    const { links, replicator, guard } = this.#deps;
    const place = async (): Promise<{ sizeBytes: number }> => {
      const owe = async (): Promise<void> => await replicator.owe(name);
      const { sizeBytes, attrs, bytes } = await file.commit(name.digest, attrsOf(name, 'pushed'), owe);
      const isPushed = this.#deps.upstreams.get(name.upstream).mode === 'write-back';
      const link = { ...name, sizeBytes, pushed: isPushed ? true : undefined };
      // Another origin was sooner, and a delete may have taken its link since.
      signal?.throwIfAborted();
      const small = smallBlob(attrs, bytes);
      // Not here yet: whoever finds the link takes it that W origins have the content.
      const riding = small && links.ride([link]);
      await replicator.place(name, { small, links: riding });
      signal?.throwIfAborted();
      await links.write([link], riding);
      return { sizeBytes };
    };
    return await guard.writing(name.digest, async () => await replicator.hold(name.digest, place));
  }

  async #exclusive<T>(upload: UploadName, work: (session: Session) => Promise<T>): Promise<T> {
    const session = this.#get(upload);
    if (session.busy)
      throw new CodedError('UPLOAD_INVALID', {
        message: 'another request writes to this upload',
        detail: { uploadId: session.id },
      });
    session.busy = true;
    try {
      return await work(session);
    } catch (error) {
      // What it holds is the room that is lacking, of the disk (a push begun anew goes to another stager) or the quota.
      if (takesNoWrites(error) || isCoded(error, 'QUOTA_EXCEEDED')) await this.#end(session);
      throw error;
    } finally {
      session.busy = false;
      session.usedAtMs = this.#deps.nowMs();
    }
  }

  async #end(session: Session): Promise<void> {
    this.#sessions.delete(session.id);
    session.quota.release();
    await session.file.drop();
  }

  #get({ id, upstream, repository }: UploadName): Session {
    const session = this.#sessions.get(id);
    if (session === undefined || session.upstream !== upstream || session.repository !== repository)
      throw new CodedError('UPLOAD_UNKNOWN', { detail: { uploadId: id.slice(0, 128) } });
    return session;
  }

  #checkStart(session: Session, start: number | undefined): void {
    if (start === undefined || start === session.file.offset) return;
    throw new CodedError('UPLOAD_OUT_OF_ORDER', { detail: { offset: session.file.offset, found: start } });
  }

  /** Holds a place that is no session (yet) while `work` runs. */
  async #placed<T>(client: string, work: () => Promise<T>): Promise<T> {
    const place = Symbol(client);
    this.#oneGo.set(place, client);
    try {
      return await work();
    } finally {
      this.#oneGo.delete(place);
    }
  }

  /** A place for one more, if need be that of an empty session which nobody uses. @throws `OVERLOADED` */
  #makeRoom(client: string): void {
    for (const left of this.#admission(client)) void this.#leave(left);
  }

  /** Sessions that would end for one more of a client. @throws `OVERLOADED` */
  #admission(client: string): readonly Session[] {
    const { places } = this.#options;
    const sessions = [...this.#sessions.values()];
    const found = admitSession(sessions, [...this.#oneGo.values()], client, places, this.#deps.nowMs());
    if (found.type === 'go') return found.instead;
    const maxUploads = places[found.limit];
    const whose = found.limit === 'all' ? '' : ' of one account or address';
    throw new CodedError('OVERLOADED', {
      message: `origin ${this.#deps.selfId} has ${maxUploads} uploads${whose} open, as many as may be; try again later`,
      detail: { maxUploads, limit: found.limit, retryAfterSeconds: 1 },
    });
  }

  #checkWritable(upstream: string): void {
    const { mode } = this.#deps.upstreams.get(upstream);
    if (!takesPushes(mode)) throw readOnly(upstream, mode);
  }

  async #dropIdle(): Promise<void> {
    const nowMs = this.#deps.nowMs();
    for (const session of [...this.#sessions.values()])
      if (isOver(session, this.#options.idleMs, nowMs)) await this.#leave(session);
  }

  /** Ends a session that nobody waits for. */
  async #leave(session: Session): Promise<void> {
    await this.#end(session).catch((error: unknown) =>
      logFailure(this.#deps.log, error, 'idle upload not dropped'),
    );
  }
}

/** The error of a push to an upstream that takes none. */
export function readOnly(upstream: string, mode: string): CodedError {
  return new CodedError('UPSTREAM_READ_ONLY', {
    message: `upstream ${upstream} has mode ${mode} and takes no pushes; use one of mode none or write-back`,
    detail: { upstream, mode },
  });
}

function attrsOf(name: BlobName, kind: BlobAttrs['class'], mediaType?: string): BlobAttrs {
  return {
    class: kind,
    provenance: [{ upstream: name.upstream, repository: name.repository }],
    writtenBack: kind === 'cached',
    ...(mediaType === undefined ? {} : { mediaType }),
  };
}
