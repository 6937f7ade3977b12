import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { CodedError } from '../../src/errors.ts';
import { resolveName, upstreamOfHost } from '../../src/names/upstream-name.ts';

const HARBOR = { name: 'harbor', hosts: ['harbor', 'harbor.example.com', 'harbor.example.com:8443'] };
const HUB = { name: 'hub', hosts: ['hub', 'registry-1.docker.io'] };
const LOCAL = { name: 'local', hosts: ['local', 'localhost', '127.0.0.1:17000'] };
const ALL = [HARBOR, HUB, LOCAL];

function resolve(name: string, ns?: string, defaultUpstream: string | undefined = 'harbor'): string {
  const { upstream, repository } = resolveName({ name, ns, defaultUpstream }, ALL);
  return `${upstream} ${repository}`;
}

t.test('ns decides, whatever the listener says', async (t) => {
  t.equal(resolve('a/b', 'harbor.example.com', 'hub'), 'harbor a/b');
  t.equal(resolve('a/b', 'harbor.example.com:8443', 'hub'), 'harbor a/b');
  t.equal(resolve('a/b', 'HARBOR.Example.COM', 'hub'), 'harbor a/b');
  t.equal(resolve('a/b', 'local'), 'local a/b');
  t.equal(resolve('a/b', ''), 'harbor a/b', 'an empty ns is none');
});

t.test('an unknown ns is 404 at once, even where a default would fit', async (t) => {
  for (const ns of [
    'evil.example',
    'harbor.example.com:1',
    'harbor.example.com/',
    'http://harbor.example.com',
    '169.254.169.254',
  ]) {
    t.throws(() => resolve('a/b', ns), { code: 'UPSTREAM_UNKNOWN', detail: { ns } }, ns);
  }
});

t.test('the three names of Docker Hub are one; its bare names get library/', async (t) => {
  for (const ns of ['docker.io', 'registry-1.docker.io', 'index.docker.io']) {
    t.equal(resolve('library/app', ns), 'hub library/app', ns);
    t.equal(resolve('app', ns), 'hub library/app', ns);
    t.equal(resolve(`${ns}/app`), 'hub library/app', `${ns} in the path`);
    t.equal(resolve(`${ns}/org/app`), 'hub org/app', `${ns} in the path`);
  }
  t.equal(resolve('app', undefined, 'hub'), 'hub library/app');
  t.equal(resolve('app'), 'harbor app', 'others get none');
});

t.test('the first part of the path counts only if it looks like a host and is one of ours', async (t) => {
  t.equal(resolve('harbor.example.com/a/b', undefined, 'hub'), 'harbor a/b');
  t.equal(resolve('localhost/a', undefined, 'hub'), 'local a');
  t.equal(resolve('127.0.0.1:17000/a/b'), 'local a/b');
  t.equal(resolve('local/a'), 'harbor local/a', 'a name without dot, colon or localhost is a repository');
  t.equal(resolve('harbor/a', undefined, 'hub'), 'hub harbor/a');
  t.equal(
    resolve('ghcr.io/a/b'),
    'harbor ghcr.io/a/b',
    'a host that is not ours is a repository of the default',
  );
  t.equal(resolve('harbor.example.com'), 'harbor harbor.example.com', 'alone it is a repository');
});

t.test('a host in ns and path is taken off once', async (t) => {
  t.equal(resolve('harbor.example.com/a', 'harbor.example.com'), 'harbor a');
  t.equal(
    resolve('harbor.example.com/harbor.example.com/a', 'harbor.example.com'),
    'harbor harbor.example.com/a',
  );
  t.equal(
    resolve('docker.io/app', 'harbor.example.com'),
    'harbor docker.io/app',
    'another host in the path is a repository there',
  );
});

t.test('without ns, host and default there is no upstream', async (t) => {
  t.throws(() => resolveName({ name: 'a/b', ns: undefined, defaultUpstream: undefined }, ALL), {
    code: 'UPSTREAM_UNKNOWN',
    detail: { name: 'a/b' },
  });
  t.throws(() => resolve('a', undefined, 'gone'), { code: 'UPSTREAM_UNKNOWN' });
});

t.test('what is left must be a name', async (t) => {
  for (const bad of [
    '',
    'harbor.example.com/',
    'A/b',
    'a//b',
    'a:5000/b',
    '../x',
    'harbor.example.com/../x',
  ]) {
    t.throws(() => resolve(bad), { code: 'NAME_INVALID' }, bad);
  }
});

t.test('upstreams by host', async (t) => {
  t.equal(upstreamOfHost('index.docker.io', ALL), HUB);
  t.equal(upstreamOfHost('nobody', ALL), undefined);
});

t.test('any request resolves to a known upstream or is a coded error', async (t) => {
  const part = fc.constantFrom(
    'a',
    'app',
    'docker.io',
    'harbor.example.com',
    'localhost',
    '127.0.0.1:17000',
    '',
    '..',
    'A',
    'x:1',
  );
  const name = fc.oneof(
    fc.string(),
    fc.array(part).map((parts) => parts.join('/')),
  );
  fc.assert(
    fc.property(
      name,
      fc.option(fc.oneof(part, fc.string()), { nil: undefined }),
      fc.option(fc.constantFrom('harbor', 'hub', 'x'), { nil: undefined }),
      (text, ns, defaultUpstream) => {
        try {
          const { upstream } = resolveName({ name: text, ns, defaultUpstream }, ALL);
          const meant = ns === undefined || ns === '' ? undefined : upstreamOfHost(ns, ALL)?.name;
          return meant === undefined ? ALL.some((one) => one.name === upstream) : meant === upstream;
        } catch (error) {
          return error instanceof CodedError && ['UPSTREAM_UNKNOWN', 'NAME_INVALID'].includes(error.code);
        }
      },
    ),
    { numRuns: 3000 },
  );
  t.pass('held');
});

t.test('the port that is understood may be said or not', async (t) => {
  const six = { name: 'six', hosts: ['six', '[2001:db8::1]:5000', '[2001:db8::2]'] };
  const plain = { name: 'plain', hosts: ['plain', 'harbor.example.com:80'] };
  const of = (host: string, all = [...ALL, six]): string | undefined => upstreamOfHost(host, all)?.name;
  t.equal(of('harbor.example.com:443'), 'harbor');
  t.equal(of('harbor.example.com:80'), 'harbor');
  t.equal(of('harbor.example.com:80', [...ALL, plain]), 'plain', 'unless another answers to just that');
  t.equal(of('harbor.example.com', [plain]), 'plain');
  t.equal(of('harbor.example.com:8080'), undefined);
  t.equal(of('docker.io:443'), 'hub');
  t.equal(of('index.docker.io:443'), 'hub');
  t.equal(resolve('docker.io:443/app'), 'hub library/app');
  t.equal(resolve('harbor.example.com:443/a/b', undefined, 'hub'), 'harbor a/b');
  for (const host of [
    '[2001:db8::1]:5000',
    '[2001:DB8:0:0:0:0:0:1]:5000',
    '[2001:db8::2]',
    '[2001:db8::2]:443',
  ])
    t.equal(of(host), 'six', host);
  for (const host of ['[2001:db8::1]', '[2001:db8::3]', '2001:db8::2', '[', '[x]:1', ':443', ''])
    t.equal(of(host), undefined, host);
});

t.test('the names of the loopback are one, unless another upstream answers to just that', async (t) => {
  const proxy = { name: 'proxy', hosts: ['proxy', '127.0.0.1:17300'] };
  const other = { name: 'other', hosts: ['other', 'localhost:17300'] };
  const of = (host: string, all = [HARBOR, proxy]): string | undefined => upstreamOfHost(host, all)?.name;
  for (const host of ['127.0.0.1:17300', 'localhost:17300', 'LOCALHOST:17300', '[::1]:17300', '[0::1]:17300'])
    t.equal(of(host), 'proxy', host);
  t.equal(of('localhost:17300', [proxy, other]), 'other');
  t.equal(of('127.0.0.1:17300', [other, proxy]), 'proxy');
  t.equal(of('[::1]', [LOCAL]), 'local');
  for (const host of [
    'localhost',
    'localhost:17301',
    'localhost:',
    'localhost.example:17300',
    '127.0.0.2:17300',
  ])
    t.equal(of(host), undefined, host);
  t.equal(resolve('localhost:17000/a/b'), 'local a/b');
});
