import type { Logger } from '@sepia/base/log';
import { forkOf, type Membership, ringInWords, ringOfMost, type ToldRing } from '@sepia/cluster/membership';

/** What other origins say of the ring, beside what this one knows: which to follow, and who names another one. ADR 0068. */
export class OtherRings {
  readonly #log: Pick<Logger, 'error'>;
  /** Who named another ring than this origin's own, and which, in words. */
  readonly #named = new Map<string, string>();

  constructor(log: Pick<Logger, 'error'>) {
    this.#log = log;
  }

  /** One line for each origin that named another ring when it was asked last. */
  get warnings(): string[] {
    return [...this.#named.values()];
  }

  /** The newest of the own ring; where none is agreed yet, of the one that most name. */
  newestOf(own: Membership | undefined, told: readonly ToldRing[]): Membership | undefined {
    if (own === undefined) return ringOfMost(told).ring;
    const same = told.map(({ membership }) => membership).filter((one) => forkOf(own, one) === undefined);
    return same.toSorted((a, b) => b.epoch - a.epoch)[0];
  }

  /** Documents that differed at the first start, a folder of another cluster: from then on nothing else would tell. */
  compare(own: Membership, { by: id, membership }: ToldRing): void {
    const epoch = forkOf(own, membership);
    if (epoch === undefined) {
      this.#named.delete(id);
      return;
    }
    const at = membership.epoch === own.epoch ? '' : ` at epoch ${membership.epoch}`;
    const others = `${ringInWords(membership)}${at}`;
    if (!this.#named.has(id)) this.#log.error({ id, epoch, others }, 'another origin is of another ring');
    this.#named.set(id, `the origins do not agree who they are (epoch ${epoch}): ${id} names ${others}`);
  }

  /** The own membership is another one: what was named is compared anew. */
  clear(): void {
    this.#named.clear();
  }
}
