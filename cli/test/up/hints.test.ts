import t from 'tap';
import { demoHints } from '../../src/demo/demo-hints.ts';
import type { ClusterFile, ClusterFileMember } from '../../src/up/cluster-file.ts';
import { whatNext } from '../../src/up/hints.ts';

const HARBOR = { name: 'harbor', url: 'https://harbor.example', hosts: [], mode: 'pull-through' };
const LOCAL = { name: 'local', url: null, hosts: [], mode: 'none' };

function cluster(upstream: ClusterFile['upstreams'][number], agentPort = 17_000): ClusterFile {
  const at = (port: number): ClusterFileMember[] => {
    const url = `http://127.0.0.1:${port}`;
    return [{ name: 'a', url, adminUrl: url, peers: [], pid: 1, log: '', config: '' }];
  };
  const members = { proxies: at(17_300), trackers: at(17_100), origins: at(17_200), agents: at(agentPort) };
  return { version: 1, upstreams: [upstream], ...members, accelerators: [], snapshotters: [] };
}

t.test('what to do with a cluster that takes pushes, in lines that can be copied', async (t) => {
  const text = whatNext(cluster(LOCAL), '/d/cluster.json', '/d/cluster.json');
  for (const line of [
    'look      http://127.0.0.1:17300/ui/',
    '          ./sepia status',
    'push      docker push 127.0.0.1:17300/demo/app:v1',
    'pull      docker pull 127.0.0.1:17000/demo/app:v1',
    '          crictl pull 127.0.0.1:17000/demo/app:v1',
  ])
    t.match(text, `\n  ${line}\n`);
  t.notMatch(text, /--cluster|mirror|hosts\.toml/);
});

t.test('of a cluster in front of a registry: nothing to push, and what sets containerd up', async (t) => {
  const text = whatNext(cluster(HARBOR, 27_000), '/d/cluster.json', '/e/cluster.json');
  t.match(text, '\n            ./sepia status --cluster /d/cluster.json\n');
  t.match(
    text,
    '\n  mirror    ./sepia configure containerd --agent http://127.0.0.1:27000 --cluster /d/cluster.json\n',
  );
  t.notMatch(text, /push/);
  t.match(whatNext(cluster(HARBOR), '/d', '/d'), /\n {2}mirror {4}\.\/sepia configure containerd\n/);
});

t.test('where containers read through a snapshotter, how that one ends', async (t) => {
  const lazy = { ...cluster(LOCAL), snapshotters: [{ ...cluster(LOCAL).agents[0]!, name: 'snapshotter-1' }] };
  const text = whatNext(lazy, '/d/cluster.json', '/d/cluster.json');
  t.notMatch(text, 'Ctrl-C stops all of it');
  t.match(text, '\n  kill $(cat /d/members/snapshotter-1/data/holder.pid)');
});

t.test('lines fit 80 columns, those of the demo too', async (t) => {
  const hints = demoHints(cluster(LOCAL), '/tmp/sepia-demo-12345-abcdef/cluster.json', 'demo/app:v1');
  const texts = [hints, ...[LOCAL, HARBOR].map((one) => whatNext(cluster(one), '/d', '/d'))];
  for (const line of texts.flatMap((text) => text.split('\n'))) t.ok(line.length <= 80, line);
});
