import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { systemCode } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { applyChanges, BACKUP, type Change, restoreFile, WROTE } from '../../src/lazy/changed-files.ts';
import { plannedProxyPlugin, restore } from '../../src/lazy/configure-containerd.ts';
import { HOSTS_MARK } from '../../src/lazy/containerd-toml.ts';
import { plannedHosts, restoreHosts } from '../../src/lazy/registry-hosts.ts';

t.setTimeout(120_000);

/** A file that is configured to one of two ends, and how a user would have written it. */
interface Configured {
  readonly path: string;
  readonly text: string;
  plan(which: number): Promise<readonly Change[]>;
  restore(): Promise<readonly string[]>;
}

/** `hosts.toml` of a registry; the agent has one of two ports. */
function hostsIn(dir: string): Configured {
  const agents = ['http://127.0.0.1:17000', 'http://127.0.0.1:18000'];
  const path = join(dir, 'registry.example', 'hosts.toml');
  return {
    path,
    text: `server = "https://registry.example"\n${agents.map((one) => `[host."${one}"]\n`).join('')}`,
    plan: async (which) => (await plannedHosts([dir], agents[which]!)).changes,
    restore: async () => await restoreHosts([dir]),
  };
}

/** containerd's config with one of two sockets. */
function configIn(dir: string): Configured {
  const path = join(dir, 'config.toml');
  const options = { containerd: [1, 6] } as const;
  return {
    path,
    text: 'version = 2\n',
    plan: async (which) => await plannedProxyPlugin(path, { ...options, socket: `/run/${which}.sock` }),
    restore: async () => await restore({ config: path, contentCache: '/c' }),
  };
}

const which = fc.nat({ max: 1 });
/** What happens to a file; a run that is `stopped` ends before it has replaced the file of that name. */
const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ type: fc.constant('configure' as const), which }) },
  {
    weight: 1,
    arbitrary: fc.record({
      type: fc.constant('stopped' as const),
      which,
      at: fc.constantFrom(BACKUP, WROTE, ''),
    }),
  },
  { weight: 3, arbitrary: fc.record({ type: fc.constantFrom('add', 'write', 'remove', 'restore') }) },
);

async function stopped(path: string, changes: readonly Change[]): Promise<void> {
  // Nothing of ours: it stays, so the file that would become `path` cannot be made.
  mkdirSync(join(`${path}.sepia-new`, 'other'), { recursive: true });
  try {
    await applyChanges(changes);
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
  } finally {
    rmSync(`${path}.sepia-new`, { recursive: true });
  }
}

const textAt = (path: string): string | undefined =>
  existsSync(path) ? readFileSync(path, 'utf8') : undefined;

for (const [name, configured] of [
  ['hosts.toml', hostsIn],
  ['config.toml', configIn],
] as const)
  t.test(`${name}: whatever happened, what is taken back is what others wrote last`, async (t) => {
    const root = t.testdir();
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.boolean(), fc.array(step, { maxLength: 6 }), async (isThere, steps) => {
        run += 1;
        const file = configured(join(root, String(run)));
        const { path } = file;
        mkdirSync(dirname(path), { recursive: true });
        let last: string | undefined;
        const write = (text: string): void => {
          last = text;
          writeFileSync(path, text);
        };
        if (isThere) write(file.text);
        const takeBack = async (): Promise<void> => {
          await file.restore();
          t.equal(textAt(path), last);
        };
        for (const [at, one] of steps.entries()) {
          const mine = `# ${at}\n`;
          if ('at' in one) await stopped(path + one.at, await file.plan(one.which));
          else if ('which' in one) await applyChanges(await file.plan(one.which));
          else if (one.type === 'add') write(`${textAt(path) ?? file.text}${mine}`);
          else if (one.type === 'write') write(`${mine}${file.text}`);
          else if (one.type === 'restore') await takeBack();
          else {
            last = undefined;
            rmSync(path, { force: true });
          }
        }
        await takeBack();
        await takeBack();
      }),
      // Each step waits for the disk a few times.
      { numRuns: 25 },
    );
  });

t.test('an edit between two runs comes back with the rest', async (t) => {
  const dir = t.testdir({ 'registry.example': {} });
  const file = hostsIn(dir);
  writeFileSync(file.path, file.text);
  await applyChanges(await file.plan(0));
  const edited = `${file.text}# mine\n`;
  writeFileSync(file.path, edited);
  await applyChanges(await file.plan(0));
  t.same(await file.restore(), [`${file.path}: as before`]);
  t.equal(textAt(file.path), edited);
  for (const suffix of [BACKUP, WROTE]) t.notOk(existsSync(file.path + suffix));
});

t.test('what a run that was stopped left beside a file is in no way', async (t) => {
  const dir = t.testdir({ 'registry.example': { 'hosts.toml.sepia-new': 'half of' } });
  const file = hostsIn(dir);
  writeFileSync(file.path, file.text);
  await applyChanges(await file.plan(1));
  t.same(await file.plan(1), []);
  t.notOk(existsSync(`${file.path}.sepia-new`));
});

t.test(
  'a file keeps its mode, and comes back with it; folders that were made for one go with it',
  async (t) => {
    const dir = t.testdir({ there: { 'hosts.toml': 'server = "https://one.example"\n' } });
    const [old, fresh] = [join(dir, 'there/hosts.toml'), join(dir, 'made/for/hosts.toml')];
    const modeOf = (path: string): number => statSync(path).mode & 0o7777;
    chmodSync(old, 0o604);
    const text = 'server = "https://two.example"\n';
    const before = readFileSync(old, 'utf8');
    for (const after of [`${HOSTS_MARK}\n${text}`, `${HOSTS_MARK}\n${text}# again\n`]) {
      await applyChanges([
        { path: old, before: textAt(old), after },
        { path: fresh, before: textAt(fresh), after },
      ]);
      t.equal(modeOf(old), 0o604);
      t.equal(modeOf(fresh), 0o644);
    }
    for (const path of [old, fresh]) t.ok(await restoreFile(path));
    t.equal(textAt(old), before);
    t.equal(modeOf(old), 0o604);
    t.notOk(existsSync(join(dir, 'made')));
    t.ok(existsSync(join(dir, 'there')));
  },
);

for (const [name, configured] of [
  ['hosts.toml', hostsIn],
  ['config.toml', configIn],
] as const)
  t.test(`${name}: a link stays one, and what it leads to keeps its owner`, async (t) => {
    const dir = t.testdir({ real: {} });
    const file = configured(dir);
    const [real, target] = [join(dir, 'real', 'kept.toml'), join('..', 'real', 'kept.toml')];
    mkdirSync(dirname(file.path), { recursive: true });
    writeFileSync(real, file.text);
    chmodSync(real, 0o640);
    // Whoever is not root owns all that it makes.
    if (process.getuid?.() === 0) chownSync(real, 1234, 4321);
    const link = dirname(file.path) === dir ? 'real/kept.toml' : target;
    symlinkSync(link, file.path);
    const owner = (): unknown => {
      const { uid, gid, mode } = statSync(real);
      return { uid, gid, mode };
    };
    const before = owner();
    for (const which of [0, 1]) {
      await applyChanges(await file.plan(which));
      t.ok(lstatSync(file.path).isSymbolicLink());
      t.not(textAt(real), file.text);
      t.same(owner(), before);
    }
    t.same(await file.restore(), [`${real}: as before`]);
    t.equal(readlinkSync(file.path), link);
    t.equal(textAt(real), file.text);
    t.same(owner(), before);
    for (const suffix of [BACKUP, WROTE]) t.notOk(existsSync(real + suffix));
  });
