import { invalidWire } from './frames.ts';
import { blockKey, blockOf } from './wire-messages.ts';

interface Arriving {
  readonly index: number;
  readonly offset: number;
  readonly key: number;
  wanted: boolean;
}

/** Our requests on one wire, with the place for their bytes; late blocks of cancelled ones are known, and thrown away. */
export class BlockRequests {
  readonly #cancelledLimit: number;
  /** By {@link blockKey}. */
  readonly #targets = new Map<number, Uint8Array>();
  readonly #cancelled = new Set<number>();
  #arriving: Arriving | undefined;

  constructor(cancelledLimit: number) {
    this.#cancelledLimit = cancelledLimit;
  }

  get size(): number {
    return this.#targets.size;
  }

  has(index: number, offset: number): boolean {
    return this.#targets.has(blockKey(index, offset));
  }

  add(index: number, offset: number, target: Uint8Array): void {
    this.#targets.set(blockKey(index, offset), target);
  }

  /** Takes a request back. Returns its length, and whether its bytes are arriving right now; undefined if there is none. */
  cancel(index: number, offset: number): { length: number; arriving: boolean } | undefined {
    const key = blockKey(index, offset);
    const target = this.#targets.get(key);
    if (target === undefined) return undefined;
    this.#targets.delete(key);
    const arriving = this.#arriving?.key === key;
    if (arriving) this.#arriving!.wanted = false;
    else this.#remember(key);
    return { length: target.length, arriving };
  }

  /** The other end sends none of them (BEP 3, choke); what is on its way all the same is known, and thrown away. */
  cancelAll(): { readonly index: number; readonly offset: number }[] {
    const dropped = [...this.#targets.keys()].map(blockOf);
    for (const { index, offset } of dropped) this.cancel(index, offset);
    return dropped;
  }

  /** The other end will not send it. True if it was still wanted. */
  reject(index: number, offset: number): boolean {
    const key = blockKey(index, offset);
    if (this.#targets.delete(key)) return true;
    this.#cancelled.delete(key);
    return false;
  }

  /** A block begins. Returns where it goes, or undefined to throw it away. @throws `WIRE_INVALID` if nobody asked for it */
  begin(index: number, offset: number, length: number): Uint8Array | undefined {
    const key = blockKey(index, offset);
    const target = this.#targets.get(key);
    if (target === undefined) {
      if (!this.#cancelled.delete(key)) throw invalidWire('piece that was not requested');
      this.#arriving = { index, offset, key, wanted: false };
      return undefined;
    }
    if (target.length !== length) throw invalidWire('block of another length');
    this.#arriving = { index, offset, key, wanted: true };
    return target;
  }

  /** Bytes of the block that {@link begin} began. Returns it if somebody waits for it. */
  onBytes(done: boolean): { readonly index: number; readonly offset: number } | undefined {
    const block = this.#arriving!;
    if (done) {
      this.#arriving = undefined;
      if (block.wanted) this.#targets.delete(block.key);
    }
    return block.wanted ? block : undefined;
  }

  clear(): void {
    this.#targets.clear();
    this.#cancelled.clear();
  }

  #remember(key: number): void {
    this.#cancelled.add(key);
    if (this.#cancelled.size <= this.#cancelledLimit) return;
    for (const oldest of this.#cancelled) {
      this.#cancelled.delete(oldest);
      return;
    }
  }
}
