import { silentLogger } from '@sepia/base/log';
import type { InternalClient, InternalRequest } from '@sepia/http/client';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { Chance } from '@sepia/swarm/core/random';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import { openOriginBlob } from '../../src/bodies/origin-blob.ts';
import { OriginHealth } from '../../src/cluster/core/origin-health.ts';
import { Origins } from '../../src/cluster/origins.ts';
import { FaultyOrigins, truthOf } from '../support/faulty-origins.ts';

const never = new AbortController().signal;

t.test(
  'as many as read one blob at once are one question to the origins, and hold one copy of the answer',
  async (t) => {
    const truth = truthOf(Buffer.from(seededBytes(2 * PIECE_BYTES, 'shared')));
    const weather = { timing: false, wrong: false, fetchRate: undefined };
    const right = new FaultyOrigins(truth, weather, new Chance(1));
    const paths: string[] = [];
    const call = async (request: InternalRequest) => {
      paths.push(request.path);
      return await right.call(request);
    };
    const origins = new Origins({
      cluster: right.cluster,
      client: { call } as unknown as InternalClient,
      health: new OriginHealth(),
      nowMs: () => 0,
    });
    const name = { upstream: 'local', repository: 'app', digest: truth.digest } as never;
    const plan = {
      type: 'holders',
      originIds: ['origin-1'],
      isCertain: true,
      sizeBytes: truth.bytes.length,
    } as const;
    const deps = { origins, log: silentLogger(), stallMs: 30_000 };
    const open = () => openOriginBlob(deps, name, plan, { want: 'all' }, never);
    const opened = await Promise.all(Array.from({ length: 100 }, open));
    const leaves = await Promise.all(opened.map(({ blob }) => blob.leaves(0, never)));
    t.equal(paths.filter((path) => path.includes('/metainfo')).length, 1);
    t.equal(paths.filter((path) => path.includes('/leaves')).length, 1);
    t.equal(new Set(leaves.map(({ buffer }) => buffer)).size, 1, 'one memory for all');
    for (const { close } of opened) close();
  },
);
