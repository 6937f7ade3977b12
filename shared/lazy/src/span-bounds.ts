/** How long spans are: stretches of a layer that are decompressed and checked alone. In bytes. */
export interface SpanBounds {
  /**
   * A span ends at the first place behind so many uncompressed bytes where decompression can begin anew: of gzip at a
   * block (behind half of it at a member), of zstd at a frame, of a plain tar at once.
   */
  readonly spanBytes: number;
  /** Where there is none for this long (compressed or not), the layer is not lazy. */
  readonly maxSpanBytes: number;
}

/** Bounds of the indexes that we make. */
export const SPAN_BOUNDS: SpanBounds = { spanBytes: 1024 * 1024, maxSpanBytes: 16 * 1024 * 1024 };
