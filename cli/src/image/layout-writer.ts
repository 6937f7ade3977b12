import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestAlgorithm, digestHex } from '@sepia/base/digest';
import { CodedError, systemCode } from '@sepia/base/errors';
import type { PulledManifest } from '../registry/registry-client.ts';

const REF_NAME = 'org.opencontainers.image.ref.name';

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

  /** Names images of the layout: each top manifest by its tag, beside those of other tags that it names already. */
  writeIndex(images: readonly { readonly top: PulledManifest; readonly reference: string }[]): void {
    const tags = new Set(images.map(({ reference }) => reference));
    const others = entriesOf(this.#root).filter((one) => !tags.has(tagOf(one) ?? ''));
    const own = images.map(({ top, reference }) => ({
      mediaType: top.mediaType,
      digest: top.digest,
      size: top.bytes.length,
      annotations: { [REF_NAME]: reference },
    }));
    this.#begin();
    const path = join(this.#root, 'index.json');
    const manifests = [...others, ...own];
    writeFileSync(`${path}.partial`, `${JSON.stringify({ schemaVersion: 2, manifests })}\n`);
    renameSync(`${path}.partial`, path);
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

/** Tags that a layout has; none where there is no layout. @throws {CodedError} `REQUEST_INVALID` for an index.json that is none */
export function layoutTags(root: string): string[] {
  return entriesOf(root).flatMap((entry) => tagOf(entry) ?? []);
}

function tagOf(entry: unknown): string | undefined {
  const { annotations } = entry as { readonly annotations?: Readonly<Record<string, string>> };
  return annotations?.[REF_NAME];
}

/** Images that index.json names, as they stand there. */
function entriesOf(root: string): readonly unknown[] {
  const path = join(root, 'index.json');
  try {
    const index = JSON.parse(readFileSync(path, 'utf8')) as { readonly manifests?: unknown } | null;
    const manifests = index?.manifests;
    if (Array.isArray(manifests) && manifests.every((one) => typeof one === 'object' && one !== null))
      return manifests;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new CodedError('REQUEST_INVALID', { message: `${path} is no index of an OCI layout` });
}
