import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { News } from '@sepia/base/news';
import type { LazyOffer } from '@sepia/cluster/api/lazy-offers';
import { FirstSpans } from '../layers/core/first-spans.ts';
import type { LazyLayer } from '../layers/lazy-layer.ts';
import { spansOfBytes, spansOfPaths } from '../layers/named-files.ts';
import { findStartFiles } from './start-files.ts';

/** The trees of an image are held while it is looked into: of so many files that is some 40 MB. */
const MAX_ENTRIES = 100_000;

/**
 * What starts read first is put in front of the rest: files of a recorded start and of the operator's list, else what the
 * image's config leads to.
 */
export class StartReads {
  readonly spans = new FirstSpans<LazyLayer>();
  readonly #news = new News();
  readonly #log: Logger;
  readonly #paths: readonly string[];

  constructor(deps: { readonly log: Logger }, options: { readonly paths: readonly string[] }) {
    this.#log = deps.log;
    this.#paths = options.paths;
  }

  /** Puts the listed files of these layers in front. @returns whether they have any */
  async addListed(layers: readonly LazyLayer[]): Promise<boolean> {
    const listed = await spansOfPaths(layers, this.#paths);
    this.add(listed);
    return listed.length > 0;
  }

  /** Puts spans in front of the rest, behind those that are there. */
  add(spans: Parameters<FirstSpans<LazyLayer>['add']>[0]): void {
    this.spans.add(spans);
    this.#news.tell();
  }

  /** Ends when spans are put in front. @throws the signal's reason */
  async added(signal: AbortSignal): Promise<void> {
    await this.#news.next(signal);
  }

  /** An image will be started from these layers. What cannot be found out is not fetched first; nothing else comes of it. */
  expect(offer: LazyOffer, layers: readonly LazyLayer[]): void {
    const { repository } = offer;
    const text = 'what the start of an image reads was not found out';
    this.#find(offer, layers).catch((error: unknown) =>
      logFailure(this.#log, error, text, { repository }, 'debug'),
    );
  }

  async #find({ command, readFirst = [] }: LazyOffer, layers: readonly LazyLayer[]): Promise<void> {
    const recorded = await spansOfPaths(layers, readFirst);
    this.add(recorded);
    if ((await this.addListed(layers)) || recorded.length > 0 || command === undefined) return;
    if (layers.reduce((sum, { entryCount }) => sum + entryCount, 0) > MAX_ENTRIES) return;
    const trees = await Promise.all(layers.map(async (one) => await one.tree()));
    await findStartFiles(
      {
        trees,
        read: async (file, offset, length) =>
          await layers[file.layer]!.readContent(file.node.offset + offset, length),
        onPart: (file, offset, length) =>
          this.add(spansOfBytes(layers[file.layer]!, file.node.offset + offset, length)),
      },
      command,
    );
  }
}
