import t from 'tap';
import { Hints } from '../../../src/blobs/core/hints.ts';

const HINT = { sizeBytes: 7, mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip' };

t.test('what a manifest said of a blob holds in its repository alone', async (t) => {
  const hints = new Hints();
  hints.note('hub', 'team/app', 'sha256:a', HINT);
  t.same(hints.get('hub', 'team/app', 'sha256:a'), HINT);
  for (const [upstream, repository, digest] of [
    ['local', 'team/app', 'sha256:a'],
    ['hub', 'team', 'sha256:a'],
    ['hub', 'team/app', 'sha256:b'],
  ] as const)
    t.equal(hints.get(upstream, repository, digest), undefined, `${upstream} ${repository} ${digest}`);
  hints.note('hub', 'team/app', 'sha256:a', { ...HINT, sizeBytes: 8 });
  t.equal(hints.get('hub', 'team/app', 'sha256:a')?.sizeBytes, 8, 'the last word counts');
});

t.test('one blob is forgotten, or a repository, and never one whose name begins the same', async (t) => {
  const hints = new Hints();
  const names = ['team/app', 'team/app2', 'team/app/x', 'team'];
  for (const name of names)
    for (const digest of ['a', 'b']) hints.note('hub', name, `sha256:${digest}`, HINT);
  const known = (): string[] =>
    names.flatMap((name) =>
      ['a', 'b'].flatMap((one) =>
        hints.get('hub', name, `sha256:${one}`) === undefined ? [] : `${name} ${one}`,
      ),
    );
  hints.forget('hub', 'team', 'sha256:a');
  t.same(known(), [
    'team/app a',
    'team/app b',
    'team/app2 a',
    'team/app2 b',
    'team/app/x a',
    'team/app/x b',
    'team b',
  ]);
  hints.forget('hub', 'team/app');
  t.same(known(), ['team/app2 a', 'team/app2 b', 'team/app/x a', 'team/app/x b', 'team b']);
});
