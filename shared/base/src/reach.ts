interface ReachOptions {
  /** Who is asked, in the plural. */
  readonly whom: string;
  /** How long nobody may answer until it counts as a lack, in ms. */
  readonly patienceMs: number;
}

/** What is lacking: a refusal of all is for good until somebody acts, silence may pass. */
export interface Lack {
  readonly kind: 'silent' | 'refused';
  readonly why: string;
}

/**
 * Whether a process reaches at least one of those that it cannot work without; one good answer ends a lack. Pure: time
 * is passed in, in ms of a clock that is never set.
 */
export class Reach {
  readonly #options: ReachOptions;
  readonly #failed = new Map<string, { readonly kind: Lack['kind']; readonly why: string }>();
  #sinceMs: number | undefined;

  constructor(options: ReachOptions) {
    this.#options = options;
  }

  answered(): void {
    this.#failed.clear();
    this.#sinceMs = undefined;
  }

  failed(id: string, kind: Lack['kind'], why: string, nowMs: number): void {
    this.#failed.set(id, { kind, why });
    this.#sinceMs ??= nowMs;
  }

  lack(nowMs: number): Lack | undefined {
    if (this.#sinceMs === undefined || nowMs - this.#sinceMs < this.#options.patienceMs) return undefined;
    const refused = [...this.#failed].find(([, one]) => one.kind === 'refused');
    const [id, { kind, why }] = refused ?? [...this.#failed][0]!;
    const seconds = Math.floor((nowMs - this.#sinceMs) / 1000);
    return { kind, why: `none of the ${this.#options.whom} has answered for ${seconds} s (${id}: ${why})` };
  }
}

/** Wall time at the start of the process and monotonic from there, in whole ms: for intervals, which no set clock may stretch. */
export function steadyMs(): number {
  return Math.floor(performance.timeOrigin + performance.now());
}
