/**
 * Levels of compression of what layers are converted to: gzip's, and zstd's (above 19, windows of zstd grow beyond what
 * readers take).
 */
export const COMPRESSION_LEVELS = {
  estargz: { least: 0, most: 9, usual: 6 },
  zstdchunked: { least: 1, most: 19, usual: 3 },
  nydus: { least: 1, most: 19, usual: 3 },
} as const;
