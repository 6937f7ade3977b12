import type { Audit } from '@sepia/base/audit';
import { chance } from '@sepia/base/clock/chance';
import type { StopStack } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import type { NamedUpstream } from '@sepia/base/names/upstream-name';
import type { Cluster } from '@sepia/cluster/cluster';
import { NodeCommands } from '@sepia/cluster/node-commands';
import type { InternalClient } from '@sepia/http/client';
import type { Origins } from '../cluster/origins.ts';
import { Conversions } from '../conversions/conversions.ts';
import type { ManifestCache } from '../registry/core/manifest-cache.ts';
import type { HarborConfig } from './config.ts';
import { Jobs } from './jobs.ts';
import { KrakenDriver } from './kraken.ts';
import { Preheat, type PreheatRequest } from './preheat.ts';
import { Purger } from './purger.ts';
import { Records } from './records.ts';
import { driverAuth, type RequestAuth, webhookAuth } from './request-auth.ts';
import { Webhooks } from './webhooks.ts';

/** What Harbor's routes are built from. */
export interface HarborParts {
  readonly jobs: Jobs;
  readonly kraken: KrakenDriver;
  readonly webhooks: Webhooks;
  readonly purger: Purger;
  readonly conversions: Conversions;
  readonly records: Records;
  readonly upstreams: () => readonly NamedUpstream[];
  readonly driverAuth: RequestAuth;
  /** As `driverAuth`; open where there are no drivers, for load balancers. */
  readonly healthAuth: RequestAuth;
  readonly webhookAuth: RequestAuth;
}

/** What a proxy gives to Harbor's side of it. */
interface HarborDeps {
  readonly id: string;
  readonly config: { readonly harbor: HarborConfig };
  readonly cluster: Cluster;
  readonly client: InternalClient;
  readonly origins: Origins;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly dateMs: () => number;
  readonly entrance: { readonly audit: Audit };
}

/** Builds Harbor's side of a proxy; `stops` gets what must end with it. @throws {CodedError} `CONFIG_INVALID` */
export function createHarbor(face: HarborDeps, cache: ManifestCache, stops: StopStack): HarborParts {
  const { cluster, client, origins, log, nowMs, dateMs, id: memberId } = face;
  const config = face.config.harbor;
  const commands = new NodeCommands({ cluster, client });
  const records = new Records({ origins, memberId, nowMs });
  const shared = { cluster, origins, commands, records, memberId, log, nowMs, dateMs };
  const upstreams = (): readonly NamedUpstream[] => cluster.upstreams;
  const purger = new Purger({
    audit: face.entrance.audit,
    cluster,
    client,
    origins,
    commands,
    cache,
    memberId,
  });
  const conversions = new Conversions({
    registers: records,
    rules: cluster.document.conversions,
    dateMs,
    chance,
  });
  // A pushed image has been through the rules before it is brought along.
  const preheatPushed = (request: PreheatRequest): Preheat => new Preheat(shared, request);
  const preheat = (request: PreheatRequest): Preheat => new Preheat({ ...shared, conversions }, request);
  const drivers = driverAuth({ log, nowMs }, config['driver-auth']);
  if (config['driver-auth'].mode === 'none')
    log.warn(
      'harbor.driver-auth.mode is none: whoever reaches this proxy may preheat any image, private ones too',
    );
  const parts = {
    jobs: new Jobs({ ...shared, conversions }),
    kraken: new KrakenDriver({ upstreams, preheat, config: config.kraken, log }),
    webhooks: new Webhooks({
      ...shared,
      purger,
      preheat: preheatPushed,
      conversions,
      config: config.webhook,
    }),
    purger,
    conversions,
    records,
    upstreams,
    driverAuth: drivers,
    healthAuth: config['driver-auth'].mode === 'off' ? () => undefined : drivers,
    webhookAuth: webhookAuth({ log, nowMs }, config.webhook),
  };
  if (config.webhook.auth !== 'off') parts.webhooks.start();
  stops.push('webhooks', async () => await parts.webhooks.stop());
  stops.push('kraken driver', async () => await parts.kraken.stop());
  stops.push('preheat jobs', async () => await parts.jobs.stop());
  return parts;
}
