import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { type Digest, Digester, digestAlgorithm, digestHex } from '@sepia/base/digest';
import { CodedError, systemCode } from '@sepia/base/errors';
import type { ImageSource, ImageTarget } from '@sepia/lazy/convert/ends';
import type { ByteString } from '@sepia/lazy/tar/byte-string';
import { EMPTY_HEADER, encodeHeader, zerosAfter } from '@sepia/lazy/tar/encode-header';
import { ScratchFolder } from '@sepia/store/scratch/scratch';
import { FolderArchive } from '../image/archive.ts';
import { LayoutWriter } from '../image/layout-writer.ts';
import type { ImageToPush } from '../image/load-image.ts';

/** Images of a layout, or of what `docker save` wrote, as the source of a conversion; the list may grow. */
export function diskSource(images: readonly ImageToPush[]): ImageSource {
  return {
    manifest: async (digest) => {
      const found = images.flatMap((image) => image.manifests).find((one) => one.digest === digest);
      if (found === undefined)
        throw new CodedError('MANIFEST_UNKNOWN', {
          message: `the layout does not hold ${digest}; leave its platform out with --platform`,
        });
      return found;
    },
    blob: async ({ digest }, take, signal) => {
      const blob = images.flatMap((image) => image.blobs).find((one) => one.digest === digest);
      if (blob === undefined)
        throw new CodedError('BLOB_UNKNOWN', { message: `the layout does not hold ${digest}` });
      const digester = new Digester(digestAlgorithm(digest));
      for await (const chunk of blob.open() as AsyncIterable<Buffer>) {
        signal?.throwIfAborted();
        digester.update(chunk);
        await take(chunk);
      }
      const found = digester.digest();
      if (found !== digest)
        throw new CodedError('DIGEST_MISMATCH', {
          message: `blob of the layout does not match its digest ${digest}`,
          detail: { expected: digest, found },
        });
    },
  };
}

/** A target on disk, and what makes it whole at the end. */
export interface DiskTarget extends ImageTarget {
  /** Writes the index (and the tar, where that was asked). */
  finish(): Promise<void>;
  /** Ends it, finished or not; a layout keeps the blobs that it has, for the next try. Idempotent. */
  close(): Promise<void>;
}

/** An OCI layout folder as the target of a conversion; blobs that it already holds are kept, if they are what they are called. */
export function layoutTarget(folder: string): DiskTarget {
  const root = resolve(folder);
  const writer = new LayoutWriter(root);
  const tagged: Parameters<LayoutWriter['writeIndex']>[0][number][] = [];
  return {
    has: async (digest, sizeBytes) => {
      const path = blobPath(root, digest);
      return (await sizeOf(path)) === sizeBytes && (await digestOfFile(path, digest)) === digest;
    },
    putBlob: async ({ digest, open }) => {
      const file = await writer.openBlob(digest);
      try {
        for await (const chunk of open() as AsyncIterable<Buffer>) await file.write(chunk);
        await file.keep();
      } finally {
        await file.close();
      }
    },
    putManifest: async (document, tag) => {
      writer.writeManifest(document);
      if (tag !== undefined) tagged.push({ top: document, reference: tag });
    },
    finish: async () => writer.writeIndex(tagged),
    close: async () => undefined,
  };
}

/** A tar of an OCI layout as the target of a conversion; the layout is written in `workDir` first. */
export async function tarTarget(path: string, workDir: string): Promise<DiskTarget> {
  const file = resolve(path);
  const partial = `${file}.partial`;
  await mkdir(dirname(file), { recursive: true });
  // What may not be written is said before the work.
  await (await open(partial, 'w')).close();
  await rm(partial);
  const folder = await ScratchFolder.create(workDir);
  const target = layoutTarget(folder.path);
  return {
    ...target,
    finish: async () => {
      await target.finish();
      await pipeline(tarOf(folder.path), createWriteStream(partial));
      await rename(partial, file);
    },
    close: async () => {
      await folder[Symbol.asyncDispose]();
      await rm(partial, { force: true });
    },
  };
}

/** A tar of the files of a layout, in a fixed order. */
async function* tarOf(folder: string): AsyncGenerator<Uint8Array> {
  const archive = new FolderArchive(folder);
  for (const name of await filesOf(folder)) {
    const size = archive.sizeOf(name) ?? 0;
    yield encodeHeader({ ...EMPTY_HEADER, name: name as ByteString, mode: 0o644, size });
    yield* archive.open(name) as AsyncIterable<Buffer>;
    yield zerosAfter(size);
  }
  yield new Uint8Array(1024);
}

async function filesOf(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const names = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
  return names.sort(
    (one, other) =>
      Number(one.startsWith('blobs/')) - Number(other.startsWith('blobs/')) || (one < other ? -1 : 1),
  );
}

function blobPath(root: string, digest: Digest): string {
  return join(root, 'blobs', digestAlgorithm(digest), digestHex(digest));
}

async function digestOfFile(path: string, like: Digest): Promise<Digest> {
  const digester = new Digester(digestAlgorithm(like));
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) digester.update(chunk);
  return digester.digest();
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
