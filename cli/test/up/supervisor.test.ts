import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { lockFolder } from '@sepia/store/data-folder';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { readClusterFile } from '../../src/up/cluster-file.ts';
import { type MemberEvent, Supervisor, type SupervisorOptions } from '../../src/up/supervisor.ts';
import { LOCAL_UPSTREAM } from '../../src/up/upstream-option.ts';
import { freeBase } from '../support/ports.ts';
import { isAlive } from '../support/processes.ts';

const COUNTS = { origin: 1, tracker: 1, proxy: 1, agent: 1 };
const STAND_IN = fileURLToPath(new URL('../support/stand-in.mjs', import.meta.url));

interface Started {
  supervisor: Supervisor;
  events: MemberEvent[];
  root: string;
}

async function make(
  t: Test,
  options: Partial<SupervisorOptions> = {},
  /** The time, by what has happened; left out: that of the machine. */
  clock?: (events: readonly MemberEvent[]) => number,
): Promise<Started> {
  const root = options.root ?? t.testdir();
  const shape = options.shape ?? { counts: COUNTS, portsFrom: await freeBase(COUNTS) };
  const events: MemberEvent[] = [];
  const deps = {
    onEvent: (event: MemberEvent) => void events.push(event),
    mainOf: () => STAND_IN,
    ...(clock === undefined ? {} : { nowMs: () => clock(events) }),
  };
  const supervisor = new Supervisor(deps, {
    root,
    shape,
    upstreams: [LOCAL_UPSTREAM],
    restart: false,
    ...options,
  });
  t.teardown(async () => await supervisor.stop());
  return { supervisor, events, root };
}

function sign(root: string, member: string, name: string): void {
  mkdirSync(join(root, 'members', member), { recursive: true });
  writeFileSync(join(root, 'members', member, name), '');
}

t.test('cluster.json is there while the cluster is ready, and a second run works', async (t) => {
  const { supervisor, root } = await make(t);
  const cluster = await supervisor.start();
  t.same(readClusterFile(join(root, 'cluster.json')), cluster);
  const roles = ['proxies', 'trackers', 'origins', 'agents', 'accelerators', 'snapshotters'];
  t.same(Object.keys(cluster), ['version', 'upstreams', ...roles]);
  t.same(cluster.upstreams, [{ name: 'local', url: null, hosts: [], mode: 'none' }]);
  const agent = cluster.agents[0]!;
  t.same(Object.keys(agent), ['name', 'url', 'adminUrl', 'peers', 'pid', 'log', 'config']);
  t.ok(isAlive(agent.pid));
  t.ok(existsSync(agent.log) && existsSync(agent.config));
  const key = readFileSync(join(root, 'cluster-key'), 'utf8');
  await supervisor.stop();
  t.notOk(existsSync(join(root, 'cluster.json')), 'goes at stop');
  for (const one of [agent, cluster.origins[0]!]) t.notOk(isAlive(one.pid));
  t.ok(existsSync(join(root, 'members/origin-1/drained')), 'members are stopped, not killed');

  const portsFrom = Number(new URL(agent.url).port);
  const again = await make(t, { root, shape: { counts: COUNTS, portsFrom } });
  await again.supervisor.start();
  t.equal(readFileSync(join(root, 'cluster-key'), 'utf8'), key, 'the key stays');
  t.match(readFileSync(join(root, 'cluster-document.yaml'), 'utf8'), /^version: 1$/m, 'so does the version');
  await again.supervisor.stop();
  const bigger = await make(t, { root, shape: { counts: { ...COUNTS, proxy: 2 }, portsFrom } });
  await bigger.supervisor.start();
  t.match(
    readFileSync(join(root, 'cluster-document.yaml'), 'utf8'),
    /^version: 2$/m,
    'a changed membership is a new version',
  );
});

t.test('loss is accepted by origins alone, and not by one that is started again', async (t) => {
  const { supervisor, root } = await make(t, { acceptLoss: true, restart: true });
  const cluster = await supervisor.start();
  const flags = (member: string): string => readFileSync(join(root, 'members', member, 'flags'), 'utf8');
  t.equal(flags('origin-1'), '--accept-loss');
  for (const one of ['tracker-1', 'proxy-1', 'agent-1']) t.equal(flags(one), '', one);
  process.kill(cluster.origins[0]!.pid, 'SIGKILL');
  await until(() => flags('origin-1') === '', 'it is started again, as ever');
});

t.test('a second run on the same data is refused and breaks nothing', async (t) => {
  const { supervisor, root } = await make(t);
  const cluster = await supervisor.start();
  const files = (): Record<string, string> =>
    Object.fromEntries(
      ['cluster.json', 'cluster-key', 'cluster-document.yaml', 'configs/origin-1.yaml'].map((name) => [
        name,
        readFileSync(join(root, name), 'utf8'),
      ]),
    );
  const before = files();
  const portsFrom = await freeBase(COUNTS);
  for (const shape of [
    { counts: COUNTS, portsFrom },
    { counts: { ...COUNTS, agent: 2 }, portsFrom: Number(new URL(cluster.agents[0]!.url).port) },
  ]) {
    const second = await make(t, { root, shape });
    await t.rejects(second.supervisor.start(), {
      code: 'START_FAILED',
      message: /in use by another process/,
    });
    await second.supervisor.stop();
    t.same(files(), before);
  }
  t.ok(isAlive(cluster.origins[0]!.pid));
});

t.test('of two runs that begin at the same instant one comes up, whole', async (t) => {
  const root = t.testdir();
  const bases = [await freeBase(COUNTS)];
  bases.push(bases[0]! + 200);
  const both = await Promise.all(
    bases.map(async (portsFrom) => await make(t, { root, shape: { counts: COUNTS, portsFrom } })),
  );
  const ended = await Promise.allSettled(both.map((one) => one.supervisor.start()));
  t.same(ended.map((one) => one.status).sort(), ['fulfilled', 'rejected']);
  const loser = both[ended.findIndex((one) => one.status === 'rejected')]!;
  await loser.supervisor.stop();
  const winner = both[ended.findIndex((one) => one.status === 'fulfilled')]!;
  t.same(readClusterFile(join(root, 'cluster.json')), winner.supervisor.cluster);
});

t.test('a lock that a killed process held is no hindrance', async (t) => {
  const root = t.testdir();
  const holder = spawn(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      `const { lockFolder } = await import('@sepia/store/data-folder');
       await lockFolder(${JSON.stringify(root)}); console.log('held'); setInterval(() => {}, 1000);`,
    ],
    { cwd: fileURLToPath(new URL('../..', import.meta.url)), stdio: ['ignore', 'pipe', 'inherit'] },
  );
  t.teardown(() => holder.kill('SIGKILL'));
  await once(holder.stdout, 'data');
  await t.rejects(lockFolder(root), { code: 'START_FAILED' });
  const { supervisor } = await make(t, { root });
  await t.rejects(supervisor.start(), { code: 'START_FAILED' });
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  const after = await make(t, { root });
  await after.supervisor.start();
  t.ok(existsSync(join(root, 'cluster.json')));
});

t.test('a member that refuses to start is named with its own line, and nothing is left', async (t) => {
  const { supervisor, root } = await make(t);
  sign(root, 'origin-1', 'refuse');
  await t.rejects(supervisor.start(), {
    code: 'START_FAILED',
    message: /^origin-1: data: .* is in use by another process$/,
  });
  await supervisor.stop();
  const overrides = join(root, 'overrides');
  mkdirSync(overrides);
  writeFileSync(join(overrides, 'origin.yaml'), 'log: { level: debug }\n');
  const again = await make(t, { root });
  await t.rejects(again.supervisor.start(), {
    message: new RegExp(`in use by another process; its config has keys of ${overrides}/origin\\.yaml$`),
  });
  await again.supervisor.stop();
  t.notOk(existsSync(join(root, 'cluster.json')));
});

t.test('a member that does not become ready is named', async (t) => {
  // Time stands still until the others are ready.
  const clock = (events: readonly MemberEvent[]): number =>
    events.filter(({ type }) => type === 'ready').length === 3 ? 2_000 : 0;
  const { supervisor, root } = await make(t, { readyTimeoutMs: 2_000 }, clock);
  sign(root, 'tracker-1', 'unready');
  await t.rejects(supervisor.start(), {
    code: 'START_FAILED',
    message: /^tracker-1: is not ready after 2 s; see .*tracker-1\.log$/,
  });
});

t.test('a taken port stops the start before anything is touched', async (t) => {
  const { supervisor, root } = await make(t);
  const { port } = supervisor.members.find((member) => member.name === 'proxy-1')!;
  const squatter = createServer();
  await new Promise<void>((resolve) => squatter.listen(port, '127.0.0.1', resolve));
  t.teardown(() => squatter.close());
  await t.rejects(supervisor.start(), {
    code: 'START_FAILED',
    message: new RegExp(`^port ${port} \\(registry port of proxy-1\\) is taken`),
  });
  t.notOk(existsSync(join(root, 'configs')));
});

t.test('cluster.json of a run that was killed goes at the start, whatever becomes of that', async (t) => {
  let now = 0;
  const { supervisor, root, events } = await make(t, {}, () => (now += 1000));
  const { port } = supervisor.members.find((member) => member.name === 'origin-1')!;
  const squatter = createServer();
  await new Promise<void>((resolve) => squatter.listen(port, '127.0.0.1', resolve));
  t.teardown(() => squatter.close());
  writeFileSync(join(root, 'cluster.json'), '{}');
  await t.rejects(supervisor.start(), { code: 'START_FAILED', message: /is taken/ });
  t.same(
    events.map(({ type }) => type),
    ['waiting'],
    'told once',
  );
  t.notOk(existsSync(join(root, 'cluster.json')));
});

t.test('a dead member is reported, and started again where that is wanted', async (t) => {
  const { supervisor, events, root } = await make(t, { restart: true });
  const before = (await supervisor.start()).agents[0]!.pid;
  process.kill(before, 'SIGKILL');
  await until(
    () => readClusterFile(join(root, 'cluster.json')).agents[0]!.pid !== before,
    'the agent has a new pid',
  );
  t.ok(isAlive(readClusterFile(join(root, 'cluster.json')).agents[0]!.pid));
  t.match(
    events.find((event) => event.type === 'died'),
    { name: 'agent-1', why: /was ended by SIGKILL/, restartInMs: 500 },
  );

  await supervisor.stop();
  const plain = await make(t);
  process.kill((await plain.supervisor.start()).agents[0]!.pid, 'SIGKILL');
  await until(() => plain.events.some((event) => event.type === 'died'), 'its death is reported');
  t.match(
    plain.events.find((event) => event.type === 'died'),
    { name: 'agent-1', restartInMs: undefined },
  );
});

t.test('a member whose log or cluster.json cannot be written is started again all the same', async (t) => {
  const { supervisor, events, root } = await make(t, { restart: true });
  const pid = (): number => supervisor.cluster!.agents[0]!.pid;
  const before = (await supervisor.start()).agents[0]!.pid;
  rmSync(join(root, 'cluster.json'));
  mkdirSync(join(root, 'cluster.json'));
  renameSync(join(root, 'logs'), join(root, 'logs-away'));
  process.kill(before, 'SIGKILL');
  await until(
    () => events.some((event) => event.type === 'died' && /cannot be started again: ENOENT/.test(event.why)),
    'it cannot be started',
  );
  renameSync(join(root, 'logs-away'), join(root, 'logs'));
  await until(
    () => events.some((event) => event.type === 'unpublished' && /cluster\.json/.test(event.why)),
    'it runs, and cluster.json does not say so',
  );
  rmdirSync(join(root, 'cluster.json'));
  const unpublished = pid();
  t.not(unpublished, before);
  process.kill(unpublished, 'SIGKILL');
  await until(() => ![before, unpublished].includes(pid()), 'it is started once more');
  t.ok(isAlive(pid()));
});

t.test('a halted member is stopped as well', async (t) => {
  const { supervisor } = await make(t);
  const { pid } = (await supervisor.start()).origins[0]!;
  process.kill(pid, 'SIGSTOP');
  await supervisor.stop();
  t.notOk(isAlive(pid));
});

t.test('a stop during the start leaves nothing', async (t) => {
  const { supervisor, root } = await make(t);
  sign(root, 'tracker-1', 'unready');
  const started = supervisor.start();
  started.catch(() => undefined);
  await until(() => existsSync(join(root, 'members/agent-1')), 'something runs');
  await supervisor.stop();
  await t.rejects(started, { code: 'DRAINING' });
  t.notOk(existsSync(join(root, 'cluster.json')));
});
