import { Passes } from '@sepia/base/async/passes';
import { logFailure } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import type { Logger } from '@sepia/base/log';
import type { RepositoryName } from '@sepia/base/names/repository';
import { parseReference } from '@sepia/oci/route';
import { PULL_TIME_MS, PULL_TIME_PAUSE_MS } from '../deadlines/upstreams.ts';
import type { Upstreams } from '../upstream/upstreams.ts';

/** Images remembered; the longest unserved go first. */
const MAX_IMAGES = 10_000;

interface PullTimesDeps {
  readonly upstreams: Upstreams;
  readonly log: Logger;
  /** Steady: after clocks were set back no image that is asked for would count as asked for since. */
  readonly nowMs: () => number;
}

interface Image {
  readonly upstream: string;
  readonly repository: RepositoryName;
  readonly reference: string;
  servedAtMs: number;
  refreshedAtMs: number;
}

/**
 * Keeps the pull times of a registry fresh that sees one pull where thousands happen (`refresh-pull-times`): one
 * manifest GET per image and interval, for images that were asked for since. HEAD would not count there.
 */
export class PullTimes {
  readonly #deps: PullTimesDeps;
  readonly #images = new LatestMap<string, Image>(MAX_IMAGES);
  readonly #passes: Passes;

  constructor(deps: PullTimesDeps) {
    this.#deps = deps;
    this.#passes = new Passes({
      name: 'pull-times',
      pass: async () => await this.#pass(),
      rest: () => ({ ms: Math.max(PULL_TIME_PAUSE_MS, this.#dueInMs()), deafMs: PULL_TIME_PAUSE_MS }),
      log: deps.log,
      failed: 'pull times were not looked through',
    });
  }

  start(): void {
    this.#passes.start();
  }

  async stop(): Promise<void> {
    await this.#passes.stop();
  }

  /** A manifest was served. Its first GET went upstream, or was counted there before. */
  note(name: { readonly upstream: string; readonly repository: RepositoryName }, reference: string): void {
    if (this.#everyMs(name.upstream) === undefined) return;
    const key = `${name.upstream}\n${name.repository}\n${reference}`;
    const nowMs = this.#deps.nowMs();
    const known = this.#images.get(key);
    this.#images.set(key, {
      ...name,
      reference,
      servedAtMs: nowMs,
      refreshedAtMs: known?.refreshedAtMs ?? nowMs,
    });
    this.#passes.wake();
  }

  async #pass(): Promise<void> {
    const due = this.#due();
    if (due !== undefined) await this.#refresh(due);
  }

  #due(): Image | undefined {
    for (const image of this.#images.values()) if (this.#waitOf(image) <= 0) return image;
    return undefined;
  }

  /** Ms until the next image is due; Infinity if none is. */
  #dueInMs(): number {
    let leastMs = Number.POSITIVE_INFINITY;
    for (const image of this.#images.values()) leastMs = Math.min(leastMs, this.#waitOf(image));
    return leastMs;
  }

  /** Until this image is due, in ms; one that nobody asked for since waits for that. */
  #waitOf({ upstream, servedAtMs, refreshedAtMs }: Image): number {
    const everyMs = this.#everyMs(upstream);
    if (everyMs === undefined || servedAtMs <= refreshedAtMs) return Number.POSITIVE_INFINITY;
    return refreshedAtMs + everyMs - this.#deps.nowMs();
  }

  async #refresh(image: Image): Promise<void> {
    const { upstream, repository, reference } = image;
    image.refreshedAtMs = this.#deps.nowMs();
    try {
      await this.#deps.upstreams
        .client(upstream)
        ?.getManifest(
          { repository, reference: parseReference(reference) },
          AbortSignal.any([AbortSignal.timeout(PULL_TIME_MS), this.#passes.signal]),
        );
    } catch (error) {
      logFailure(
        this.#deps.log,
        error,
        'pull time not refreshed',
        { upstream, repository, reference },
        'debug',
      );
    }
  }

  #everyMs(upstream: string): number | undefined {
    const { mode, 'refresh-pull-times': everyMs } = this.#deps.upstreams.get(upstream);
    return mode === 'none' ? undefined : everyMs;
  }
}
