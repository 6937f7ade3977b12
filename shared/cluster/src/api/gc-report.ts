/** What a sweep did, or would do, to one repository. */
export interface RepositoryReport {
  readonly upstream: string;
  readonly repository: string;
  readonly links: number;
  /** Bytes that these links counted against its quota. */
  readonly bytes: number;
  readonly kept: number;
  /** Why nothing was taken though something is unreferenced. */
  readonly left?: string;
  /** Bytes that backends lost by it: of each blob counted at the last repository that this sweep took its link from. */
  readonly backendBytes?: number;
}

/** What a sweep took out of a backend, or would. */
export interface BackendReport {
  readonly upstream: string;
  /** A bucket or a folder. */
  readonly place: string;
  /** Blobs without any link; of a dry run those that would go, once the links above are gone some more. */
  readonly unlinked: number;
  readonly blobs: number;
  readonly bytes: number;
  /** Blobs that were there before the first link on record: they stay. */
  readonly older: number;
  /** Why something stayed that could have been removed. */
  readonly left?: string;
}

/** How far a sweep is, or how it ended. Dates are ms since 1970. */
export interface GcReport {
  readonly generation: string;
  readonly leader: string;
  readonly dryRun: boolean;
  readonly graceMs: number;
  readonly startedAtMs: number;
  readonly endedAtMs?: number;
  readonly phase: 'repositories' | 'bytes' | 'backends' | 'done' | 'failed';
  /** Repositories looked at so far. */
  readonly seen: number;
  readonly links: number;
  readonly linkBytes: number;
  /** Files and bytes taken off disks, all copies counted. */
  readonly blobs: number;
  readonly bytes: number;
  /** Digests that no repository links; of a dry run those that would go. */
  readonly unlinked: number;
  readonly repositories: readonly RepositoryReport[];
  /** Backends of upstreams of mode none. */
  readonly backends: readonly BackendReport[];
  readonly failure?: string;
}

/** How a collection is asked for. What a link younger than `graceMs` leads to stays, whoever names it. */
export interface GcWish {
  readonly dryRun: boolean;
  readonly graceMs: number;
}
