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

/** How long spans of the indexes are that are made here, in bytes of the uncompressed layer: what they aim at, and the longest. */
export const SPAN_BOUNDS: SpanBounds = { spanBytes: 1024 * 1024, maxSpanBytes: 16 * 1024 * 1024 };
