import { Readable } from 'node:stream';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { isManifestType, MAX_MANIFEST_BYTES } from '@sepia/oci/manifest';
import { type Document, platformText, type RawDescriptor, readDocument } from './documents.ts';
import type { ImageSource, ImageTarget } from './ends.ts';
import type { MakeScratch } from './scratch.ts';
import { smallBlob } from './small-blob.ts';
import type { WorkLimits } from './work-limits.ts';

interface Ends {
  readonly source: ImageSource;
  readonly target: ImageTarget;
  readonly scratch: MakeScratch;
  readonly signal: AbortSignal;
}

/** Layers that registries are not to hand on. */
const FOREIGN = /\.(?:foreign|nondistributable)\./;

/** Copies what of one image goes to the target unchanged (documents and blobs), each once however often it is named. */
export class Copies {
  readonly #ends: Ends;
  readonly #limits: WorkLimits;
  readonly #parts = new Set<Digest>();
  readonly #begun = new Set<string>();
  readonly #documents = new Set<Digest>();

  constructor(ends: Ends, limits: WorkLimits) {
    this.#ends = ends;
    this.#limits = limits;
  }

  /** Manifests and indexes that were copied so far, parts of copied indexes among them. */
  get documents(): readonly Digest[] {
    return [...this.#documents];
  }

  /** A manifest that an index names. @throws {CodedError} `MANIFEST_UNKNOWN` that names it and its platform */
  async manifestOf(child: RawDescriptor): Promise<Document> {
    const { digest, mediaType } = child;
    try {
      return { ...(await this.#ends.source.manifest(digest, this.#ends.signal)), mediaType };
    } catch (cause) {
      if (!isCoded(cause, 'MANIFEST_UNKNOWN')) throw cause;
      const platform = platformText(child);
      const which = platform === undefined ? digest : `${digest} (${platform})`;
      throw new CodedError('MANIFEST_UNKNOWN', {
        message: `its index names ${which}, which its repository does not have; choose the platforms that are there`,
        detail: { digest },
        cause,
      });
    }
  }

  /** A manifest with all that it names, unchanged; it is not stored itself. */
  async document(document: Document, depth: number): Promise<Document> {
    const parsed = readDocument(document.bytes, document.mediaType);
    this.#limits.document(parsed.kind === 'index' ? depth : 0);
    if (parsed.kind === 'index') for (const child of parsed.children) await this.#child(child, depth + 1);
    else await this.parts(parsed.kind === 'image' ? [parsed.config, ...parsed.layers] : parsed.names);
    this.#documents.add(document.digest);
    return document;
  }

  async #child(child: RawDescriptor, depth: number): Promise<void> {
    if (!isManifestType(child.mediaType)) return await this.parts([child]);
    const key = `${child.mediaType} ${child.digest}`;
    if (this.#begun.has(key)) return this.#limits.document(0);
    this.#begun.add(key);
    const inner = await this.document(await this.manifestOf(child), depth);
    await this.#ends.target.putManifest(inner, undefined, this.#ends.signal);
  }

  /**
   * Copies blobs that the target does not have. What has addresses of its own (`urls`) may be missing at the source as well: a
   * foreign layer stays where they say, anything else is copied where it is there. Nobody checks that an image has the foreign
   * layers that it names.
   */
  async parts(parts: readonly RawDescriptor[]): Promise<void> {
    const { source, target, scratch, signal } = this.#ends;
    for (const part of parts) {
      if (this.#parts.has(part.digest)) continue;
      const isGiven = (await source.has?.(part.digest, signal)) ?? true;
      if (isGiven && (await target.has(part.digest, part.sizeBytes, signal))) continue;
      const { urls } = part.raw;
      const isElsewhere = Array.isArray(urls) && urls.length > 0;
      if (isElsewhere && FOREIGN.test(part.mediaType)) continue;
      await using room = await scratch();
      try {
        await source.blob(part, (chunk) => room.append(chunk), signal);
      } catch (error) {
        if (!isElsewhere || !isCoded(error, 'BLOB_UNKNOWN')) throw error;
        continue;
      }
      const { digest, sizeBytes } = part;
      await target.putBlob({ digest, sizeBytes, open: (start, end) => room.stream(start, end) }, signal);
      this.#parts.add(digest);
    }
  }

  /** A blob that was made here. */
  async bytes({ bytes, digest }: { readonly bytes: Buffer; readonly digest: Digest }): Promise<void> {
    const open = (start?: number, end?: number): Readable => Readable.from([bytes.subarray(start, end)]);
    await this.#ends.target.putBlob({ digest, sizeBytes: bytes.length, open }, this.#ends.signal);
  }

  /** A blob of the source that is as short as a config. */
  async small(blob: RawDescriptor): Promise<Buffer> {
    return await smallBlob(this.#ends.source, blob, MAX_MANIFEST_BYTES, this.#ends.signal);
  }
}
