import type { SwarmEffect } from '@sepia/swarm/core/events';

/** What each kind of effect counts as. */
const KINDS: Readonly<Record<SwarmEffect['type'], number>> = {
  dial: 0,
  close: 1,
  sendBitfield: 2,
  sendHave: 3,
  sendSuggest: 4,
  fetch: 5,
  cancel: 6,
  refuse: 7,
  readPiece: 8,
  writePiece: 9,
  dropPiece: 10,
  setTimer: 11,
  wantPeers: 12,
  finish: 13,
  log: 14,
};

const HAVE = KINDS.sendHave;

/** Two hashes of 32 bits over numbers, in order: equal runs give equal ones. */
export class TraceHash {
  count = 0;
  #a = 0x811c9dc5;
  #b = 0x1000193;

  /** One effect: when (ms), whose, which kind, over which link, about which piece; −1 where there is none. */
  add(atMs: number, node: number, kind: SwarmEffect['type'], link: number, index: number): void {
    this.#add(atMs, node, KINDS[kind], link, index);
  }

  /** As {@link add} of a `sendHave`: by far the most frequent. */
  addHave(atMs: number, node: number, link: number, index: number): void {
    this.#add(atMs, node, HAVE, link, index);
  }

  #add(atMs: number, node: number, kind: number, link: number, index: number): void {
    this.count += 1;
    this.#mix(Math.round(atMs * 1_000));
    this.#mix(node);
    this.#mix(kind);
    this.#mix(link);
    this.#mix(index);
  }

  get hex(): string {
    return hex(this.#a) + hex(this.#b);
  }

  #mix(value: number): void {
    this.#a = Math.imul(this.#a ^ value, 0x01000193);
    this.#b = Math.imul(this.#b ^ value, 0x85ebca6b) ^ (this.#b >>> 15);
  }
}

function hex(value: number): string {
  return (value >>> 0).toString(16).padStart(8, '0');
}
