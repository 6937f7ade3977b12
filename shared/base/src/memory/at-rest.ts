/** Remembers what costs little to have again. */
export interface Forgetful {
  /** Forgets it; what is under way goes on. */
  forgetAll(): void;
}

const all = new Set<WeakRef<Forgetful>>();

/** `one` is to forget what it remembers when this process rests after a burst. It is not kept alive by that. @returns `one` */
export function forgetsAtRest<One extends Forgetful>(one: One): One {
  all.add(new WeakRef(one));
  return one;
}

/** This process rests: what was remembered in the burst goes before its memory is collected. */
export function forgetAtRest(): void {
  for (const ref of all) {
    const one = ref.deref();
    if (one === undefined) all.delete(ref);
    else one.forgetAll();
  }
}
