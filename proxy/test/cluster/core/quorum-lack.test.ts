import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { OriginHealth, PATIENCE_MS } from '../../../src/cluster/core/origin-health.ts';
import { quorumLack } from '../../../src/cluster/core/quorum-lack.ts';

t.test('it says how many answer and who is silent', async (t) => {
  const health = new OriginHealth();
  const ids = ['o-1', 'o-2', 'o-3'];
  const lack = (nowMs: number): string | undefined => quorumLack(ids, health, nowMs);
  t.equal(lack(0), '0 of 3 origins answer; 2 are needed; silent: o-1, o-2, o-3');
  health.ok('o-1', 0);
  health.ok('o-3', 0);
  t.equal(lack(0), undefined, 'ready at the answer that makes the majority');
  health.failed('o-3');
  t.equal(lack(PATIENCE_MS), undefined);
  t.equal(lack(PATIENCE_MS + 1), '1 of 3 origins answer; 2 are needed; silent: o-2, o-3');
  health.ok('o-2', PATIENCE_MS + 2);
  t.equal(lack(PATIENCE_MS + 2), undefined);
  t.match(quorumLack([], health, 0), /^0 of 0 origins answer/);
});

t.test('ready exactly while fewer are silent than a majority can spare', async () => {
  const event = fc.record({ origin: fc.nat(4), isOk: fc.boolean(), afterMs: fc.nat(PATIENCE_MS) });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5 }), fc.array(event), (count, events) => {
      const ids = Array.from({ length: count }, (_, index) => `o-${index}`);
      const health = new OriginHealth();
      const last = new Map<string, { okMs?: number; failed: boolean }>();
      let nowMs = 0;
      for (const { origin, isOk, afterMs } of events) {
        nowMs += afterMs;
        const id = ids[origin % count]!;
        if (isOk) health.ok(id, nowMs);
        else health.failed(id);
        last.set(id, isOk ? { okMs: nowMs, failed: false } : { ...last.get(id), failed: true });
        const answering = ids.filter((one) => {
          const { okMs, failed } = last.get(one) ?? { failed: true };
          return okMs !== undefined && (!failed || nowMs - okMs <= PATIENCE_MS);
        });
        const isReady = quorumLack(ids, health, nowMs) === undefined;
        if (isReady !== answering.length * 2 > count) return false;
      }
      return true;
    }),
  );
});
