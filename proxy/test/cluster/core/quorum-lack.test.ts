import { Health, PATIENCE_MS, UNTIL_IT_ANSWERS } from '@sepia/cluster/core/health';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { quorumLack } from '../../../src/cluster/core/quorum-lack.ts';

t.test('it says how many answer and who is silent', async (t) => {
  let nowMs = 0;
  const health = new Health(() => nowMs, UNTIL_IT_ANSWERS);
  const ids = ['o-1', 'o-2', 'o-3'];
  const lack = (atMs: number): string | undefined => {
    nowMs = atMs;
    return quorumLack(ids, health);
  };
  t.equal(lack(0), '0 of 3 origins answer; 2 are needed; silent: o-1, o-2, o-3');
  health.answered('o-1');
  health.answered('o-3');
  t.equal(lack(0), undefined, 'ready at the answer that makes the majority');
  health.failed('o-3');
  t.equal(lack(PATIENCE_MS), undefined);
  t.equal(lack(PATIENCE_MS + 1), '1 of 3 origins answer; 2 are needed; silent: o-2, o-3');
  nowMs = PATIENCE_MS + 2;
  health.answered('o-2');
  t.equal(lack(PATIENCE_MS + 2), undefined);
  t.match(quorumLack([], health), /^0 of 0 origins answer/);
});

t.test('ready exactly while fewer are silent than a majority can spare', async () => {
  const event = fc.record({ origin: fc.nat(4), isOk: fc.boolean(), afterMs: fc.nat(PATIENCE_MS) });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5 }), fc.array(event), (count, events) => {
      const ids = Array.from({ length: count }, (_, index) => `o-${index}`);
      const last = new Map<string, { okMs?: number; failed: boolean }>();
      let nowMs = 0;
      const health = new Health(() => nowMs, UNTIL_IT_ANSWERS);
      for (const { origin, isOk, afterMs } of events) {
        nowMs += afterMs;
        const id = ids[origin % count]!;
        if (isOk) health.answered(id);
        else health.failed(id);
        last.set(id, isOk ? { okMs: nowMs, failed: false } : { ...last.get(id), failed: true });
        const answering = ids.filter((one) => {
          const { okMs, failed } = last.get(one) ?? { failed: true };
          return okMs !== undefined && (!failed || nowMs - okMs <= PATIENCE_MS);
        });
        const isReady = quorumLack(ids, health) === undefined;
        if (isReady !== answering.length * 2 > count) return false;
      }
      return true;
    }),
  );
});
