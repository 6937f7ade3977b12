import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { fetchContent } from '../../src/lazy/fetch-content.ts';

const REFERENCE = 'registry.example/team/app:1';

t.test('an image is completed by containerd’s own client, through its hosts.toml files', async (t) => {
  const dir = t.testdir({
    ctr: '#!/bin/sh\necho "$@" > "$0.said"\n',
    broken: '#!/bin/sh\necho one >&2; echo "no such image" >&2; exit 3\n',
    dead: '#!/bin/sh\necho "ctr: failed to dial \\"/run/c.sock\\": context deadline exceeded" >&2; exit 1\n',
  });
  const options = { address: '/run/c.sock', namespace: 'k8s.io', hostsDir: '/certs' };
  for (const name of ['ctr', 'broken', 'dead']) chmodSync(join(dir, name), 0o755);
  await fetchContent(REFERENCE, { ...options, ctr: join(dir, 'ctr'), platform: 'linux/arm64' });
  t.equal(
    readFileSync(join(dir, 'ctr.said'), 'utf8'),
    `--address /run/c.sock --namespace k8s.io content fetch --hosts-dir /certs --platform linux/arm64 ${REFERENCE}\n`,
  );
  await t.rejects(fetchContent(REFERENCE, { ...options, ctr: join(dir, 'broken') }), {
    code: 'PEER_HTTP',
    message: `containerd did not fetch ${REFERENCE}: no such image`,
  });
  await t.rejects(fetchContent(REFERENCE, { ...options, ctr: join(dir, 'dead') }), {
    code: 'PEER_HTTP',
    message:
      /context deadline exceeded; start containerd, or name its socket with --address \(now \/run\/c\.sock\)$/,
  });
  await t.rejects(fetchContent(REFERENCE, { ...options, ctr: join(dir, 'none') }), {
    code: 'START_FAILED',
    message: /name it with --ctr/,
  });
});
