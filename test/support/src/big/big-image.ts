import { createCipheriv, createHash, type Hash } from 'node:crypto';
import { createWriteStream, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createGzip, createZstdCompress } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import { byteStringOf } from '@sepia/lazy/tar/byte-string';
import { EMPTY_HEADER, encodeHeader, zerosAfter } from '@sepia/lazy/tar/encode-header';
import { OCI_MANIFEST } from '@sepia/oci/manifest';

const KIB = 1024;
const MIB = 1024 * KIB;
const PIECE_BYTES = MIB;
const WORDS =
  'lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut'.split(' ');

/** What an image of one big layer is to hold. */
export interface BigImage {
  /** About so many bytes of tar. */
  readonly tarBytes: number;
  /** How long the sparse file is whose holes conversion fills in; 0: there is none. */
  readonly sparseBytes: number;
  readonly compression: 'gzip' | 'zstd';
}

/** A file that was written: SHA-256 of all of it, and of each of its MiB. */
export interface BigFile {
  readonly sizeBytes: number;
  readonly digest: string;
  readonly pieces: readonly string[];
}

/** A file to write: its content in pieces of one MiB, the last one shorter. */
interface Plan {
  readonly name: string;
  readonly sizeBytes: number;
  /** Bytes of the piece at this place; its array may be used again for the next. */
  readonly piece: (index: number, length: number) => Uint8Array;
  /** True for a GNU sparse file of which the last piece alone is there. */
  readonly isSparse?: boolean;
}

/**
 * Writes an OCI layout with an image of one layer: two parts of noise in one long file, one of text in files of 4 to 124
 * KiB, one in files of 1 MiB, a sparse file at the end. The same sizes give the same bytes. @returns its files by name
 */
export async function writeBigImage(folder: string, image: BigImage): Promise<Map<string, BigFile>> {
  const blobs = join(folder, 'blobs/sha256');
  mkdirSync(blobs, { recursive: true });
  const files = new Map<string, BigFile>();
  const whole = createHash('sha256');
  const packed = createHash('sha256');
  let packedBytes = 0;
  const tar = async function* (): AsyncGenerator<Uint8Array> {
    for (const chunk of tarOf(image, files)) {
      whole.update(chunk);
      yield chunk;
    }
  };
  const counted = async function* (chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of chunks) {
      packed.update(chunk);
      packedBytes += chunk.length;
      yield chunk;
    }
  };
  const partial = join(folder, 'layer.partial');
  const zstd = { params: { [constants.ZSTD_c_compressionLevel]: 1 }, chunkSize: MIB };
  const compress =
    image.compression === 'gzip' ? createGzip({ level: 1, chunkSize: MIB }) : createZstdCompress(zstd);
  const out = createWriteStream(partial, { highWaterMark: MIB });
  await pipeline(Readable.from(tar(), { objectMode: true, highWaterMark: 1 }), compress, counted, out);
  const layer = `sha256:${packed.digest('hex')}`;
  renameSync(partial, join(blobs, hexOf(layer)));
  const store = (value: object): { digest: string; size: number } => {
    const bytes = Buffer.from(JSON.stringify(value));
    writeFileSync(join(blobs, hexOf(digestOf(bytes))), bytes);
    return { digest: digestOf(bytes), size: bytes.length };
  };
  const rootfs = { type: 'layers', diff_ids: [`sha256:${whole.digest('hex')}`] };
  const config = store({ os: 'linux', architecture: 'amd64', config: { Cmd: ['/noise'] }, rootfs });
  const manifest = store({
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
    layers: [
      {
        mediaType: `application/vnd.oci.image.layer.v1.tar+${image.compression}`,
        digest: layer,
        size: packedBytes,
      },
    ],
  });
  writeFileSync(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const annotations = { 'org.opencontainers.image.ref.name': 'latest' };
  const manifests = [{ mediaType: OCI_MANIFEST, ...manifest, annotations }];
  writeFileSync(join(folder, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
  return files;
}

function hexOf(digest: string): string {
  return digest.slice('sha256:'.length);
}

/** The bytes of the tar; notes every file. */
function* tarOf(image: BigImage, files: Map<string, BigFile>): Generator<Uint8Array> {
  for (const plan of plansOf(image)) {
    const digest = createHash('sha256');
    const pieces: string[] = [];
    yield headerOf(plan);
    let lastBytes = 0;
    for (let at = 0; at < plan.sizeBytes; at += PIECE_BYTES) {
      lastBytes = Math.min(PIECE_BYTES, plan.sizeBytes - at);
      const bytes = plan.piece(at / PIECE_BYTES, lastBytes);
      noted(bytes, digest, pieces);
      // What goes on is compressed later: it must not change until then.
      if (plan.isSparse !== true || at + lastBytes === plan.sizeBytes) yield Uint8Array.from(bytes);
    }
    yield zerosAfter(plan.isSparse === true ? lastBytes : plan.sizeBytes);
    files.set(plan.name, { sizeBytes: plan.sizeBytes, digest: digest.digest('hex'), pieces });
  }
  yield new Uint8Array(KIB);
}

function noted(bytes: Uint8Array, digest: Hash, pieces: string[]): void {
  digest.update(bytes);
  pieces.push(hexOf(digestOf(bytes)));
}

function* plansOf({ tarBytes, sparseBytes }: BigImage): Generator<Plan> {
  const noise = new Noise();
  const text = textOf(4 * MIB);
  yield {
    name: 'noise',
    sizeBytes: Math.floor(tarBytes / 2 / KIB) * KIB + 100,
    piece: (_, length) => noise.next(length),
  };
  const slice = (seed: number, length: number): Uint8Array => {
    const from = (seed * 7919) % (text.length - length);
    const bytes = Buffer.from(text.subarray(from, from + length));
    // Makes it another content than that of every other file.
    bytes.write(`${seed} `);
    return bytes;
  };
  let seed = 0;
  for (let left = tarBytes / 4; left > 0; seed += 1) {
    const sizeBytes = 4 * KIB + ((seed * 3571) % (120 * KIB));
    yield { name: `small/${seed % 97}/file-${seed}`, sizeBytes, piece: pieceOf(slice, seed) };
    left -= sizeBytes;
  }
  for (let left = tarBytes / 4; left > 0; seed += 1) {
    yield { name: `large/file-${seed}`, sizeBytes: PIECE_BYTES, piece: pieceOf(slice, seed) };
    left -= PIECE_BYTES;
  }
  if (sparseBytes === 0) return;
  const zeros = new Uint8Array(PIECE_BYTES);
  const last = Math.ceil(sparseBytes / PIECE_BYTES) - 1;
  yield {
    name: 'sparse',
    sizeBytes: sparseBytes,
    isSparse: true,
    piece: (index, length) => (index === last ? slice(seed + 1, length) : zeros.subarray(0, length)),
  };
  // What follows stands behind all of that.
  yield { name: 'last', sizeBytes: PIECE_BYTES, piece: () => slice(seed + 2, PIECE_BYTES) };
}

function pieceOf(slice: (seed: number, length: number) => Uint8Array, seed: number): Plan['piece'] {
  return (_, length) => slice(seed, length);
}

/** A header; for a sparse file GNU's old one (tar manual, "Sparse Formats"). */
function headerOf({ name, sizeBytes, isSparse }: Plan): Uint8Array {
  const fields = { ...EMPTY_HEADER, name: byteStringOf(name), mode: 0o644, mtimeSec: 1_700_000_000 };
  if (isSparse !== true) return encodeHeader({ ...fields, size: sizeBytes });
  const last = (Math.ceil(sizeBytes / PIECE_BYTES) - 1) * PIECE_BYTES;
  const header = Buffer.from(encodeHeader({ ...fields, typeFlag: 'S', size: sizeBytes - last }));
  const octal = (at: number, value: number): void =>
    void header.write(value.toString(8).padStart(11, '0'), at, 'latin1');
  header.write('ustar  \0', 257, 'latin1');
  octal(386, last);
  octal(398, sizeBytes - last);
  octal(483, sizeBytes);
  header.fill(0x20, 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return header;
}

/** Bytes that nothing compresses, always the same ones. */
class Noise {
  readonly #cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16));
  readonly #zeros = new Uint8Array(PIECE_BYTES);

  next(length: number): Uint8Array {
    return this.#cipher.update(this.#zeros.subarray(0, length));
  }
}

/** Words in an order that does not repeat soon. */
function textOf(length: number): Buffer {
  const parts: string[] = [];
  let state = 1;
  for (let done = 0; done < length; ) {
    state = (state * 48_271) % 2_147_483_647;
    const word = `${WORDS[state % WORDS.length]}${state % 1000} `;
    parts.push(word);
    done += word.length;
  }
  return Buffer.from(parts.join('').slice(0, length));
}
