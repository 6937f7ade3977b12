import t from 'tap';
import { RECORD_SPACES, shardOfRecord } from '../../src/core/record-space.ts';

const at = (upstream: string, repository: string, ...rest: string[]) => ({ upstream, repository, rest });

t.test('the register of a tag belongs to its repository', async (t) => {
  t.same(shardOfRecord('r1', 'tag\0hub/library/app\0v1'), at('hub', 'library/app', 'v1'));
  t.same(shardOfRecord('r1', 'tag\0hub/app\0v1'), at('hub', 'app', 'v1'));
});

t.test('other registers belong to nobody, and what is cut short does not either', async (t) => {
  for (const key of [
    '',
    'tag',
    'tag\0hub/app',
    'tag\0hub\0v1',
    'tag\0/app\0v1',
    'jobs\0hub/app\0v1',
    'policies',
  ])
    t.equal(shardOfRecord('r1', key), undefined, JSON.stringify(key));
});

t.test('of sets the key begins with upstream and repository', async (t) => {
  for (const space of ['l1', 't1', 'n1', 'f1'] as const) {
    t.same(shardOfRecord(space, 'hub\0library/app'), at('hub', 'library/app'), space);
    t.same(shardOfRecord(space, 'hub\0library/app\0x\0y'), at('hub', 'library/app', 'x', 'y'), space);
    t.equal(shardOfRecord(space, 'hub'), undefined, space);
  }
});

t.test('of jobs only replication is about a repository; others are of one origin alone', async (t) => {
  t.same(shardOfRecord('j1', 'replicate\0hub\0app\0x'), at('hub', 'app', 'x'));
  t.equal(shardOfRecord('j1', 'replicate\0hub'), undefined);
  t.equal(shardOfRecord('j1', 'webhook\0hub\0app\0x'), undefined);
});

t.test('the spaces of a backup keep their order, as restores rely on it', async (t) => {
  t.same(RECORD_SPACES, ['r1', 'l1', 't1', 'n1', 'f1', 'j1']);
});
