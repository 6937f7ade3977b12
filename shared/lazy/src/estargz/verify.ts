import { createHash, type Hash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { isCoded } from '@sepia/base/errors';
import { inflateMembers, type ReadAt } from '../pack/inflate.ts';
import { cleanPath, type TarEntry } from '../tar/tar-entry.ts';
import { TarReader } from '../tar/tar-reader.ts';
import { isReservedName, LANDMARK_CONTENT, NO_PREFETCH_LANDMARK, PREFETCH_LANDMARK } from './landmark.ts';
import type { Chunk, LayerFile } from './layout.ts';
import { type OpenedEstargz, openEstargz } from './open.ts';
import { TOC_NAME, type TocEntry } from './toc.ts';
import { tocEntryOf } from './toc-builder.ts';

/** A layer as its manifest and config describe it, and its bytes. */
export interface LayerToVerify {
  readonly sizeBytes: number;
  readonly read: ReadAt;
  /** `sha256:…` of the blob; undefined: not checked. */
  readonly digest?: string | undefined;
  /** `sha256:…` of the uncompressed stream. */
  readonly diffId?: string | undefined;
  /** `sha256:…` of the TOC: the annotation. */
  readonly tocDigest?: string | undefined;
  /** The gzip member with the TOC, where the blob does not hold it. */
  readonly externalToc?: Uint8Array | undefined;
}

/** One thing that is wrong; `check` is the letter of the rule it breaks. */
export interface Finding {
  readonly check: 'blob' | 'toc' | 'stream' | 'chunks' | 'entries' | 'landmark';
  readonly message: string;
}

export interface VerifyResult {
  readonly findings: readonly Finding[];
  readonly entries: number;
  readonly chunks: number;
}

const MAX_FINDINGS = 100;

/**
 * Checks an eStargz layer whole: the blob's digest; footer and TOC; that its members are one legal tar with the right
 * DiffID; every chunk, inflated from its own offset, and every file against its digest; that TOC and tar say the same of
 * the same entries; the landmark. Memory: one member, and the TOC. Findings stop at 100.
 * @throws what `read` throws
 */
export async function verifyEstargz(layer: LayerToVerify): Promise<VerifyResult> {
  const findings: Finding[] = [];
  const found = (check: Finding['check'], message: string): void => {
    if (findings.length < MAX_FINDINGS) findings.push({ check, message });
  };
  if (layer.digest !== undefined && (await digestOfBlob(layer)) !== layer.digest)
    found('blob', `the blob does not match its digest ${layer.digest}`);
  let opened: OpenedEstargz;
  try {
    opened = await openEstargz(layer);
  } catch (error) {
    if (!isCoded(error, 'LAYER_INVALID') && !isCoded(error, 'MANIFEST_SYNTAX')) throw error;
    found('toc', error.message);
    return { findings, entries: 0, chunks: 0 };
  }
  if (layer.tocDigest !== undefined && opened.tocDigest !== layer.tocDigest)
    found('toc', `the TOC has the digest ${opened.tocDigest}; the annotation says ${layer.tocDigest}`);
  const walk = new Walk(opened, found);
  try {
    await walk.run(layer);
    if (layer.diffId !== undefined && walk.diffId() !== layer.diffId)
      found('stream', `the uncompressed layer does not match its DiffID ${layer.diffId}`);
    compareEntries(opened.files, walk.entries, found);
    checkLandmark(opened.files, walk, found);
  } catch (error) {
    if (!isCoded(error, 'LAYER_INVALID')) throw error;
    found('stream', error.message);
  }
  const chunks = opened.files.reduce((sum, file) => sum + file.chunks.length, 0);
  return { findings, entries: opened.files.length, chunks };
}

async function digestOfBlob({ read, sizeBytes }: LayerToVerify): Promise<string> {
  const hash = createHash('sha256');
  const piece = 1024 * 1024;
  for (let at = 0; at < sizeBytes; at += piece) hash.update(await read(at, Math.min(piece, sizeBytes - at)));
  return `sha256:${hash.digest('hex')}`;
}

type Found = (check: Finding['check'], message: string) => void;

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
  readonly #opened: OpenedEstargz;
  readonly #found: Found;
  readonly #stream = createHash('sha256');
  readonly #chunks: Taking[];
  #next = 0;
  #fileHash: Hash | undefined;
  #chunkHash: Hash | undefined;
  #tocPayload = createHash('sha256');

  constructor(opened: OpenedEstargz, found: Found) {
    this.#opened = opened;
    this.#found = found;
    this.#chunks = opened.files.flatMap((file) => file.chunks.map((chunk) => ({ file, chunk })));
  }

  diffId(): string {
    return `sha256:${this.#stream.digest('hex')}`;
  }

  async run(layer: LayerToVerify): Promise<void> {
    const { dataEnd, footer, tocDigest } = this.#opened;
    const reader = new TarReader({
      entry: (entry) => void this.entries.push(entry),
      payload: (bytes, entry) => this.#payload(bytes, entry),
    });
    const bounds = new Set([0, ...this.#chunks.map(({ chunk }) => chunk.offset), dataEnd]);
    const tocEnd = layer.sizeBytes - footer.sizeBytes;
    if (footer.kind !== 'external') bounds.add(tocEnd);
    const places = [...bounds].sort((a, b) => a - b);
    for (const [index, from] of places.slice(0, -1).entries()) {
      let at = 0;
      await inflateMembers(layer.read, from, places[index + 1]!, (bytes) => {
        this.#stream.update(bytes);
        reader.push(bytes);
        this.#take(from, at, bytes);
        at += bytes.length;
      });
      this.#endMember(from);
    }
    reader.end();
    if (footer.kind !== 'external' && `sha256:${this.#tocPayload.digest('hex')}` !== tocDigest)
      this.#found('toc', 'the TOC of the tar is not the one that the footer points to');
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
function compareEntries(files: readonly LayerFile[], entries: readonly TarEntry[], found: Found): void {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const seen = new Set<string>();
  for (const entry of entries) {
    if (cleanPath(entry.name) === TOC_NAME) continue;
    const inTar = tocEntryOf(entry);
    const path = Buffer.from(cleanPath(entry.name), 'latin1').toString('utf8');
    const shown = JSON.stringify(path.slice(0, 200));
    const file = byPath.get(path);
    if (file === undefined) found('entries', `${shown} is in the tar, not in the TOC`);
    else if (seen.has(path)) found('entries', `${shown} is in the tar twice`);
    else
      for (const key of differences(inTar, file))
        found('entries', `${key} of ${shown} differs between tar and TOC`);
    seen.add(path);
  }
  for (const { path } of files)
    if (!seen.has(path))
      found('entries', `${JSON.stringify(path.slice(0, 200))} is in the TOC, not in the tar`);
}

const COMPARED = [
  'type',
  'size',
  'linkName',
  'mode',
  'uid',
  'gid',
  'devMajor',
  'devMinor',
  'xattrs',
] as const;

function differences(inTar: TocEntry, { entry, userName, groupName }: LayerFile): string[] {
  const wrong: string[] = COMPARED.filter(
    (key) => !isDeepStrictEqual(inTar[key] ?? zeroOf(key), entry[key] ?? zeroOf(key)),
  );
  if (!isSameTime(inTar.modtime, entry.modtime)) wrong.push('modtime');
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

/** Writers round to the second in one way or the other. */
function isSameTime(one = '1970-01-01T00:00:00Z', other = '1970-01-01T00:00:00Z'): boolean {
  const [a, b] = [one, other].map((text) => Date.parse(text === '' ? '1970-01-01T00:00:00Z' : text));
  return Math.abs(a! - b!) <= 1000;
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
