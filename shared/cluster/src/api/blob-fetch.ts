/** Answer of `POST /v1/blobs/<digest>/fetch`. */
export interface BlobFetchState {
  /** `final`: stored wherever it was wanted, or failed there; `running`: ask again. */
  readonly state: 'final' | 'running';
  readonly sizeBytes: number;
  readonly haveBytes: number;
  /** Origins that have the whole blob on disk. */
  readonly holders: readonly string[];
  /** Owners that did not get their copy, and why; it stays owed to them. */
  readonly failed: Readonly<Record<string, string>>;
}
