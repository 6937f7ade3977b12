import type Router from '@koa/router';
import { H_CLUSTER, H_STANDING } from '@sepia/cluster/api/headers';
import type { Cluster } from '@sepia/cluster/cluster';
import { createApp } from '@sepia/http/app';
import { createMemberGate, type MemberGateDeps } from '@sepia/http/member-gate';
import { routesOf } from '@sepia/http/router';
import type Koa from 'koa';
import type { OwnStanding } from '../records/own-standing.ts';
import type { EngineName } from '../records/record-engine.ts';
import type { Ring } from '../ring/ring.ts';
import { epochGate } from './ring-routes.ts';
import { sameEngine } from './same-engine.ts';

interface OriginAppDeps extends Omit<MemberGateDeps, 'role' | 'guards'> {
  readonly cluster: Cluster;
  readonly standing: OwnStanding;
  readonly ring: Ring;
  readonly router: Router;
  /** Engine that this origin keeps records in. */
  readonly recordsIn: EngineName;
}

/** The app of an origin's main listener: every answer says what it counts by. */
export function originApp({ cluster, standing, ring, router, recordsIn, ...gateDeps }: OriginAppDeps): Koa {
  const { log, metrics } = gateDeps;
  const gate = createMemberGate({ role: 'origin', ...gateDeps });
  const app = createApp({ log, gate, onRequest: metrics.onRequest });
  app.use(sameEngine(recordsIn, log));
  app.use(async (ctx, next) => {
    ctx.set(H_CLUSTER, String(cluster.version));
    await next();
    // What an answer counts by is what is durable now, after the answer was made.
    if (!ctx.res.headersSent) ctx.set(H_STANDING, standing.header);
  });
  app.use(epochGate(ring, standing));
  app.use(routesOf(router));
  return app;
}
