import type { Watched } from '@sepia/test-support/clients/watched-get';
import { type ColdLayer, MIB, PATIENT, PullThrough } from '@sepia/test-support/cluster/pull-through';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';

/** Members that stop do so at once. */
const QUICK_STOP = { ...PATIENT, origin: { deadlines: { ...PATIENT.origin.deadlines, drain: '0s' } } };

interface OriginStatus {
  readonly id: string;
  readonly fetches: readonly { readonly digest: string; readonly have?: number }[];
}

/** The origin that fetches the layer, once it has `pieces` of it. */
async function leaderOf(here: PullThrough, layer: ColdLayer, pieces: number): Promise<string> {
  return await until(async () => {
    for (const url of here.cluster.originUrls) {
      const status = await here.cluster.ask<OriginStatus>(url, '/v1/status').catch(() => undefined);
      const fetch = status?.fetches.find((one) => one.digest === layer.digest);
      if (fetch !== undefined && (fetch.have ?? 0) >= pieces) return status!.id;
    }
    return undefined;
  }, `an origin has ${pieces} pieces of the cold blob`);
}

function checkAll(t: Test, layer: ColdLayer, answers: readonly Watched[]): void {
  for (const [at, answer] of answers.entries()) {
    t.equal(answer.status, 200, `agent ${at + 1}: ${answer.status}`);
    t.ok(
      answer.bytes.equals(layer.content),
      `agent ${at + 1}: ${answer.bytes.length} bytes, cut: ${answer.cut}`,
    );
  }
}

/** Holds the layer back behind so many pieces and a half, until the returned function is called. */
function heldBehind(layer: ColdLayer, pieces: number): () => void {
  const { promise, resolve } = Promise.withResolvers<void>();
  layer.misbehave({ type: 'hold', afterBytes: (pieces + 0.5) * MIB, until: promise });
  return resolve;
}

async function pullAll(here: PullThrough, layer: ColdLayer): Promise<Watched[]> {
  return await Promise.all(here.cluster.agents.map((_, at) => layer.get({}, at)));
}

async function hintAll(here: PullThrough, layer: ColdLayer): Promise<void> {
  await Promise.all(here.cluster.agents.map((_, at) => layer.hint(at)));
}

t.test('eight cold agents, slow upstream: each byte leaves it once', async (t) => {
  await using here = await PullThrough.start(t.testdir(), {
    agents: 8,
    trackers: 2,
    proxies: 2,
    ...QUICK_STOP,
  });
  const layer = here.image(10 * MIB + 3);
  layer.misbehave({ type: 'slow', bytesPerSec: 5 * MIB });
  await hintAll(here, layer);
  const answers = await pullAll(here, layer);
  checkAll(t, layer, answers);
  t.equal(layer.requests.length, 1);
  t.equal(layer.upstreamBytes, layer.content.length);
});

t.test('the leader stops in mid-fetch: all finish, the upstream is asked for the rest alone', async (t) => {
  await using here = await PullThrough.start(t.testdir(), {
    agents: 8,
    trackers: 2,
    proxies: 2,
    ...QUICK_STOP,
  });
  const layer = here.image(12 * MIB + 3);
  layer.misbehave({ type: 'slow', bytesPerSec: 4 * MIB });
  const goOn = heldBehind(layer, 4);
  await hintAll(here, layer);
  const pulls = pullAll(here, layer);
  const leader = await leaderOf(here, layer, 4);
  await here.cluster.stopMember(leader);
  goOn();
  checkAll(t, layer, await pulls);
  const [first, ...rest] = layer.requests;
  t.equal(first?.range, undefined);
  t.ok(rest.length > 0);
  // A piece that agents are slow to hand over may be fetched again, on a busy machine; all of it is not.
  for (const { range } of rest) t.match(range, /^bytes=(?:[1-9]|0-1048575$)/);
  t.ok(
    layer.upstreamBytes < 1.4 * layer.content.length,
    `${(layer.upstreamBytes / layer.content.length).toFixed(2)} copies left the upstream`,
  );
  await here.cluster.startMember(leader);
});

t.test('somebody else stops in mid-pull', async (t) => {
  await using here = await PullThrough.start(t.testdir(), {
    agents: 4,
    trackers: 2,
    proxies: 2,
    ...QUICK_STOP,
  });
  for (const id of ['tracker-1', 'tracker-2', 'proxy-1', 'agent-4']) {
    await t.test(`${id}: the others finish, and pull the next one`, async (t) => {
      const layer = here.image(5 * MIB + 3);
      layer.misbehave({ type: 'slow', bytesPerSec: 4 * MIB });
      const goOn = heldBehind(layer, 2);
      await hintAll(here, layer);
      const pulls = here.cluster.agents.map((_, at) => layer.get({}, at).catch(() => undefined));
      await leaderOf(here, layer, 2);
      await here.cluster.stopMember(id);
      goOn();
      const isAgent = id.startsWith('agent');
      const answers = await Promise.all(isAgent ? pulls.slice(0, -1) : pulls);
      checkAll(t, layer, answers as Watched[]);
      t.equal(layer.upstreamBytes, layer.content.length, 'one copy left the upstream');
      if (!isAgent) {
        const later = here.image(3 * MIB);
        await hintAll(here, later);
        checkAll(t, later, await pullAll(here, later));
      }
      await here.cluster.startMember(id);
    });
  }
});

t.test('all origins are gone, an agent has the blob and the tracker its metainfo: all finish', async (t) => {
  await using here = await PullThrough.start(t.testdir(), {
    agents: 4,
    trackers: 1,
    proxies: 1,
    ...QUICK_STOP,
  });
  const layer = here.image(10 * MIB + 3);
  await hintAll(here, layer);
  checkAll(t, layer, [await layer.get({}, 0)]);
  const begun = layer.get({}, 1);
  // All at once: one that outlives the holder would rightly fetch what an agent asks it for.
  await Promise.all(['origin-1', 'origin-2', 'origin-3'].map((id) => here.cluster.stopMember(id)));
  checkAll(t, layer, [await begun, ...(await Promise.all([layer.get({}, 2), layer.get({}, 3)]))]);
  // An origin that stops a little later than the holder may still have asked for what an agent urged.
  t.ok(
    layer.upstreamBytes < 1.3 * layer.content.length,
    `${(layer.upstreamBytes / layer.content.length).toFixed(2)} copies left the upstream`,
  );
});

t.test('all origins stop in mid-fetch and come back: the same bodies end well', async (t) => {
  await using here = await PullThrough.start(t.testdir(), {
    agents: 3,
    trackers: 1,
    proxies: 1,
    ...QUICK_STOP,
  });
  const layer = here.image(10 * MIB + 3);
  layer.misbehave({ type: 'slow', bytesPerSec: 4 * MIB });
  const goOn = heldBehind(layer, 4);
  await hintAll(here, layer);
  const pulls = pullAll(here, layer);
  await leaderOf(here, layer, 4);
  for (const id of ['origin-1', 'origin-2', 'origin-3']) await here.cluster.stopMember(id);
  goOn();
  for (const id of ['origin-1', 'origin-2', 'origin-3']) await here.cluster.startMember(id);
  checkAll(t, layer, await pulls);
  t.ok(
    layer.upstreamBytes < 1.6 * layer.content.length,
    `${(layer.upstreamBytes / layer.content.length).toFixed(2)} copies left the upstream`,
  );
});
