import { createHash } from 'node:crypto';
import { isCoded } from '@sepia/base/errors';
import {
  type BlobToVerify,
  checkBlob,
  Findings,
  type Found,
  type VerifyResult,
} from '../estargz/check-layer.ts';
import type { ReadAt } from '../pack/inflate.ts';
import { chunkHasher } from './chunk-digest.ts';
import { type ChunkInfo, HEADER_BYTES, headerFault, readChunkInfos, unpack } from './chunk-info.ts';
import { type ChunkAddress, ID_INSIDE, invalid, NO_DIGEST, type RafsBlob, type RafsChunk } from './format.ts';
import { mostBootstrapBytes, readBootstrap } from './read-bootstrap.ts';
import {
  readSections,
  SECTIONS,
  type Section,
  type Sections,
  TABLE_HEADER,
  TAR_BLOCK,
  type TocEntry,
} from './sections.ts';

/** A data blob, and what the bootstrap of its image says of it. */
export interface RafsToVerify extends BlobToVerify {
  /** Undefined where no file has content in it. */
  readonly blob: RafsBlob | undefined;
  /** Records of it that the image's bootstrap has. */
  readonly chunks: readonly RafsChunk[];
  /** Chunks of it that the image's files name. */
  readonly parts?: readonly ChunkAddress[];
  /** Hears its table, once nothing is wrong with it; the answer hears each chunk that matches its digest, in order. */
  readonly content?: (infos: readonly ChunkInfo[]) => TakeChunk;
  /** Told of the length of each chunk before it is unpacked; throws where they are too many bytes. */
  readonly unpacked?: ((bytes: number) => void) | undefined;
}

/** Is given the content of a chunk, uncompressed, by its 0-based place in the table. */
export type TakeChunk = (index: number, raw: Uint8Array) => void;

const DIGEST_BYTES = 32;
const READ_BYTES = 4 * 1024 * 1024;

/**
 * Verifies a data blob whole: its digest, its sections against its table of contents, every chunk against its digest, that
 * chunks fill it without a gap, and that image, blob and the layer's own bootstrap say the same of them. Memory: a chunk,
 * the tables, the bootstrap.
 */
export async function verifyRafs(target: RafsToVerify): Promise<VerifyResult> {
  const findings = new Findings();
  await checkBlob(target, findings.add);
  if (target.diffId !== undefined && target.diffId !== target.digest)
    findings.add('blob', `its DiffID is not the digest of the blob: ${target.diffId}`);
  let found = { entries: 0, chunks: 0 };
  try {
    found = await new BlobCheck(target, findings).run();
  } catch (error) {
    if (!isCoded(error, 'LAYER_INVALID')) throw error;
    findings.add('toc', error.message);
  }
  return { findings: findings.list, ...found };
}

class BlobCheck {
  readonly #target: RafsToVerify;
  readonly #findings: Findings;
  readonly #found: Found;

  constructor(target: RafsToVerify, findings: Findings) {
    this.#target = target;
    this.#findings = findings;
    this.#found = findings.add;
  }

  async run(): Promise<{ entries: number; chunks: number }> {
    const { read, sizeBytes } = this.#target;
    const sections = await readSections(read, sizeBytes);
    checkNames(sections, this.#found);
    const inside = await this.#bootstrap(sections);
    const [own] = inside.blobs;
    if (own !== undefined && own.id !== ID_INSIDE)
      this.#found('entries', 'its bootstrap names another blob than its own');
    this.#sameBlob(own);
    if (own !== undefined && own.packedBytes > sizeBytes)
      throw invalid(`its bootstrap says that ${own.packedBytes} of its ${sizeBytes} bytes are chunks`);
    if (own === undefined) return { entries: inside.inodes, chunks: 0 };
    const { infos, digests } = await this.#tables(sections, own);
    this.#sameChunks(inside.table, infos, digests, 'its own bootstrap');
    if (inside.table.length !== infos.length)
      this.#found('entries', 'its own bootstrap does not have all of its chunks');
    this.#sameChunks(this.#target.chunks, infos, digests, 'the bootstrap of the image');
    this.#sameParts(infos);
    const entry = sections.toc.get(SECTIONS.chunks);
    if (entry === undefined) throw invalid('its table of contents has no chunks');
    const hash = await chunkHasher(inside.digester);
    await this.#content({ own, end: entry.packedBytes, hash }, infos, digests);
    await this.#sectionOfChunks(sections, entry, own);
    return { entries: inside.inodes, chunks: infos.length };
  }

  async #bootstrap(sections: Sections): Promise<ReturnType<typeof readBootstrap>> {
    const entry = sections.toc.get(SECTIONS.bootstrap);
    if (entry === undefined) throw invalid('its blob has no bootstrap');
    const raw = await this.#section(sections, SECTIONS.bootstrap, mostBootstrapBytes(entry.packedBytes));
    return readBootstrap(raw);
  }

  /** Bytes of a section that the table of contents names, checked against it. `most`: before anything of it is unpacked. */
  async #section(sections: Sections, name: string, most: number): Promise<Buffer> {
    const entry = sections.toc.get(name);
    if (entry === undefined) throw invalid(`its table of contents has no ${name}`);
    if (entry.packedBytes > most || entry.rawBytes > most)
      throw invalid(`${name} is longer than ${most} bytes`);
    if (entry.offset + entry.packedBytes > this.#target.sizeBytes)
      throw invalid(`${name} lies outside of its blob`);
    const packed = await this.#target.read(entry.offset, entry.packedBytes);
    const raw = unpack(packed, entry.compressor, entry.rawBytes, name);
    if (createHash('sha256').update(raw).digest('hex') !== entry.digest)
      this.#found('toc', `${name} does not match its digest in the table of contents`);
    return raw;
  }

  /** Bootstraps of image and layer describe the same blob. */
  #sameBlob(own: RafsBlob | undefined): void {
    const { blob } = this.#target;
    if (blob === undefined) return;
    const facts = (one: RafsBlob): string =>
      JSON.stringify([
        one.compressor,
        one.chunkBytes,
        one.chunkCount,
        one.packedBytes,
        one.rawBytes,
        one.table,
      ]);
    if (own === undefined || facts(own) !== facts(blob))
      this.#found('entries', 'the bootstraps of the image and of the layer describe the blob differently');
  }

  async #tables(
    sections: Sections,
    own: RafsBlob,
  ): Promise<{ infos: readonly ChunkInfo[]; digests: Buffer }> {
    // Before anything is unpacked or made of them: a short section may hold a very long one.
    const most = HEADER_BYTES + own.chunkCount * DIGEST_BYTES;
    const table = await this.#section(sections, SECTIONS.table, most);
    const header = await this.#section(sections, TABLE_HEADER, HEADER_BYTES);
    const fault =
      header.length === HEADER_BYTES ? headerFault(header, own) : 'the header of its chunk table is short';
    if (fault !== undefined) this.#found('chunks', fault);
    const infos = readChunkInfos(table, own.features);
    const digests = await this.#section(sections, SECTIONS.digests, most);
    if (infos.length !== own.chunkCount || digests.length !== infos.length * DIGEST_BYTES)
      throw invalid(`its tables have ${infos.length} chunks and ${digests.length / DIGEST_BYTES} digests`);
    return { infos, digests };
  }

  #sameChunks(
    records: readonly RafsChunk[],
    infos: readonly ChunkInfo[],
    digests: Buffer,
    who: string,
  ): void {
    for (const { index, digest, ...record } of records) {
      const info = infos[index];
      const isSame =
        info !== undefined &&
        (digest === NO_DIGEST || digestAt(digests, index) === digest) &&
        info.offset === record.offset &&
        info.sizeBytes === record.sizeBytes &&
        info.packedOffset === record.packedOffset &&
        info.packedBytes === record.packedBytes;
      if (!isSame) this.#found('chunks', `${who} says of chunk ${index} what its table does not`);
    }
  }

  /** Files name chunks where the blob has them. */
  #sameParts(infos: readonly ChunkInfo[]): void {
    for (const { index, offset, sizeBytes } of this.#target.parts ?? []) {
      const info = infos[index];
      if (info?.offset !== offset || info.sizeBytes !== sizeBytes)
        this.#found('chunks', `a file of the image has chunk ${index} where its table does not`);
    }
  }

  /** Every chunk, and that they lie one behind the other. */
  async #content(
    blob: { readonly own: RafsBlob; readonly end: number; readonly hash: (raw: Uint8Array) => string },
    infos: readonly ChunkInfo[],
    digests: Buffer,
  ): Promise<void> {
    const { read, content, unpacked } = this.#target;
    const { own } = blob;
    const take = this.#findings.list.length === 0 ? content?.(infos) : undefined;
    let end = 0;
    for (const [index, info] of infos.entries()) {
      if (info.packedOffset !== end)
        this.#found('chunks', `chunk ${index} does not begin where the one before ends`);
      end = info.packedOffset + info.packedBytes;
      if (end > blob.end || info.sizeBytes > own.chunkBytes || info.packedBytes > own.chunkBytes) {
        this.#found('chunks', `chunk ${index} does not lie in its blob`);
        continue;
      }
      unpacked?.(info.sizeBytes);
      const packed = await read(info.packedOffset, info.packedBytes);
      const isPlain = info.packedBytes === info.sizeBytes;
      const raw = contentOf(packed, isPlain ? 'none' : own.compressor, info, index, this.#found);
      if (raw === undefined) continue;
      if (blob.hash(raw) === digestAt(digests, index)) take?.(index, raw);
      else this.#found('chunks', `chunk ${index} does not match its digest`);
    }
    if (end !== blob.end) this.#found('chunks', 'bytes of the blob belong to no chunk');
  }

  /** The section's digest is that with its tar header (nydus-image), or without it. */
  async #sectionOfChunks({ toc }: Sections, entry: TocEntry, own: RafsBlob): Promise<void> {
    // What a bootstrap says of them may end with the chunks, or where the bootstrap itself begins.
    const isSaid = [entry.packedBytes, toc.get(SECTIONS.bootstrap)?.offset].includes(own.packedBytes);
    if (!isSaid || entry.rawBytes !== own.rawBytes || entry.offset !== 0)
      this.#found('toc', 'the table of contents says something else of the chunks than the bootstrap');
    const end = entry.packedBytes + TAR_BLOCK;
    if (end > this.#target.sizeBytes) throw invalid('its chunks lie outside of its blob');
    const hash = createHash('sha256');
    let without = '';
    for (let at = 0; at < end; ) {
      const limit = at < entry.packedBytes ? entry.packedBytes : end;
      const bytes = await this.#target.read(at, Math.min(READ_BYTES, limit - at));
      hash.update(bytes);
      at += bytes.length;
      if (at === entry.packedBytes) without = hash.copy().digest('hex');
    }
    if (entry.digest !== hash.digest('hex') && entry.digest !== without)
      this.#found('toc', 'the chunks do not match their digest in the table of contents');
  }
}

/** Sections as headers have them are those that the table of contents has, and no others. */
function checkNames({ byHeader, toc }: Sections, found: Found): void {
  const known = new Set<string>(Object.values(SECTIONS));
  for (const section of byHeader.values()) {
    if (!known.has(section.name)) found('toc', `the blob has an unknown section ${section.name}`);
    if (section.name !== SECTIONS.toc && !isSame(section, toc))
      found('toc', `the table of contents does not have ${section.name} where it is`);
  }
  for (const { name } of toc.values())
    if (name !== TABLE_HEADER && !byHeader.has(name)) found('toc', `the blob has no section ${name}`);
}

function isSame({ name, offset, sizeBytes }: Section, toc: Sections['toc']): boolean {
  const entry = toc.get(name);
  if (entry === undefined || entry.offset !== offset) return false;
  if (name !== SECTIONS.table) return entry.packedBytes === sizeBytes;
  const header = toc.get(TABLE_HEADER);
  return (
    header?.offset === offset + entry.packedBytes && entry.packedBytes + header.packedBytes === sizeBytes
  );
}

function digestAt(digests: Buffer, index: number): string {
  return digests.toString('hex', index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES);
}

function contentOf(
  packed: Awaited<ReturnType<ReadAt>>,
  compressor: RafsBlob['compressor'],
  { sizeBytes }: ChunkInfo,
  index: number,
  found: Found,
): Buffer | undefined {
  try {
    return unpack(packed, compressor, sizeBytes, `chunk ${index}`);
  } catch (error) {
    if (!isCoded(error, 'LAYER_INVALID')) throw error;
    found('chunks', error.message);
    return undefined;
  }
}
