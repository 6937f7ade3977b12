import {
  existsSync,
  lstatSync,
  readFileSync,
  realpathSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { parse, stringify } from 'yaml';
import { clusterPaths, replaceFile, writeClusterFiles } from '../../src/up/files.ts';
import { planMembers } from '../../src/up/plan.ts';
import { onSync } from '../support/on-sync.ts';

t.test('what an operator wrote into the cluster document stays, with a version of its own', async (t) => {
  const paths = clusterPaths(t.testdir());
  const members = planMembers({ counts: { origin: 1, tracker: 1, proxy: 1, agent: 0 }, portsFrom: 26_000 });
  const upstreams = [{ name: 'local', url: undefined, hosts: [], mode: 'none' as const }];
  const read = (): Record<string, unknown> =>
    parse(readFileSync(paths.document, 'utf8')) as Record<string, unknown>;
  writeClusterFiles(paths, members, upstreams);
  t.equal(read()['version'], 1);
  const rule = { name: 'dr', from: 'local', repositories: ['**'], to: { url: 'http://127.0.0.1:1' } };
  const tags = { overrides: [{ repositories: ['a/*'], policy: 'immutable', ttl: '5s' }] };
  const edited = {
    ...read(),
    replication: [rule],
    upstreams: [{ name: 'local', hosts: [], mode: 'none', tags }],
  };
  writeFileSync(paths.document, stringify(edited));
  writeClusterFiles(paths, members, upstreams);
  t.match(read(), { version: 1, replication: [rule], upstreams: [{ tags }] });
  writeClusterFiles(paths, members, [...upstreams, { name: 'own', url: undefined, hosts: [], mode: 'none' }]);
  t.match(read(), { version: 2, replication: [rule], upstreams: [{ tags }, { name: 'own' }] });
});

t.test('a secret is on the disk before anybody uses it', async (t) => {
  const file = join(realpathSync(t.testdir()), 'cluster-key');
  const synced: object[] = [];
  onSync(t, (path) => void synced.push({ path, isNamed: existsSync(file) }));
  replaceFile(file, 'secret', 0o600);
  t.same(synced.at(-1), { path: dirname(file), isNamed: true });
  t.equal(readFileSync(file, 'utf8'), 'secret');
});

t.test('drivers are off until they are asked for', async (t) => {
  const paths = clusterPaths(t.testdir());
  const members = planMembers({ counts: { origin: 1, tracker: 1, proxy: 1, agent: 0 }, portsFrom: 26_000 });
  const upstreams = [{ name: 'local', url: undefined, hosts: [], mode: 'none' as const }];
  const harbor = (): unknown =>
    (parse(readFileSync(paths.config('proxy-1'), 'utf8')) as Record<string, unknown>)['harbor'];
  writeClusterFiles(paths, members, upstreams);
  t.equal(harbor(), undefined);
  writeClusterFiles(paths, members, upstreams, { preheat: true });
  t.same(harbor(), { 'driver-auth': { mode: 'none' } });
});

t.test('one flag brings rules, webhooks and their secret; what is there stays', async (t) => {
  const paths = clusterPaths(t.testdir());
  const counts = { origin: 1, tracker: 1, proxy: 1, agent: 0, accelerator: 1 };
  const members = planMembers({ counts, portsFrom: 26_000 });
  const upstreams = [{ name: 'local', url: undefined, hosts: [], mode: 'none' as const }];
  const read = (file: string): Record<string, unknown> =>
    parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
  writeClusterFiles(paths, members, upstreams);
  t.notOk('conversions' in read(paths.document));
  t.notOk('api' in read(paths.config('accelerator-1')));
  t.notOk('scan' in read(paths.config('accelerator-1')));
  writeClusterFiles(paths, members, upstreams, { accelerates: true, isLazy: true });
  const rules = [
    { name: 'index-local', from: 'local', repositories: ['**'], to: 'index' },
    { name: 'estargz-local', from: 'local', repositories: ['**'], to: 'estargz', 'delete-with-source': true },
  ];
  t.strictSame(read(paths.document)['conversions'], rules);
  const file = { 'authorization-file': '../webhook-authorization' };
  t.match(read(paths.config('proxy-1')), { harbor: { webhook: { auth: 'header', ...file } } });
  t.match(read(paths.config('accelerator-1')), { api: file, scan: '1m' }, 'a push to a proxy is found soon');
  const secret = readFileSync(paths.webhookAuthorization, 'utf8');
  writeClusterFiles(paths, members, upstreams, { accelerates: true });
  t.strictSame(read(paths.document)['conversions'], rules, 'none twice');
  t.equal(readFileSync(paths.webhookAuthorization, 'utf8'), secret);
});

t.test('the cluster key appears with mode 0600, not before it is narrowed', async (t) => {
  const dir = t.testdir();
  const modeOf = (file: string): number => statSync(file).mode & 0o777;
  replaceFile(join(dir, 'key'), 'secret', 0o600);
  t.equal(modeOf(join(dir, 'key')), 0o600, 'as it is renamed into place');
  replaceFile(join(dir, 'config'), 'text');
  t.equal(modeOf(join(dir, 'config')), 0o644);
  const paths = clusterPaths(dir);
  const members = planMembers({ counts: { origin: 1, tracker: 1, proxy: 1, agent: 0 }, portsFrom: 26_000 });
  writeClusterFiles(paths, members, [{ name: 'local', url: undefined, hosts: [], mode: 'none' }]);
  t.equal(modeOf(paths.key), 0o600);
});

t.test('what leads nowhere, as to a disk that is not mounted, is not made anew', async (t) => {
  const paths = clusterPaths(t.testdir());
  const members = planMembers({ counts: { origin: 1, tracker: 1, proxy: 1, agent: 0 }, portsFrom: 26_000 });
  const write = (): void =>
    writeClusterFiles(paths, members, [{ name: 'local', url: undefined, hosts: [], mode: 'none' }]);
  write();
  for (const file of [paths.key, paths.document]) {
    renameSync(file, `${file}.away`);
    symlinkSync(join(paths.root, 'not-mounted', 'file'), file);
    t.throws(write, { code: 'CONFIG_INVALID', message: new RegExp(`${file}.* cannot be read \\(ENOENT\\)`) });
    t.ok(lstatSync(file).isSymbolicLink());
    renameSync(`${file}.away`, file);
  }
  write();
});
