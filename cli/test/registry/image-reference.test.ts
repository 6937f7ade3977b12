import t from 'tap';
import { parseImageReference } from '../../src/registry/image-reference.ts';

const DIGEST = `sha256:${'ab'.repeat(32)}`;

t.test('references are taken apart', async (t) => {
  for (const [text, host, repository, reference] of [
    ['app', undefined, 'app', 'latest'],
    ['demo/app:v1', undefined, 'demo/app', 'v1'],
    ['harbor.example.com/library/app:v1', 'harbor.example.com', 'library/app', 'v1'],
    ['127.0.0.1:17000/demo/app', '127.0.0.1:17000', 'demo/app', 'latest'],
    ['localhost/app:v1', 'localhost', 'app', 'v1'],
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
