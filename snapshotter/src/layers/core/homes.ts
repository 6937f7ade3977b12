/** A repository that a layer can be fetched from. */
export interface LayerHome {
  /** Host of the upstream, as `ns`. */
  readonly host: string;
  readonly repository: string;
}

/** Repositories that are remembered to have one layer. */
const MAX_HOMES = 8;

/** The homes of a layer after it was pulled by `home`, which is asked first from now on. */
export function withFirst(homes: readonly LayerHome[], home: LayerHome): readonly LayerHome[] {
  return [home, ...homes.filter((one) => !isSameHome(one, home))].slice(0, MAX_HOMES);
}

/** The homes of a layer with `home`, which had it earlier, too, and is asked last. */
export function withLast(homes: readonly LayerHome[], home: LayerHome): readonly LayerHome[] {
  return homes.some((one) => isSameHome(one, home)) ? homes : [...homes, home].slice(0, MAX_HOMES);
}

/** In which order they are asked, where this one served the layer last. */
export function inTurn(homes: readonly LayerHome[], served: LayerHome | undefined): readonly LayerHome[] {
  const first = homes.find((one) => served !== undefined && isSameHome(one, served));
  return first === undefined ? homes : withFirst(homes, first);
}

function isSameHome(one: LayerHome, other: LayerHome): boolean {
  return one.host === other.host && one.repository === other.repository;
}
