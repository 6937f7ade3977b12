import { dirname } from 'node:path';
import { ended, readElsewhere } from '@sepia/base/failure';
import type { FilePort } from './files/file-port.ts';

interface PendingSync {
  readonly running: Promise<void>;
  next: Promise<void> | undefined;
}

/** Makes folders when they are first needed, and syncs them: syncs of one folder asked for at once share one call. */
export class Folders {
  readonly #files: FilePort;
  readonly #durable: boolean;
  readonly #made = new Map<string, Promise<void>>();
  readonly #settled = new Set<string>();
  readonly #syncs = new Map<string, PendingSync>();

  /** Without `durable` no sync happens at all. */
  constructor(files: FilePort, options: { readonly durable: boolean }) {
    this.#files = files;
    this.#durable = options.durable;
  }

  /** Makes `folder` and its parents down from `root` (which must exist); when durable, their names are synced. */
  ensure(folder: string, root: string): Promise<void> {
    if (folder === root) return Promise.resolve();
    const known = this.#made.get(folder);
    if (known !== undefined) return known;
    const making = this.#make(folder, root);
    this.#made.set(folder, making);
    readElsewhere(making, () => this.#made.delete(folder));
    return making;
  }

  async #make(folder: string, root: string): Promise<void> {
    const parent = dirname(folder);
    await this.ensure(parent, root);
    await this.#files.makeFolder(folder);
    await this.sync(parent);
  }

  /** Names in `folder` at the time of the call survive a power loss when this resolves. */
  async sync(folder: string): Promise<void> {
    if (!this.#durable) return;
    const pending = this.#syncs.get(folder);
    if (pending === undefined) return this.#start(folder);
    pending.next ??= ended(pending.running).then(() => this.#start(folder));
    return pending.next;
  }

  /**
   * Syncs `folder` unless this process did so before: what an earlier process left visible may not be durable yet,
   * and must be before anybody builds on it.
   */
  async settle(folder: string, root: string): Promise<void> {
    if (!this.#durable || this.#settled.has(folder)) return;
    await this.ensure(folder, root);
    await this.sync(folder);
  }

  #start(folder: string): Promise<void> {
    const running = this.#files.syncFolder(folder).then(() => {
      this.#settled.add(folder);
    });
    const pending: PendingSync = { running, next: undefined };
    this.#syncs.set(folder, pending);
    const forget = (): void => {
      if (this.#syncs.get(folder) === pending && pending.next === undefined) this.#syncs.delete(folder);
    };
    running.then(forget, forget);
    return running;
  }
}
