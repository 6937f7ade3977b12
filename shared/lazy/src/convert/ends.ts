import type { Readable } from 'node:stream';
import type { Digest } from '@sepia/base/digest';
import type { Document, RawDescriptor } from './documents.ts';
import type { LayerPhase, LayerRecord } from './layer-job.ts';

/** Where the image comes from. Everything that it gives matches its digest. */
export interface ImageSource {
  /** A manifest by tag or digest. */
  manifest(reference: string, signal?: AbortSignal): Promise<Document>;
  /** Calls `take` with the bytes of a blob, in order. */
  blob(
    blob: { readonly digest: Digest; readonly sizeBytes: number },
    take: (chunk: Uint8Array) => Promise<void>,
    signal?: AbortSignal,
  ): Promise<void>;
  /**
   * Whether it would give this blob. Asked before the target is: one that takes blobs over from repositories beside it must not
   * give to an image what that names and does not have. Left out where a target has no repositories beside it.
   */
  has?(digest: Digest, signal?: AbortSignal): Promise<boolean>;
}

/** The registry that a result goes to, as a conversion needs it. */
export interface ImageTarget {
  has(digest: Digest, sizeBytes: number, signal?: AbortSignal): Promise<boolean>;
  /** Stores a blob. `open` gives a new stream at each call: of its bytes from `start` to `end`, or of all. */
  putBlob(
    blob: {
      readonly digest: Digest;
      readonly sizeBytes: number;
      readonly open: (start?: number, end?: number) => Readable;
    },
    signal?: AbortSignal,
  ): Promise<void>;
  /** Stores a manifest under its digest, or under this tag. */
  putManifest(document: Document, tag: string | undefined, signal?: AbortSignal): Promise<void>;
}

/** Is told of a conversion's layers as they come along; bytes are those of the phase. */
export interface ConvertReport {
  layer(layer: RawDescriptor, phase: LayerPhase, doneBytes: number, ofBytes: number): void;
  layerDone(layer: RawDescriptor, outcome: LayerRecord, isFromCache: boolean): void;
}
