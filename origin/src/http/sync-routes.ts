import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import { ORIGIN_FLOORS, ORIGIN_SYNC } from '@sepia/cluster/api/origin';
import { shardKey } from '@sepia/cluster/cluster';
import { fits } from '@sepia/cluster/message';
import { serve } from '@sepia/http/router';
import { queryValue, readJson } from '@sepia/http/signed';
import { z } from 'zod';
import type { Members } from '../cluster/members.ts';
import type { FloorPages } from '../floors/floor-pages.ts';
import type { FloorRounds } from '../floors/floor-rounds.ts';
import { AGREE_BODY, LIST_BODY, PAGE_BODY, PROMISE_BODY } from '../floors/messages.ts';
import { RECORD_SPACES, SYNC_SPACES, shardOf } from '../records/core/record-shard.ts';
import type { ShardName } from '../records/own-records.ts';
import type { OwnStanding } from '../records/own-standing.ts';
import type { AntiEntropy } from '../recovery/anti-entropy.ts';
import type { CopiesOwed } from '../recovery/copies-owed.ts';
import type { HandoverAnswer, StandingAnswer } from '../recovery/messages.ts';
import type { RecordDigests } from '../recovery/record-digests.ts';
import type { RecordPages } from '../recovery/record-pages.ts';
import type { StartUp } from '../recovery/start-up.ts';
import type { Agreement } from '../ring/agreement.ts';
import { repositoryOf } from './request.ts';

const MAX_BUCKETS = 20_000;
const ID = z.string().min(1).max(64);
const GENERATION = z.number().int().nonnegative();
const HANDOVER = z.object({ id: ID, generation: GENERATION });
const CLOSING = z.object({ id: ID, generation: GENERATION, token: z.string().min(1).max(64) });
const PAGE = z.object({
  with: ID,
  space: z.enum(SYNC_SPACES),
  after: z.string().max(8192).optional(),
  buckets: z.array(z.string().max(4096)).max(MAX_BUCKETS),
  /** Members of the version before do not say. */
  how: z.enum(['handover', 'repair']).default('handover'),
});
const COVERS = z.object({
  space: z.enum(RECORD_SPACES),
  records: z.array(z.object({ key: z.string().min(1).max(8192), stored: z.unknown() })).max(1_000),
});
const OWE = z.object({ to: ID, digests: z.array(z.string().max(256)).max(10_000) });

export interface SyncRouteDeps {
  readonly members: Members;
  readonly standing: OwnStanding;
  readonly digests: RecordDigests;
  readonly pages: RecordPages;
  readonly copies: CopiesOwed;
  readonly startUp: Pick<StartUp, 'soon'>;
  readonly antiEntropy: AntiEntropy;
  readonly agreement: Pick<Agreement, 'next'>;
}

interface FloorRouteDeps {
  readonly members: Pick<Members, 'shard'>;
  readonly standing: Pick<OwnStanding, 'within' | 'require' | 'counts'>;
  readonly floorRounds: Pick<FloorRounds, 'promise' | 'agree'>;
  readonly floorPages: FloorPages;
}

/** Handover and comparison between origins: ADR 0023. */
export function syncRoutes(router: Router, deps: SyncRouteDeps): void {
  const { members, standing, digests, pages, copies, startUp, antiEntropy } = deps;
  serve(router, ORIGIN_SYNC.standing, (ctx) => {
    const { generation, settled, kept, epoch } = standing.standing;
    const answer: StandingAnswer = { firstStart: standing.firstStart, generation, settled, kept, epoch };
    ctx.body = answer;
  });
  serve(router, ORIGIN_SYNC.handover, async (ctx) => {
    const asker = await readJson(ctx, ORIGIN_SYNC.handover.body.maxBytes, fits(HANDOVER));
    other(members, asker.id);
    startUp.soon(asker.id);
    // What is handed over is read after the generation is on record, and after all that is here was counted.
    await digests.scan();
    const granted = await standing.grant(asker);
    const { generation, known, epoch, settled } = standing.standing;
    const agreement = await deps.agreement.next();
    const answer: HandoverAnswer =
      granted.type === 'granted'
        ? { type: 'granted', generation, known, epoch, settled, agreement }
        : granted;
    if (granted.type === 'granted') antiEntropy.soon(asker.id);
    ctx.body = answer;
  });
  serve(router, ORIGIN_SYNC.closing, async (ctx) => {
    const { id, ...closing } = await readJson(ctx, ORIGIN_SYNC.closing.body.maxBytes, fits(CLOSING));
    await standing.noteClosing(other(members, id), closing);
    ctx.status = 204;
  });
  serve(router, ORIGIN_SYNC.closingConfirm, async (ctx) => {
    const { id, ...closing } = await readJson(ctx, ORIGIN_SYNC.closing.body.maxBytes, fits(CLOSING));
    ctx.body = { same: await standing.confirmClosing(other(members, id), closing) };
    antiEntropy.soon(id);
  });
  serve(router, ORIGIN_SYNC.digests, async (ctx) => {
    await digests.scan();
    ctx.body = digests.with(other(members, queryValue(ctx, 'with') ?? ''));
  });
  serve(router, ORIGIN_SYNC.page, async (ctx) => {
    const { space, after, buckets, how } = await readJson(ctx, ORIGIN_SYNC.page.body.maxBytes, fits(PAGE));
    // A set's entries of a disk that was set back go, where nobody else has them, before it counts.
    const isWhole = how === 'handover' || space === 'r1' || space === 'b1' || standing.isSettled;
    const isServed = (key: string): boolean => {
      const shard = shardOf(space, key);
      return isWhole || shard === undefined || standing.counts(members.shard(shard));
    };
    ctx.body = await pages.page(space, new Set(buckets), { after }, isServed);
  });
  serve(router, ORIGIN_SYNC.covers, async (ctx) => {
    const { space, records } = await readJson(ctx, ORIGIN_SYNC.covers.body.maxBytes, fits(COVERS));
    const isOwned = ({ key }: { readonly key: string }): boolean => {
      const shard = members.shard(shardOf(space, key) ?? key);
      const [owners = []] = shard.sets;
      return shard.sets.length === 1 && owners.includes(members.selfId) && standing.counts(shard);
    };
    const covered = await pages.covers(space, records);
    ctx.body = { covered: records.map((one, index) => isOwned(one) && covered[index] === true) };
  });
  serve(router, ORIGIN_SYNC.owe, async (ctx) => {
    const { to, digests: wanted } = await readJson(ctx, ORIGIN_SYNC.owe.body.maxBytes, fits(OWE));
    ctx.body = await copies.add(other(members, to), wanted);
  });
}

/** Up to where the owners of repositories agreed that tombstones go: ADR 0072. */
export function floorRoutes(router: Router, deps: FloorRouteDeps): void {
  const { members, standing, floorRounds, floorPages } = deps;
  const ownersOf = ({ upstream, repository }: ShardName): ReturnType<Members['shard']> =>
    members.shard(shardKey(upstream, repository));
  serve(router, ORIGIN_FLOORS.promise, async (ctx) => {
    const { maxBytes } = ORIGIN_FLOORS.promise.body;
    const { atMs, epoch } = await readJson(ctx, maxBytes, fits(PROMISE_BODY));
    const shard = repositoryOf(ctx);
    ctx.body = await standing.within(epoch, async () => await floorRounds.promise(shard, atMs));
  });
  serve(router, ORIGIN_FLOORS.agree, async (ctx) => {
    const { maxBytes } = ORIGIN_FLOORS.agree.body;
    const { atMs, epoch, generation } = await readJson(ctx, maxBytes, fits(AGREE_BODY));
    const shard = repositoryOf(ctx);
    await standing.within(epoch, async () => await floorRounds.agree(shard, atMs, generation));
    ctx.body = {};
  });
  serve(router, ORIGIN_FLOORS.list, async (ctx) => {
    const { maxBytes } = ORIGIN_FLOORS.list.body;
    const { how, after, buckets } = await readJson(ctx, maxBytes, fits(LIST_BODY));
    const isServed = (shard: ShardName): boolean => how === 'handover' || standing.counts(ownersOf(shard));
    ctx.body = floorPages.list(new Set(buckets), after, isServed);
  });
  serve(router, ORIGIN_FLOORS.page, async (ctx) => {
    const { maxBytes } = ORIGIN_FLOORS.page.body;
    const { how, space, after } = await readJson(ctx, maxBytes, fits(PAGE_BODY));
    const shard = repositoryOf(ctx);
    if (how === 'repair') standing.require(ownersOf(shard));
    ctx.body = await floorPages.page(shard, space, after);
    if (how === 'repair') standing.require(ownersOf(shard));
  });
}

function other(members: Members, id: string): string {
  if (id !== members.selfId && members.find(id) !== undefined) return id;
  throw new CodedError('REQUEST_INVALID', {
    message: `"${id}" is no other origin of this cluster`,
    detail: { id },
  });
}
