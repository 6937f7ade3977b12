import { mkdtempSync, rmSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { deleteManifest } from '@sepia/test-support/clients/registry-calls';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { freePort, mustOnceAnswered, quietly, run, testbed, whyNoClients } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import t from 'tap';

const why = whyNoClients();
const USER = { username: 'robot', password: 'dr-S3cret' };
/** For what is pushed to one registry to be in the other, in ms. */
const THERE_MS = 120_000;
const CREDS = `${USER.username}:${USER.password}`;

t.test(
  'what skopeo pushes to a proxy is the same at docker-registry, which wants basic auth',
  { skip: why ?? false, timeout: 400_000 },
  async (t) => {
    // Not a folder of the test's: that goes before the registry in it is stopped.
    const folder = mkdtempSync('/tmp/sepia-replication-');
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    const layout = join(folder, 'oci');
    await testbed('make-image.sh', ['index', layout]);
    const registry = join(folder, 'registry');
    const port = await freePort();
    await testbed('registry.sh', ['start', registry, String(port), '--auth', CREDS]);
    t.teardown(() => quietly('registry.sh', ['stop', registry]));
    const passwordFile = join(folder, 'password');
    await writeFile(passwordFile, `${USER.password}\n`);
    await mkdir(join(folder, 'out'));
    await using cluster = await Constellation.start(join(folder, 'c'), {
      proxies: 2,
      agents: 0,
      trackers: 1,
      origin: { credentials: { dr: { username: USER.username, 'password-file': passwordFile } } },
      document: {
        replication: [
          {
            name: 'dr',
            from: 'local',
            repositories: ['team/**'],
            to: { url: `http://127.0.0.1:${port}` },
            rewrite: { 'strip-prefix': 'team', 'add-prefix': 'mirror' },
            credentials: 'dr',
            delete: false,
          },
        ],
      },
    });
    const proxy = new URL(cluster.proxyUrls[0]!).host;
    const image = `docker://${proxy}/team/multi:1`;
    await mustOnceAnswered('skopeo', [
      'copy',
      '--all',
      '--dest-tls-verify=false',
      `oci:${layout}:multi`,
      image,
    ]);
    const copied = `docker://127.0.0.1:${port}/mirror/multi:1`;
    const asUser = ['--tls-verify=false', '--creds', CREDS];
    t.not((await run('skopeo', ['inspect', '--raw', '--tls-verify=false', copied])).code, 0, 'not without');
    const there = await until(
      async () => {
        const output = await run('skopeo', ['inspect', '--raw', ...asUser, copied]);
        return output.code === 0 && output.stdout;
      },
      'docker-registry has the tag',
      THERE_MS,
    );
    const here = await mustOnceAnswered('skopeo', ['inspect', '--raw', '--tls-verify=false', image]);
    t.equal(there, here.stdout, 'the same index, byte for byte');
    t.match(there, /"manifests"/, 'it is an index');
    await mustOnceAnswered('skopeo', [
      'copy',
      '--all',
      '--preserve-digests',
      '--src-tls-verify=false',
      '--src-creds',
      CREDS,
      copied,
      `dir:${folder}/out`,
    ]);
    const one = await mustOnceAnswered('skopeo', [
      'inspect',
      '--format',
      '{{.Digest}}',
      '--tls-verify=false',
      image,
    ]);
    const other = await mustOnceAnswered('skopeo', ['inspect', '--format', '{{.Digest}}', ...asUser, copied]);
    t.equal(other.stdout, one.stdout);

    await deleteManifest(cluster.proxyUrls[1]!, 'team/multi', '1');
    await mustOnceAnswered('skopeo', [
      'copy',
      '--dest-tls-verify=false',
      `oci:${layout}:multi`,
      `${image.slice(0, -1)}2`,
    ]);
    await until(
      async () => (await run('skopeo', ['inspect', ...asUser, `${copied.slice(0, -1)}2`])).code === 0,
      'a later push',
      THERE_MS,
    );
    await mustOnceAnswered('skopeo', ['inspect', ...asUser, copied]);
  },
);
