import { chmodSync, chownSync, cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { delay } from '@sepia/base/lifecycle';
import { must, type Output, quietly, run, testbed, whyNoClients } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import t from 'tap';

const ROOT = resolve(import.meta.dirname, '../../..');
const why = whyNoClients();
const NAME = 'sepia-compose';
const PREFIX = 'sc';
const READY_MS = 300_000;
const SERVICES = 14;
const CONVERTED_MS = 180_000;
/** What is looked at now and then, by its file: the test waits for the next look. */
const OFTEN = {
  'compose.yaml': ['interval: 15s', 'interval: 4s'],
  'configs/accelerator-1.yaml': ['scan: 1m', 'scan: 5s'],
} as const;

t.test(
  'the compose cluster: push to a proxy, pull at each agent, pull through',
  { skip: why ?? false, timeout: 1_100_000 },
  async (t) => {
    const dir = t.testdir();
    process.env['PREFIX'] = PREFIX;
    t.teardown(() => quietly('netns.sh', ['down']));
    await testbed('netns.sh', ['up', '2']);
    t.teardown(() => quietly('dockerd.sh', ['stop', NAME]));
    await testbed('dockerd.sh', ['start', NAME, '--netns', `${PREFIX}0`, '--live-network']);
    const env = {
      DOCKER_HOST: /DOCKER_HOST=(\S+)/.exec((await testbed('dockerd.sh', ['env', NAME])).stdout)![1]!,
      DOCKER_BUILDKIT: '0',
      COMPOSE_DOCKER_CLI_BUILD: '0',
      REGISTRY_IMAGE: 'test-registry',
      SEPIA_IMAGE: 'sepia-under-test',
    };
    const docker = async (...args: string[]): Promise<Output> => await must('docker', args, env);

    await importBase(dir, env);
    await docker(
      'build',
      '--network',
      'none',
      '--build-arg',
      'BASE=test-base',
      '-f',
      join(ROOT, 'docker/Dockerfile'),
      '-t',
      env.SEPIA_IMAGE,
      ROOT,
    );

    const folder = join(dir, 'compose');
    cpSync(join(ROOT, 'docker'), folder, { recursive: true });
    for (const [file, [shipped, often]] of Object.entries(OFTEN)) {
      const text = readFileSync(join(folder, file), 'utf8');
      t.match(text, shipped, file);
      writeFileSync(join(folder, file), text.replaceAll(shipped, often));
    }
    writeFileSync(join(folder, 'cluster-key'), `${'5e'.repeat(32)}\n`);
    chownSync(join(folder, 'cluster-key'), 10_001, 10_001);
    chmodSync(join(folder, 'cluster-key'), 0o600);
    const compose = async (...args: string[]): Promise<Output> =>
      await must('docker-compose', ['-f', join(folder, 'compose.yaml'), '-p', 'sepia', ...args], env);
    t.teardown(
      async () =>
        void (await run(
          'docker-compose',
          [
            '-f',
            join(folder, 'compose.yaml'),
            '-p',
            'sepia',
            '--profile',
            'accelerate',
            'down',
            '--timeout',
            '5',
          ],
          env,
        )),
    );
    await compose('--profile', 'accelerate', 'up', '-d');
    await untilReady(docker);

    await t.test('what is pushed to a proxy comes from every agent', async (t) => {
      await docker('tag', 'test-base', '127.0.0.1:17310/my/base:v1');
      await docker('push', '127.0.0.1:17310/my/base:v1');
      const digests = new Set<string>();
      for (let agent = 0; agent < 5; agent += 1) {
        const { stdout } = await docker('pull', `127.0.0.1:${17_000 + 10 * agent}/my/base:v1`);
        digests.add(/Digest: (\S+)/.exec(stdout)?.[1] ?? `agent ${agent + 1}: none`);
      }
      t.equal(digests.size, 1, [...digests].join(', '));
    });

    await t.test('what was pushed has an eStargz form beside it', async (t) => {
      const made = await untilPulled(docker, '127.0.0.1:17010/my/base:v1-estargz');
      t.match(made, /sha256:[0-9a-f]{64}/);
      const layers = async (image: string): Promise<string> =>
        (await docker('image', 'inspect', '--format', '{{json .RootFS.Layers}}', image)).stdout;
      await docker('pull', '127.0.0.1:17010/my/base:v1');
      t.not(
        await layers('127.0.0.1:17010/my/base:v1-estargz'),
        await layers('127.0.0.1:17010/my/base:v1'),
        'a table of contents is in its tar',
      );
    });

    await t.test('the registry behind is read through by name', async (t) => {
      await docker('tag', 'test-registry', '127.0.0.1:5000/tools/registry:v1');
      await docker('push', '127.0.0.1:5000/tools/registry:v1');
      const { stdout } = await docker('pull', '127.0.0.1:17020/registry.local/tools/registry:v1');
      t.match(stdout, /Digest: sha256:[0-9a-f]{64}/);
      const write = await run('docker', ['push', '127.0.0.1:17020/registry.local/tools/registry:v1'], env);
      t.not(write.code, 0, 'an agent takes no push');
    });

    await t.test('all is drained at the end', async (t) => {
      await compose('--profile', 'accelerate', 'stop', '--timeout', '90');
      const { stdout } = await docker('ps', '-a', '--format', '{{.Names}} {{.Status}}');
      const members = stdout
        .trim()
        .split('\n')
        .filter((line) => !line.includes('registry'));
      t.equal(members.length, SERVICES - 1);
      t.same(
        members.filter((line) => !line.includes('Exited (0)')),
        [],
      );
    });
  },
);

/** A base without network: the C libraries of Node and of docker-registry, and a second image that runs the latter. */
async function importBase(dir: string, env: Readonly<Record<string, string>>): Promise<void> {
  const registry = (await must('which', ['docker-registry'])).stdout.trim();
  const libraries = new Set<string>();
  for (const program of [process.execPath, registry]) {
    for (const [, path] of (await must('ldd', [program])).stdout.matchAll(/(\/\S+) \(0x/g))
      libraries.add(path!);
  }
  const extra = join(dir, 'base');
  mkdirSync(join(extra, 'etc/registry'), { recursive: true });
  mkdirSync(join(extra, 'tmp'));
  writeFileSync(join(extra, 'etc/passwd'), 'root:x:0:0:root:/:/\n');
  writeFileSync(
    join(extra, 'etc/registry/config.yml'),
    'version: 0.1\nstorage: { filesystem: { rootdirectory: /tmp/registry } }\nhttp: { addr: ":5000" }\n',
  );
  const tar = join(dir, 'base.tar');
  const relative = [...libraries, registry].map((path) => path.slice(1));
  await must('tar', ['-chf', tar, '-C', '/', ...relative, '-C', extra, 'etc', 'tmp']);
  await must('docker', ['import', tar, 'test-base'], env);
  const entry = `ENTRYPOINT ["${registry}","serve","/etc/registry/config.yml"]`;
  await must('docker', ['import', '-c', entry, tar, 'test-registry'], env);
}

/** @returns the digest that the first pull which is answered names */
async function untilPulled(docker: (...args: string[]) => Promise<Output>, image: string): Promise<string> {
  return await until(
    async () => {
      try {
        return /Digest: (\S+)/.exec((await docker('pull', image)).stdout)?.[1];
      } catch (error) {
        // Not made yet, or a member is busy.
        if (/not found|manifest unknown|503 Service Unavailable/.test(String(error))) return undefined;
        throw error;
      }
    },
    image,
    CONVERTED_MS,
  );
}

async function untilReady(docker: (...args: string[]) => Promise<Output>): Promise<void> {
  const deadlineMs = performance.now() + READY_MS;
  for (;;) {
    const { stdout } = await docker('ps', '--format', '{{.Names}} {{.Status}}');
    const lines = stdout.trim().split('\n');
    if (
      lines.filter((line) => line.includes('(healthy)')).length === SERVICES - 1 &&
      lines.length === SERVICES
    )
      return;
    if (performance.now() > deadlineMs) {
      const [failing] = lines
        .filter((line) => /Restarting|unhealthy/.test(line))
        .map((line) => line.split(' ')[0]!);
      const { stderr } =
        failing === undefined ? { stderr: '' } : await docker('logs', '--tail', '20', failing);
      throw new Error(`not ready:\n${stdout}\n${failing ?? ''}: ${stderr.slice(-2_000)}`);
    }
    await delay(1_000);
  }
}
