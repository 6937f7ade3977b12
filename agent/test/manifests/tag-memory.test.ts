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

t.test(
  'a tag, all tags of a digest, or a whole repository is forgotten, and nothing beside it',
  async (t) => {
    const tags = await TagMemory.open(join(t.testdir(), 'tags.json'), silentLogger());
    const names = ['app/one', 'app/two', 'app/three', 'app2/one', 'app/four'] as const;
    const [same, other] = [digest('same'), digest('other')];
    const fill = (): void => {
      for (const name of names) {
        const [repository, tag] = name.split('/') as [string, string];
        const seen = name === 'app/two' ? other : same;
        tags.note({ upstream: 'up', repository, tag }, { digest: seen, atMs: 1, asked: tags.ask() });
      }
    };
    const left = (): string[] =>
      names.filter((name) => tags.get('up', name.split('/')[0]!, name.split('/')[1]!) !== undefined);
    fill();
    t.same(tags.forget('up', 'app', { tag: 'one' }), [same]);
    t.same(left(), ['app/two', 'app/three', 'app2/one', 'app/four']);
    t.same(tags.forget('up', 'app', { digest: same }), [same, same]);
    t.same(left(), ['app/two', 'app2/one']);
    fill();
    t.equal(tags.forget('up', 'app', {}).length, 4);
    t.same(left(), ['app2/one']);
    t.same(tags.forget('other', 'app2', {}), [], 'of another upstream');
    t.same(left(), ['app2/one']);
    await tags.stop();
  },
);
