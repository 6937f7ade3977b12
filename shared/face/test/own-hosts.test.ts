import { upstreamOfHost } from '@sepia/base/names/upstream-name';
import t from 'tap';
import { withOwnHosts } from '../src/own-hosts.ts';

const UPSTREAMS = [
  { name: 'harbor', hosts: ['harbor', 'harbor.example'] },
  { name: 'hub', hosts: ['hub', 'docker.io'] },
  { name: 'own', hosts: ['own', '10.0.0.7:5000'] },
];
const LISTENERS = [
  { listen: '127.0.0.1:17000' },
  { listen: '127.0.0.1:17003', 'default-upstream': 'hub', 'public-url': 'https://mirror.example/' },
  { listen: '10.0.0.7:5000', 'default-upstream': 'hub' },
];

t.test('the address of a listener stands for its own default upstream', async (t) => {
  const named = withOwnHosts(UPSTREAMS, 'harbor', LISTENERS);
  const meant = (host: string): string | undefined => upstreamOfHost(host, named)?.name;
  t.equal(meant('127.0.0.1:17000'), 'harbor');
  t.equal(meant('localhost:17000'), 'harbor');
  t.equal(meant('127.0.0.1:17003'), 'hub');
  t.equal(meant('localhost:17003'), 'hub');
  t.equal(meant('mirror.example'), 'hub');
  t.equal(meant('10.0.0.7:5000'), 'own', 'what the document gives away stays so');
  t.equal(meant('harbor.example'), 'harbor');
  for (const stranger of ['127.0.0.1:17001', 'localhost', '10.0.0.8:17000', 'evil.example'])
    t.equal(meant(stranger), undefined, stranger);
  t.same(withOwnHosts(UPSTREAMS, 'harbor', []), UPSTREAMS);
});
