import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { parse, stringify } from 'yaml';
import { clusterPaths, writeClusterFiles } from '../../src/up/files.ts';
import { planMembers } from '../../src/up/plan.ts';

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
