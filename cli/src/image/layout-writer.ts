import { mkdirSync, writeFileSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestAlgorithm, digestHex } from '@sepia/base/digest';
import type { PulledManifest } from '../registry/registry-client.ts';

/** A blob being written: it appears under its digest only after {@link keep}. */
export interface BlobFile {
  write(chunk: Uint8Array): Promise<void>;
  keep(): Promise<void>;
  /** Ends it; what was not kept is removed. Idempotent. */
  close(): Promise<void>;
}

/** Writes an OCI image layout (image-spec, "Image Layout"); its folder is made with the first thing in it. */
export class LayoutWriter {
  readonly #root: string;
  #isBegun = false;

  constructor(root: string) {
    this.#root = root;
  }

  writeManifest(manifest: PulledManifest): void {
    writeFileSync(this.#pathOf(manifest.digest), manifest.bytes);
  }

  /** Names the images of the layout: each top manifest by its tag. */
  writeIndex(images: readonly { readonly top: PulledManifest; readonly reference: string }[]): void {
    const manifests = images.map(({ top, reference }) => ({
      mediaType: top.mediaType,
      digest: top.digest,
      size: top.bytes.length,
      annotations: { 'org.opencontainers.image.ref.name': reference },
    }));
    this.#begin();
    writeFileSync(join(this.#root, 'index.json'), `${JSON.stringify({ schemaVersion: 2, manifests })}\n`);
  }

  async openBlob(digest: Digest): Promise<BlobFile> {
    const path = this.#pathOf(digest);
    const partial = `${path}.partial`;
    const file = await open(partial, 'w');
    let isOpen = true;
    let isKept = false;
    const end = async (): Promise<void> => {
      if (isOpen) await file.close();
      isOpen = false;
    };
    return {
      write: async (chunk) => void (await file.writeFile(chunk)),
      keep: async () => {
        await end();
        await rename(partial, path);
        isKept = true;
      },
      close: async () => {
        await end();
        if (!isKept) await rm(partial, { force: true });
      },
    };
  }

  #begin(): void {
    if (this.#isBegun) return;
    mkdirSync(this.#root, { recursive: true });
    writeFileSync(join(this.#root, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    this.#isBegun = true;
  }

  #pathOf(digest: Digest): string {
    this.#begin();
    const folder = join(this.#root, 'blobs', digestAlgorithm(digest));
    mkdirSync(folder, { recursive: true });
    return join(folder, digestHex(digest));
  }
}
