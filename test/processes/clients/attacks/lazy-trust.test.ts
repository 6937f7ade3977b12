import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Containerd16 } from '@sepia/test-support/clients/containerd16';
import { Containerd24 } from '@sepia/test-support/clients/containerd24';
import { runHeard } from '@sepia/test-support/clients/heard';
import { askAs } from '@sepia/test-support/clients/token-client';
import { type Output, whyNoClients } from '@sepia/test-support/testbed';
import t, { type Test } from 'tap';
import { HOST, LazyCluster } from '../support/lazy-cluster.ts';
import { madeLayer, shellLayer, whyNoLazyNode } from '../support/lazy-node.ts';
import { ALICE, PrivateRegistry, type PushedImage, ROBOT } from '../support/private-registry.ts';

const TIMEOUT = 1_200_000;
const FORMS = ['ordinary', 'estargz'] as const;

/** containerd in front of a node's snapshotter, by one of its two doors. */
interface Door {
  /** `isAlice`: with her account, else with none. */
  pull(reference: string, isAlice: boolean): Promise<Output>;
  run(reference: string, name: string, command: readonly string[]): Promise<Output>;
  content(): Promise<string[]>;
  /**
   * What containerd has unpacked, or mounted, it hands to every image that names the same chain of diffIDs, whoever
   * provided it: forgotten before an attack where that would hide what the snapshotter itself does.
   */
  forget(): Promise<void>;
}

interface Here {
  readonly cluster: LazyCluster;
  readonly registry: PrivateRegistry;
  readonly door: Door;
}

/** The images of one form: all indexed by the cluster, none pulled to the node yet. */
interface Targets {
  readonly form: (typeof FORMS)[number];
  /** Public, and pulled here before it is attacked. */
  readonly victim: PushedImage;
  /** Alice's, and pulled here before it is attacked. */
  readonly seen: PushedImage;
  /** Alice's, attacked before anybody pulls it here. */
  readonly unseen: PushedImage;
  /** The attacker's. */
  readonly own: PushedImage;
}

const nameOf = ({ repository }: PushedImage): string => `${HOST}/${repository}:1`;
const textOf = (repository: string): string => `content of ${repository}\n`;

async function start(
  t: Test,
  config: (dir: string) => string,
  open: (cluster: LazyCluster) => Promise<Door>,
): Promise<Here> {
  const dir = mkdtempSync('/tmp/sepia-lt-');
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const registry = await PrivateRegistry.start(t, dir);
  const cluster = await LazyCluster.start(t, config, { registry: registry.url, robot: ROBOT });
  return { cluster, registry, door: await open(cluster) };
}

async function pushTargets({ cluster, registry }: Here, form: Targets['form']): Promise<Targets> {
  const push = async (repository: string): Promise<PushedImage> => {
    const app = madeLayer([{ name: 'app', mode: 0o644, payload: Buffer.from(textOf(repository)) }]);
    return await registry.pushMade(repository, form, [shellLayer(), app]);
  };
  const names = ['open/victim', 'alice/seen', 'alice/unseen', 'open/own'];
  const [victim, seen, unseen, own] = await Promise.all(names.map((name) => push(`${name}-${form}`)));
  const index = (image: PushedImage): Promise<string> =>
    cluster.sepia('lazy', 'index', nameOf(image), '--cluster', cluster.file);
  await Promise.all([victim!, seen!, unseen!].map(index));
  return { form, victim: victim!, seen: seen!, unseen: unseen!, own: own! };
}

/**
 * Images in the attacker's repositories that want the content of another's upper layer. Their lowest layer, and what it
 * claims, is true in each: so nothing but the upper one stands in their way.
 */
function attacksOn(target: PushedImage, { own }: Targets): Omit<PushedImage, 'repository'>[] {
  const [shell, wanted] = target.layers;
  const [, evil] = own.layers;
  const annotations = wanted!.annotations;
  return [
    // Its own bytes under the other's diffID, with all that the other's manifest says of them.
    {
      layers: [shell!, annotations === undefined ? evil! : { ...evil!, annotations }],
      diffIds: target.diffIds,
      blobs: own.blobs,
    },
    // The other's digest, which is not in this repository.
    { layers: target.layers, diffIds: target.diffIds, blobs: [own.blobs[0]!] },
    // The other's digest under the diffID of the attacker's own layer.
    { layers: target.layers, diffIds: own.diffIds, blobs: [own.blobs[0]!] },
  ];
}

/** None of the attacks gets the other image's content, shown or downloaded. */
async function attack(t: Test, here: Here, targets: Targets, target: PushedImage): Promise<void> {
  const { cluster, registry, door } = here;
  const images = attacksOn(target, targets).map((one, at) =>
    registry.push({ ...one, repository: `open/evil-${at}-of-${target.repository.replace('/', '-')}` }),
  );
  const wasThere = (await door.content()).includes(target.layers[1]!.digest);
  const pulls = await Promise.all(images.map(async (image) => await door.pull(nameOf(image), false)));
  for (const [at, { code, stderr }] of pulls.entries()) {
    const image = images[at]!;
    t.not(code, 0, `attack ${at} on ${target.repository} is not pulled`);
    t.comment(stderr.trim().split('\n').at(-1));
    const ran = await door.run(nameOf(image), `evil-${at}`, ['/bin/cat', '/app']);
    t.not(ran.code, 0, 'nothing to run');
    t.equal(ran.stdout, '');
    const [first, ...layers] = (await cluster.statusText(nameOf(image))).split('\n');
    t.match(first, / {2}ordinary/, 'and it is told');
    t.match(`${first}${layers[1]}`, /ordinary: it names|not lazy: /, 'with the reason');
  }
  // One that was there may have been collected since.
  const isThere = (await door.content()).includes(target.layers[1]!.digest);
  t.ok(wasThere || !isThere, 'its layer was not downloaded');
}

async function reads(t: Test, { door }: Here, image: PushedImage, name: string): Promise<void> {
  const { stdout, stderr } = await runHeard(door, nameOf(image), name, 'cat /app');
  t.equal(stdout, textOf(image.repository), stderr);
}

async function allForms(t: Test, here: Here): Promise<void> {
  const { cluster, door } = here;
  for (const form of FORMS)
    await t.test(`${form} layers`, async (t) => {
      const targets = await pushTargets(here, form);
      const { victim, seen, unseen } = targets;

      await t.test('of a private image that the cluster has indexed and nobody pulled here', async (t) => {
        t.not((await door.pull(nameOf(unseen), false)).code, 0, 'not without the account');
        await attack(t, here, targets, unseen);
      });

      await t.test('of images that are shown here, public and private', async (t) => {
        for (const image of [victim, seen]) {
          const pulled = await door.pull(nameOf(image), image === seen);
          t.equal(pulled.code, 0, pulled.stderr);
          t.match(await cluster.status(nameOf(image)), / {2}lazy\n/, `${image.repository} is lazy`);
          await reads(t, here, image, `first-${image === seen ? 'seen' : 'victim'}`);
        }
        await door.forget();
        t.not((await door.pull(nameOf(seen), false)).code, 0, 'not without the account');
        await Promise.all([victim, seen].map(async (image) => await attack(t, here, targets, image)));
      });

      await t.test('who may pull them gets the right bytes still', async (t) => {
        for (const [at, image] of [victim, seen, unseen].entries()) {
          const pulled = await door.pull(nameOf(image), image !== victim);
          t.equal(pulled.code, 0, pulled.stderr);
          await reads(t, here, image, `again-${at}`);
          t.comment(await cluster.statusText(nameOf(image)));
        }
      });
    });
}

t.test(
  'containerd 2.4: no image gets the content of another’s layer',
  { skip: whyNoLazyNode() ?? false, timeout: TIMEOUT },
  async (t) => {
    const open = async (cluster: LazyCluster): Promise<Door> => {
      const containerd = await Containerd24.start(join(cluster.dir, 'c'), {
        contentCache: join(cluster.dir, 'up/members/snapshotter-1/content'),
        mirrors: { [HOST]: cluster.agent },
      });
      t.teardown(() => containerd.stop());
      const alice = `${ALICE.username}:${ALICE.password}`;
      return {
        pull: async (reference, isAlice) => await containerd.tryPull(reference, isAlice ? alice : undefined),
        run: async (...what) => await containerd.run(...what),
        content: async () => await containerd.content(),
        // The harder case: all is still there.
        forget: async () => undefined,
      };
    };
    await allForms(t, await start(t, () => 'fill: none\n', open));
  },
);

t.test(
  'the snapshotter for containerd before 2.4: no image gets the content of another’s layer',
  { skip: whyNoClients() ?? false, timeout: TIMEOUT },
  async (t) => {
    const socketOf = (dir: string): string => join(dir, 's.sock');
    const open = async (cluster: LazyCluster): Promise<Door> => {
      const { agent, dir } = cluster;
      const containerd = await Containerd16.start(join(dir, 'c'), {
        snapshotsSocket: socketOf(dir),
        mirrors: { [HOST]: agent },
      });
      t.teardown(() => containerd.stop());
      return {
        pull: async (reference, isAlice) => {
          const path = reference.slice(HOST.length + 1, -':1'.length);
          const manifest = `${agent}/v2/${path}/manifests/1?ns=${encodeURIComponent(HOST)}`;
          containerd.authorize(
            HOST,
            agent,
            isAlice ? (await askAs(ALICE, manifest)).authorization : undefined,
          );
          return await containerd.tryPull(reference);
        },
        run: async (...what) => await containerd.run(...what),
        content: async () => await containerd.content(),
        forget: async () => await containerd.removeImages(),
      };
    };
    const config = (dir: string): string => `fill: none\nsnapshots-socket: ${socketOf(dir)}\n`;
    await allForms(t, await start(t, config, open));
  },
);
