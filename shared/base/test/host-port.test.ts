import t from 'tap';
import { parseHostPort } from '../src/host-port.ts';

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
  ]) {
    t.equal(parseHostPort(bad), undefined, bad);
  }
});
