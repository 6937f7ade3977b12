import { randomBytes } from 'node:crypto';
import { KeyedLocks } from '@sepia/base/async/keyed-locks';
import { Bitfield } from '@sepia/base/bitfield';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { allEnded, ended } from '@sepia/base/failure';
import { firstAttempt, Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceHash, pieceLength } from '@sepia/metainfo/tree';
import type { BlobFiles } from './blob-files.ts';
import { type OpenFile, openExisting, readWhole } from './files/file-port.ts';
import { PartialBlob, type PartialStart } from './partial-blob.ts';
import { decodePieceMap, type PieceMap, partialDataName } from './piece-map.ts';

/** How a partial that is not there yet begins. */
export interface PartialInit {
  /** 32 hex; drawn at random if not given. */
  readonly attempt?: string;
  /** What to start from in place of an empty one; owned by the partial from then on. */
  readonly metainfo?: Metainfo;
  /**
   * The upstream that its bytes come from: pieces of another are dropped, since they would be shown under a name that
   * never had them. Not given: whoever opens it knows that all pieces may be shown.
   */
  readonly source?: string | undefined;
}

/** The partials of a store: opens them, lets users of one digest share, finds those that a former process left. */
export class PartialFolder {
  readonly #blobs: BlobFiles;
  readonly #options: { readonly bootId: string; readonly mapDelayMs: number };
  readonly #open = new Map<Digest, PartialBlob>();
  readonly #locks = new KeyedLocks<Digest>();
  /** Bytes of those that nobody has open, as the last sweep found them. */
  #idleBytes = 0;

  constructor(deps: { blobs: BlobFiles }, options: { readonly bootId: string; readonly mapDelayMs: number }) {
    this.#blobs = deps.blobs;
    this.#options = options;
  }

  /** @throws `SIZE_MISMATCH` if somebody has it open with another size */
  async open(digest: Digest, sizeBytes: number, init: PartialInit): Promise<PartialBlob> {
    return this.#locks.run(digest, async () => {
      const shared = await this.#shared(digest, sizeBytes);
      if (shared !== undefined && (await this.#isOfSource(shared, init))) return shared;
      const start =
        (await this.#resume(digest, sizeBytes, init.source)) ?? (await this.#fresh(digest, sizeBytes, init));
      return this.#share(start);
    });
  }

  /** Closes all at a clean stop. */
  async close(): Promise<void> {
    await allEnded([...this.#open.values()].map((partial) => partial.closeSynced()));
  }

  /** Bytes of pieces on disk; of partials that nobody has open as the last sweep found them. */
  get bytes(): number {
    let open = 0;
    for (const partial of this.#open.values()) open += bytesOf(partial);
    return open + this.#idleBytes;
  }

  /** Removes what nobody has open and nobody touched since `beforeMs`. Returns how many files went. */
  async sweep(beforeMs: number): Promise<number> {
    const { files, layout } = this.#blobs;
    let count = 0;
    let idleBytes = 0;
    for (const name of await files.list(layout.partials)) {
      const digest = name.slice(0, name.indexOf('.')).replace('-', ':') as Digest;
      const path = layout.partialData(name);
      await this.#locks.run(digest, async () => {
        const facts = await files.stat(path);
        if (this.#open.has(digest) || facts === undefined || facts.kind === 'folder') return;
        if (facts.modifiedMs >= beforeMs) {
          const map = path === layout.pieceMap(digest) ? await this.#readMap(digest) : undefined;
          if (map !== undefined) idleBytes += bytesOf({ have: map.have, sizeBytes: map.metainfo.sizeBytes });
          return;
        }
        await files.unlink(path);
        count += 1;
      });
    }
    this.#idleBytes = idleBytes;
    return count;
  }

  /** The one that others have open, held here before anything is waited for: its last user may let go at any time. */
  async #shared(digest: Digest, sizeBytes: number): Promise<PartialBlob | undefined> {
    for (;;) {
      const partial = this.#open.get(digest);
      if (partial?.closing !== undefined) {
        await ended(partial.closing);
        continue;
      }
      if (partial?.state !== 'open') {
        // What it takes off the disk is not found, and gone a moment later.
        await partial?.drop();
        return undefined;
      }
      if (partial.sizeBytes === sizeBytes) return partial.retain();
      const detail = { digest, expected: partial.sizeBytes, found: sizeBytes };
      throw new CodedError('SIZE_MISMATCH', { detail });
    }
  }

  #share(start: PartialStart): PartialBlob {
    const { digest } = start.metainfo;
    const onClosed = (): void => {
      if (this.#open.get(digest) === partial) this.#open.delete(digest);
    };
    const partial = new PartialBlob({ blobs: this.#blobs, ...this.#options, onClosed }, start);
    this.#open.set(digest, partial);
    return partial;
  }

  async #fresh(digest: Digest, sizeBytes: number, init: PartialInit): Promise<PartialStart> {
    const metainfo = init.metainfo ?? Metainfo.open(digest, sizeBytes, init.attempt ?? firstAttempt(digest));
    if (metainfo.digest !== digest || metainfo.sizeBytes !== sizeBytes)
      throw new TypeError('metainfo of another blob');
    const dataName = partialDataName(digest, randomBytes(4).toString('hex'));
    const file = await this.#blobs.files.open(this.#blobs.layout.partialData(dataName), 'create');
    const sources = init.source === undefined ? [] : [init.source];
    return { metainfo, have: new Bitfield(metainfo.pieceCount), dataName, file, sources };
  }

  /** `partial` may be shared: one with another upstream's pieces begins anew. False: it became a blob meanwhile, and was let go. */
  async #isOfSource(partial: PartialBlob, { source, metainfo }: PartialInit): Promise<boolean> {
    if (source === undefined || partial.isOf(source)) return true;
    const { digest, sizeBytes } = partial;
    const attempt = randomBytes(16).toString('hex');
    try {
      await partial.replaceMetainfo(metainfo ?? Metainfo.open(digest, sizeBytes, attempt), source);
      return true;
    } catch (error) {
      await partial.release();
      if (!isCoded(error, 'STALE_ATTEMPT')) throw error;
      return false;
    }
  }

  async #resume(
    digest: Digest,
    sizeBytes: number,
    source: string | undefined,
  ): Promise<PartialStart | undefined> {
    const { files, layout, log } = this.#blobs;
    const map = await this.#readMap(digest);
    if (map === undefined) return undefined;
    const file = await openExisting(files, layout.partialData(map.dataName), 'update');
    const { metainfo, dataName, sources } = map;
    const isOfSource = source === undefined || sources.includes(source);
    if (file !== undefined && isOfSource && metainfo.sizeBytes === sizeBytes && metainfo.digest === digest) {
      const believed = map.synced || map.bootId === this.#options.bootId;
      const have = believed ? map.have : await goodPieces(file, metainfo, map.have);
      log.info({ digest, pieces: have.count, believed }, 'partial blob resumed');
      return { metainfo, have, dataName, file, sources };
    }
    await file?.close();
    await files.unlink(layout.pieceMap(digest));
    await files.unlink(layout.partialLeaves(dataName));
    await files.unlink(layout.partialData(dataName));
    return undefined;
  }

  async #readMap(digest: Digest): Promise<PieceMap | undefined> {
    const { files, layout, log } = this.#blobs;
    try {
      const bytes = await readWhole(files, layout.pieceMap(digest));
      return bytes && decodePieceMap(bytes);
    } catch (error) {
      if (!isCoded(error, 'DISK_CORRUPT')) throw error;
      log.warn({ digest, reason: error.message }, 'piece map does not read: the partial starts over');
      await files.unlink(layout.pieceMap(digest));
      return undefined;
    }
  }
}

/** Files of partials have holes: what counts are pieces. */
function bytesOf({ have, sizeBytes }: { readonly have: Bitfield; readonly sizeBytes: number }): number {
  return Math.min(have.count * PIECE_BYTES, sizeBytes);
}

/** Those of `claimed` whose bytes the disk reads, and which match their known hash. */
async function goodPieces(file: OpenFile, metainfo: Metainfo, claimed: Bitfield): Promise<Bitfield> {
  const good = new Bitfield(metainfo.pieceCount);
  const buffer = Buffer.allocUnsafe(Math.min(PIECE_BYTES, metainfo.sizeBytes));
  for (const index of claimed) {
    const piece = buffer.subarray(0, pieceLength(metainfo.sizeBytes, index));
    const found = await readIfSound(file, piece, index * PIECE_BYTES);
    if (found === piece.length && metainfo.matches(index, pieceHash(piece))) good.add(index);
  }
  return good;
}

/** How many bytes were read; none where the disk fails. */
async function readIfSound(file: OpenFile, into: Uint8Array, at: number): Promise<number> {
  try {
    return await file.read(into, at);
  } catch (error) {
    if (!isCoded(error, 'DISK_CORRUPT')) throw error;
    return 0;
  }
}
