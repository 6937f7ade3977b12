import t from 'tap';
import { SNAPSHOTTER_CONFIG } from '../src/config.ts';

const LEAST = { data: 'data', 'admin-listen': '127.0.0.1:1', agent: 'http://127.0.0.1:2' };

t.test('what is filled: profile is another name of all', async (t) => {
  const filled = (fill?: string): unknown => SNAPSHOTTER_CONFIG.parse({ ...LEAST, fill }).fill;
  t.equal(filled(), 'by-size', 'images of less than 1 GiB');
  t.equal(filled('start'), 'start');
  t.equal(filled('all'), 'all');
  t.equal(filled('profile'), 'all');
  t.equal(filled('none'), 'none');
  t.throws(() => filled('some'));
});

t.test('a layer of this machine is read from a repository of a host; a tag says nothing', async (t) => {
  const named = (image: string) =>
    SNAPSHOTTER_CONFIG.safeParse({ ...LEAST, layers: [{ index: 'a.index', image }] });
  for (const good of ['registry.example/app', 'registry.example:5000/team/app', 'local/team/app'])
    t.ok(named(good).success, good);
  for (const bad of ['app', '/app', 'r/app:v1', 'r/App', 'r/', `r/app@sha256:${'a'.repeat(64)}`, 'r/a b'])
    t.match(named(bad).error?.message, /host and a repository, without a tag/, bad);
});
