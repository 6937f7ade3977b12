import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { KeyedLocks } from '@sepia/base/async/keyed-locks';
import { type Digest, digestHex, digestOf } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { tryParse } from '@sepia/base/failure';
import { diskFiles } from '@sepia/store/files/disk-files';
import { readWhole, replaceWhole } from '@sepia/store/files/file-port';
import { z } from 'zod';

const FACTS = z.object({ layer: z.string(), index: z.string(), image: z.string() });

/** An index on this node, with where its layer is read. */
export interface KeptIndex {
  readonly layer: Digest;
  readonly index: Digest;
  /** Upstream and repository, as `upstream/team/app`. */
  readonly image: string;
  readonly file: string;
  /** When it came here, or was asked for last: ms of the wall clock. */
  readonly keptMs: number;
}

type Facts = Omit<KeptIndex, 'file' | 'keptMs'>;

/** Indexes that came from the cluster: `<layer hex>.lazy`, and beside it what it belongs to. They outlive the daemon. */
export class IndexFolder {
  readonly #dir: string;
  /** One change of a layer's files at a time. */
  readonly #turns = new KeyedLocks<Digest>();
  /** How often each was asked for. */
  readonly #asked = new Map<Digest, number>();

  constructor(dir: string) {
    this.#dir = dir;
  }

  async list(): Promise<KeptIndex[]> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const found: KeptIndex[] = [];
    for (const name of await readdir(this.#dir)) {
      if (!name.endsWith('.json')) continue;
      const written = await diskFiles.stat(join(this.#dir, name));
      const bytes = await readable(join(this.#dir, name));
      const facts = tryParse(() => FACTS.parse(JSON.parse(Buffer.from(bytes ?? []).toString('utf8'))));
      const file = join(this.#dir, name.replace(/json$/, 'lazy'));
      // What is no file, or not read, is got again when a pull names the layer.
      if (!facts.ok || written === undefined || !(await isFileOrGone(file))) continue;
      const kept = { ...(facts.value as Facts), file, keptMs: written.modifiedMs };
      found.push(kept);
    }
    return found;
  }

  /** The index of a layer; one that is not here, or another, is got by `read` and checked. @throws `DIGEST_MISMATCH`, what `read` throws */
  async keep(facts: Facts, read: () => Promise<Buffer>): Promise<KeptIndex> {
    this.#asked.set(facts.layer, (this.#asked.get(facts.layer) ?? 0) + 1);
    return await this.#turns.run(facts.layer, () => this.#keep(facts, read));
  }

  /** @returns forgets the index of a layer, unless it was asked for since this call */
  forgetting(layer: Digest): () => Promise<void> {
    const asked = this.#asked.get(layer);
    return async () =>
      await this.#turns.run(layer, async () => {
        if (this.#asked.get(layer) !== asked) return;
        const stem = join(this.#dir, digestHex(layer));
        await diskFiles.unlink(`${stem}.json`);
        await diskFiles.unlink(`${stem}.lazy`);
        this.#asked.delete(layer);
      });
  }

  async #keep(facts: Facts, read: () => Promise<Buffer>): Promise<KeptIndex> {
    const stem = join(this.#dir, digestHex(facts.layer));
    const kept = { ...facts, file: `${stem}.lazy`, keptMs: Date.now() };
    if (!(await this.#has(facts, stem))) {
      const bytes = await read();
      const found = digestOf(bytes);
      if (found !== facts.index)
        throw new CodedError('DIGEST_MISMATCH', { detail: { expected: facts.index, found } });
      await diskFiles.unlink(`${stem}.json`);
      await this.#write(kept.file, bytes);
    }
    await this.#write(`${stem}.json`, Buffer.from(JSON.stringify(facts)));
    return kept;
  }

  async #has({ index }: Facts, stem: string): Promise<boolean> {
    const bytes = await readable(`${stem}.lazy`);
    return bytes !== undefined && digestOf(bytes) === index;
  }

  async #write(path: string, bytes: Buffer): Promise<void> {
    // Left by a process that was killed while it wrote.
    await diskFiles.unlink(`${path}.new`);
    await replaceWhole(diskFiles, { path, temporary: `${path}.new`, durable: true }, bytes);
  }
}

/** What a file holds; undefined where none lies, or the disk does not read it. */
async function readable(path: string): Promise<Uint8Array | undefined> {
  try {
    return await readWhole(diskFiles, path);
  } catch (error) {
    if (!isCoded(error, 'DISK_CORRUPT')) throw error;
    return undefined;
  }
}

async function isFileOrGone(path: string): Promise<boolean> {
  const facts = await diskFiles.stat(path);
  return facts === undefined || facts.kind === 'file';
}
