import { writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { resolveName } from '@sepia/base/names/upstream-name';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { Cluster, shardKey } from '../src/cluster.ts';
import { loadClusterDocument, parseClusterDocument } from '../src/load-document.ts';

const member = (id: string, role: string, port: number, more: object = {}) => ({
  id,
  role,
  urls: [`http://127.0.0.1:${port}`],
  ...more,
});
const HARBOR = {
  name: 'harbor',
  url: 'https://harbor.example.com:8443',
  hosts: ['registry.example.com'],
  mode: 'pull-through',
};
const LOCAL = { name: 'local', mode: 'none' };
const GOOD = {
  version: 3,
  members: [
    member('o1', 'origin', 1, { peers: ['127.0.0.1:11'] }),
    member('o2', 'origin', 2),
    member('o3', 'origin', 3),
    member('o4', 'origin', 4, { state: 'draining' }),
    member('t1', 'tracker', 5),
    member('t2', 'tracker', 6),
    member('p1', 'proxy', 7),
  ],
  upstreams: [HARBOR, LOCAL],
};
const parse = (value: unknown) => parseClusterDocument(JSON.stringify(value), 'cluster.yaml');

t.test('an upstream answers to hosts of every form', async (t) => {
  const hosts = ['registry', 'my_registry:5000', '[2001:db8::7]:5000', '[::1]', '10.0.0.7'];
  const { upstreams } = parse({ ...GOOD, upstreams: [{ ...HARBOR, hosts }] });
  t.same(upstreams[0]!.hosts, hosts);
});

t.test('a document with its defaults', async (t) => {
  const document = parse(GOOD);
  t.match(document.members[0], { weight: 1, state: 'active', peers: ['127.0.0.1:11'] });
  t.match(document.upstreams[0], {
    insecure: false,
    quotas: [],
    'max-connections': 32,
    tags: { ttl: 60_000, 'stale-limit': 86_400_000 },
  });
  t.equal(document.policies.strangers, 'never');
});

t.test('where 0 means something it may be written', async (t) => {
  const retry = { first: '0s' };
  const own = { retry, 'warn-after': '0s' };
  const writeBack = { ...HARBOR, mode: 'write-back', access: 'cluster', 'write-back': own };
  const rule = {
    name: 'r',
    from: 'local',
    repositories: ['**'],
    to: { url: 'https://b.example.com' },
    retry,
  };
  const document = parse({
    ...GOOD,
    upstreams: [writeBack, LOCAL],
    policies: { 'stranger-rate': 0 },
    replication: [rule],
  });
  t.match(document.upstreams[0], { 'write-back': { retry: { first: 0 }, 'warn-after': 0 } });
  t.equal(document.policies['stranger-rate'], 0);
  t.match(document.replication, [{ retry: { first: 0, max: 900_000 } }]);
});

t.test('what is wrong is named', async (t) => {
  const cases: [object, RegExp][] = [
    [{ version: 0 }, /^cluster\.yaml: version: /],
    [{ version: undefined }, /version: is missing/],
    [{ upstreams: [] }, /upstreams: /],
    [{ colour: 1 }, /unknown key colour/],
    [{ upstreams: [{ ...HARBOR, colour: 1 }] }, /unknown key upstreams\.0\.colour/],
    [{ upstreams: [{ ...LOCAL, url: 'http://a' }] }, /upstreams\.0\.url: mode none has no url/],
    [
      { upstreams: [{ name: 'x', mode: 'pull-through' }] },
      /upstreams\.0\.url: mode none has no url, every other mode needs one/,
    ],
    [{ upstreams: [{ ...HARBOR, mode: 'write-through' }] }, /upstreams\.0\.mode/],
    [{ upstreams: [{ ...LOCAL, mode: 'write-back' }] }, /upstreams\.0\.url: mode none has no url/],
    [
      { upstreams: [{ ...HARBOR, mode: 'write-back', access: 'upstream' }] },
      /upstreams\.0\.access: in mode write-back .* use accounts or cluster/,
    ],
    [
      { upstreams: [{ ...HARBOR, mode: 'write-back' }] },
      /upstreams\.0\.access: in mode write-back without accounts .* or write access: cluster/,
    ],
    [
      { upstreams: [{ ...HARBOR, 'write-back': {} }] },
      /upstreams\.0\.write-back: is for mode write-back; this upstream has mode pull-through/,
    ],
    [
      { upstreams: [{ ...HARBOR, mode: 'write-back', 'write-back': { 'on-conflict': 'mine' } }] },
      /upstreams\.0\.write-back\.on-conflict/,
    ],
    [
      { upstreams: [{ ...HARBOR, mode: 'write-back', 'write-back': { retry: { first: '2m' } } }] },
      /upstreams\.0\.write-back\.retry: first is longer than max/,
    ],
    [
      { upstreams: [{ ...HARBOR, url: 'https://a/path?q=1' }] },
      /upstreams\.0\.url: "https:\/\/a\/path\?q=1" is not/,
    ],
    [{ upstreams: [{ ...HARBOR, url: 'https://me:x@a' }] }, /upstreams\.0\.url: "https:\/\/…@a" is not/],
    [{ upstreams: [{ ...HARBOR, url: 'https://a/b%2fc' }] }, /upstreams\.0\.url: .* is not/],
    [{ upstreams: [{ ...HARBOR, 'max-connections': 0 }] }, /upstreams\.0\.max-connections/],
    [{ upstreams: [{ ...HARBOR, tags: { ttl: 60 } }] }, /upstreams\.0\.tags\.ttl: "60" is not a duration/],
    [
      { upstreams: [HARBOR, { ...LOCAL, name: 'harbor' }] },
      /upstreams: host harbor belongs to harbor and harbor/,
    ],
    [
      {
        upstreams: [
          { ...HARBOR, url: 'https://r.example.com' },
          { ...LOCAL, hosts: ['R.example.com'] },
        ],
      },
      /upstreams\.1\.hosts: R\.example\.com leads to harbor, which stands before local/,
    ],
    [
      {
        upstreams: [
          { ...HARBOR, hosts: ['docker.io'] },
          { ...LOCAL, hosts: ['registry-1.docker.io'] },
        ],
      },
      /upstreams\.1\.hosts: registry-1\.docker\.io leads to harbor/,
    ],
    [
      { upstreams: [HARBOR, { ...LOCAL, hosts: ['Registry.Example.Com'] }] },
      /host Registry\.Example\.Com belongs to harbor and local/,
    ],
    [
      { upstreams: [{ ...HARBOR, hosts: ['a', 'https://harbor.example.com'] }] },
      /upstreams\.0\.hosts\.1: "https:\/\/harbor\.example\.com" is no host/,
    ],
    [
      {
        upstreams: [
          { ...HARBOR, hosts: ['[2001:DB8:0::7]:5000'] },
          { ...LOCAL, hosts: ['[2001:db8::7]:5000'] },
        ],
      },
      /host \[2001:db8::7\]:5000 belongs to harbor and local/,
    ],
    [{ members: [member('o1', 'origin', 1), member('o1', 'proxy', 2)] }, /members: id o1 is there twice/],
    [
      { members: [member('o1', 'origin', 1), member('p1', 'proxy', 1)] },
      /members\.1\.urls\.0: http:\/\/127\.0\.0\.1:1 is the address of o1 as well as of p1/,
    ],
    [
      {
        members: [
          { ...member('o1', 'origin', 1), urls: ['http://one', 'http://Two.example:80/'] },
          { ...member('o2', 'origin', 2), urls: ['http://other', 'http://two.example'] },
        ],
      },
      /members\.1\.urls\.1: http:\/\/two\.example is the address of o1/,
    ],
    [
      {
        members: [
          member('o1', 'origin', 1, { peers: ['h:5'] }),
          member('o2', 'origin', 2, { peers: ['h:5'] }),
        ],
      },
      /members\.1\.peers\.0: h:5 is the address of o1/,
    ],
    [
      { members: [{ ...member('o1', 'origin', 1), urls: ['http://one', 'http://0.0.0.0:17200'] }] },
      /members\.0\.urls\.1: http:\/\/0\.0\.0\.0:17200 is where o1 may listen; name the address by which others/,
    ],
    [
      { members: [member('o1', 'origin', 1, { peers: ['[0:0::0]:17201'] })] },
      /members\.0\.peers\.0: \[0:0::0\]:17201 is where o1 may listen/,
    ],
    [{ members: [member('O1', 'origin', 1)] }, /members\.0\.id/],
    [{ members: [member('a1', 'agent', 1)] }, /members\.0\.role/],
    [{ members: [{ ...member('o1', 'origin', 1), urls: [] }] }, /members\.0\.urls/],
    [{ members: [member('o1', 'origin', 1, { weight: 0 })] }, /members\.0\.weight/],
    [
      { members: [member('o1', 'origin', 1, { peers: ['nowhere'] })] },
      /members\.0\.peers\.0: "nowhere" is not host:port/,
    ],
    [{ policies: { strangers: 'some' } }, /policies\.strangers/],
    [{ policies: { 'stranger-interval': '1s' } }, /policies\.stranger-interval: is at least 5s, not 1s/],
  ];
  for (const [change, message] of cases)
    t.throws(() => parse({ ...GOOD, ...change }), { code: 'CONFIG_INVALID', message }, String(message));
});

t.test('a file, or why not', async (t) => {
  const dir = t.testdir({ 'cluster.yaml': JSON.stringify(GOOD) });
  t.equal(loadClusterDocument(join(dir, 'cluster.yaml')).version, 3);
  t.throws(() => loadClusterDocument(join(dir, 'gone')), {
    code: 'CONFIG_INVALID',
    message: /cluster-document: .*gone cannot be read \(ENOENT\)/,
  });
});

t.test('a bucket keeps what is said beside it', (t) => {
  const backend = { s3: { bucket: 'blobs', ca: 'tls/s3.pem' }, 'moved-from': 's3://blobs/ at old.test' };
  const dir = t.testdir({
    'cluster.yaml': JSON.stringify({ ...GOOD, upstreams: [{ ...LOCAL, backend }] }),
  });
  const [upstream] = loadClusterDocument(join(dir, 'cluster.yaml')).upstreams;
  t.match(upstream?.backend, { ...backend, s3: { bucket: 'blobs', ca: join(dir, 'tls/s3.pem') } });
  t.end();
});

t.test('files that a document names lie beside it, wherever it is read from', async (t) => {
  const dir = t.testdir();
  const file = join(dir, 'cluster.yaml');
  const rule = (name: string, ca: string) => ({
    name,
    from: 'local',
    repositories: ['team/**'],
    to: { url: 'https://far.example.com', ca },
  });
  const upstreams = [{ ...HARBOR, ca: 'tls/harbor.pem' }, LOCAL];
  const replication = [rule('near', 'tls/far.pem'), rule('fixed', '/etc/far.pem')];
  writeFileSync(file, JSON.stringify({ ...GOOD, upstreams, replication }));
  for (const written of [file, relative(process.cwd(), file)]) {
    const document = loadClusterDocument(written);
    t.same(
      document.upstreams.map(({ ca }) => ca),
      [join(dir, 'tls/harbor.pem'), undefined],
    );
    t.same(
      document.replication.map(({ to }) => to.ca),
      [join(dir, 'tls/far.pem'), '/etc/far.pem'],
    );
  }
});

t.test('the hosts of an upstream: name, URL, those listed; of the default also the proxies', async (t) => {
  const cluster = new Cluster(parse(GOOD));
  t.same(cluster.upstream('harbor').hosts, [
    'harbor',
    'harbor.example.com:8443',
    'registry.example.com',
    '127.0.0.1:7',
  ]);
  t.same(cluster.upstream('local').hosts, ['local']);
  t.equal(cluster.defaultUpstream, 'harbor');
  const resolved = resolveName(
    { name: '127.0.0.1:7/a/b', ns: undefined, defaultUpstream: 'local' },
    cluster.upstreams,
  );
  t.same(resolved, { upstream: 'harbor', repository: 'a/b' });
  t.throws(() => cluster.upstream('gone'), { code: 'UPSTREAM_UNKNOWN' });
});

t.test('members by id and role', async (t) => {
  const cluster = new Cluster(parse(GOOD));
  t.equal(cluster.version, 3);
  t.same(
    cluster.members('tracker').map(({ id }) => id),
    ['t1', 't2'],
  );
  t.equal(cluster.member('p1').role, 'proxy');
  t.equal(cluster.findMember('x'), undefined);
  t.throws(() => cluster.member('x'), { code: 'PEER_HTTP', detail: { id: 'x' } });
});

t.test('who keeps what follows from the configured membership', async (t) => {
  const cluster = new Cluster(parse(GOOD));
  const digest = digestOf(Buffer.from('x'));
  const { order, owners, replicas, writeQuorum } = cluster.origins(digest);
  t.same([...order].sort(), ['o1', 'o2', 'o3', 'o4']);
  t.same(
    [owners.length, replicas, writeQuorum, order.at(-1)],
    [3, 3, 2, 'o4'],
    'one that drains owns nothing',
  );
  t.same(
    cluster
      .trackers(digest)
      .map(({ id }) => id)
      .sort(),
    ['t1', 't2'],
  );
  t.not(shardKey('a', 'b/c'), shardKey('a\nb', 'c'));
});

t.test('any document is read or is CONFIG_INVALID', async (t) => {
  const upstream = fc.record(
    {
      name: fc.oneof(fc.constant('harbor'), fc.string()),
      url: fc.oneof(fc.constant('http://a'), fc.string(), fc.webUrl()),
      hosts: fc.array(fc.string()),
      mode: fc.constantFrom('none', 'pull-through', 'x'),
    },
    { requiredKeys: ['name', 'mode'] },
  );
  const one = fc.record(
    {
      id: fc.oneof(fc.constantFrom('a', 'b'), fc.string()),
      role: fc.constantFrom('origin', 'proxy', 'x'),
      urls: fc.array(fc.oneof(fc.constant('http://a'), fc.string())),
      weight: fc.double(),
    },
    { requiredKeys: ['id', 'role', 'urls'] },
  );
  const document = fc.record({
    version: fc.oneof(fc.constant(1), fc.jsonValue()),
    members: fc.array(one),
    upstreams: fc.array(upstream),
  });
  fc.assert(
    fc.property(fc.oneof(document, fc.jsonValue()), (value) => {
      try {
        const cluster = new Cluster(parse(value));
        return cluster.upstreams.length > 0;
      } catch (error) {
        return error instanceof CodedError && error.code === 'CONFIG_INVALID';
      }
    }),
    { numRuns: 2000, interruptAfterTimeLimit: 10_000, markInterruptAsFailure: false },
  );
  t.pass('held');
});

t.test('members that are dialled by the cluster key stand at http addresses', async (t) => {
  const behind = (encryption: string) =>
    JSON.stringify({
      version: 1,
      members: [{ id: 'proxy-1', role: 'proxy', urls: ['https://sepia.example'] }],
      upstreams: [{ name: 'local', mode: 'none' }],
      policies: { encryption },
    });
  for (const encryption of ['off', 'accept'])
    t.equal(parseClusterDocument(behind(encryption), 'cluster.yaml').policies.encryption, encryption);
  for (const encryption of ['on', 'require'])
    t.throws(() => parseClusterDocument(behind(encryption), 'cluster.yaml'), {
      code: 'CONFIG_INVALID',
      message: /members\.0\.urls: .*write http:\/\//,
    });
});
