import { shardKey } from '@sepia/cluster/cluster';
import t from 'tap';
import { COUNTED_SPACES, isCountedSpace, shardOf } from '../../../src/records/core/record-shard.ts';

t.test('all that a repository has on record is placed together', async (t) => {
  const place = shardKey('hub', 'team/app');
  t.equal(shardOf('r1', 'tag\0hub/team/app\0v1'), place, 'a tag');
  for (const space of ['l1', 'f1', 'p1', 'g1'] as const)
    t.equal(shardOf(space, 'hub\0team/app\0sha256:a'), place, space);
  t.equal(shardOf('j1', 'replicate\0hub\0team/app\0rule'), place, 'what is to be copied of it');
  t.not(shardOf('l1', 'hub\0team/app2\0sha256:a'), place, 'another one');
});

t.test('a pushed blob is placed by its digest, a register that is no tag by its key', async (t) => {
  t.equal(shardOf('b1', 'sha256:a'), 'sha256:a');
  t.equal(shardOf('r1', 'lane\0harbor'), 'lane\0harbor');
});

t.test('what names no repository has no place', async (t) => {
  for (const key of ['tag\0hub', 'tag\0/team\0v1', 'tag\0hub/team/app'])
    t.equal(shardOf('r1', key), undefined, key);
  t.equal(shardOf('l1', 'hub'), undefined);
  t.equal(shardOf('j1', 'preheat\0hub\0team/app'), undefined, 'a job of no repository');
});

t.test('spaces that owners compare are told from all others', async (t) => {
  for (const space of COUNTED_SPACES) t.ok(isCountedSpace(space), space);
  for (const space of ['t1', 'n1', '', 'toString']) t.notOk(isCountedSpace(space), space);
});
