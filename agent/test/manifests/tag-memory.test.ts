import { join } from 'node:path';
import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import t from 'tap';
import { TagMemory } from '../../src/manifests/tag-memory.ts';

const TAG = { upstream: 'up', repository: 'team/app', tag: 'latest' };
const digest = (text: string) => digestOf(Buffer.from(text), 'sha256');

t.test('of a tag that moved the late answer to an older question is not remembered', async (t) => {
  const path = join(t.testdir(), 'tags.json');
  const tags = await TagMemory.open(path, silentLogger());
  const seen = (memory: TagMemory) => memory.get(TAG.upstream, TAG.repository, TAG.tag)?.digest;
  const [older, newer] = [tags.ask(), tags.ask()];
  tags.note(TAG, { digest: digest('two'), atMs: 2, asked: newer });
  tags.note(TAG, { digest: digest('one'), atMs: 3, asked: older });
  t.equal(seen(tags), digest('two'));
  t.same(tags.forget(TAG.upstream, TAG.repository, TAG, older), [], 'nor that there was none');
  t.equal(seen(tags), digest('two'));
  await tags.stop();
  const next = await TagMemory.open(path, silentLogger());
  t.equal(seen(next), digest('two'));
  next.note(TAG, { digest: digest('three'), atMs: 4, asked: next.ask() });
  t.equal(seen(next), digest('three'), 'a later run has questions of its own');
  t.same(next.forget(TAG.upstream, TAG.repository, TAG), [digest('three')]);
  await next.stop();
});
