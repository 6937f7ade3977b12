import type { Link, RecordStore, Referrer } from '@sepia/records/store/record-store';
import type { Members } from '../cluster/members.ts';
import type { OwnStanding } from './own-standing.ts';
import type { PublicRecord } from './public-repositories.ts';
import { QuorumSet } from './quorum-set.ts';

/** Links and referrers on the owners of their repository's shard. */
export function recordSets(deps: {
  readonly members: Members;
  readonly records: RecordStore;
  readonly standing: Pick<OwnStanding, 'require' | 'sender' | 'within'>;
  readonly nowMs: () => number;
}): {
  readonly links: QuorumSet<Link>;
  readonly referrers: QuorumSet<Referrer>;
  readonly public: QuorumSet<PublicRecord>;
} {
  const { members, records, standing, nowMs } = deps;
  return {
    links: new QuorumSet<Link>('links', {
      members,
      standing,
      byField: true,
      own: {
        entry: async (key) => await records.linkSet.entry(key),
        entriesOf: async (keys) => await records.linkSet.entriesOf(keys),
        putAll: async (entries) => await records.putLinks(entries),
        buryAll: async (dead) => await records.linkSet.buryAll(dead),
        agreedMs: (key) => records.linkSet.agreedMs(key),
        entries: (prefix, after) => records.linkSet.entries(prefix, after),
      },
      nowMs,
    }),
    referrers: new QuorumSet<Referrer>('referrers', { members, standing, own: records.referrerSet, nowMs }),
    public: new QuorumSet<PublicRecord>('public', { members, standing, own: records.publicSet, nowMs }),
  };
}
