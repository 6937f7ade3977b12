import type { Digest } from '@sepia/base/digest';
import type { Logger } from '@sepia/base/log';
import { UNSERVED_MS } from '../deadlines.ts';
import type { ContentCache } from './content-cache.ts';

interface Deps {
  /** A daemon serves the mount. */
  readonly isServing: () => Promise<boolean>;
  readonly links: Pick<ContentCache, 'list' | 'withdraw'>;
  /** Layers that snapshots of containerd name: they are mounted at their paths. @throws where nobody knows */
  readonly named: () => Promise<ReadonlySet<Digest>>;
  readonly log: Logger;
  /** A clock that never goes back. */
  readonly nowMs: () => number;
}

/**
 * Takes links into the mount away while no daemon can start: containerd waits without end for an answer there, and pulls the
 * layer where it finds no link. What a snapshot names stays, for it is waited for; what is whole has its link elsewhere. A
 * later pull shows a layer anew.
 */
export class UnservedLinks {
  readonly #deps: Deps;
  readonly #mount: string;
  /** Since when nobody serves. */
  #sinceMs: number | undefined;

  constructor(deps: Deps, options: { readonly mount: string }) {
    this.#deps = deps;
    this.#mount = options.mount;
  }

  /** @throws what `named` does: then all stay */
  async look(): Promise<void> {
    const { isServing, links, named, log, nowMs } = this.#deps;
    if (await isServing()) {
      this.#sinceMs = undefined;
      return;
    }
    this.#sinceMs ??= nowMs();
    if (nowMs() - this.#sinceMs < UNSERVED_MS) return;
    const dead = (await links.list()).filter(({ target }) => target.startsWith(`${this.#mount}/`));
    if (dead.length === 0) return;
    const kept = await named();
    const free = dead.filter(({ diffId }) => !kept.has(diffId));
    // It may have come back meanwhile.
    if (free.length === 0 || (await isServing())) return;
    for (const { diffId } of free) await links.withdraw(diffId);
    log.warn(
      { layers: free.length, named: dead.length - free.length },
      'no daemon serves the mount: layers that no snapshot names are not shown until a pull shows them anew',
    );
  }
}
