import { fc } from '@sepia/test-support/property';
import t from 'tap';
import {
  type AddressClass,
  classOf,
  type Home,
  isAddress,
  isSameItem,
  mayBear,
  mayDial,
  type Place,
  placeOf,
} from '../../src/core/reach.ts';

const CLASSES: Readonly<Record<AddressClass, readonly string[]>> = {
  public: [
    '1.1.1.1',
    '93.184.216.34',
    '2606:4700::1111',
    '[2001:4860:4860::8888]',
    '::ffff:8.8.8.8',
    '::808:808',
  ],
  private: [
    ...[
      '10.0.0.1',
      '10.255.255.255',
      '172.16.0.1',
      '172.31.255.255',
      '192.168.0.1',
      '100.64.0.1',
      '100.100.100.200',
    ],
    ...[
      '198.18.0.1',
      'fc00::1',
      'fd00:ec2::254',
      'fec0::1',
      '::ffff:10.1.2.3',
      '[::ffff:c0a8:1]',
      '64:ff9b::a00:1',
      '64:ff9b:1::7f00:1',
      '192.0.0.1',
    ],
    ...['2002:a00:1::', '::ffff:0:10.0.0.1', '::192.168.1.1', '::c0a8:101'],
  ],
  local: [
    ...[
      '127.0.0.1',
      '127.255.255.254',
      '0.0.0.0',
      '0.1.2.3',
      '169.254.169.254',
      '169.254.0.1',
      '::1',
      '::',
      'fe80::1',
    ],
    ...[
      'fe80::1%eth0',
      '[::1]',
      '::ffff:127.0.0.1',
      '[::ffff:7f00:1]',
      '[::ffff:a9fe:a9fe]',
      '64:ff9b::7f00:1',
    ],
    ...['2002:7f00:1::', '::127.0.0.1', '::7f00:1', '2001:0:0:0:0:0:80ff:fffe'],
  ],
  never: ['255.255.255.255', '224.0.0.1', '240.0.0.1', 'ff02::1', 'no address', ''],
};

t.test('addresses in all their forms have the class of what they lead to', async (t) => {
  for (const [expected, addresses] of Object.entries(CLASSES))
    for (const address of addresses) t.equal(classOf(address), expected, address);
});

t.test('what a URL makes of odd spellings is seen', async (t) => {
  for (const spelling of ['2130706433', '0x7f000001', '0177.0.0.1', '127.1', '[::ffff:127.0.0.1]', '0'])
    t.equal(classOf(new URL(`http://${spelling}/`).hostname), 'local', spelling);
  t.ok(isAddress(new URL('http://0x7f.1/').hostname));
  t.notOk(isAddress('registry.example'));
});

t.test('every IPv4 address is the same, bare and carried by IPv6', async () => {
  const octet = fc.nat(255);
  fc.assert(
    fc.property(fc.tuple(octet, octet, octet, octet), (octets) => {
      const plain = octets.join('.');
      const expected = classOf(plain);
      for (const carried of [`::ffff:${plain}`, `64:ff9b::${plain}`]) {
        if (classOf(carried) !== expected)
          throw new Error(`${carried} is ${classOf(carried)}, not ${expected}`);
      }
    }),
  );
});

const HOME: Home = {
  base: new URL('https://registry-1.docker.io'),
  redirectHosts: ['10.1.2.3', 'cdn.corp.example:8443', '::1', '[FD00:0::5]:9000', 'fd00:0:0::6'],
  realmHosts: ['login.corp.example'],
};

t.test('what a place is to a registry', async (t) => {
  const places: readonly (readonly [string, 'redirect' | 'realm', Place])[] = [
    ['https://registry-1.docker.io/token', 'realm', 'origin'],
    ['https://registry-1.docker.io:443/x', 'redirect', 'origin'],
    ['https://registry-1.docker.io:5001/token', 'realm', 'host'],
    ['http://registry-1.docker.io/x', 'redirect', 'host'],
    ['https://REGISTRY-1.docker.io./x', 'redirect', 'host'],
    ['https://auth.docker.io/token', 'realm', 'domain'],
    ['https://docker.io.evil.example/token', 'realm', 'foreign'],
    ['https://evildocker.io/token', 'realm', 'foreign'],
    ['https://login.corp.example/t', 'realm', 'listed'],
    ['https://login.corp.example/t', 'redirect', 'foreign'],
    ['https://cdn.corp.example:8443/x', 'redirect', 'listed'],
    ['https://cdn.corp.example/x', 'redirect', 'foreign'],
    ['http://10.1.2.3:9000/x', 'redirect', 'listed'],
    ['http://[::1]:9000/x', 'redirect', 'listed'],
    ['http://[fd00::5]:9000/x', 'redirect', 'listed'],
    ['http://[fd00::5]:9001/x', 'redirect', 'foreign'],
    ['http://[fd00::6]:9001/x', 'redirect', 'listed'],
    ['http://10.1.2.4/x', 'redirect', 'foreign'],
  ];
  for (const [url, purpose, expected] of places)
    t.equal(placeOf(HOME, new URL(url), purpose), expected, `${purpose} ${url}`);
  const shared = { ...HOME, base: new URL('https://mine.github.io') };
  t.equal(
    placeOf(shared, new URL('https://theirs.github.io'), 'realm'),
    'foreign',
    'a domain of many owners',
  );
  const here = { ...HOME, base: new URL('http://127.0.0.1:5000') };
  t.equal(placeOf(here, new URL('http://localhost:5001'), 'realm'), 'host');
  t.equal(placeOf(here, new URL('http://127.0.0.2:5001'), 'realm'), 'foreign');
});

t.test('who may be dialled, and who may see credentials', async (t) => {
  const kinds: readonly AddressClass[] = ['public', 'private', 'local', 'never'];
  for (const own of [undefined, ...kinds])
    for (const address of kinds) {
      for (const place of ['origin', 'listed'] as const) t.ok(mayDial(place, address, own));
      t.equal(mayDial('host', address, own), address === 'public' || own === undefined || own === address);
      for (const place of ['domain', 'foreign'] as const) {
        const expected = address === 'public' || (address === 'private' && own === 'private');
        t.equal(mayDial(place, address, own), expected, `${place} ${address}, own ${own}`);
      }
    }
  t.same((['origin', 'host', 'listed', 'domain', 'foreign'] as const).map(mayBear), [
    true,
    true,
    true,
    true,
    false,
  ]);
});

t.test('the address of an item at a registry', async (t) => {
  const blob = `blobs/sha256:${'a'.repeat(64)}`;
  for (const [url, path, is] of [
    ['https://ghcr.io/v2/someone/app/manifests/v1', 'manifests/v1', true],
    ['https://art.example/api/docker/v2/app/manifests/v1?x=1', 'manifests/v1', true],
    [`https://ghcr.io/v2/app/${blob}`, blob, true],
    [`https://ghcr.io/v2/app/${blob.replace(':', '%3A')}`, blob, true],
    ['https://ghcr.io/v2/app/tags/list', 'tags/list?n=1', true],
    ['https://ghcr.io/v2/manifests/v1', 'manifests/v1', false],
    ['https://ghcr.io/manifests/v1', 'manifests/v1', false],
    ['https://ghcr.io/v2/app/manifests/v1', 'manifests/v2', false],
    ['https://cdn.example/docker/registry/v2/blobs/sha256/ab/abcd/data', blob, false],
    [`https://cdn.example/v2/app/${blob}?X-Amz-Expires=300&X-Amz-Signature=ab`, blob, false],
    [`https://cdn.example/v2/app/${blob}?se=2026&sig=ab`, blob, false],
  ] as const)
    t.equal(isSameItem(new URL(url), path), is, url);
});
