import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import type { ConvertDeps, LayerCache } from '../../src/convert/convert-image.ts';
import type { ImageSource, ImageTarget } from '../../src/convert/ends.ts';
import type { LayerRecord } from '../../src/convert/layer-job.ts';
import type { MakeScratch } from '../../src/convert/scratch.ts';
import { inlinePacker } from '../../src/pack/batch.ts';

export interface Part {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly [key: string]: unknown;
}

/** Blobs and manifests in memory: source and target of conversions. */
export class MemoryImages implements ImageSource, ImageTarget {
  readonly blobs = new Map<string, Buffer>();
  readonly manifests = new Map<string, { bytes: Buffer; digest: Digest; mediaType: string }>();
  /** Digests whose bytes were read, and stored. */
  readonly reads: string[] = [];
  readonly puts: string[] = [];
  /** Called before a blob is stored; may throw. */
  onPut: (digest: Digest) => void = () => undefined;

  addBlob(bytes: Buffer, mediaType: string, more: object = {}): Part {
    const digest = digestOf(bytes);
    this.blobs.set(digest, bytes);
    return { mediaType, digest, size: bytes.length, ...more };
  }

  addManifest(json: object, mediaType: string, tag?: string): Part {
    const bytes = Buffer.from(JSON.stringify(json, undefined, 2));
    const document = { bytes, digest: digestOf(bytes), mediaType };
    this.manifests.set(document.digest, document);
    if (tag !== undefined) this.manifests.set(tag, document);
    return { mediaType, digest: document.digest, size: bytes.length };
  }

  /** An image of these tars. */
  addImage(tars: readonly Buffer[], options: { tag?: string; docker?: boolean; config?: object } = {}): Part {
    const kind = options.docker === true ? 'docker' : 'oci';
    const layerType =
      kind === 'docker'
        ? 'application/vnd.docker.image.rootfs.diff.tar.gzip'
        : 'application/vnd.oci.image.layer.v1.tar+gzip';
    const layers = tars.map((tar) => this.addBlob(gzipSync(tar), layerType));
    const config = this.addBlob(
      Buffer.from(
        JSON.stringify({
          architecture: 'amd64',
          os: 'linux',
          rootfs: { type: 'layers', diff_ids: tars.map((tar) => digestOf(tar)) },
          ...options.config,
        }),
      ),
      kind === 'docker'
        ? 'application/vnd.docker.container.image.v1+json'
        : 'application/vnd.oci.image.config.v1+json',
    );
    const mediaType =
      kind === 'docker' ? 'application/vnd.docker.distribution.manifest.v2+json' : OCI_MANIFEST;
    return this.addManifest({ schemaVersion: 2, mediaType, config, layers }, mediaType, options.tag);
  }

  addIndex(manifests: readonly object[], tag?: string): Part {
    return this.addManifest({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }, OCI_INDEX, tag);
  }

  /** A manifest as an object. */
  json<T>(reference: string): T {
    return JSON.parse(this.manifests.get(reference)!.bytes.toString()) as T;
  }

  async manifest(reference: string): Promise<{ bytes: Buffer; digest: Digest; mediaType: string }> {
    const found = this.manifests.get(reference);
    if (found === undefined) throw new CodedError('MANIFEST_UNKNOWN');
    return found;
  }

  async blob(
    { digest }: { readonly digest: Digest; readonly sizeBytes: number },
    take: (chunk: Uint8Array) => Promise<void>,
    signal?: AbortSignal,
  ): Promise<void> {
    this.reads.push(digest);
    const bytes = this.blobs.get(digest);
    if (bytes === undefined) throw new CodedError('BLOB_UNKNOWN');
    for (let at = 0; at < bytes.length; at += 1000) {
      signal?.throwIfAborted();
      await take(Buffer.from(bytes.subarray(at, at + 1000)));
    }
  }

  async has(digest: Digest): Promise<boolean> {
    return this.blobs.has(digest);
  }

  async putBlob(blob: Parameters<ImageTarget['putBlob']>[0]): Promise<void> {
    this.onPut(blob.digest);
    const bytes = Buffer.concat((await blob.open().toArray()) as Buffer[]);
    if (digestOf(bytes) !== blob.digest || bytes.length !== blob.sizeBytes)
      throw new Error('wrong bytes were put');
    this.puts.push(blob.digest);
    this.blobs.set(blob.digest, bytes);
  }

  async putManifest(
    document: { bytes: Buffer; digest: Digest; mediaType: string },
    tag?: string,
  ): Promise<void> {
    this.manifests.set(document.digest, document);
    if (tag !== undefined) this.manifests.set(tag, document);
  }
}

/** Records in memory. */
export function memoryCache(): LayerCache & { readonly records: Map<string, LayerRecord> } {
  const records = new Map<string, LayerRecord>();
  return {
    records,
    get: async (key) => records.get(key),
    put: async (key, record) => void records.set(key, record),
  };
}

/** Room for layers in memory, and how much of it is still held. */
export class MemoryScratch {
  held = 0;

  readonly make: MakeScratch = async () => {
    this.held += 1;
    let isHeld = true;
    let bytes = Buffer.alloc(0);
    const read = async (offset: number, length: number): Promise<Uint8Array> => {
      if (offset + length > bytes.length) throw new RangeError('read behind the end');
      return Buffer.from(bytes.subarray(offset, offset + length));
    };
    return {
      get sizeBytes() {
        return bytes.length;
      },
      append: async (more) => {
        bytes = Buffer.concat([bytes, more]);
      },
      read,
      readInto: async (into, offset) => into.set(await read(offset, into.length)),
      stream: (start, end) => Readable.from([bytes.subarray(start, end)]),
      [Symbol.asyncDispose]: async () => {
        if (isHeld) this.held -= 1;
        isHeld = false;
      },
    };
  };
}

/** What a conversion of these images into themselves needs, all in memory; told to nobody. */
export function memoryConversion(images: MemoryImages, room = new MemoryScratch()): ConvertDeps {
  return {
    source: images,
    target: images,
    cache: memoryCache(),
    packer: inlinePacker,
    scratch: room.make,
    report: { layer: () => undefined, layerDone: () => undefined },
  };
}
