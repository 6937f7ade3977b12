import t from 'tap';
import { isThisMachine, parseImageReference } from '../../src/registry/image-reference.ts';

const DIGEST = `sha256:${'ab'.repeat(32)}`;

t.test('references are taken apart', async (t) => {
  for (const [text, host, repository, reference] of [
    ['app', undefined, 'app', 'latest'],
    ['demo/app:v1', undefined, 'demo/app', 'v1'],
    ['harbor.example.com/library/app:v1', 'harbor.example.com', 'library/app', 'v1'],
    ['127.0.0.1:17000/demo/app', '127.0.0.1:17000', 'demo/app', 'latest'],
    ['localhost/app:v1', 'localhost', 'app', 'v1'],
    ['[::1]:17300/demo/app', '[::1]:17300', 'demo/app', 'latest'],
    ['[2001:db8::7]/demo/app:v1', '[2001:db8::7]', 'demo/app', 'v1'],
    [`demo/app@${DIGEST}`, undefined, 'demo/app', DIGEST],
    [`r.example:5000/app:v1@${DIGEST}`, 'r.example:5000', 'app', DIGEST],
  ] as const) {
    t.same(parseImageReference(text), { host, repository, reference }, text);
  }
});

t.test('what is no reference is refused', async (t) => {
  for (const text of ['', 'UPPER', 'a//b', 'app:', 'app:bad tag', 'app@sha256:12', 'host.example/']) {
    t.throws(() => parseImageReference(text), { code: 'REQUEST_INVALID' }, `"${text}"`);
  }
});

t.test('a host with a port at the loopback is this machine', async (t) => {
  for (const host of ['localhost:17300', '127.0.0.1:17300', '127.9.8.7:1', '[::1]:17300', '[0:0::1]:17300'])
    t.ok(isThisMachine(host), host);
  for (const host of ['localhost', '127.0.0.1', '[::1]', '[::2]:17300', '10.0.0.1:17300', 'a.example:1'])
    t.notOk(isThisMachine(host), host);
});
