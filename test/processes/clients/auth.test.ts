import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { heardOn } from '@sepia/test-support/clients/heard';
import { ask, askAs } from '@sepia/test-support/clients/token-client';
import { AccountCluster, DEV, READER } from '@sepia/test-support/cluster/account-cluster';
import { ALICE, BOB, PrivateCluster } from '@sepia/test-support/cluster/private-cluster';
import {
  must,
  mustOnceAnswered,
  podmanStorage,
  quietly,
  run,
  TESTBED,
  testbed,
  whyNoClients,
} from '@sepia/test-support/testbed';
import { untilAnswered } from '@sepia/test-support/until';
import { loadLayout } from '@sepia/test-support/upstream/oci-layout';
import t from 'tap';

const why = whyNoClients();
const NAME = 'registry.example:5000';

/** A short folder for podman and docker's own files. */
function shortFolder(t: { teardown(done: () => void): void }): string {
  const folder = mkdtempSync('/tmp/sepia-auth-');
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** What a client of this account is told, once members have the time. */
async function statusFor(user: typeof DEV, url: string): Promise<number> {
  return (await untilAnswered(async () => await askAs(user, url), url)).status;
}

t.test(
  'accounts: docker, skopeo and podman log in, push, pull',
  { skip: why ?? false, timeout: 600_000 },
  async (t) => {
    const folder = shortFolder(t);
    const layout = join(folder, 'oci');
    await testbed('make-image.sh', ['tiny', layout]);
    await testbed('make-image.sh', ['index', layout]);
    await using here = await AccountCluster.start(join(t.testdir(), 'c'));
    const [first, second, third] = here.cluster.proxyUrls.map((url) => new URL(url).host);
    const agent = new URL(here.cluster.agents[0]!.url).host;
    const creds = (user: typeof DEV): string => `${user.username}:${user.password}`;

    await t.test('skopeo copy --all', async (t) => {
      const target = `docker://${first}/team/shared/multi:1`;
      const push = ['copy', '--all', '--dest-tls-verify=false', `oci:${layout}:multi`, target];
      t.not((await run('skopeo', push)).code, 0, 'not without an account');
      t.not((await run('skopeo', [...push, '--dest-creds', creds(READER)])).code, 0, 'not for a reader');
      await mustOnceAnswered('skopeo', [...push, '--dest-creds', creds(DEV)]);
      const from = ['copy', '--all', '--src-tls-verify=false', `docker://${agent}/team/shared/multi:1`];
      t.not((await run('skopeo', [...from, `dir:${folder}/none`])).code, 0, 'no pull without an account');
      await mustOnceAnswered('skopeo', [...from, '--src-creds', creds(READER), `dir:${folder}/copy`]);
      const move = ['copy', '--all', '--src-tls-verify=false', '--dest-tls-verify=false'];
      const pair = [`docker://${second}/team/shared/multi:1`, `docker://${third}/team/copy:1`];
      await mustOnceAnswered('skopeo', [
        ...move,
        '--src-creds',
        creds(DEV),
        '--dest-creds',
        creds(DEV),
        ...pair,
      ]);
    });

    await t.test('docker login, push, pull from an agent', async (t) => {
      await testbed('dockerd.sh', ['start', 'auth-d']);
      t.teardown(() => quietly('dockerd.sh', ['stop', 'auth-d']));
      const docker = (...args: string[]) =>
        run(`${TESTBED}/dockerd.sh`, ['do', 'auth-d', ...args], { DOCKER_CONFIG: join(folder, 'docker') });
      const ok = async (...args: string[]) => {
        const output = await docker(...args);
        t.equal(output.code, 0, `docker ${args[0]}: ${output.stderr}`);
      };
      const login = (host: string, user: typeof DEV) => [
        ...['login', '-u', user.username, '-p', user.password, host],
      ];
      t.not((await docker(...login(first!, { ...DEV, password: 'wrong' }))).code, 0, 'wrong password');
      for (const host of [first!, agent]) await ok(...login(host, DEV));
      await must('skopeo', [
        'copy',
        '--dest-daemon-host',
        (await testbed('dockerd.sh', ['env', 'auth-d'])).stdout.trim().replace('export DOCKER_HOST=', ''),
        `oci:${layout}:tiny`,
        `docker-daemon:${first}/team/tiny:1`,
      ]);
      await ok('push', `${first}/team/tiny:1`);
      await ok('tag', `${first}/team/tiny:1`, `${second}/team/tiny:1`);
      t.not((await docker('push', `${second}/team/tiny:1`)).code, 0, 'not logged in there');
      await ok('rmi', `${first}/team/tiny:1`, `${second}/team/tiny:1`);
      await ok('pull', `${agent}/team/tiny:1`);
      await ok('rmi', `${agent}/team/tiny:1`);
      await ok('logout', agent);
      t.not((await docker('pull', `${agent}/team/tiny:1`)).code, 0, 'logged out');
    });

    await t.test('podman login, pull, push', async (t) => {
      const storage = podmanStorage(folder);
      const file = ['--authfile', join(folder, 'auth.json')];
      const login = (host: string, password: string) => [
        ...[...storage, 'login', ...file, '--tls-verify=false', '-u', DEV.username, '-p', password, host],
      ];
      t.not((await run('podman', login(third!, 'wrong'))).code, 0, 'wrong password');
      for (const host of [third!, agent]) await must('podman', login(host, DEV.password));
      await must('podman', [
        ...storage,
        'pull',
        ...file,
        '--tls-verify=false',
        `${agent}/team/shared/multi:1`,
      ]);
      const image = `${agent}/team/shared/multi:1`;
      await must('podman', [
        ...storage,
        'push',
        ...file,
        '--tls-verify=false',
        image,
        `docker://${third}/team/podman:1`,
      ]);
      t.equal(await statusFor(DEV, `http://${agent}/v2/team/podman/manifests/1`), 200);
    });

    await t.test('skopeo delete', async (t) => {
      const image = `docker://${second}/team/shared/multi:1`;
      const remove = ['delete', '--tls-verify=false'];
      t.not((await run('skopeo', [...remove, image])).code, 0, 'not without an account');
      t.not((await run('skopeo', [...remove, '--creds', creds(READER), image])).code, 0, 'not for a reader');
      t.equal(await statusFor(DEV, `http://${first}/v2/team/shared/multi/manifests/1`), 200);
      await must('skopeo', [...remove, '--creds', creds(DEV), image]);
      for (const host of [first, second, third, agent])
        t.equal(await statusFor(DEV, `http://${host}/v2/team/shared/multi/manifests/1`), 404, `${host}`);
      t.equal(await statusFor(DEV, `http://${first}/v2/team/copy/manifests/1`), 200, 'copies stay');
    });
  },
);

t.test(
  'a private upstream: containerd and podman, with and without rights',
  { skip: why ?? false, timeout: 600_000 },
  async (t) => {
    const folder = shortFolder(t);
    const layout = join(folder, 'oci');
    await testbed('make-image.sh', ['big', layout, '4', '1']);
    await using here = await PrivateCluster.start(join(t.testdir(), 'c'), { upstream: { hosts: [NAME] } });
    const layer = loadLayout(here.upstream, layout, 'big4x1', 'both/big');
    const agents = here.cluster.agents.map(({ url }) => url);
    for (const node of ['auth1', 'auth2']) {
      await testbed('containerd.sh', ['start', node]);
      t.teardown(() => quietly('containerd.sh', ['stop', node]));
    }
    // The registry itself is live behind each mirror, as in production.
    for (const [at, node] of ['auth1', 'auth2'].entries())
      await testbed('containerd.sh', ['mirror', node, NAME, agents[at]!, '--server', here.upstream.url]);
    const ref = `${NAME}/both/big:big4x1`;
    const pull = (node: string, ...options: string[]) =>
      run(`${TESTBED}/containerd.sh`, ['pull', node, ref, ...options]);
    const blobGets = () =>
      here.upstream.requests('blob', 'GET').filter((entry) => entry.status === 200 || entry.status === 206);

    await t.test('no credentials: containerd asks the mirror, then the registry, and fails', async (t) => {
      const output = await pull('auth1');
      t.not(output.code, 0);
      t.match(output.stderr + output.stdout, /unauthorized|authorization failed|401/i);
      const direct = here.upstream.log.filter(
        (entry) => entry.query.get('ns') === NAME && entry.method === 'HEAD',
      );
      t.ok(
        direct.some((entry) => entry.host === 'registry'),
        'it went on to the registry itself',
      );
      t.equal(blobGets().length, 0);
    });

    await t.test('with credentials: through the agent, cold, in the name of the client', async (t) => {
      const output = await pull('auth1', '--user', `${ALICE.username}:${ALICE.password}`);
      t.equal(output.code, 0, output.stderr);
      const gets = blobGets().filter((entry) => entry.path.includes(layer.digest));
      t.equal(gets.length, 1, 'the layer left the upstream once');
      t.match(await heardOn('auth1', ref, 'echo hello'), /hello/);
    });

    await t.test(
      'the agent holds it: 401 without rights, one check with them, no blob from upstream',
      async (t) => {
        const url = `${agents[0]}/v2/both/big/blobs/${layer.digest}?ns=${encodeURIComponent(NAME)}`;
        t.equal((await untilAnswered(async () => await ask(url), 'what it says of a stranger')).status, 401);
        t.not((await pull('auth2')).code, 0);
        const before = here.upstream.log.length;
        const output = await pull('auth2', '--user', `${BOB.username}:${BOB.password}`);
        t.equal(output.code, 0, output.stderr);
        const asked = here.upstream.log.slice(before).filter((entry) => entry.host === 'registry');
        t.same(
          asked.filter((entry) => entry.kind === 'blob' && entry.path.includes(layer.digest)),
          [],
        );
        const accepted = asked.filter((entry) => entry.status === 200);
        // A proxy that is silent for a second is passed over: another one then asks too, once for all that is pulled.
        t.ok(
          accepted.length === 1 || accepted.length === 2,
          `one check: ${accepted.map((one) => `${one.method} ${one.path}`).join(', ')}`,
        );
        const wrong = await pull('auth2', '--user', `${BOB.username}:wrong`);
        t.ok(wrong.code !== 0 || wrong.stdout.includes('exists'), 'a wrong password pulls nothing new');
      },
    );

    await t.test('podman: logs in to the agent with the credentials of the upstream', async (t) => {
      const storage = podmanStorage(folder);
      const file = ['--authfile', join(folder, 'auth.json')];
      const host = new URL(agents[1]!).host;
      const image = `${host}/both/big:big4x1`;
      const pulled = [...storage, 'pull', ...file, '--tls-verify=false', image];
      t.not((await run('podman', pulled)).code, 0, 'not without');
      const who = ['-u', ALICE.username, '-p', ALICE.password];
      await must('podman', [...storage, 'login', ...file, '--tls-verify=false', ...who, host]);
      await must('podman', pulled);
    });

    await t.test('docker: the same, and as a user without rights', async (t) => {
      await testbed('dockerd.sh', ['start', 'auth-e']);
      t.teardown(() => quietly('dockerd.sh', ['stop', 'auth-e']));
      const docker = (...args: string[]) =>
        run(`${TESTBED}/dockerd.sh`, ['do', 'auth-e', ...args], { DOCKER_CONFIG: join(folder, 'docker') });
      const host = new URL(agents[1]!).host;
      const image = `${host}/both/big:big4x1`;
      t.not((await docker('pull', image)).code, 0, 'not without');
      const wrong = await docker('login', '-u', ALICE.username, '-p', 'wrong', host);
      t.not(wrong.code, 0, 'login with a wrong password');
      t.equal((await docker('login', '-u', ALICE.username, '-p', ALICE.password, host)).code, 0);
      const output = await docker('pull', image);
      t.equal(output.code, 0, output.stderr);
    });
  },
);
