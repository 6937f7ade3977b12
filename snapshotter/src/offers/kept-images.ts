import { join } from 'node:path';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { DIGEST } from '@sepia/base/names/digest-schema';
import { z } from 'zod';
import { readJson, writeJson } from '../files/json-file.ts';
import { type ImageStatus, ImageTable } from './image-table.ts';

const IMAGES = z.array(
  z.object({
    image: z.string(),
    manifest: z.string(),
    isLazy: z.boolean(),
    reason: z.string().optional(),
    layers: z.array(z.object({ digest: DIGEST, diffId: DIGEST, reason: z.string().optional() })),
    atMs: z.number(),
    sizeBytes: z.number().optional(),
  }),
);

/**
 * `images.json` in the data folder: how images stood at their pulls, for `sepia lazy status` after a restart, and how
 * large they are, which decides what is filled. Nothing is believed for it, so it is not synced, and one that cannot be
 * read or written is gone, and logged.
 */
export class KeptImages {
  readonly table: ImageTable;
  readonly #log: Logger;
  readonly #path: string;
  #isDirty = false;
  #writing: Promise<void> | undefined;

  private constructor(log: Logger, path: string, former: readonly ImageStatus[]) {
    this.#log = log;
    this.#path = path;
    this.table = new ImageTable(former, () => this.#changed());
  }

  static async open(log: Logger, data: string): Promise<KeptImages> {
    const path = join(data, 'images.json');
    return new KeptImages(log, path, await formerImages(log, path));
  }

  /** Resolves when what was noted is in the file, or could not be written. */
  async settled(): Promise<void> {
    await this.#writing;
  }

  #changed(): void {
    this.#isDirty = true;
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined;
    });
  }

  async #write(): Promise<void> {
    while (this.#isDirty) {
      this.#isDirty = false;
      try {
        await writeJson(this.#path, this.table.list(), false);
      } catch (error) {
        logFailure(this.#log, error, 'what became of a pull is forgotten at the next start');
      }
    }
  }
}

async function formerImages(log: Logger, path: string): Promise<readonly ImageStatus[]> {
  try {
    return (await readJson(path, IMAGES)) ?? [];
  } catch (error) {
    logFailure(log, error, 'what became of former pulls cannot be read', { path });
    return [];
  }
}
