import type { Link } from './link.ts';

/** Notices that there is nobody to ask: no wire, or none that moves. */
export class Lack {
  readonly #afterMs: number;
  #sinceMs: number;

  constructor(afterMs: number, nowMs: number) {
    this.#afterMs = afterMs;
    this.#sinceMs = nowMs;
  }

  /** True once per `afterMs` of lack. */
  check(links: Iterable<Link>, wanting: boolean, nowMs: number): boolean {
    let alive = !wanting;
    for (const link of links) if (link.kind === 'wire' && !link.isStranger && !link.stalled) alive = true;
    const due = !alive && nowMs - this.#sinceMs >= this.#afterMs;
    if (alive || due) this.#sinceMs = nowMs;
    return due;
  }
}
