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
}

/** State or result of a sweep. */
export interface GcReport {
  readonly generation: string;
  readonly leader: string;
  readonly dryRun: boolean;
  readonly graceMs: number;
  readonly startedAtMs: number;
  readonly endedAtMs?: number;
  readonly phase: 'repositories' | 'bytes' | 'done' | 'failed';
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
  readonly failure?: string;
}

export interface GcWish {
  readonly dryRun: boolean;
  readonly graceMs: number;
}
