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

/** Answer of `GET /v1/blobs/<digest>/where`. */
export interface Where {
  readonly state: 'final' | 'open' | 'none';
  readonly sizeBytes?: number;
  /** Of a fetch under way: what the upstream sent for it so far. */
  readonly fetchedBytes?: number;
  /** By this origin's own record alone: a guess where links can be deleted. */
  readonly linked: boolean;
  /** Of a blob that is here: whether it was pushed (to an upstream of mode write-back: to that), or may go. */
  readonly class?: 'pushed' | 'cached';
  /** Of a blob that is here: the upstreams whose repositories brought it. */
  readonly upstreams?: readonly string[];
}
