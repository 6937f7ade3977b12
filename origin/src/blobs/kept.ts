import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { BlobName } from '@sepia/base/names/blob-name';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import type { Sender } from '@sepia/records/core/standing';
import type { BlobStore } from '@sepia/store/blob-store';
import { MAX_PROVENANCE, withProvenance } from '@sepia/store/sidecar';
import type { Members } from '../cluster/members.ts';
import { PATIENT_MS } from '../deadlines/members.ts';
import { writeToOwners } from '../records/ask-counted.ts';
import type { OwnStanding } from '../records/own-standing.ts';

interface KeptDeps {
  readonly members: Pick<Members, 'shard' | 'selfId' | 'counted'>;
  readonly standing: Pick<OwnStanding, 'sender'>;
  readonly store: Pick<BlobStore, 'setAttrs'>;
}

/**
 * Who keeps a blob: a write `quorum` of its owners, only `some` of them as far as is known, `none`, or nobody as far as
 * is known while one that could is silent (`unsure`).
 */
export type KeptBy = 'quorum' | 'some' | 'none' | 'unsure';

/**
 * A push without bytes: what origins have of a blob is kept as if this repository had pushed it, until its registry has
 * it there too. For mounts, and for what a pushed manifest names and the registry had once (mode write-back).
 */
export class Kept {
  readonly #deps: KeptDeps;
  readonly #listeners: ((digest: Digest) => void)[] = [];

  constructor(deps: KeptDeps) {
    this.#deps = deps;
  }

  /** It is kept here from now on: `listener` is called before anything that was seen of it before can let it go. */
  onKept(listener: (digest: Digest) => void): void {
    this.#listeners.push(listener);
  }

  /**
   * Durable here when it resolves; false if the blob is not here. `isMount`: its pusher has the bytes by another
   * repository; else only what this repository brought before is kept: its name alone would prove nothing.
   */
  async own({ upstream, repository, digest }: BlobName, isMount: boolean): Promise<boolean> {
    let isKept = false;
    await this.#deps.store.setAttrs(digest, (now) => {
      const isOurs = now.provenance.some((one) => one.upstream === upstream && one.repository === repository);
      // A list that is full may lack it, and what has one never counts as come anywhere.
      const isFull = now.class === 'pushed' && now.provenance.length >= MAX_PROVENANCE;
      isKept = isMount || isOurs || isFull;
      if (!isKept) return now;
      for (const listener of this.#listeners) listener(digest);
      const provenance = withProvenance(now.provenance, { upstream, repository });
      if (now.class === 'pushed' && provenance === now.provenance) return now;
      return { ...now, class: 'pushed', writtenBack: false, provenance };
    });
    return isKept;
  }

  /** Asks all owners of the blob to keep it. */
  async byOwners(name: BlobName, isMount: boolean): Promise<KeptBy> {
    const { members, standing } = this.#deps;
    let keeping = 0;
    let silent = 0;
    try {
      await writeToOwners(members.shard(name.digest), async (id) => {
        try {
          const sender = await this.#at(id, name, isMount);
          keeping += 1;
          return sender ?? standing.sender;
        } catch (error) {
          if (!isCoded(error, 'BLOB_UNKNOWN')) silent += 1;
          throw error;
        }
      });
      return 'quorum';
    } catch (error) {
      throwIfBug(error);
      if (keeping > 0) return 'some';
      return silent > 0 ? 'unsure' : 'none';
    }
  }

  /** Undefined for this origin itself. @throws `BLOB_UNKNOWN` where it is not kept */
  async #at(id: string, name: BlobName, isMount: boolean): Promise<Sender | undefined> {
    const { members } = this.#deps;
    if (id === members.selfId) {
      if (await this.own(name, isMount)) return undefined;
      throw lacking(name);
    }
    const call = to(ORIGIN_BLOBS.keep, { ...name, mount: isMount });
    const { sender, answer } = await members.counted<{ kept: boolean }>(id, {
      ...call,
      headersTimeoutMs: PATIENT_MS,
    });
    if (answer.kept) return sender;
    throw lacking(name);
  }
}

function lacking({ digest, repository }: BlobName): CodedError {
  return new CodedError('BLOB_UNKNOWN', { detail: { digest, repository } });
}
