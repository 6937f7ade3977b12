import { type Entry, joinFields } from '@sepia/records/core/join';
import { Links } from '../../src/records/links.ts';
import type { Step } from './orders.ts';

/** One link on record, as all of its owners have it, and the clock of those who write it. */
export class ClockedLink {
  entry: Entry | undefined;
  #nowMs = 1;

  constructor(entry?: Entry) {
    this.entry = entry;
  }

  get isLinked(): boolean {
    return this.entry?.value !== undefined;
  }

  /** Links of one who looks and writes in steps; `upstreams`: what they ask of those beside that links are deleted here. */
  links(step: Step, upstreams: object = {}): Links {
    const put = async ({ value }: { readonly value?: unknown }, atMs: number): Promise<void> => {
      await step();
      const entry = value === undefined ? { atMs } : { atMs, value };
      this.entry = this.entry === undefined ? entry : joinFields(this.entry, entry);
    };
    const set = {
      read: async () => {
        await step();
        return this.entry;
      },
      readAbove: async () => {
        await step();
        return { record: this.entry, agreedMs: 0 };
      },
      write: async (_: unknown, [change]: readonly object[]) =>
        await put(change!, Math.max(++this.#nowMs, (this.entry?.atMs ?? 0) + 1)),
      writeSeen: async (_: unknown, [change]: readonly object[], seenMs: number) =>
        await put(change!, seenMs),
    };
    return new Links({
      ...{ set, nowMs: () => 0, dateMs: () => ++this.#nowMs },
      upstreams: { client: () => undefined, takesDeletes: () => true, ...upstreams },
    } as never);
  }
}
