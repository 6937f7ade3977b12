import t from 'tap';
import { inOneSpelling, isEverywhere, parseHostPort } from '../src/host-port.ts';

t.test('host:port in its forms', async (t) => {
  t.same(parseHostPort('127.0.0.1:80'), { host: '127.0.0.1', port: 80 });
  t.same(parseHostPort('harbor.example:65535'), { host: 'harbor.example', port: 65535 });
  t.same(parseHostPort('[::1]:0'), { host: '::1', port: 0 });
  for (const bad of [
    '',
    ':80',
    'a',
    'a:',
    'a:b',
    'a:65536',
    'a:1:2',
    '::1:80',
    '[::1]',
    '[]:1',
    'http://a:1',
    'a b:1',
    'a/b:1',
    'a:-1',
    'a:123456',
    '[::::]:1',
    '[fe80::1%eth0]:1',
    '999.1.1.1:1',
    'a%b:1',
  ]) {
    t.equal(parseHostPort(bad), undefined, bad);
  }
});

t.test('an address that stands for all of a machine, in any spelling', async (t) => {
  for (const host of ['0.0.0.0', '0', '::', '0:0::0', '[::]']) t.ok(isEverywhere(host), host);
  for (const host of ['127.0.0.1', '10.0.0.0', '::1', '[::1]', 'a.example', 'no host', ''])
    t.notOk(isEverywhere(host), host);
});

t.test('one spelling of a host', async (t) => {
  for (const [host, one] of [
    ['Registry.Example:5000', 'registry.example:5000'],
    ['[2001:DB8:0::1]:5000', '[2001:db8::1]:5000'],
    ['2001:db8:0:0::1', '2001:db8:0:0::1'],
    ['[0::1]', '[::1]'],
    ['[::ffff:10.0.0.7]', '[::ffff:a00:7]'],
    ['host:5000', 'host:5000'],
    ['[1:2]:5', '[1:2]:5'],
    ['10.0.0.7', '10.0.0.7'],
  ] as const)
    t.equal(inOneSpelling(host), one, host);
});
