import { createHash, type Hash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { isCoded } from '@sepia/base/errors';
import type { ReadAt, TakeRaw } from '../pack/inflate.ts';
import { cleanPath, type TarEntry } from '../tar/tar-entry.ts';
import { TarReader } from '../tar/tar-reader.ts';
import { isReservedName, LANDMARK_CONTENT, NO_PREFETCH_LANDMARK, PREFETCH_LANDMARK } from './landmark.ts';
import type { Chunk, LayerFile } from './layout.ts';
import { TOC_NAME, type TocEntry } from './toc.ts';
import { tocEntryOf } from './toc-builder.ts';

/** One thing that is wrong; `check` is the letter of the rule it breaks. */
export interface Finding {
  readonly check: 'blob' | 'toc' | 'stream' | 'chunks' | 'entries' | 'landmark' | 'tar-split';
  readonly message: string;
}

/** What is wrong with a layer, and how much of it was looked at; without findings all of it is right. */
export interface VerifyResult {
  readonly findings: readonly Finding[];
  readonly entries: number;
  readonly chunks: number;
}

const MAX_FINDINGS = 100;

/** Notes that a check failed, and why, in words for people. */
export type Found = (check: Finding['check'], message: string) => void;

/** Collects what is wrong with a layer; the first hundred findings are kept, the others are not heard. */
export class Findings {
  readonly list: Finding[] = [];

  readonly add: Found = (check, message) => {
    if (this.list.length < MAX_FINDINGS) this.list.push({ check, message });
  };
}

/** A blob to check, and what it should be. */
export interface BlobToVerify {
  readonly sizeBytes: number;
  readonly read: ReadAt;
  /** `sha256:…` of the blob; undefined: not checked. */
  readonly digest?: string | undefined;
  /** `sha256:…` of the uncompressed stream. */
  readonly diffId?: string | undefined;
}

interface Witness {
  see(raw: Uint8Array): void;
  seeEntry(entry: TarEntry): void;
}

/** A layer whose TOC was read: what it says of the entries, and how its content is read. */
export interface LayerToCheck {
  readonly files: readonly LayerFile[];
  /** Where the data ends, and where the tar does: eStargz has its TOC in between. */
  readonly dataEnd: number;
  readonly tarEnd: number;
  /** Times are to the nanosecond (see `tocEntryOf`). */
  readonly isExact: boolean;
  /** Gives what `[from, to)` of the blob is uncompressed: whole members or frames. */
  readonly inflate: (from: number, to: number, take: TakeRaw) => Promise<void>;
  /** Shown the tar as it goes by, and each entry once its header was there. */
  readonly witness?: Witness | undefined;
}

/** Compares the digest of the whole blob with the one that it should have, where that is known. Rejects with what `read` rejects with. */
export async function checkBlob(blob: BlobToVerify, found: Found): Promise<void> {
  if (blob.digest !== undefined && (await digestOfBlob(blob)) !== blob.digest)
    found('blob', `the blob does not match its digest ${blob.digest}`);
}

/**
 * Reads the tar of a layer whole: DiffID, every chunk from its own offset, every file, that TOC and tar say the same of
 * the same entries, the landmark. Memory: one member, and the TOC.
 * @returns `sha256:…` of the TOC in the tar, of nothing where it has none
 * @throws what `inflate` throws, but for `LAYER_INVALID`
 */
export async function checkContent(
  layer: LayerToCheck,
  diffId: string | undefined,
  found: Found,
): Promise<string> {
  const walk = new Walk(layer, found);
  try {
    await walk.run();
    if (diffId !== undefined && walk.diffId() !== diffId)
      found('stream', `the uncompressed layer does not match its DiffID ${diffId}`);
    compareEntries(layer, walk.entries, found);
    checkLandmark(layer.files, walk, found);
  } catch (error) {
    if (!isCoded(error, 'LAYER_INVALID')) throw error;
    found('stream', error.message);
  }
  return walk.tocInTar();
}

/** What a check found, for a TOC that could be read. */
export function resultOf(findings: Findings, files: readonly LayerFile[]): VerifyResult {
  const chunks = files.reduce((sum, file) => sum + file.chunks.length, 0);
  return { findings: findings.list, entries: files.length, chunks };
}

async function digestOfBlob({ read, sizeBytes }: BlobToVerify): Promise<string> {
  const hash = createHash('sha256');
  const piece = 1024 * 1024;
  for (let at = 0; at < sizeBytes; at += piece) hash.update(await read(at, Math.min(piece, sizeBytes - at)));
  return `sha256:${hash.digest('hex')}`;
}

/** A chunk that is read as its member goes by. */
interface Taking {
  readonly file: LayerFile;
  readonly chunk: Chunk;
}

/** One pass over all members, from one chunk's offset to the next. */
class Walk {
  readonly entries: TarEntry[] = [];
  /** Content of the landmark, if there is one. */
  readonly landmark: number[] = [];
  readonly #layer: LayerToCheck;
  readonly #found: Found;
  readonly #stream = createHash('sha256');
  readonly #chunks: Taking[];
  #next = 0;
  #fileHash: Hash | undefined;
  #chunkHash: Hash | undefined;
  #tocPayload = createHash('sha256');

  constructor(layer: LayerToCheck, found: Found) {
    this.#layer = layer;
    this.#found = found;
    this.#chunks = layer.files.flatMap((file) => file.chunks.map((chunk) => ({ file, chunk })));
  }

  diffId(): string {
    return `sha256:${this.#stream.digest('hex')}`;
  }

  tocInTar(): string {
    return `sha256:${this.#tocPayload.digest('hex')}`;
  }

  async run(): Promise<void> {
    const { dataEnd, tarEnd, inflate, witness } = this.#layer;
    const reader = new TarReader({
      entry: (entry) => {
        this.entries.push(entry);
        witness?.seeEntry(entry);
      },
      payload: (bytes, entry) => this.#payload(bytes, entry),
    });
    const ends = this.#chunks.flatMap(({ chunk }) => [chunk.offset, chunk.endOffset ?? chunk.offset]);
    const places = [...new Set([0, ...ends, dataEnd, tarEnd])].sort((a, b) => a - b);
    for (const [index, from] of places.slice(0, -1).entries()) {
      const to = places[index + 1]!;
      let at = 0;
      await inflate(from, to, (bytes) => {
        this.#stream.update(bytes);
        witness?.see(bytes);
        reader.push(bytes);
        this.#take(from, at, bytes);
        at += bytes.length;
      });
      this.#endMember(from);
    }
    reader.end();
  }

  #payload(bytes: Uint8Array, entry: TarEntry): void {
    const path = cleanPath(entry.name);
    if (path === TOC_NAME) this.#tocPayload.update(bytes);
    else if (isReservedName(path) && this.landmark.length < 2) this.landmark.push(...bytes.subarray(0, 2));
  }

  /** Gives `bytes`, which stand at `at` in the member at `offset`, to the chunks that they belong to. */
  #take(offset: number, at: number, bytes: Uint8Array): void {
    for (;;) {
      const taking = this.#chunks[this.#next];
      if (taking === undefined || taking.chunk.offset !== offset) return;
      const { innerOffset, sizeBytes } = taking.chunk;
      const from = Math.max(0, innerOffset - at);
      const until = Math.min(bytes.length, innerOffset + sizeBytes - at);
      if (until > from) {
        if (taking.chunk.chunkOffset === 0 && this.#chunkHash === undefined)
          this.#fileHash = createHash('sha256');
        this.#chunkHash ??= createHash('sha256');
        this.#chunkHash.update(bytes.subarray(from, until));
        this.#fileHash?.update(bytes.subarray(from, until));
      }
      if (innerOffset + sizeBytes > at + bytes.length) return;
      this.#endChunk(taking);
    }
  }

  #endChunk({ file, chunk }: Taking): void {
    const shown = JSON.stringify(file.entry.name.slice(0, 200));
    const digest = `sha256:${(this.#chunkHash ?? createHash('sha256')).digest('hex')}`;
    if (digest !== chunk.digest)
      this.#found('chunks', `the chunk at ${chunk.chunkOffset} of ${shown} does not match its digest`);
    this.#chunkHash = undefined;
    this.#next += 1;
    if (chunk !== file.chunks.at(-1)) return;
    const whole = `sha256:${this.#fileHash?.digest('hex')}`;
    if (whole !== file.entry.digest) this.#found('chunks', `${shown} does not match its digest`);
    this.#fileHash = undefined;
  }

  /** A chunk that its member did not hold whole. */
  #endMember(offset: number): void {
    for (
      let taking = this.#chunks[this.#next];
      taking?.chunk.offset === offset;
      taking = this.#chunks[this.#next]
    ) {
      this.#chunkHash = undefined;
      this.#next += 1;
      this.#found(
        'chunks',
        `the member at ${offset} is too short for ${JSON.stringify(taking.file.entry.name.slice(0, 200))}`,
      );
    }
  }
}

/** TOC and tar must tell the same of the same entries. */
function compareEntries({ files, isExact }: LayerToCheck, entries: readonly TarEntry[], found: Found): void {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const seen = new Set<string>();
  for (const entry of entries) {
    if (cleanPath(entry.name) === TOC_NAME) continue;
    const inTar = tocEntryOf(entry, isExact);
    const path = Buffer.from(cleanPath(entry.name), 'latin1').toString('utf8');
    const shown = JSON.stringify(path.slice(0, 200));
    const file = byPath.get(path);
    if (file === undefined) found('entries', `${shown} is in the tar, not in the TOC`);
    else if (seen.has(path)) found('entries', `${shown} is in the tar twice`);
    else
      for (const key of differences(inTar, file, isExact))
        found('entries', `${key} of ${shown} differs between tar and TOC`);
    seen.add(path);
  }
  for (const { path } of files)
    if (!seen.has(path))
      found('entries', `${JSON.stringify(path.slice(0, 200))} is in the TOC, not in the tar`);
}

const COMPARED = ['type', 'size', 'linkName', 'uid', 'gid', 'devMajor', 'devMinor', 'xattrs'] as const;

function differences(inTar: TocEntry, { entry, userName, groupName }: LayerFile, isExact: boolean): string[] {
  const wrong: string[] = COMPARED.filter(
    (key) => !isDeepStrictEqual(inTar[key] ?? zeroOf(key), entry[key] ?? zeroOf(key)),
  );
  // Some writers leave the bits of the type in.
  if ((inTar.mode ?? 0) !== ((entry.mode ?? 0) & 0o7777)) wrong.push('mode');
  if (!isSameTime(inTar.modtime, entry.modtime, isExact)) wrong.push('modtime');
  // A reader takes over the name that was last said for an id, so a missing one cannot be told from the same one.
  if ((inTar.userName ?? '') !== '' && inTar.userName !== userName) wrong.push('userName');
  if ((inTar.groupName ?? '') !== '' && inTar.groupName !== groupName) wrong.push('groupName');
  if (
    entry.type === 'reg' &&
    entry.size === undefined &&
    entry.digest !== undefined &&
    entry.digest !== EMPTY
  )
    wrong.push('digest');
  return wrong;
}

const EMPTY = 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

function zeroOf(key: (typeof COMPARED)[number]): unknown {
  if (key === 'linkName') return '';
  return key === 'xattrs' ? {} : 0;
}

/** Writers of eStargz round to the second in one way or the other; `isExact`: those of tar-split do not. */
function isSameTime(one: string | undefined, other: string | undefined, isExact: boolean): boolean {
  const [a, b] = [one, other].map((text) => nanosecondsOf(text === undefined || text === '' ? EPOCH : text));
  if (a === undefined || b === undefined) return false;
  const apart = a > b ? a - b : b - a;
  return apart <= (isExact ? 0n : 1_000_000_000n);
}

const EPOCH = '1970-01-01T00:00:00Z';

/** Of RFC 3339. */
function nanosecondsOf(text: string): bigint | undefined {
  const fraction = /\.(\d{1,9})/.exec(text);
  const ms = Date.parse(text.replace(/\.\d+/, ''));
  if (Number.isNaN(ms)) return undefined;
  return BigInt(ms) * 1_000_000n + BigInt((fraction?.[1] ?? '0').padEnd(9, '0'));
}

/** One landmark, of one byte; what a snapshotter reads ahead ends where its member begins. */
function checkLandmark(files: readonly LayerFile[], walk: Walk, found: Found): void {
  const marks = files.filter(({ path }) => path === PREFETCH_LANDMARK || path === NO_PREFETCH_LANDMARK);
  if (marks.length === 0) return;
  if (marks.length > 1) found('landmark', 'there are two landmarks');
  const [mark] = marks;
  if (mark?.entry.size !== 1 || walk.landmark[0] !== LANDMARK_CONTENT)
    found('landmark', 'the landmark is not one byte 0x0f');
  if (mark?.path === PREFETCH_LANDMARK && (mark.chunks[0]?.innerOffset ?? 0) !== 0)
    found('landmark', 'the prefetch landmark does not begin a member');
}
