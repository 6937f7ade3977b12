import { CodedError } from '@sepia/base/errors';
import { delay } from '@sepia/base/lifecycle';
import { silentLogger } from '@sepia/base/log';
import { Health, UNTIL_IT_ANSWERS } from '@sepia/cluster/core/health';
import {
  type InternalClient,
  type InternalRequest,
  type InternalResponse,
  MAX_ANSWER_BYTES,
  readLimited,
} from '@sepia/http/client';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import type { RangeWish } from '@sepia/oci/range';
import { Chance } from '@sepia/swarm/core/random';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t from 'tap';
import type { SourcePlan } from '../../src/bodies/core/choose-source.ts';
import { askEarly, type EarlyMetainfo, openOriginBlob } from '../../src/bodies/origin-blob.ts';
import { Origins } from '../../src/cluster/origins.ts';
import { HOLDER_HEDGE_MS } from '../../src/deadlines.ts';
import { truthOf } from '../support/answers.ts';
import { FaultyOrigins } from '../support/faulty-origins.ts';

const never = new AbortController().signal;

type Call = (request: InternalRequest, right: FaultyOrigins) => Promise<InternalResponse>;

/** A proxy's readers of one blob, of two pieces, that `origin-1` and others have; `asked` tells the calls, in their order. */
function readers(
  answer: Call = async (request, right) => await right.call(request),
  sizeBytes = 2 * PIECE_BYTES,
) {
  const truth = truthOf(Buffer.from(seededBytes(sizeBytes, 'shared')));
  const weather = { timing: false, wrong: false, fetchRate: undefined };
  const right = new FaultyOrigins(truth, weather, new Chance(1));
  const calls: InternalRequest[] = [];
  const call = async (request: InternalRequest): Promise<InternalResponse> => {
    calls.push(request);
    return await answer(request, right);
  };
  const bytes = async (request: InternalRequest): ReturnType<InternalClient['bytes']> => {
    const { status, headers, body } = await call(request);
    return { status, headers, bytes: await readLimited(body, MAX_ANSWER_BYTES, request.url) };
  };
  const origins = new Origins({
    cluster: right.cluster,
    client: { call, bytes } as unknown as InternalClient,
    health: new Health(() => 0, UNTIL_IT_ANSWERS),
  });
  const name = { upstream: 'local', repository: 'app', digest: truth.digest } as never;
  const plan = {
    type: 'holders',
    originIds: ['origin-1', 'origin-2'],
    isDefinite: true,
    sizeBytes: truth.bytes.length,
  } as const;
  const deps = { origins, log: silentLogger(), stallMs: 30_000 };
  const open = (signal = never, wish: RangeWish = { want: 'all' }, by: Partial<SourcePlan> = {}) =>
    openOriginBlob(deps, name, { ...plan, ...by }, wish, signal);
  const early = (signal = never) => askEarly(deps, name, signal);
  const leader = right.cluster.origins(truth.digest).owners[0]!;
  const openBy = (change: Partial<SourcePlan>, early: EarlyMetainfo, signal = never) =>
    openOriginBlob(deps, name, { ...plan, ...change }, { want: 'all' }, signal, early);
  const asked = (what: string): InternalRequest[] => calls.filter(({ path }) => path.includes(what));
  return { open, openBy, early, leader, asked };
}

t.test(
  'as many as read one blob at once are one question to the origins, and hold one copy of the answer',
  async (t) => {
    const { open, asked } = readers();
    const opened = await Promise.all(Array.from({ length: 100 }, () => open()));
    const leaves = await Promise.all(opened.map(({ blob }) => blob.leaves(0, never)));
    t.equal(asked('/metainfo').length, 1);
    t.equal(asked('/leaves').length, 1);
    t.equal(new Set(leaves.map(({ buffer }) => buffer)).size, 1, 'one memory for all');
    for (const { close } of opened) close();
  },
);

t.test('who wants a part says which piece it begins with, where that is known', async (t) => {
  const { open, asked } = readers();
  for (const wish of [
    { want: 'all' },
    { want: 'ranges' },
    { want: 'ranges', start: PIECE_BYTES - 1 },
    { want: 'ranges', start: PIECE_BYTES },
  ] as const)
    (await open(never, wish)).close();
  t.same(
    asked('/metainfo').map(({ path }) => {
      const { searchParams } = new URL(path, 'http://origin.example');
      return [searchParams.get('want'), searchParams.get('piece')];
    }),
    [
      ['all', null],
      ['ranges', null],
      ['ranges', '0'],
      ['ranges', '1'],
    ],
  );
});

t.test(
  'of a small blob a second is asked where all have it, and nobody beside one that fetches it',
  async (t) => {
    const time = new VirtualTime().install();
    t.teardown(() => time.uninstall());
    const hang: Call = async (request, right) =>
      request.to === 'origin-1'
        ? await new Promise((_, reject) =>
            request.signal?.addEventListener('abort', () => reject(request.signal?.reason), { once: true }),
          )
        : await right.call(request);
    const { open, asked } = readers(hang, 1_000);
    const who = (): string[] => asked('/blobs/').map(({ to }) => to);
    const { blob } = await time.settle(open());
    t.equal(blob.sizeBytes, 1_000);
    t.same(who(), ['origin-1', 'origin-2']);
    const gone = new AbortController();
    const leading = t.rejects(open(gone.signal, { want: 'all' }, { type: 'leader' }), { code: 'TIMEOUT' });
    await time.settle(delay(2 * HOLDER_HEDGE_MS));
    t.same(who(), ['origin-1', 'origin-2', 'origin-1']);
    gone.abort(new CodedError('TIMEOUT'));
    await time.settle(leading);
  },
);

t.test('metainfo that was asked for early is not asked for again', async (t) => {
  const { openBy, early, leader, asked } = readers();
  const told = early();
  const { blob, close } = await openBy({ type: 'leader', originIds: [leader] }, told);
  t.equal(blob.sizeBytes, 2 * PIECE_BYTES);
  t.same(
    asked('/metainfo').map(({ to }) => to),
    [leader],
  );
  close();
  told.drop();
});

t.test('where another origin is named it is dropped', async (t) => {
  const { openBy, early, leader, asked } = readers(async (request, right) =>
    request.to === leader && request.path.includes('/metainfo')
      ? await new Promise((_, reject) =>
          request.signal?.addEventListener('abort', () => reject(request.signal?.reason), { once: true }),
        )
      : await right.call(request),
  );
  const other = ['origin-1', 'origin-2', 'origin-3'].find((id) => id !== leader)!;
  const told = early();
  const { close } = await openBy({ originIds: [other] }, told);
  t.equal(told.over.aborted, true);
  t.same(
    asked('/metainfo').map(({ to, signal }) => [to, signal?.aborted]),
    [
      [leader, true],
      [other, false],
    ],
  );
  close();
});

t.test('a reader that leaves with its early question leaves the others theirs', async (t) => {
  const { openBy, early, leader, asked } = readers(async (request, right) =>
    asked('/metainfo').length === 1
      ? await new Promise((_, reject) =>
          request.signal?.addEventListener('abort', () => reject(request.signal?.reason), { once: true }),
        )
      : await right.call(request),
  );
  const gone = new AbortController();
  const told = early(gone.signal);
  const plan = { type: 'leader', originIds: [leader] } as const;
  const first = openBy(plan, told, gone.signal);
  const second = openBy(plan, told);
  gone.abort(new CodedError('TIMEOUT'));
  await t.rejects(first, { code: 'TIMEOUT' });
  const { blob, close } = await second;
  t.equal(blob.sizeBytes, 2 * PIECE_BYTES);
  t.same(
    asked('/metainfo').map(({ to }) => to),
    [leader, leader],
  );
  close();
});

t.test('what lasts goes over sockets of its own, and what does not with the questions', async (t) => {
  const { open, asked } = readers();
  const { blob, close } = await open();
  await blob.leaves(0, never);
  await blob.read(0, Buffer.alloc(PIECE_BYTES), never);
  close();
  const lasting = (what: string) => [...new Set(asked(what).map(({ lasts }) => lasts))];
  t.same(lasting('/metainfo'), [undefined]);
  t.same(lasting('/leaves'), ['wait']);
  const bytes = asked('').filter(({ headers }) => headers?.['range'] !== undefined);
  t.same([...new Set(bytes.map(({ lasts }) => lasts))], ['body']);
});

/** An origin whose answers about leaf hashes hang, as long as `hangs` says. */
function hanging(hangs: (asked: number, id: string) => boolean): Call {
  let asked = 0;
  return async (request, right) => {
    const isAsked = request.path.includes('/leaves');
    if (isAsked) asked += 1;
    if (!isAsked || !hangs(asked, request.to)) return await right.call(request);
    return await new Promise((_, reject) =>
      request.signal?.addEventListener('abort', () => reject(request.signal?.reason), { once: true }),
    );
  };
}

t.test(
  'a question that hangs is joined for a second; all who joined it are answered elsewhere',
  async (t) => {
    const time = new VirtualTime().install();
    t.teardown(() => time.uninstall());
    const { open, asked } = readers(hanging((_, id) => id === 'origin-1'));
    const run = async (): Promise<number> => {
      const opened = await Promise.all(Array.from({ length: 100 }, () => open()));
      const gone = new AbortController();
      const waiting = opened.map(
        async ({ blob }, at) => await blob.leaves(0, at === 0 ? gone.signal : never),
      );
      const left = t.rejects(waiting[0]!, { code: 'TIMEOUT' });
      gone.abort(new CodedError('TIMEOUT'));
      await left;
      const told = await Promise.all(waiting.slice(1));
      t.same(
        asked('/leaves').map(({ to }) => to),
        ['origin-1', 'origin-2'],
        'one question for all of them',
      );
      await delay(200);
      const late = await open();
      await late.blob.leaves(0, never);
      for (const { close } of [...opened, late]) close();
      return told.length;
    };
    t.equal(await time.settle(run()), 99, 'the others were not aborted with the one that left');
    t.equal(asked('/leaves')[2]?.to, 'origin-1', 'who comes later asks anew');
    t.ok(
      asked('/leaves').every(({ to, signal }) => to !== 'origin-1' || signal?.aborted === true),
      'all let go',
    );
  },
);

t.test('a question that hangs at all who have the blob ends for everybody, and is asked anew', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const { open, asked } = readers(hanging((count) => count <= 3));
  const run = async (): Promise<number> => {
    const opened = await Promise.all(Array.from({ length: 100 }, () => open()));
    const told = await Promise.all(opened.map(async ({ blob }) => await blob.leaves(0, never)));
    for (const { close } of opened) close();
    return told.length;
  };
  t.equal(await time.settle(run()), 100);
  t.ok(asked('/leaves').length < 12, `${asked('/leaves').length} questions of 100 readers`);
  t.ok(
    asked('/leaves')
      .slice(0, 3)
      .every(({ signal }) => signal?.aborted),
    'nothing is left hanging',
  );
});
