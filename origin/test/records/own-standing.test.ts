import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { silentLogger } from '@sepia/base/log';
import type { Member } from '@sepia/cluster/document';
import type { Membership } from '@sepia/cluster/membership';
import { DataFolder } from '@sepia/store/data-folder';
import t from 'tap';
import { OwnStanding } from '../../src/records/own-standing.ts';

const log = silentLogger();

function member(id: string, state: Member['state'] = 'active'): Member {
  return { id, role: 'origin', urls: [`http://${id}:1`], peers: [], weight: 1, state };
}

/** The standing of `o1` in `dir`, of a first start. */
async function opened(dir: string): Promise<{ folder: DataFolder; standing: OwnStanding }> {
  const folder = await DataFolder.open({ log }, { dir, id: 'o1' });
  const standing = await OwnStanding.open({ folder, databaseLost: false, log, nowMs: () => 1 });
  return { folder, standing };
}

t.test('a file that says more than is known here is not damaged, and keeps it', async (t) => {
  const dir = t.testdir();
  const origins = [{ ...member('o1'), rack: 'r7' }, member('o2')];
  const membership = { v: 1, epoch: 2, origins, reason: 'growth' } as Membership;
  let generation = 0;
  let path = '';
  {
    const { folder, standing } = await opened(dir);
    await using _ = folder;
    await standing.setFirstStart('member');
    await standing.follow(membership, []);
    ({ generation } = standing.standing);
    path = join(folder.dir, 'standing');
  }
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), later: 1 }));
  const { folder, standing } = await opened(dir);
  await using _ = folder;
  t.equal(standing.standing.generation, generation, 'no new generation for a loss');
  t.ok(standing.standing.kept);
  t.same(standing.membership, membership);
});

t.test('a file of a later form stops the start, names itself and is left as it is', async (t) => {
  const dir = t.testdir();
  let path = '';
  {
    const { folder } = await opened(dir);
    path = join(folder.dir, 'standing');
    await folder.close();
  }
  const later = JSON.stringify({ v: 2, standings: [] });
  writeFileSync(path, later);
  const folder = await DataFolder.open({ log }, { dir, id: 'o1' });
  await using _ = folder;
  await t.rejects(OwnStanding.open({ folder, databaseLost: false, log, nowMs: () => 1 }), {
    code: 'DISK_FORMAT',
    message: `${path} has form 2, this version of Sepia reads 1: start the version that wrote it (docs/operations.md, "An upgrade, in order")`,
  });
  t.equal(readFileSync(path, 'utf8'), later);
});

t.test(
  'who was drained or outside, and owns keys again, counts no more; who goes on owning them does',
  async (t) => {
    const { folder, standing } = await opened(t.testdir());
    await using _ = folder;
    await standing.setFirstStart('member');
    const both = [member('o1'), member('o2')];
    const drained = [member('o1', 'draining'), member('o2')];
    const follow = async (
      epoch: number,
      origins: readonly Member[],
      before?: readonly Member[],
    ): Promise<void> =>
      await standing.follow({ v: 1, epoch, origins, ...(before === undefined ? {} : { before }) }, []);
    await follow(1, drained, both);
    await follow(2, drained);
    t.ok(standing.isSettled, 'drained, it still says what it knows');
    await follow(3, both, drained);
    t.notOk(standing.isSettled, 'added again');
    await standing.setFirstStart('member');
    await follow(3, both, drained);
    t.ok(standing.isSettled, 'the same membership again changes nothing');
    await follow(5, [...both, member('o3')], both);
    t.ok(standing.isSettled, 'another one joins');
  },
);
