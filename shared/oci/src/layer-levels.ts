/** Levels of compression of a format of layers. */
interface LayerLevels {
  readonly least: number;
  readonly most: number;
  /** Where nobody says which. */
  readonly usual: number;
}

/** gzip's and zstd's levels (above 19, windows of zstd grow beyond what readers take). */
export const LAYER_LEVELS = {
  estargz: { least: 0, most: 9, usual: 6 },
  zstdchunked: { least: 1, most: 19, usual: 3 },
} as const satisfies Readonly<Record<string, LayerLevels>>;
