/** What waits for the registry behind an upstream, of the repositories that one origin leads. */
export interface WriteBackBacklog {
  readonly upstream: string;
  readonly waiting: number;
  readonly dead: number;
  /** Age of the oldest that waits, in ms. */
  readonly oldestMs?: number;
}

/** A push that is not at the registry behind yet. */
export interface WriteBackJob {
  readonly id: string;
  readonly upstream: string;
  readonly repository: string;
  /** Tag or digest. */
  readonly reference: string;
  /** What was pushed; left out for a delete. */
  readonly digest?: string;
  readonly kind: 'copy' | 'delete';
  readonly state: 'intent' | 'waiting' | 'running' | 'backoff' | 'dead';
  readonly createdAtMs: number;
  /** Refusals so far. */
  readonly tries: number;
  readonly error?: string;
  /** What to do about the error. */
  readonly advice?: string;
  /** Until the next try, in ms. */
  readonly againInMs?: number;
  readonly sentBytes?: number;
  readonly missingBytes?: number;
}

/** Answer of `GET /v1/write-back`: what waits for the registries behind, upstream by upstream and job by job. */
export interface WriteBackStatus {
  readonly backlogs: readonly WriteBackBacklog[];
  readonly jobs: readonly WriteBackJob[];
}

/** Body of `POST /v1/write-back/retry`: one job, an upstream's, or all; `dead`: only those that were given up. */
export interface WriteBackRetry {
  readonly job?: string | undefined;
  readonly upstream?: string | undefined;
  readonly dead?: boolean | undefined;
  /** Who wins a conflict. `drop`, of one job: what it was to bring there is given up. */
  readonly take?: 'ours' | 'theirs' | 'drop' | undefined;
  readonly atMs: number;
}
