import { randomBytes } from 'node:crypto';
import { type Digest, digestOf } from '@sepia/base/digest';
import type { GcReport } from '@sepia/cluster/api/gc-report';
import t from 'tap';
import { Hub, until } from '../support/hub.ts';

t.test(
  'where all that was pushed is of mode write-back, nothing is collected and nothing is wrong',
  async (t) => {
    const hub = await Hub.start(t);
    // It waits for the registry, and stays.
    hub.target.fault = (method) => (method === 'PUT' || method === 'POST' ? { status: 503 } : undefined);
    const bytes = randomBytes(300_000);
    await hub.image('team/app', 'v1', bytes);
    const leader = hub.c.ids[0]!;
    const begin = async (dryRun = false) =>
      await hub.c.call(leader, {
        method: 'POST',
        path: '/v1/gc',
        body: Buffer.from(JSON.stringify({ dryRun, graceMs: 0 })),
        headers: { 'content-type': 'application/json' },
      });
    await until(async () => (await begin()).status === 202, 'a collection begins');
    const report = await until(async () => {
      const { bytes } = await hub.c.get(leader, '/v1/gc');
      const { report } = JSON.parse(bytes.toString()) as { report?: GcReport };
      return report?.endedAtMs === undefined ? undefined : report;
    }, 'it ends');
    t.match(report, { phase: 'done', failure: undefined, seen: 0, blobs: 0, unlinked: 0 });
    const ended = async () =>
      /^sepia_origin_gc_ended_timestamp_seconds\{.*\} (.*)$/m.exec(
        await hub.c.admin(leader, '/metrics'),
      )?.[1];
    const before = await ended();
    t.ok(Number(before) > 0, 'it is told when it ended');
    await until(async () => (await begin(true)).status === 202, 'one that only tells begins');
    await until(
      async () => /^sepia_origin_gc_running\{.*\} 0$/m.test(await hub.c.admin(leader, '/metrics')),
      'it ends',
    );
    t.equal(await ended(), before, 'one that only tells takes nothing of it');
    const digest: Digest = digestOf(bytes);
    const read = await hub.c.call(leader, {
      method: 'HEAD',
      path: `/v1/blobs/${digest}?upstream=hub&repository=team/app`,
    });
    t.ok(read.status === 200 || read.status === 307, `what waits is there (${read.status})`);
  },
);
