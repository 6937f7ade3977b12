import { CodedError, isCoded } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import type { BlobStore } from '@sepia/store/blob-store';
import { withProvenance } from '@sepia/store/sidecar';
import type { Members } from '../cluster/members.ts';
import { acknowledged } from '../records/ask-counted.ts';
import type { OwnStanding } from '../records/own-standing.ts';

interface KeptDeps {
  readonly members: Pick<Members, 'shard' | 'selfId' | 'counted'>;
  readonly standing: Pick<OwnStanding, 'sender'>;
  readonly store: Pick<BlobStore, 'setAttrs'>;
}

/**
 * A push without bytes: what origins have of a blob is kept as if this repository had pushed it, until its registry has
 * it there too. For mounts, and for what a pushed manifest names and the registry had once (mode write-back).
 */
export class Kept {
  readonly #deps: KeptDeps;

  constructor(deps: KeptDeps) {
    this.#deps = deps;
  }

  /**
   * Durable here when it resolves; false if the blob is not here. `isMount`: its pusher has the bytes by another
   * repository; else only what this repository brought before is kept: its name alone would prove nothing.
   */
  async own({ upstream, repository, digest }: BlobName, isMount: boolean): Promise<boolean> {
    let isKept = false;
    await this.#deps.store.setAttrs(digest, (now) => {
      const isOurs = now.provenance.some((one) => one.upstream === upstream && one.repository === repository);
      isKept = isMount || isOurs;
      if (!isKept) return now;
      const provenance = withProvenance(now.provenance, { upstream, repository });
      if (now.class === 'pushed' && provenance === now.provenance) return now;
      return { ...now, class: 'pushed', writtenBack: false, provenance };
    });
    return isKept;
  }

  /** True if a write quorum of the blob's owners have it and keep it. */
  async byOwners(name: BlobName, isMount: boolean): Promise<boolean> {
    const { members, standing } = this.#deps;
    try {
      await acknowledged(members.shard(name.digest), async (id) => {
        if (id === members.selfId) {
          if (!(await this.own(name, isMount))) throw lacking(name);
          return standing.sender;
        }
        const { sender, answer } = await members.counted<{ kept: boolean }>(
          id,
          to(ORIGIN_BLOBS.keep, { ...name, mount: isMount }),
        );
        if (!answer.kept) throw lacking(name);
        return sender;
      });
      return true;
    } catch (error) {
      if (isCoded(error, 'QUORUM_LOST') || isCoded(error, 'BLOB_UNKNOWN')) return false;
      throw error;
    }
  }
}

function lacking({ digest, repository }: BlobName): CodedError {
  return new CodedError('BLOB_UNKNOWN', { detail: { digest, repository } });
}
