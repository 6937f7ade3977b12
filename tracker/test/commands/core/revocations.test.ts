import { digestOf } from '@sepia/base/digest';
import type { Revocation } from '@sepia/cluster/api/revocation';
import t from 'tap';
import { Revocations } from '../../../src/commands/core/revocations.ts';

function named(count: number): Revocation[] {
  return Array.from({ length: count }, (_, at) => ({
    upstream: 'local',
    repository: 'app',
    digest: digestOf(Buffer.from(`${at}`)),
  }));
}

t.test('a node hears each revocation once', async (t) => {
  const all = named(3);
  const kept = new Revocations('e1');
  const first = kept.after(undefined, 0);
  t.same(first, { revoked: [], cursor: 'e1.0' });
  kept.add(all.slice(0, 2), 1);
  const second = kept.after(first.cursor, 2);
  t.same(second.revoked, all.slice(0, 2));
  t.same(kept.after(second.cursor, 2).revoked, []);
  kept.add(all.slice(2), 3);
  t.same(kept.after(second.cursor, 4).revoked, all.slice(2));
});

t.test('a node that heard of another process, or nonsense, is told everything', async (t) => {
  const all = named(2);
  const kept = new Revocations('e2');
  kept.add(all, 0);
  for (const cursor of [undefined, 'e1.2', '', '.', 'e2.x', 'e2.-1', 'e2.'])
    t.same(kept.after(cursor, 1).revoked, all, `${cursor}`);
});

t.test('many come in parts; old ones and too many go', async (t) => {
  const kept = new Revocations('e');
  kept.add(named(10_500), 0);
  t.equal(kept.size, 10_000);
  let cursor: string | undefined;
  let heard = 0;
  for (;;) {
    const told = kept.after(cursor, 1);
    if (told.revoked.length === 0) break;
    t.ok(told.revoked.length <= 1_000);
    heard += told.revoked.length;
    cursor = told.cursor;
  }
  t.equal(heard, 10_000);
  t.same(kept.after('e.0', 60 * 60_000).revoked, []);
  t.equal(kept.size, 0);
});
