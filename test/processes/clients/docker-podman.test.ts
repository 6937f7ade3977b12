import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { startMadeRegistry } from '@sepia/test-support/clients/made-registry';
import {
  freePort,
  must,
  mustOnceAnswered,
  podmanStorage,
  quietly,
  testbed,
  whyNoClients,
} from '@sepia/test-support/testbed';
import { Up } from '@sepia/test-support/up';
import t from 'tap';

const why = whyNoClients();

t.test(
  'docker pushes and pulls; podman pulls through an agent',
  { skip: why ?? false, timeout: 600_000 },
  async (t) => {
    const dir = t.testdir();
    const port = await freePort();
    await startMadeRegistry(t, port, 'all');
    await using up = await Up.start(
      join(dir, 'data'),
      '--agents 2 --proxies 2 --ports-from 25000'.split(' '),
    );
    await testbed('dockerd.sh', ['start', 'd1']);
    t.teardown(() => quietly('dockerd.sh', ['stop', 'd1']));
    const docker = (...args: string[]) => testbed('dockerd.sh', ['do', 'd1', ...args]);
    const [first, second] = up.cluster.proxies.map((proxy) => new URL(proxy.url).host);
    const [agent, other] = up.cluster.agents.map((one) => new URL(one.url).host);

    await t.test('docker push to one proxy, pull through agents and the other proxy', async (t) => {
      await docker('pull', `127.0.0.1:${port}/t/python:v2s2`);
      await docker('tag', `127.0.0.1:${port}/t/python:v2s2`, `${first}/team/python:1`);
      await docker('push', `${first}/team/python:1`);
      await docker('push', `${first}/team/python:1`);
      await docker('rmi', `${first}/team/python:1`, `127.0.0.1:${port}/t/python:v2s2`);
      for (const host of [agent, second]) {
        await docker('pull', `${host}/team/python:1`);
        const { stdout } = await docker(
          'run',
          '--rm',
          '--network',
          'none',
          `${host}/team/python:1`,
          'python3',
          '-c',
          'print(6*7)',
        );
        t.match(stdout, /42/);
        await docker('rmi', `${host}/team/python:1`);
      }
    });

    await t.test('docker pulls a multi-arch list', async (t) => {
      await mustOnceAnswered('skopeo', [
        'copy',
        '--all',
        '--src-tls-verify=false',
        '--dest-tls-verify=false',
        `docker://127.0.0.1:${port}/t/multi:v2s2`,
        `docker://${second}/team/multi:1`,
      ]);
      await docker('pull', `${agent}/team/multi:1`);
      const { stdout } = await docker(
        'run',
        '--rm',
        '--network',
        'none',
        `${agent}/team/multi:1`,
        'echo',
        'hello',
      );
      t.match(stdout, /hello/);
    });

    await t.test('podman and skopeo read through an agent', async (t) => {
      // podman refuses a run folder whose path is longer than 50 characters.
      const folder = mkdtempSync('/tmp/sepia-pod-');
      t.teardown(() => rmSync(folder, { recursive: true, force: true }));
      const storage = podmanStorage(folder);
      await must('podman', [...storage, 'pull', '--tls-verify=false', `${other}/team/multi:1`]);
      const { stdout } = await must('podman', [...storage, 'images', '--format', '{{.Repository}}:{{.Tag}}']);
      t.match(stdout, 'team/multi:1');
      await mustOnceAnswered('skopeo', [
        'copy',
        '--src-tls-verify=false',
        `docker://${other}/team/python:1`,
        `dir:${join(dir, 'copy')}`,
      ]);
      const tags = await mustOnceAnswered('skopeo', [
        'list-tags',
        '--tls-verify=false',
        `docker://${other}/team/python`,
      ]);
      t.match(tags.stdout, '"1"');
    });

    t.equal(await up.stop(), 0);
  },
);
