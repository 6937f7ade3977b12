import { createCipheriv, createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { Digester, digestOf } from '@sepia/base/digest';
import { type ImageToPush, imageOf } from '../image/load-image.ts';
import type { BlobSource } from '../registry/registry-client.ts';

interface RandomImageOptions {
  readonly layers: number;
  /** Bytes of noise in each layer; a multiple of 512. */
  readonly layerBytes: number;
  /** The same seed gives the same image. */
  readonly seed: string;
}

const BLOCK = 512;
const CHUNK_BYTES = 1024 * 1024;

/** A valid image whose layers are a tar with one file of noise each; the bytes are made when they are read. */
export async function randomImage(options: RandomImageOptions): Promise<ImageToPush> {
  const layers: BlobSource[] = [];
  for (let index = 1; index <= options.layers; index += 1)
    layers.push(await layer(`${options.seed}/${index}`, `noise-${index}.bin`, options.layerBytes));
  const config = memoryBlob({
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    os: 'linux',
    config: {},
    rootfs: { type: 'layers', diff_ids: layers.map((one) => one.digest) },
  });
  return imageOf(config, layers);
}

async function layer(seed: string, name: string, noiseBytes: number): Promise<BlobSource> {
  const open = (): Readable =>
    Readable.from(tarOfNoise(seed, name, noiseBytes), { objectMode: false, highWaterMark: CHUNK_BYTES });
  const digester = new Digester();
  let sizeBytes = 0;
  for await (const chunk of open() as AsyncIterable<Buffer>) {
    digester.update(chunk);
    sizeBytes += chunk.length;
  }
  return { digest: digester.digest(), sizeBytes, open };
}

/** One file in POSIX ustar, then two empty blocks. The noise is the AES-CTR key stream of the seed. */
function* tarOfNoise(seed: string, name: string, noiseBytes: number): Generator<Buffer> {
  yield tarHeader(name, noiseBytes);
  const cipher = createCipheriv(
    'aes-128-ctr',
    createHash('sha256').update(seed).digest().subarray(0, 16),
    Buffer.alloc(16),
  );
  const zeros = Buffer.alloc(CHUNK_BYTES);
  for (let left = noiseBytes; left > 0; left -= CHUNK_BYTES)
    yield cipher.update(left >= CHUNK_BYTES ? zeros : zeros.subarray(0, left));
  yield Buffer.alloc(2 * BLOCK);
}

function tarHeader(name: string, sizeBytes: number): Buffer {
  const header = Buffer.alloc(BLOCK);
  const octal = (value: number, at: number, length: number): void =>
    void header.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
  header.write(name, 0, 'latin1');
  octal(0o644, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(sizeBytes, 124, 12);
  octal(0, 136, 12);
  header.write('        0', 148, 'latin1');
  header.write('ustar\x0000', 257, 'latin1');
  octal(
    header.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  );
  return header;
}

function memoryBlob(value: unknown): BlobSource {
  const bytes = Buffer.from(JSON.stringify(value));
  return {
    digest: digestOf(bytes),
    sizeBytes: bytes.length,
    open: () => Readable.from([bytes], { objectMode: false }),
  };
}
