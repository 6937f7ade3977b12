import { type RoomPlace, WaitingRoom } from '@sepia/base/async/waiting-room';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded, takesNoWrites } from '@sepia/base/errors';
import { logFailure, readElsewhere, throwIfBug } from '@sepia/base/failure';
import type { BlobName } from '@sepia/base/names/blob-name';
import { SMALL_BLOB_BYTES } from '@sepia/cluster/api/join';
import type { LeaseRequest } from '@sepia/cluster/api/lease';
import { isDecisive } from '@sepia/cluster/core/answers';
import { MemoryBlob } from '@sepia/http/bodies/memory-blob';
import type { ReadableBlob } from '@sepia/http/bodies/readable-blob';
import { RemoteBlob } from '@sepia/http/bodies/remote-blob';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import { type Wish, wishOf } from '../cluster/wish.ts';
import { FULL_MS } from '../deadlines.ts';
import type { PatienceLimits } from '../downloads/core/patience.ts';
import { Download } from '../downloads/download.ts';
import type { Finding, Guide } from '../downloads/guide-port.ts';
import { orAbort } from '../downloads/or-abort.ts';
import { ShownDownloads } from '../downloads/shown-downloads.ts';
import type { SourceGuide } from '../downloads/source-download.ts';
import { SwarmPieces } from '../downloads/swarm-pieces.ts';
import { BackToSource } from '../source/back-to-source.ts';
import type { BackToSourcePolicy } from '../source/core/back-to-source.ts';
import { attrsOf, type CachedBlobs } from './cached-blobs.ts';
import { DiskHold } from './core/disk-hold.ts';
import { isOfNoUse, isQuiet } from './core/quiet.ts';
import { EnduringBlob } from './enduring-blob.ts';
import { openedPartial } from './opened-partial.ts';
import { ProvenNames } from './proven-names.ts';
import { SmallBlobs } from './small-blobs.ts';
import { SourceBlobs } from './source-blobs.ts';
import { isNoAnswer, type Passing, type Starting } from './starting.ts';
import type { TableDeps } from './table-deps.ts';
import { Trust } from './trust.ts';

/** A blob to serve; `release` once done. */
export interface Lease {
  readonly blob: ReadableBlob;
  /** True if every byte comes from the cache, or is on its way there. */
  readonly cached: boolean;
  /** True: serve nothing before the whole digest was verified here. */
  readonly verifyFirst: boolean;
  /** False: the client may hold a wrong prefix. Ask after the verification that `verifyFirst` demands. */
  isResumable(): boolean;
  release(): void;
}

/** What is asked for: a `Range` header; a place for one more, should it have to be begun. */
interface Asked {
  readonly range: string;
  readonly place: RoomPlace;
}

/** Finds or begins what a request for a blob needs: cache, running download, new download, the upstream itself. */
export class BlobTable {
  /** Called whenever a download begins: the trackers should hear of it soon. */
  onStart: (digest: Digest) => void = () => undefined;
  readonly #deps: TableDeps;
  readonly #source: SourceBlobs;
  readonly #trust: Trust;
  readonly #patience: PatienceLimits;
  readonly #running = new Map<Digest, Download>();
  readonly #names = new ProvenNames();
  readonly #starting = new Map<Digest, Starting<Download | MemoryBlob | Passing>>();
  readonly #shown: ShownDownloads;
  readonly #cached: CachedBlobs;
  readonly #small: SmallBlobs;
  readonly #stopped = new AbortController();
  readonly #room = new WaitingRoom({
    running: () => this.#running.size + this.#starting.size + this.#small.size,
    makeRoom: () => [...this.#running.values()].find((download) => download.isLeft)?.end(),
    what: 'downloads',
    most: 256,
  });
  readonly #disk: DiskHold;

  constructor(
    deps: TableDeps,
    options: { readonly backToSource: BackToSourcePolicy; readonly patience: PatienceLimits },
  ) {
    this.#deps = deps;
    const source = new BackToSource(deps, options.backToSource);
    this.#source = new SourceBlobs({ source, log: deps.log, stopped: this.#stopped.signal });
    this.#trust = new Trust(deps);
    this.#shown = new ShownDownloads(deps.nowMs);
    this.#cached = deps.cached;
    this.#patience = options.patience;
    this.#disk = new DiskHold(deps.dir, FULL_MS);
    this.#small = new SmallBlobs({ ...deps, disk: this.#disk, onSettled: (digest) => this.#over(digest) });
  }

  /** Figures of running downloads, and of those that ended a few seconds ago, for people who look. */
  figures(): NonNullable<LeaseRequest['swarms']> {
    return this.#shown.figures();
  }

  /** For `/readyz`: what this node cannot do for want of a disk that takes blobs. */
  get warnings(): readonly string[] {
    return this.#disk.warnings;
  }

  /** How much of a running download is here, from 0 to 1. */
  shareOf(digest: Digest): number {
    const have = this.#running.get(digest)?.have;
    return have === undefined ? 0 : have.count / Math.max(1, have.size);
  }

  /**
   * `range`: the request's `Range` header; a bounded one fetches what it covers and nothing else.
   * @throws what makes the blob impossible to serve, before any byte
   */
  async get(name: BlobName, signal: AbortSignal, range = ''): Promise<Lease> {
    const place = this.#room.place(name.upstream);
    try {
      return await this.#get(name, { range, place }, signal);
    } finally {
      place.leave();
    }
  }

  /** `isSecond`: it was begun before and came to nothing. */
  async #get(name: BlobName, asked: Asked, signal: AbortSignal, isSecond = false): Promise<Lease> {
    const fresh = await this.#fresh(name, signal);
    // It may have come, and its file may be on its way, since the disk was looked at.
    const cached = fresh ?? (await this.#cached.open(name, signal)) ?? (await this.#fresh(name, signal));
    if (cached !== undefined) {
      const isResumable = (): boolean => this.#trust.isResumable(name.digest);
      return { ...cached, cached: true, verifyFirst: false, isResumable };
    }
    if (this.#trust.verdict(name.digest) === 'refused')
      throw new CodedError('UPSTREAM_LIES', { detail: { digest: name.digest } });
    const running = this.#running.get(name.digest);
    const wish = wishOf(asked.range, this.#toldBytes(name));
    if (running !== undefined && running.state === 'running') {
      const done = running.use();
      try {
        await this.#prove(name, signal);
        if (running.state === 'running') return this.#lease(running, wish);
      } finally {
        done();
      }
      // It ended meanwhile, and its files are closed: what it brought is in the cache, or is asked for anew.
      return await this.#get(name, asked, signal, isSecond);
    }
    let starting = this.#starting.get(name.digest);
    if (starting === undefined) {
      // Meanwhile somebody else may have begun it.
      if (!asked.place.take())
        return await asked.place.wait(signal).then(() => this.#get(name, asked, signal));
      this.#names.add(name);
      const begun = this.#start(name, wish).finally(() => {
        this.#starting.delete(name.digest);
        this.#over(name.digest);
      });
      readElsewhere(begun);
      starting = { name, begun };
      this.#starting.set(name.digest, starting);
      asked.place.leave();
    } else {
      asked.place.leave();
      await this.#prove(name, signal);
      const isOld = !isSecond && (await orAbort(isNoAnswer(starting, name), signal));
      if (isOld) return await this.#get(name, asked, signal, true);
    }
    const started = await orAbort(starting.begun, signal);
    if (started instanceof MemoryBlob) return this.#leaseOf(started, () => undefined);
    // As above, where the name of one that was being begun was proven.
    if (started instanceof Download)
      return started.state === 'running'
        ? this.#lease(started, wish)
        : await this.#get(name, asked, signal, isSecond);
    const passage = this.#passage(started.guide, started.finding.metainfo);
    return this.#leaseOf(passage, () => passage.close());
  }

  /** Resolves when what came of a blob is in the cache, or will not be. */
  async settled(digest: Digest): Promise<void> {
    await this.#small.settled(digest);
  }

  /** Size without a download, as a GET would give it: what a manifest tells of it is no answer. */
  async sizeBytes(name: BlobName, signal: AbortSignal): Promise<number> {
    const cached = await this.#cached.sizeBytes(name);
    if (cached !== undefined) return cached;
    try {
      return await this.#deps.origins.sizeBytes(name, signal);
    } catch (error) {
      throwIfBug(error);
      signal.throwIfAborted();
      if (isDecisive(error)) throw error;
      return await this.#source.sizeBytes(name, error);
    }
  }

  /** Size of a blob as a manifest told it: a guess, which may be wrong. 0 says nothing. */
  #toldBytes(name: BlobName): number | undefined {
    return this.#deps.hints.get(name.upstream, name.repository, name.digest)?.sizeBytes || undefined;
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new CodedError('DRAINING'));
    const running = [...this.#running.values()];
    for (const download of running) download.fail(new CodedError('DRAINING'));
    await Promise.allSettled([this.#small.idle(), ...running.map((download) => download.ended)]);
  }

  #lease(download: Download, wish: Wish): Lease {
    const { partial, guide } = download;
    if (wish.all) download.wantAll();
    partial.retain();
    const done = download.use();
    const blob = new EnduringBlob(download, () => this.#passage(guide, partial.metainfo));
    return this.#leaseOf(blob, () => {
      done();
      blob.close();
      partial
        .release()
        .catch((error: unknown) => logFailure(this.#deps.log, error, 'partial was not released'));
    });
  }

  #leaseOf(blob: ReadableBlob, release: () => void): Lease {
    return {
      blob,
      cached: false,
      verifyFirst: this.#trust.verdict(blob.digest) === 'verify-first',
      isResumable: () => this.#trust.isResumable(blob.digest),
      release,
    };
  }

  /** A way past the full disk, for one reader. Close it. */
  #passage(guide: Guide, metainfo: Metainfo): RemoteBlob {
    return new RemoteBlob(
      guide.source(),
      {
        ...this.#patience,
        onBytes: (bytes) => this.#deps.onBytes('origin', bytes),
        onWrongWhole: () => this.#trust.wrong(metainfo.digest),
        onFinal: (final) => this.#trust.settled(final),
        onDropped: (attempt) => this.#trust.suspect(attempt),
      },
      { holders: guide.holders(metainfo), metainfo },
    );
  }

  #noteFull(digest: Digest, error: CodedError): void {
    this.#disk.refused(error, this.#deps.nowMs());
    this.#deps.log.warn(
      { digest, err: error },
      'disk is full or takes no writes; blobs are passed on and not kept',
    );
  }

  /** A small one that came and is not in the cache yet, if it may be shown under this name. @throws as {@link ClusterGuide.vouch} */
  async #fresh(
    name: BlobName,
    signal: AbortSignal,
  ): Promise<{ readonly blob: ReadableBlob; release(): void } | undefined> {
    const blob = this.#small.of(name.digest);
    if (blob === undefined) return undefined;
    await this.#prove(name, signal);
    return { blob, release: () => undefined };
  }

  /** Of what is neither begun, nor comes, nor is in memory any more nobody's proof counts. */
  #over(digest: Digest): void {
    const isComing = this.#running.has(digest) || this.#starting.has(digest);
    if (!isComing && this.#small.of(digest) === undefined) this.#names.forget(digest);
  }

  /** A blob that is on its way under another name is shared once the cluster vouched for this one. */
  async #prove(name: BlobName, signal: AbortSignal): Promise<void> {
    if (this.#names.has(name)) return;
    const note = this.#names.proving(name);
    await this.#deps.guideOf(name).vouch(this.#names.hasUpstream(name), true, signal);
    note();
  }

  async #start(name: BlobName, wish: Wish): Promise<Download | MemoryBlob | Passing> {
    const signal = this.#stopped.signal;
    const told = this.#toldBytes(name);
    const guide = this.#deps.guideOf(name, wish);
    try {
      try {
        if (told !== undefined && told <= SMALL_BLOB_BYTES)
          return await this.#small.fetch(name, this.#deps.origins.targets(name), signal);
      } catch (error) {
        // It is bigger than a manifest told: located like any other.
        if (!isCoded(error, 'SIZE_MISMATCH')) throw error;
      }
      const located = await guide.locate(true, signal);
      this.#deps.gate.note(true, this.#deps.nowMs());
      if (located.kind === 'small') return await this.#small.fetch(name, located.targets, signal);
      return await this.#beginOrPass(name, { guide, finding: located }, wish.all);
    } catch (error) {
      signal.throwIfAborted();
      if (isDecisive(error) || !isQuiet(error)) throw error;
      const begin = async (own: SourceGuide): Promise<Download> => await this.#begin(name, own, own.finding);
      return await this.#source.begin(name, error, told, begin);
    }
  }

  async #beginOrPass(name: BlobName, passing: Passing, wantAll: boolean): Promise<Download | Passing> {
    const { guide, finding } = passing;
    if (this.#disk.holds(this.#deps.nowMs())) return passing;
    try {
      return await this.#begin(name, guide, finding, wantAll);
    } catch (error) {
      if (!takesNoWrites(error)) throw error;
      this.#noteFull(name.digest, error);
      return passing;
    }
  }

  async #begin(name: BlobName, guide: Guide, finding: Finding, wantAll = true): Promise<Download> {
    const parts = { ...this.#deps, trust: this.#trust, stopped: this.#stopped.signal };
    const partial = await openedPartial(parts, name, finding.metainfo);
    this.#deps.seeds.drop(name.digest);
    const look = (index: number): void => this.#deps.cached.lookBehind(name.digest, index);
    const pieces = SwarmPieces.ofPartial(this.#deps.store, partial, look, (error) => {
      if (takesNoWrites(error)) download.fail(error);
    });
    const swarm = { digest: name.digest, pieces, leech: true, wantAll };
    const bytes = { peer: 0, origin: 0, upstream: 0 };
    const download: Download = new Download(
      {
        partial,
        guide,
        log: this.#deps.log,
        nowMs: this.#deps.nowMs,
        patience: this.#patience,
        wantAll,
        joinSwarm: () => this.#deps.engine.join({ ...swarm, metainfo: partial.metainfo }),
        onBytes: (source, count) => {
          bytes[source] += count;
          this.#deps.onBytes(source, count);
        },
        commit: (whole) => whole.commit(attrsOf(name)),
        onVerified: () => this.#trust.settled(partial.metainfo),
        onDropped: (attempt) => this.#trust.suspect(attempt),
        onSilence: (cause) => this.#source.goOn(name, download, cause),
      },
      finding,
    );
    this.#running.set(name.digest, download);
    this.#shown.add(download, bytes);
    download.swarm.onBadPiece(this.#deps.onBadPiece);
    this.onStart(name.digest);
    void download.ended.then(async () => {
      this.#running.delete(name.digest);
      this.#names.forget(name.digest);
      await this.#close(download, pieces);
    });
    return download;
  }

  async #close(download: Download, pieces: SwarmPieces): Promise<void> {
    const { digest, partial } = download;
    try {
      await this.#settle(download, pieces).finally(async () => await partial.release());
    } catch (error) {
      logFailure(this.#deps.log, error, 'partial was not closed', { digest });
    }
  }

  /** A finished download hands its swarm over to the seeds; a wrong or stale one is dropped from disk. */
  async #settle(download: Download, pieces: SwarmPieces): Promise<void> {
    const { digest, error, partial } = download;
    if (isCoded(error, 'UPSTREAM_LIES')) this.#trust.wrong(digest);
    if (takesNoWrites(error)) this.#noteFull(digest, error);
    if (partial.state === 'committed') {
      this.#disk.took();
      this.#deps.seeds.adopt(download, pieces);
    } else if (download.state === 'final' || isOfNoUse(error)) {
      download.swarm.leave();
      await partial.drop();
    }
  }
}
