import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { Members } from '../cluster/members.ts';
import type { OwnStanding } from '../records/own-standing.ts';
import type { BlobIndex } from './blob-index.ts';

interface AbsenceDeps {
  readonly members: Pick<Members, 'shard'>;
  readonly standing: Pick<OwnStanding, 'require'>;
  readonly index: Pick<BlobIndex, 'isWanted'>;
}

/** Whether "I have no such blob" may be said: an origin that lost its disk does not know before it has everything back. */
export class Absence {
  readonly #deps: AbsenceDeps;

  constructor(deps: AbsenceDeps) {
    this.#deps = deps;
  }

  /** @throws `RECORDS_PENDING` while it would be wrong, or not known */
  async require(digest: Digest): Promise<void> {
    const { members, standing, index } = this.#deps;
    standing.require(members.shard(digest));
    if (await index.isWanted(digest)) throw new CodedError('RECORDS_PENDING', { detail: { digest } });
  }
}
