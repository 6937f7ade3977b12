import { digestOf } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import type { RepositoryName } from '@sepia/base/names/repository';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import t from 'tap';
import { Purges } from '../../src/removal/purges.ts';
import type { WaitingManifest } from '../../src/replication/replication-queue.ts';
import { ClockedLink } from '../support/clocked-links.ts';
import { Hub } from '../support/hub.ts';
import { everyOrder, type Step } from '../support/orders.ts';

const NAME = { upstream: 'hub', repository: 'team/app' as RepositoryName };
const DIGEST = digestOf(Buffer.from('a manifest'));

async function purge(hub: Hub, digest: string): Promise<{ status: number; text: string }> {
  const path = '/v1/purge?upstream=hub&repository=team/app';
  const { status, bytes } = await hub.call('POST', path, Buffer.from(JSON.stringify({ digest })));
  return { status, text: bytes.toString() };
}

t.test('what a push waits to bring to the registry is no content that the registry deleted', async (t) => {
  const hub = await Hub.start(t);
  hub.target.fault = (method) => (method === 'PUT' || method === 'POST' ? { status: 503 } : undefined);
  const digest = await hub.image('team/app', 'v1');
  const kept = await purge(hub, digest);
  t.equal(kept.status, 503, kept.text);
  t.match(kept.text, /awaits write-back: v1/);
  t.match(await hub.tag('team/app', digest), { status: 200, digest });
  t.match(await hub.tag('team/app', 'v1'), { status: 200, digest });
  hub.target.fault = () => undefined;
  await hub.retry({});
  await hub.drained();
  t.equal(hub.target.manifests.get('team/app:v1'), digest);
  t.match(await purge(hub, digest), { status: 200, text: /"gone":false/ });
  for (const key of ['team/app:v1', `team/app@${digest}`]) hub.target.manifests.delete(key);
  t.match(await purge(hub, digest), { status: 200, text: /"gone":true/ });
  t.match(
    await hub.tag('team/app', digest),
    { status: 404 },
    'once it is brought there, the registry decides',
  );
});

t.test('a push that waits, or was given up, holds up only what it names', async (t) => {
  const hub = await Hub.start(t);
  const [other, child] = [await hub.image('team/app', 'old'), await hub.image('team/app')];
  const { bytes } = await hub.tag('team/app', child);
  await hub.drained();
  hub.target.fault = (method) => (method === 'PUT' || method === 'POST' ? { status: 403 } : undefined);
  const manifests = [{ mediaType: OCI_MANIFEST, digest: child, size: bytes.length }];
  await hub.manifest('team/app', 'v1', { schemaVersion: 2, mediaType: OCI_INDEX, manifests });
  await hub.dead();
  for (const key of ['team/app:old', `team/app@${other}`, `team/app@${child}`])
    hub.target.manifests.delete(key);
  t.match(await purge(hub, other), { status: 200, text: /"gone":true/ });
  t.match(await hub.tag('team/app', other), { status: 404 });
  t.match(await purge(hub, child), { status: 503, text: /awaits write-back: v1/ });
  t.match(await hub.tag('team/app', child), { status: 200 });
});

/** A link, a job and a registry; each look and each change is one step of who makes it. */
class World {
  readonly link = new ClockedLink({ atMs: 1, value: { sizeBytes: 10 } });
  isWaiting = false;
  isThere = false;

  /** As a push does it: its job, its link, a look whether that is still there; then the job brings it to the registry. */
  async push(step: Step): Promise<void> {
    const links = this.link.links(step);
    const entry = { ...NAME, digest: DIGEST, sizeBytes: 10, pushed: true };
    await step();
    this.isWaiting = true;
    await links.write([entry]);
    if ((await links.find({ ...NAME, digest: DIGEST }, { fresh: true })) === undefined)
      await links.write([entry]);
    await step();
    this.isThere = true;
    await step();
    this.isWaiting = false;
  }

  async purge(step: Step): Promise<boolean> {
    const client = {
      headManifest: async () => {
        await step();
        if (!this.isThere) throw new CodedError('MANIFEST_UNKNOWN');
      },
    };
    const allWaiting = async (): Promise<readonly WaitingManifest[]> => {
      await step();
      return this.isWaiting ? [{ reference: DIGEST, digest: DIGEST }] : [];
    };
    const purges = new Purges({
      ...{ links: this.link.links(step), replication: { allWaiting }, log: silentLogger() },
      upstreams: { client: () => client, keepsPushes: () => true },
      tagIndex: { owed: nothing, list: nothing },
      members: { ids: [], selfId: 'o1' },
      manifests: { forget: () => undefined },
      store: { deleteUnless: async () => 0, setAttrs: async () => undefined },
      invalidation: { broadcast: async () => undefined },
    } as never);
    try {
      return (await purges.purge(NAME, { digest: DIGEST }, 'ask')).gone;
    } catch (error) {
      if (!isCoded(error, 'CONFLICT')) throw error;
      return false;
    }
  }
}

async function* nothing(): AsyncGenerator<never> {}

t.test('a manifest that is pushed beside a purge of it stays linked, in every order', async (t) => {
  const lost = new Set<string>();
  let gone = 0;
  const orders = await everyOrder(async (actor) => {
    const world = new World();
    const [, isGone] = await Promise.all([
      actor('push', async (step) => await world.push(step)),
      actor('purge', async (step) => await world.purge(step)),
    ]);
    if (isGone) gone += 1;
    if (!world.link.isLinked) lost.add(JSON.stringify(world.link.entry));
  });
  t.same([...lost], []);
  t.ok(orders > 20 && gone > 0, `${orders} orders, gone in ${gone}`);
});
