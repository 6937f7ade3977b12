import type { RingStatus } from '@sepia/cluster/api/ring';
import { foundingMembership, type Membership } from '@sepia/cluster/membership';
import { until } from '@sepia/test-support/until';
import type { TestCluster } from './cluster.ts';
import { type Pushed, pushTag } from './images.ts';

/** A cluster's config that compares often. */
export const RING_CONFIG = 'compare-every: 1s';
/** A change of some small images, on a busy machine. */
const CHANGE_MS = 90_000;

/** Pushes an image under `tag` to each of `count` repositories. */
export async function pushSome(
  c: TestCluster,
  id: string,
  pushed: Map<string, Map<string, Pushed>>,
  count: number,
  tag: string,
): Promise<void> {
  for (let at = 0; at < count; at++) {
    const repository = `team/app${at}`;
    const tags = pushed.get(repository) ?? new Map<string, Pushed>();
    tags.set(tag, await pushTag(c, id, repository, tag));
    pushed.set(repository, tags);
  }
}

/** The membership as one origin knows it. */
export async function membershipOf(c: TestCluster, id: string): Promise<Membership> {
  const answer = await c.get(id, '/v1/ring');
  return (JSON.parse(answer.bytes.toString()) as { membership: Membership }).membership;
}

/** An origin as a change names it. */
export function memberOf(c: TestCluster, id: string): unknown {
  return foundingMembership(c.cluster.file).origins.find((one) => one.id === id);
}

/** Begins a change at one origin. */
export async function change(c: TestCluster, id: string, epoch: number, what: object): Promise<Membership> {
  const answer = await c.call(id, {
    method: 'POST',
    path: '/v1/ring/changes',
    body: JSON.stringify({ epoch, ...what }),
    headers: { 'content-type': 'application/json' },
  });
  const text = answer.bytes.toString();
  if (answer.status !== 200) throw new Error(`${answer.status} ${text}`);
  return JSON.parse(text) as Membership;
}

/** Takes out drained origins as soon as they may go. */
export async function takeOut(
  c: TestCluster,
  id: string,
  epoch: number,
  ids: readonly string[],
): Promise<void> {
  await until(async () => {
    try {
      await change(c, id, epoch, { action: 'remove', ids });
      return true;
    } catch (error) {
      if (!/cannot be taken out yet/.test(String(error))) throw error;
      return false;
    }
  }, 'they may go');
}

/** All that run are at `epoch`; the test's own view of the ring follows. */
export async function untilEpoch(c: TestCluster, epoch: number): Promise<void> {
  let last = '';
  await until(
    async () => {
      for (const id of c.origins.keys()) {
        const answer = await c.get(id, '/v1/ring/status');
        last = answer.bytes.toString();
        if ((JSON.parse(last) as RingStatus).epoch !== epoch) return false;
      }
      return true;
    },
    `all are at epoch ${epoch}`,
    CHANGE_MS,
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${last}`);
  });
  c.cluster.follow(await membershipOf(c, [...c.origins.keys()][0]!));
}
