import t from 'tap';
import { checkSnapshotter } from '../src/check.ts';
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

t.test('a data folder that no overlay can name is refused where snapshots lie in it', async (t) => {
  const check = (data: string, more: object = {}): unknown =>
    checkSnapshotter(SNAPSHOTTER_CONFIG.parse({ ...LEAST, data, ...more }));
  const socket = { 'snapshots-socket': '/run/s.sock' };
  for (const bad of ['/disk:1/sepia', '/a,b', '/a\\b']) {
    t.throws(() => check(bad, socket), { code: 'CONFIG_INVALID', message: /^data: .*choose another folder/ });
    check(bad);
  }
  check('/disk 1/ünï', socket);
});
