import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import { H_EPOCH } from '@sepia/cluster/api/headers';
import { ORIGIN_RING } from '@sepia/cluster/api/ring';
import { fits } from '@sepia/cluster/message';
import { MEMBERSHIP_SCHEMA, RING_CHANGE, type RingAnswer } from '@sepia/cluster/ring-messages';
import type { RequestState } from '@sepia/http/app';
import { serve } from '@sepia/http/router';
import { readJson } from '@sepia/http/signed';
import { parseRegisterRequest } from '@sepia/records/register/acceptor-store';
import type { Middleware } from 'koa';
import type { OwnStanding } from '../records/own-standing.ts';
import type { Agreement } from '../ring/agreement.ts';
import type { Ring } from '../ring/ring.ts';

/** The membership of the ring and its changes: ADR 0025. */
export function ringRoutes(
  router: Router,
  deps: { readonly ring: Ring; readonly agreement: Agreement },
): void {
  const { ring, agreement } = deps;
  serve(router, ORIGIN_RING.membership, (ctx) => {
    const answer: RingAnswer = { founded: ring.isFounded, membership: ring.membership };
    ctx.body = answer;
  });
  serve(router, ORIGIN_RING.learn, async (ctx) => {
    const { maxBytes } = ORIGIN_RING.learn.body;
    const { caller } = ctx.state as RequestState;
    await ring.follow(await readJson(ctx, maxBytes, fits(MEMBERSHIP_SCHEMA)), caller);
    ctx.status = 204;
  });
  serve(router, ORIGIN_RING.register, async (ctx) => {
    ctx.body = await agreement.handle(
      await readJson(ctx, ORIGIN_RING.register.body.maxBytes, parseRegisterRequest),
    );
  });
  serve(router, ORIGIN_RING.status, (ctx) => {
    ctx.body = ring.status();
  });
  serve(router, ORIGIN_RING.change, async (ctx) => {
    const { epoch, ...change } = await readJson(ctx, ORIGIN_RING.change.body.maxBytes, fits(RING_CHANGE));
    ctx.body = await ring.change(change, epoch);
  });
}

/**
 * What a message under an epoch does counts only under that epoch: an older one is refused, before and after its work;
 * for a newer one this origin gets the membership first. Every answer names the epoch that holds here.
 */
export function epochGate(ring: Ring, standing: Pick<OwnStanding, 'requireEpoch'>): Middleware {
  return async (ctx, next) => {
    const text = ctx.get(H_EPOCH);
    ctx.set(H_EPOCH, String(ring.membership.epoch));
    try {
      if (text === '') return await next();
      const epoch = Number(text);
      if (!Number.isSafeInteger(epoch) || epoch < 0)
        throw new CodedError('REQUEST_INVALID', { message: `${H_EPOCH}: is no epoch` });
      await ring.reach(epoch);
      standing.requireEpoch(epoch);
      await next();
      if (!ctx.res.headersSent) standing.requireEpoch(epoch);
    } finally {
      if (!ctx.res.headersSent) ctx.set(H_EPOCH, String(ring.membership.epoch));
    }
  };
}
