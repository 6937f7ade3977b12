import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createDispatcher } from '@sepia/http/sockets';
import t from 'tap';
import { HarborApi } from '../../src/harbor/api.ts';
import { connectRobot, robotHint } from '../../src/harbor/robot.ts';
import { setUp } from '../support/harbor-connect.ts';

t.test('a robot with its rights, checked by an upload; its secret is kept and not shown', async (t) => {
  const projects = ['library', 'team.a'];
  const { harbor, dir } = await setUp(t, projects);
  const dispatcher = createDispatcher();
  t.teardown(() => dispatcher.destroy());
  const secretFile = join(dir, 'robot');
  const plan = { name: 'sepia-accelerator', projects, secretFile };
  const told: string[] = [];
  const run = async (dryRun = false): Promise<string | undefined> => {
    const options = { url: harbor.url, username: 'admin', password: 'Harbor12345', dryRun };
    const api = new HarborApi({ dispatcher }, { ...options, tell: (line) => void told.push(line) });
    harbor.calls.length = 0;
    return await connectRobot(api, dispatcher, plan);
  };
  const changes = (): string[] =>
    harbor.changes.filter(({ path }) => path.startsWith('/robots')).map((one) => one.method);
  const secret = (): string => String(harbor.robots[0]!['secret']);

  t.equal(await run(true), undefined);
  t.match(told[0], /^would POST \/robots .*"name":"sepia-accelerator"/);
  t.same(changes(), []);

  t.equal(await run(), 'robot$sepia-accelerator');
  t.match(harbor.robots, [
    { level: 'system', permissions: [{ namespace: 'library' }, { namespace: 'team.a' }] },
  ]);
  t.equal(readFileSync(secretFile, 'utf8'), `${secret()}\n`);
  t.equal(statSync(secretFile).mode & 0o777, 0o600);
  t.notOk(told.join('\n').includes(secret()));
  t.equal(harbor.uploads.size, 0, 'uploads that were begun are taken back');
  t.match(robotHint('harbor', 'robot$x', 'f'), /harbor: \{ username: robot\$x, password-file: f \}/);

  await run();
  t.same(changes(), [], 'nothing to change');

  await run(true);
  t.same(harbor.changes, [], 'a dry run begins no upload either');

  // Its secret is lost here, its rights were taken there: both are brought up to date.
  writeFileSync(secretFile, 'not it any more\n');
  harbor.robots[0]!['permissions'] = [];
  await run();
  t.same(changes(), ['PUT', 'PATCH']);
  t.equal(harbor.robots.length, 1);
  t.equal(readFileSync(secretFile, 'utf8'), `${secret()}\n`);

  harbor.forbidsPushes = true;
  await t.rejects(run(), { code: 'CONFIG_INVALID', message: /may not push to library: Harbor answers 403/ });
});

t.test('a file that cannot be written is told before Harbor makes or renews a secret', async (t) => {
  const { harbor, dir } = await setUp(t, ['library']);
  const dispatcher = createDispatcher();
  t.teardown(() => dispatcher.destroy());
  const options = { url: harbor.url, username: 'admin', password: 'Harbor12345', dryRun: false };
  const api = new HarborApi({ dispatcher }, { ...options, tell: () => undefined });
  const connect = async (secretFile: string) =>
    await connectRobot(api, dispatcher, { name: 'sepia-accelerator', projects: ['library'], secretFile });
  const file = join(dir, 'robot');
  const refused = async (what: string): Promise<void> => {
    mkdirSync(join(dir, `${what} folder`));
    for (const [path, code] of [
      [join(dir, 'none', 'robot'), 'ENOENT'],
      [join(dir, `${what} folder`), 'EISDIR'],
    ])
      await t.rejects(connect(path!), {
        code: 'CONFIG_INVALID',
        message: `--robot-secret-file: ${path} cannot be written (${code})`,
      });
  };
  await refused('first');
  t.equal(harbor.robots.length, 0, 'no robot is made');
  await connect(file);
  const secret = harbor.robots[0]!['secret'];
  chmodSync(file, 0o644);
  harbor.calls.length = 0;
  await refused('then');
  t.same(harbor.changes, []);
  t.equal(harbor.robots[0]!['secret'], secret);
  t.equal(statSync(file).mode & 0o777, 0o644);
  await connect(file);
  t.equal(statSync(file).mode & 0o777, 0o600, 'one that was open to others is closed');
  t.equal(readFileSync(file, 'utf8'), `${String(secret)}\n`);
  t.notOk(existsSync(join(dir, 'none')));
});

t.test('a robot of another connection is not taken over, whatever Harbor puts before names', async (t) => {
  const { harbor, dir } = await setUp(t, ['library']);
  const dispatcher = createDispatcher();
  t.teardown(() => dispatcher.destroy());
  const options = { url: harbor.url, username: 'admin', password: 'Harbor12345', dryRun: false };
  const api = new HarborApi({ dispatcher }, { ...options, tell: () => undefined });
  const connect = async (name: string) =>
    await connectRobot(api, dispatcher, { name, projects: ['library'], secretFile: join(dir, name) });
  for (const prefix of ['robot$', 'bot-']) {
    harbor.robotPrefix = prefix;
    harbor.robots.length = 0;
    t.equal(await connect('prod-sepia-accelerator'), `${prefix}prod-sepia-accelerator`);
    const theirs = structuredClone(harbor.robots);
    t.equal(await connect('sepia-accelerator'), `${prefix}sepia-accelerator`);
    t.same(harbor.robots.slice(0, 1), theirs);
    t.equal(await connect('sepia-accelerator'), `${prefix}sepia-accelerator`);
    t.equal(harbor.robots.length, 2, 'its own is found again');
  }
});

t.test('what goes together is asked for together', async (t) => {
  const { harbor, run } = await setUp(t, ['library']);
  t.match((await run('--accelerate')).err, /--accelerate and --robot-secret-file go together/);
  t.same(harbor.changes, []);
});
