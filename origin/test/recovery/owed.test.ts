import { silentLogger } from '@sepia/base/log';
import t from 'tap';
import { Recovery } from '../../src/recovery/recovery.ts';

const nothing = (): void => undefined;

t.test('an origin outside the ring owes no records, compared or not', (t) => {
  const ring = { isOutside: false, catchUp: async () => undefined };
  const given = {
    members: { selfId: 'o1', ids: ['o2'], onReturn: nothing, isSuspect: () => false },
    standing: { isSettled: true, onChange: nothing },
    index: { wanted: 0, onLost: nothing },
    ...{ folder: { db: {} }, records: {}, digests: {}, store: {}, cluster: {}, tags: {}, replicator: {} },
    ...{ hints: { size: 2 }, log: silentLogger() },
  };
  const recovery = new Recovery(given as never, () => ring as never, { compareEveryMs: 60_000 });
  t.same(recovery.owed(), { records: undefined, blobs: 0, copies: 2 }, 'not compared yet');
  ring.isOutside = true;
  t.match(recovery.owed(), { handover: /^not in the ring/, records: 0, blobs: 0, copies: 2 });
  t.end();
});
