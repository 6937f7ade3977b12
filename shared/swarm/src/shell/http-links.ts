import { logFailure } from '@sepia/base/failure';
import type { LinkId, SwarmEvent } from '../core/events.ts';
import type { HttpSource, SwarmLog } from '../swarm.ts';
import type { SlabPool } from './slab-pool.ts';

interface HttpLink {
  readonly source: HttpSource;
  readonly fetches: Map<number, { abort: AbortController; slab: Uint8Array }>;
}

interface HttpLinksDeps {
  readonly slabs: SlabPool;
  readonly log: SwarmLog;
  readonly lengthOf: (index: number) => number;
  readonly tell: (event: SwarmEvent) => void;
  /** A whole piece of the right length; the slab goes with it. */
  readonly onPiece: (link: LinkId, index: number, slab: Uint8Array, sourceId: string) => void;
}

/** The HTTP sources of one swarm: links of the core without a wire. A slab belongs to the fetch until its piece is told. */
export class HttpLinks {
  readonly #deps: HttpLinksDeps;
  readonly #links = new Map<LinkId, HttpLink>();

  constructor(deps: HttpLinksDeps) {
    this.#deps = deps;
  }

  /** Replaces the list; a source that stays keeps its link. */
  set(sources: readonly HttpSource[], draw: () => LinkId): void {
    const wanted = new Map(sources.map((source) => [source.id, source]));
    for (const [link, http] of [...this.#links]) {
      if (wanted.delete(http.source.id)) continue;
      this.#drop(link);
      this.#deps.tell({ type: 'linkDown', link, reason: 'closed' });
    }
    for (const source of wanted.values()) {
      const link = draw();
      this.#links.set(link, { source, fetches: new Map() });
      this.#deps.tell({ type: 'httpUp', link, has: (index) => source.has(index) });
    }
  }

  /** Starts a fetch; false if the link is none of these. */
  fetch(link: LinkId, index: number, slab: Uint8Array): boolean {
    const http = this.#links.get(link);
    if (http === undefined) return false;
    void this.#fetch(link, http, index, slab);
    return true;
  }

  cancel(link: LinkId, index: number): void {
    const http = this.#links.get(link);
    const fetch = http?.fetches.get(index);
    if (fetch === undefined) return;
    http?.fetches.delete(index);
    fetch.abort.abort();
    this.#deps.slabs.release(fetch.slab);
  }

  stop(): void {
    for (const link of [...this.#links.keys()]) this.#drop(link);
  }

  #drop(link: LinkId): void {
    for (const index of [...(this.#links.get(link)?.fetches.keys() ?? [])]) this.cancel(link, index);
    this.#links.delete(link);
  }

  async #fetch(link: LinkId, http: HttpLink, index: number, slab: Uint8Array): Promise<void> {
    const { slabs, log, lengthOf, tell, onPiece } = this.#deps;
    const fetch = { abort: new AbortController(), slab };
    http.fetches.set(index, fetch);
    let bytes: Uint8Array | undefined;
    let toldBytes = 0;
    try {
      bytes = await http.source.fetchPiece(index, fetch.abort.signal, (count) => {
        if (http.fetches.get(index) !== fetch || !(count > 0)) return;
        toldBytes += count;
        tell({ type: 'progress', link, index, bytes: count });
      });
    } catch (error) {
      logFailure(log, error, 'piece over HTTP failed', { source: http.source.id, index }, 'debug');
    }
    if (http.fetches.get(index) !== fetch) return;
    http.fetches.delete(index);
    if (bytes === undefined || bytes.length !== lengthOf(index)) {
      // Its source may have given up what it asked for, and that may go on.
      fetch.abort.abort();
      slabs.release(slab);
      tell({ type: 'fetchFailed', link, index, busy: false });
      return;
    }
    slab.set(bytes);
    tell({ type: 'progress', link, index, bytes: Math.max(0, bytes.length - toldBytes) });
    onPiece(link, index, slab, http.source.id);
  }
}
