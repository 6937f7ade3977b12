import { type Digest, isDigest } from '@sepia/base/digest';
import { logFailure, throwIfBug } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import type { Logger } from '@sepia/base/log';
import { diskFiles } from '@sepia/store/files/disk-files';
import { readWhole, replaceWhole } from '@sepia/store/files/file-port';
import { WRITE_DELAY_MS } from '../deadlines.ts';

const MAX_TAGS = 10_000;
const VERSION = 1;

interface Seen {
  readonly digest: Digest;
  readonly atMs: number;
  /** Of the question that was answered so: see {@link TagMemory.ask}. */
  readonly asked: number;
}

/**
 * What each tag last pointed at, for the day when nobody answers. Cache data: one JSON file
 * `{version, tags: [[key, digest, atMs]]}`, replaced by rename, lost without harm.
 */
export class TagMemory {
  readonly #path: string;
  readonly #log: Logger;
  readonly #tags = new LatestMap<string, Seen>(MAX_TAGS);
  #asked = 0;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  private constructor(path: string, log: Logger) {
    this.#path = path;
    this.#log = log;
  }

  static async open(path: string, log: Logger): Promise<TagMemory> {
    const memory = new TagMemory(path, log);
    try {
      const bytes = await readWhole(diskFiles, path);
      const parsed = JSON.parse(Buffer.from(bytes ?? 'null').toString('utf8')) as {
        version?: unknown;
        tags?: unknown;
      } | null;
      if (parsed?.version === VERSION && Array.isArray(parsed.tags)) memory.#load(parsed.tags);
    } catch (error) {
      throwIfBug(error);
      log.debug({ err: error }, 'no tags remembered');
    }
    return memory;
  }

  /** Before anybody is asked for a tag: what its answer is noted with, so that a late one counts no more than those after it. */
  ask(): number {
    this.#asked += 1;
    return this.#asked;
  }

  note(
    { upstream, repository, tag }: { upstream: string; repository: string; tag: string },
    seen: Seen,
  ): void {
    const key = keyOf(upstream, repository, tag);
    if ((this.#tags.get(key)?.asked ?? 0) > seen.asked) return;
    this.#tags.set(key, seen);
    this.#writeSoon();
  }

  get(upstream: string, repository: string, tag: string): Seen | undefined {
    return this.#tags.get(keyOf(upstream, repository, tag));
  }

  /**
   * Forgets one tag, all that point at a digest, or with neither the whole repository; returns what they pointed at. `asked`:
   * what was seen since that question stays.
   */
  forget(
    upstream: string,
    repository: string,
    which: { readonly tag?: string | undefined; readonly digest?: string | undefined },
    asked = Number.POSITIVE_INFINITY,
  ): Digest[] {
    const forgotten: Digest[] = [];
    const whole = which.tag === undefined && which.digest === undefined;
    for (const [key, { digest, asked: seenBy }] of this.#tags) {
      if (seenBy > asked) continue;
      const isTag = which.tag !== undefined && key === keyOf(upstream, repository, which.tag);
      const isHere = key.startsWith(keyOf(upstream, repository, ''));
      if (!isTag && !(isHere && (whole || digest === which.digest))) continue;
      this.#tags.delete(key);
      forgotten.push(digest);
    }
    if (forgotten.length > 0) this.#writeSoon();
    return forgotten;
  }

  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#timer !== undefined) await this.#write();
    await this.#writing;
  }

  #load(entries: readonly unknown[]): void {
    for (const entry of entries.slice(-MAX_TAGS)) {
      if (!Array.isArray(entry)) continue;
      const [key, digest, atMs] = entry as unknown[];
      if (
        typeof key === 'string' &&
        typeof digest === 'string' &&
        isDigest(digest) &&
        typeof atMs === 'number'
      )
        this.#tags.set(key, { digest, atMs, asked: 0 });
    }
  }

  #writeSoon(): void {
    this.#timer ??= setTimeout(() => void this.#write(), WRITE_DELAY_MS).unref();
  }

  #write(): Promise<void> {
    this.#timer = undefined;
    this.#writing = this.#writing.then(async () => {
      try {
        const text = JSON.stringify({
          version: VERSION,
          tags: [...this.#tags].map(([key, { digest, atMs }]) => [key, digest, atMs]),
        });
        const target = { path: this.#path, temporary: `${this.#path}.new`, durable: false };
        // One that was killed left its own.
        await diskFiles.unlink(target.temporary);
        await replaceWhole(diskFiles, target, Buffer.from(text));
      } catch (error) {
        logFailure(this.#log, error, 'tags are not remembered');
      }
    });
    return this.#writing;
  }
}

function keyOf(upstream: string, repository: string, tag: string): string {
  return `${upstream}\n${repository}\n${tag}`;
}
