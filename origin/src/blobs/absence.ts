import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { BlobStore } from '@sepia/store/blob-store';
import type { Members } from '../cluster/members.ts';
import type { OwnStanding } from '../records/own-standing.ts';
import type { BlobIndex } from './blob-index.ts';

interface AbsenceDeps {
  readonly members: Pick<Members, 'shard' | 'selfId' | 'epoch' | 'candidates'>;
  /** Whether this origin's part of the ring change of that epoch is done. */
  readonly moves: { isDone(epoch: number): boolean };
  readonly standing: Pick<OwnStanding, 'require'>;
  readonly index: Pick<BlobIndex, 'isWanted' | 'missed'>;
  readonly store: BlobStore;
}

/** Whether "I have no such blob" may be said: an origin that lost its disk does not know before it has everything back. */
export class Absence {
  readonly #deps: AbsenceDeps;

  constructor(deps: AbsenceDeps) {
    this.#deps = deps;
  }

  /** A blob was not found here: if somebody took its file away, it is asked for. */
  async noteMissed(digest: Digest): Promise<void> {
    const { index, store } = this.#deps;
    await index.missed(store, digest);
  }

  /** @throws `RECORDS_PENDING` while it would be wrong, or not known */
  async require(digest: Digest): Promise<void> {
    const { members, standing, index } = this.#deps;
    const { sets } = members.shard(digest);
    standing.require({ epoch: members.epoch, sets });
    const isOld =
      sets.length === 1
        ? members.candidates(digest).includes(members.selfId)
        : sets[0]!.includes(members.selfId);
    // A new owner does not know before it took over; who owns it no longer may have given it away. In a ring that never
    // changed nobody is either of them.
    if (members.epoch > 0 && !isOld && !(sets.length > 1 && this.#deps.moves.isDone(members.epoch)))
      throw new CodedError('RECORDS_PENDING', { detail: { digest } });
    await this.noteMissed(digest);
    if (await index.isWanted(digest)) throw new CodedError('RECORDS_PENDING', { detail: { digest } });
  }
}
