import t from 'tap';
import { planMembers, portsOf } from '../../src/up/plan.ts';
import { LOCAL_UPSTREAM, parseUpstream, upstreamsFor, withWriteBack } from '../../src/up/upstream-option.ts';

const ONE = { origin: 1, tracker: 1, proxy: 1, agent: 1 };

t.test('ports are those of the design', async (t) => {
  const plans = planMembers({ counts: { origin: 3, tracker: 2, proxy: 2, agent: 12 }, portsFrom: 17_000 });
  const ports = (name: string): number[] =>
    portsOf(plans.find((plan) => plan.name === name)!).map((one) => one.port);
  t.same(ports('agent-1'), [17_000, 17_001, 17_002]);
  t.same(ports('agent-2'), [17_010, 17_011, 17_012]);
  t.same(ports('tracker-2'), [17_110, 17_112]);
  t.same(ports('origin-1'), [17_200, 17_201, 17_202]);
  t.same(ports('proxy-1'), [17_300, 17_302]);
  t.same(ports('agent-11'), [18_000, 18_001, 18_002], 'the eleventh goes a thousand up');
  t.same(ports('agent-12'), [18_010, 18_011, 18_012]);
});

t.test('--ports-from shifts every role', async (t) => {
  const plans = planMembers({ counts: ONE, portsFrom: 30_000 });
  t.same(Object.fromEntries(plans.map((plan) => [plan.role, plan.port])), {
    agent: 30_000,
    tracker: 30_100,
    origin: 30_200,
    proxy: 30_300,
  });
});

t.test('impossible shapes are refused with the option that made them', async (t) => {
  t.throws(() => planMembers({ counts: { ...ONE, origin: 0 }, portsFrom: 17_000 }), {
    code: 'CONFIG_INVALID',
    message: /^--origins: 0/,
  });
  t.throws(() => planMembers({ counts: { ...ONE, proxy: 0 }, portsFrom: 17_000 }), {
    code: 'CONFIG_INVALID',
    message: /^--proxies: 0/,
  });
  t.throws(() => planMembers({ counts: ONE, portsFrom: 65_400 }), {
    code: 'CONFIG_INVALID',
    message: /^--ports-from: /,
  });
  t.throws(() => planMembers({ counts: { ...ONE, agent: 30, tracker: 20 }, portsFrom: 17_000 }), {
    code: 'START_FAILED',
    message: /^port 18100 would belong to tracker-11 and agent-21/,
  });
  t.doesNotThrow(() => planMembers({ counts: { ...ONE, agent: 0 }, portsFrom: 17_000 }));
});

t.test('upstreams', async (t) => {
  t.same(parseUpstream('harbor=https://harbor.example.com'), {
    name: 'harbor',
    url: 'https://harbor.example.com',
    hosts: [],
    mode: 'pull-through',
  });
  t.same(parseUpstream('hub=https://registry-1.docker.io/,docker.io,index.docker.io').hosts, [
    'docker.io',
    'index.docker.io',
  ]);
  t.same(parseUpstream('r=http://127.0.0.1:5000,registry.example:5000').hosts, ['registry.example:5000']);
  t.equal(
    parseUpstream('r=https://artifacts.example/docker/hub/').url,
    'https://artifacts.example/docker/hub',
  );
  t.match(parseUpstream('six=http://[2001:DB8::1]:5000,[::1]:5000,[2001:db8::2]'), {
    url: 'http://[2001:db8::1]:5000',
    hosts: ['[::1]:5000', '[2001:db8::2]'],
  });
  const own = { name: 'own', url: undefined, hosts: ['own.example'], mode: 'none' } as const;
  t.same(parseUpstream('own=none,own.example'), own);
  const harbor = parseUpstream('harbor=https://harbor.example.com');
  t.same(upstreamsFor([], []), [LOCAL_UPSTREAM]);
  t.same(upstreamsFor([], [harbor, own]), [harbor, own], 'a start without its flags keeps them');
  t.same(upstreamsFor([own], [harbor]), [own, harbor], 'what is named comes first');
  t.same(upstreamsFor([harbor], [{ ...harbor, url: 'https://old.example' }]), [harbor]);
  const [written] = withWriteBack([harbor, own], ['harbor']);
  t.match(written, { name: 'harbor', mode: 'write-back' });
  t.same(upstreamsFor([harbor], [written!]), [written], 'pushes may wait: the mode stays');
  for (const name of ['own', 'other'])
    t.throws(() => withWriteBack([harbor, own], [name]), { code: 'CONFIG_INVALID', message: /--upstream/ });
  for (const [bad, why] of [
    ['harbor', /is not NAME=URL/],
    ['=http://x', /is not NAME=URL/],
    ['Harbor=http://x', /is not a name/],
    ['harbor=ftp://x', /is not an http/],
    ['harbor=http://x/path?query', /is not an http/],
    ['harbor=http://user:word@x/', /is not an http/],
    ['harbor=http://x,[::1', /is not host or host:port/],
    ['harbor=http://x,a b', /is not host or host:port/],
  ] as const) {
    t.throws(() => parseUpstream(bad), { code: 'CONFIG_INVALID', message: why }, bad);
  }
});
