import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import { queryValue, readJson } from '@sepia/http/signed';
import { z } from 'zod';
import type { Members } from '../cluster/members.ts';
import type { AntiEntropy } from '../recovery/anti-entropy.ts';
import type { CopiesOwed } from '../recovery/copies-owed.ts';
import type { OwnStanding } from '../recovery/own-standing.ts';
import { type RecordDigests, SYNC_SPACES } from '../recovery/record-digests.ts';
import type { RecordPages } from '../recovery/record-pages.ts';
import type { HandoverAnswer, StandingAnswer, StartUp } from '../recovery/start-up.ts';
import { named } from './blob-routes.ts';

const MAX_BODY_BYTES = 1024 * 1024;
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
}

/** Handover and comparison between origins: ADR 0023. */
export function syncRoutes(router: Router, deps: SyncRouteDeps): void {
  const { members, standing, digests, pages, copies, startUp, antiEntropy } = deps;
  router.get('/standing', (context) => {
    const { generation, settled, epoch } = standing.standing;
    const answer: StandingAnswer = { firstStart: standing.firstStart, generation, settled, epoch };
    named(context, 'standing').body = answer;
  });
  router.post('/handover', async (context) => {
    const ctx = named(context, 'handover');
    const asker = await readJson(ctx, MAX_BODY_BYTES, (value) => check(HANDOVER, value));
    other(members, asker.id);
    startUp.soon(asker.id);
    // What is handed over is read after the generation is on record, and after all that is here was counted.
    await digests.scan();
    const granted = await standing.grant(asker);
    const { generation, known, epoch } = standing.standing;
    const answer: HandoverAnswer =
      granted.type === 'granted' ? { type: 'granted', generation, known, epoch } : granted;
    if (granted.type === 'granted') antiEntropy.soon(asker.id);
    ctx.body = answer;
  });
  router.post('/closing', async (context) => {
    const ctx = named(context, 'closing');
    const { id, ...closing } = await readJson(ctx, MAX_BODY_BYTES, (value) => check(CLOSING, value));
    await standing.noteClosing(other(members, id), closing);
    ctx.status = 204;
  });
  router.post('/closing/confirm', async (context) => {
    const ctx = named(context, 'closing-confirm');
    const { id, ...closing } = await readJson(ctx, MAX_BODY_BYTES, (value) => check(CLOSING, value));
    ctx.body = { same: await standing.confirmClosing(other(members, id), closing) };
    antiEntropy.soon(id);
  });
  router.get('/sync/digests', async (context) => {
    const ctx = named(context, 'sync-digests');
    await digests.scan();
    ctx.body = digests.with(other(members, queryValue(ctx, 'with') ?? ''));
  });
  router.post('/sync/page', async (context) => {
    const ctx = named(context, 'sync-page');
    const { space, after, buckets } = await readJson(ctx, MAX_BODY_BYTES, (value) => check(PAGE, value));
    ctx.body = await pages.page(space, new Set(buckets), { after });
  });
  router.post('/sync/owe', async (context) => {
    const ctx = named(context, 'sync-owe');
    const { to, digests: wanted } = await readJson(ctx, MAX_BODY_BYTES, (value) => check(OWE, value));
    ctx.body = await copies.add(other(members, to), wanted);
  });
}

function other(members: Members, id: string): string {
  if (id !== members.selfId && members.find(id) !== undefined) return id;
  throw new CodedError('REQUEST_INVALID', {
    message: `"${id}" is no other origin of this cluster`,
    detail: { id },
  });
}

function check<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const found = schema.safeParse(value);
  if (found.success) return found.data;
  const [issue] = found.error.issues;
  throw new CodedError('REQUEST_INVALID', { message: `${issue?.path.join('.')}: ${issue?.message}` });
}
