import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { run } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { mountHeldLayer, whyNoMount } from './support/held-layer.ts';

const ROUNDS = Number(process.env['ROUNDS'] ?? 8);

const OPTIONS = { skip: whyNoMount() ?? false, timeout: 600_000 };

t.test('the daemon is killed with a read in flight: the reader gets the right bytes', OPTIONS, async (t) => {
  const { agent, daemon, tree, files } = await mountHeldLayer(t, ROUNDS + 1, { readDeadline: '60s' });
  for (let round = 1; round <= ROUNDS; round++) {
    const before = await daemon.pid();
    agent.isHolding = true;
    const reading = run('sha256sum', [join(tree, `file-${round}`)]);
    await until(() => agent.held > 0, 'a read waits for the agent', 180_000);
    const held = agent.held;
    process.kill(before, 'SIGKILL');
    await until(async () => (await daemon.pid()) !== before, 'the next daemon', 180_000);
    await until(() => agent.held > held, 'the kernel has sent the read again', 180_000);
    agent.release();
    const { code, stdout, stderr } = await reading;
    t.equal(code, 0, stderr);
    t.equal(stdout.split(' ')[0], createHash('sha256').update(files[round]!).digest('hex'), `round ${round}`);
  }
});

// SIGTERM: it wakes its thread and goes; what waits is the next one's. SIGSTOP: the second shell ends it.
for (const signal of ['SIGTERM', 'SIGSTOP'] as const)
  t.test(`${signal} to the daemon with a read in flight: the next one answers it`, OPTIONS, async (t) => {
    const { agent, daemon, tree, files } = await mountHeldLayer(t, 1, { readDeadline: '60s' });
    const before = await daemon.pid();
    agent.isHolding = true;
    const reading = run('sha256sum', [join(tree, 'file-0')]);
    await until(() => agent.held > 0, 'a read waits for the agent', 180_000);
    process.kill(before, signal);
    await until(async () => (await daemon.pid()) !== before, 'the next daemon', 180_000);
    agent.release();
    const { stdout, stderr } = await reading;
    t.equal(stdout.split(' ')[0], createHash('sha256').update(files[0]!).digest('hex'), stderr);
  });

t.test('a restart with a read in flight: a daemon that began after it answers', OPTIONS, async (t) => {
  const { agent, daemon, tree, files } = await mountHeldLayer(t, 1, { readDeadline: '60s' });
  const { holder } = daemon;
  agent.isHolding = true;
  const reading = run('sha256sum', [join(tree, 'file-0')]);
  await until(() => agent.held > 0, 'a read waits for the agent', 180_000);
  await daemon.restart();
  agent.release();
  const { stdout, stderr } = await reading;
  t.equal(stdout.split(' ')[0], createHash('sha256').update(files[0]!).digest('hex'), stderr);
  t.equal(daemon.holder, holder, 'the mount is the same');
});

t.test('the holder is killed, then the daemon: another takes its place', OPTIONS, async (t) => {
  const { agent, daemon, tree, files } = await mountHeldLayer(t, 2, { readDeadline: '60s' });
  const [holder, before] = [daemon.holder, await daemon.pid()];
  agent.isHolding = true;
  const reading = run('sha256sum', [join(tree, 'file-0')]);
  await until(() => agent.held > 0, 'a read waits for the agent', 180_000);
  process.kill(holder, 'SIGKILL');
  process.kill(before, 'SIGKILL');
  await until(() => daemon.holder !== holder, 'the next holder', 180_000);
  await until(async () => (await daemon.pid()) !== before, 'the next daemon', 180_000);
  agent.release();
  const { stdout, stderr } = await reading;
  t.equal(stdout.split(' ')[0], createHash('sha256').update(files[0]!).digest('hex'), stderr);
});

t.test(
  'an agent that is silent: EIO at the deadline, what is here stays readable, then it heals',
  OPTIONS,
  async (t) => {
    const { agent, tree, files } = await mountHeldLayer(t, 3, { readDeadline: '10s' });
    const read = (index: number): ReturnType<typeof run> => run('sha256sum', [join(tree, `file-${index}`)]);
    const digest = (index: number): string => createHash('sha256').update(files[index]!).digest('hex');
    t.match((await read(0)).stdout, digest(0));
    agent.isHolding = true;
    const failed = await read(2);
    t.not(failed.code, 0);
    t.match(failed.stderr, /Input\/output error/);
    t.match((await read(0)).stdout, digest(0), 'what is here needs no agent');
    agent.release();
    t.match((await read(2)).stdout, digest(2), 'the next read works');
  },
);
