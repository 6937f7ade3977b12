import { createHash, type Hash } from 'node:crypto';
import { giveBack } from '@sepia/base/chunk';
import { type Digest, Digester } from '@sepia/base/digest';
import { textOf } from '../tar/byte-string.ts';
import type { TarEntry } from '../tar/tar-entry.ts';
import type { Mark } from './cut.ts';
import {
  exactTimeText,
  modtimeText,
  TOC_HEAD,
  TOC_TAIL,
  type TocEntry,
  type TocType,
  tocEntryText,
} from './toc.ts';

const TYPES: Readonly<Record<Exclude<TarEntry['type'], 'other'>, TocType>> = {
  file: 'reg',
  hardlink: 'hardlink',
  symlink: 'symlink',
  char: 'char',
  block: 'block',
  directory: 'dir',
  fifo: 'fifo',
};
const EMPTY_DIGEST = 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
const TEXT_PIECE = 256 * 1024;
const BARE = (): { before: Uint8Array; after: number } => ({ before: new Uint8Array(), after: 0 });

/**
 * What a TOC says of an entry, apart from its content. Owner names are as the header has them.
 * @param isExact times to the nanosecond, as containers/storage wants them; else to the second
 */
export function tocEntryOf(entry: TarEntry, isExact = false): TocEntry {
  const type = entry.type === 'other' ? 'reg' : TYPES[entry.type];
  const hasTarget = type === 'symlink' || type === 'hardlink';
  const isDevice = type === 'char' || type === 'block';
  const xattrs: [string, string][] = [...entry.xattrs].map(([key, value]) => [
    textOf(key),
    Buffer.from(value).toString('base64'),
  ]);
  return {
    name: textOf(entry.name),
    type,
    ...(type === 'reg' && entry.size > 0 ? { size: entry.size } : {}),
    modtime: isExact
      ? exactTimeText(entry.mtimeSec, entry.mtimeNsec)
      : modtimeText(BigInt(entry.mtimeSec) * 1_000_000_000n + BigInt(entry.mtimeNsec)),
    ...(hasTarget ? { linkName: textOf(entry.linkName) } : {}),
    mode: entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    userName: textOf(entry.userName),
    groupName: textOf(entry.groupName),
    ...(isDevice ? { devMajor: entry.devMajor, devMinor: entry.devMinor } : {}),
    ...(xattrs.length === 0 ? {} : { xattrs: Object.fromEntries(xattrs) }),
  };
}

/** Where a chunk stands. */
interface ChunkPlace {
  /** Where its member begins in the blob, and where it ends. */
  readonly offset: number;
  readonly endOffset: number;
  /** SHA-256 in hex. */
  readonly digest: string;
  readonly bytes: Uint8Array;
}

/** Puts the TOC together while the layer is written. Marks come in the order of the output. */
export class TocBuilder {
  readonly #isExact: boolean;
  readonly #pieces: Buffer[] = [];
  #text = TOC_HEAD;
  #count = 0;
  /** Last owner name that was written for an id. */
  readonly #users = new Map<number, string>();
  readonly #groups = new Map<number, string>();
  /** Chunks of the file that is being written. */
  #open: { readonly chunks: TocEntry[]; readonly hash: Hash } | undefined;

  /** @param isExact as containers/storage reads TOCs: exact times, and where content ends */
  constructor(isExact = false) {
    this.#isExact = isExact;
  }

  /** An entry without content, or (by its `chunk`) the next part of a file. */
  mark(mark: Mark, at?: ChunkPlace): void {
    if (mark.kind === 'plain' || at === undefined) this.#plain(mark.entry);
    else this.#chunk(mark, at);
  }

  /**
   * The whole TOC, byte for byte as it is to be written, behind `before` and with `after` at its end; in memory of its own. The
   * builder is then of no more use.
   */
  finish(
    tail: string = TOC_TAIL,
    around: (sizeBytes: number) => { readonly before: Uint8Array; readonly after: number } = BARE,
  ): { readonly bytes: Uint8Array<ArrayBuffer>; readonly digest: Digest; readonly tocBytes: number } {
    this.#text += tail;
    this.#flush();
    const tocBytes = this.#pieces.reduce((sum, piece) => sum + piece.length, 0);
    const { before, after } = around(tocBytes);
    const bytes = new Uint8Array(before.length + tocBytes + after);
    bytes.set(before, 0);
    const digester = new Digester();
    let at = before.length;
    for (const piece of this.#pieces) {
      digester.update(piece);
      bytes.set(piece, at);
      at += piece.length;
      // A TOC can be long: it is never there twice.
      giveBack(piece);
    }
    return { bytes, digest: digester.digest(), tocBytes };
  }

  #plain(entry: TarEntry): void {
    const base = this.#base(entry);
    this.#push(base.type === 'reg' ? { ...base, digest: EMPTY_DIGEST } : base);
  }

  #chunk(mark: Extract<Mark, { kind: 'chunk' }>, { offset, endOffset, digest, bytes }: ChunkPlace): void {
    const isLast = mark.chunkOffset + mark.chunkBytes === mark.entry.size;
    const isSized = mark.isFull || (this.#isExact && mark.chunkBytes < mark.entry.size);
    const where = {
      offset,
      ...(this.#isExact && isLast ? { endOffset } : {}),
      innerOffset: mark.innerOffset,
      chunkOffset: mark.chunkOffset,
      ...(isSized ? { chunkSize: mark.chunkBytes } : {}),
      chunkDigest: `sha256:${digest}`,
    };
    if (mark.chunkOffset === 0) {
      const base = this.#base(mark.entry);
      if (isLast) this.#push({ ...base, ...where, digest: `sha256:${digest}` });
      else this.#open = { chunks: [{ ...base, ...where }], hash: createHash('sha256').update(bytes) };
      return;
    }
    const open = this.#open;
    if (open === undefined) throw new TypeError('a chunk before the first of its file');
    open.chunks.push({ name: textOf(mark.entry.name), type: 'chunk', ...where });
    open.hash.update(bytes);
    if (!isLast) return;
    const whole = `sha256:${open.hash.digest('hex')}`;
    for (const [index, chunk] of open.chunks.entries())
      this.#push(index === 0 ? { ...chunk, digest: whole } : chunk);
    this.#open = undefined;
  }

  #base(entry: TarEntry): TocEntry {
    return this.#withOwner(tocEntryOf(entry, this.#isExact));
  }

  #withOwner(entry: TocEntry): TocEntry {
    const { userName = '', groupName = '', ...rest } = entry;
    return {
      ...rest,
      userName: ifNew(this.#users, entry.uid ?? 0, userName),
      groupName: ifNew(this.#groups, entry.gid ?? 0, groupName),
    };
  }

  #push(entry: TocEntry): void {
    this.#text += `${this.#count === 0 ? '' : ','}\n${tocEntryText(entry)}`;
    this.#count += 1;
    if (this.#text.length >= TEXT_PIECE) this.#flush();
  }

  #flush(): void {
    this.#pieces.push(Buffer.from(this.#text, 'utf8'));
    this.#text = '';
  }
}

function ifNew(seen: Map<number, string>, id: number, name: string): string {
  if (name === '' || seen.get(id) === name) return '';
  seen.set(id, name);
  return name;
}
